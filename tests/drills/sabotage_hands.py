"""Hands that break a sandbox and mend it again: its cloud, databases, servers, wires and sinks, each for real."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drkit.model.environment import Address, Environment, Site
from drkit.sandbox.processes import Process
from drkit.sandbox.seed_base import Clients

SOURCE, TARGET = "us-east-1", "us-west-2"
PREFIX = "reliabletech"
#: Runs an argument list on a host, as the operator; its output.
Run = Callable[[str, Sequence[str]], str]
#: Switches routing controls, by name.
Move = Callable[[dict[str, bool]], None]


class Hands:
    """Everything that one world can be broken with. `environment` is what drkit is told; a row may tell it lies."""

    def __init__(self, folder: Path, environment: Environment, run: Run, move: Move) -> None:
        self.folder = folder
        self.environment = environment
        self._run = run
        self.move = move
        gateways = {site.name: site.aws_endpoint for site in environment.sites if site.aws_endpoint}
        self._clients = Clients(gateways)

    # The cloud

    def aws(self, service: str, region: str = TARGET) -> Any:
        """A boto3 client."""
        return self._clients(region, service)

    def parameter(self, name: str) -> str:
        """An SSM parameter of the target."""
        return str(self.aws("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    def set_parameter(self, name: str, value: str) -> None:
        """Overwrite an SSM parameter of the target."""
        self.aws("ssm").put_parameter(Name=name, Value=value, Type="String", Overwrite=True)

    @contextmanager
    def other_parameter(self, name: str, value: str) -> Iterator[None]:
        """Another value for a while."""
        before = self.parameter(name)
        self.set_parameter(name, value)
        try:
            yield
        finally:
            self.set_parameter(name, before)

    def endpoint(self, region: str, mode: str, service: str | None = None) -> None:
        """Let a region's AWS endpoint be ok, refuse, hang or answer 503; as a whole or one service of it."""
        body = {"mode": mode} | ({"service": service} if service else {})
        self._ask("POST", f"{self._ready('aws')['admin']['url']}/regions/{region}", body)

    @contextmanager
    def silent_service(self, service: str, region: str = TARGET) -> Iterator[None]:
        """One AWS service of a region answers 503 for a while."""
        self.endpoint(region, "503", service)
        try:
            yield
        finally:
            self.endpoint(region, "ok", service)

    # Wires, parts, sinks

    def control(self, path: str, body: dict[str, Any]) -> Any:
        """Ask the sandbox's control API."""
        return self._ask("POST", f"{self.environment.control}{path}", body, timeout_s=60)

    @contextmanager
    def cut(self, link: str) -> Iterator[None]:
        """A wire is cut for a while."""
        self.control(f"/links/{link}", {"cut": True})
        try:
            yield
        finally:
            self.control(f"/links/{link}", {"cut": False})

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """A part hangs for a while: its process is stopped, its sockets stay open."""
        self.control("/kill", {"part": part, "signal": "SIGSTOP"})
        try:
            yield
        finally:
            self.control("/kill", {"part": part, "signal": "SIGCONT"})

    @contextmanager
    def sinks_down(self, *kinds: str) -> Iterator[None]:
        """Messages of these kinds are not taken for a while."""
        admin = self._ready("sinks")["admin"]["url"]
        for kind in kinds:
            self._ask("POST", f"{admin}/kinds/{kind}", {"mode": "503"})
        try:
            yield
        finally:
            for kind in kinds:
                self._ask("POST", f"{admin}/kinds/{kind}", {"mode": "ok"})

    # Servers

    def root(self, host: str) -> Path:
        """A server's root folder."""
        return self.folder / "hosts" / host / "root"

    def on(self, host: str, *argv: str) -> str:
        """Run a command on a server."""
        return self._run(host, argv)

    @contextmanager
    def file(self, host: str, path: str, change: Callable[[str], str]) -> Iterator[None]:
        """A file on a server has another content for a while."""
        where = self.root(host) / path
        before = where.read_text()
        where.write_text(change(before))
        try:
            yield
        finally:
            where.write_text(before)

    @contextmanager
    def kept(self, host: str, *paths: str) -> Iterator[None]:
        """Whatever a step does to these files of a server is taken back."""
        before = {path: (self.root(host) / path).read_bytes() for path in paths if (self.root(host) / path).exists()}
        try:
            yield
        finally:
            for path in paths:
                where = self.root(host) / path
                where.write_bytes(before[path]) if path in before else where.unlink(missing_ok=True)

    @contextmanager
    def stranger(self, host: str) -> Iterator[None]:
        """Another machine answers at a server's address for a while, with the same key."""
        self._become(host, {"machine_id": "0" * 31 + "1"})
        try:
            yield
        finally:
            self._become(host, None)

    def _become(self, host: str, identity: dict[str, str] | None) -> None:
        path = self.folder / "config" / f"{host}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": identity}))
        machine = self.root(host) / "etc/machine-id"
        before = machine.read_text()
        part = self._part(host)
        Process(part["pid"], part["start"]).send(signal.SIGHUP)
        until(lambda: machine.read_text() != before and machine.read_text() != "", f"{host} is somebody else")
        where = (part["ready"]["address"], part["ready"]["port"])
        time.sleep(0.1)  # old connections are dropped right after the file is written, then it listens again
        until(lambda: _listens(where), f"{host} listens again")

    def serving(self, site: str = TARGET) -> int:
        """How many servers the entry of a site counts as healthy."""
        admin = self.environment.site(site).edge_admin
        return int(self._ask("GET", f"{admin}/_edge/status")["healthy"])

    @contextmanager
    def in_maintenance(self, site: str = TARGET) -> Iterator[None]:
        """The entry of a site turns writes away for a while."""
        admin = self.environment.site(site).edge_admin
        self._ask("PUT", f"{admin}/_edge/maintenance", {"on": True})
        try:
            yield
        finally:
            self._ask("PUT", f"{admin}/_edge/maintenance", {"on": False})

    # Databases

    def sql(self, query: str, *values: Any, site: str = TARGET) -> list[tuple[Any, ...]]:
        """Rows, as the operator, each call its own transaction."""
        with self.session(site) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def session(self, site: str = TARGET) -> Iterator[Any]:
        """A connection of the operator's, autocommit."""
        import psycopg

        side = self.environment.database("orders", site)
        password = Path(side.password.ref.removeprefix("secret://file")).read_text().strip()
        with psycopg.connect(
            host=side.address.host, port=side.address.port, dbname=side.dbname, user=side.user, password=password,
            autocommit=True, connect_timeout=5,
        ) as connection:  # fmt: skip
            yield connection

    # What drkit is told

    @contextmanager
    def told(self, change: Callable[[Environment], Environment]) -> Iterator[None]:
        """drkit's environment says something that is not so, for a while."""
        before = self.environment
        self.environment = change(before)
        try:
            yield
        finally:
            self.environment = before

    def _part(self, name: str) -> dict[str, Any]:
        parts = self._ask("GET", f"{self.environment.control}/status")["parts"]
        return next(part for part in parts if part["name"] == name)

    def _ready(self, name: str) -> dict[str, Any]:
        ready: dict[str, Any] = self._part(name)["ready"]
        return ready

    @staticmethod
    def _ask(method: str, url: str, body: Any = None, *, timeout_s: float = 20) -> Any:
        from worlds import ask

        status, reply = ask(method, url, body, timeout_s=timeout_s)
        assert status < 300, f"{method} {url} answered {status}: {reply}"
        return reply


def with_site(environment: Environment, name: str, **changes: Any) -> Environment:
    """An environment in which a site is described otherwise."""
    sites = tuple(s.model_copy(update=changes) if s.name == name else s for s in environment.sites)
    return environment.model_copy(update={"sites": sites})


def with_database(environment: Environment, name: str, **changes: Any) -> Environment:
    """An environment in which the database's side in a region is described otherwise."""
    databases = tuple(d.model_copy(update=changes) if d.site == name else d for d in environment.databases)
    return environment.model_copy(update={"databases": databases})


def closed_port(site: Site) -> Address:
    """An address of a site where nobody listens."""
    assert site.edge is not None
    with socket.socket() as holder:
        holder.bind((site.edge.host, 0))
        return Address(host=site.edge.host, port=holder.getsockname()[1])


def until(holds: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Wait until it holds. AssertionError if it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not so within {within_s:g} s: {what}"
        time.sleep(0.05)


def _listens(where: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(where, timeout=1):
        return True
    return False
