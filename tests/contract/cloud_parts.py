"""Start parts of the sandbox's cloud as the supervisor does, and talk to them as their clients do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

EAST, WEST = "us-east-1", "us-west-2"
EDGES = {EAST: "127.1.1.10", WEST: "127.1.2.10"}


@contextmanager
def part(name: str, config: dict[str, Any], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A running part and its ready line; it is told to end, and must within a second."""
    path = folder / f"{name}-{time.monotonic_ns()}.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", f"drkit.sandbox.parts.{name}", str(path)]
    environment = {**os.environ, "DRKIT_PART_PARENT": str(os.getpid())}
    with path.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, path.with_suffix(".log").read_text()
        yield process, {**json.loads(line), "config": str(path)}
    finally:
        process.terminate()
        try:
            process.wait(5)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def ask(url: str, body: Any = None, method: str | None = None) -> Any:
    """The JSON answer of an admin API; `(status, text)` if it is an error."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def until(holds: Callable[[], Any], within_s: float = 10.0) -> Any:
    """The first true answer; fails with the last one when the time is up."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"still {found!r} after {within_s:g} s"
        time.sleep(0.02)
    return found


class Cloud:
    """The AWS part, its sinks, and clients for both gateways."""

    def __init__(self, stack: ExitStack, folder: Path, warm: tuple[str, ...] = ()) -> None:
        where = {"address": "127.1.4.21", "port": 0}
        sinks = {"http": where, "smtp": where, "admin": where, "messages": str(folder / "messages.jsonl")}
        self.sinks = stack.enter_context(part("sinks", sinks, folder))[1]
        regions = {EAST: {"address": "127.1.1.20", "port": 0}, WEST: {"address": "127.1.2.20", "port": 0}}
        self.calls_file = folder / "calls.jsonl"
        aws = {"regions": regions, "admin": where, "calls": str(self.calls_file), "warm": warm}
        self.process, self.ready = stack.enter_context(part("aws", aws, folder))
        self.folder = folder
        self._clients: dict[Any, Any] = {}

    def url(self, region: str) -> str:
        """Base URL of a region's gateway."""
        return str(self.ready["regions"][region]["url"])

    def admin(self, path: str, body: Any = None) -> Any:
        """The admin API."""
        return ask(self.ready["admin"]["url"] + path, body)

    def set(self, region: str, mode: str = "ok", **more: Any) -> None:
        """Set a gateway's mode."""
        assert "services" in self.admin(f"/regions/{region}", {"mode": mode, **more})

    def client(self, service: str, region: str, *, at: str | None = None, patience_s: float = 20.0) -> Any:
        """A client that signs for `region` and talks to the gateway `at` (default: the region's own); one attempt."""
        import boto3
        from botocore.config import Config

        key = (service, region, at, patience_s)
        if key not in self._clients:
            options: dict[str, Any] = {
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": 5,
                "read_timeout": patience_s,
                "user_agent_appid": "drkit-test",
            }
            make: Any = boto3.client  # the stubs list every service by name
            self._clients[key] = make(
                service,
                region_name=region,
                endpoint_url=self.url(at or region),
                aws_access_key_id="test",
                aws_secret_access_key="-" * 40,
                config=Config(**options),
            )
        return self._clients[key]

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The call log from a number on, the tests' own calls only."""
        found = self.admin(f"/calls?since={since}")["calls"]
        return [call for call in found if call["caller"] == "drkit-test"]

    def calls_so_far(self) -> int:
        """The number the next call will get."""
        return int(self.admin("/calls?since=1000000000")["next"])
