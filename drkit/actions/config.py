"""Configuration files on hosts: values set by name, the rest kept; services restarted one host after the other."""

from __future__ import annotations

import json
from typing import Any

from drkit.actions.host import put_on_each
from drkit.actions.service import hosts_of, understood
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed
from drkit.model.environment import Host
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.model.values import Json
from drkit.providers.aws import Aws
from drkit.providers.ssh import Ssh

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()"
"""Python that ends with 0 if a connection to ADDRESS PORT can be made."""


class Files(Params):
    """A JSON file on every host of a group, and the service that reads it."""

    site: SiteName = "target"
    """Site of the hosts."""
    role: str
    """Their role."""
    path: str
    """Path of the file, relative to the host's root."""
    service: str
    """Service that reads it."""


class HostFile(Observation):
    """The file on one host."""

    host: str
    known: bool
    """The host is the one that was meant, and has the file."""
    running: bool = False
    state: str | None = None
    """What the service says of itself in its status file, if it is this very process's."""
    database: str | None = None
    """Database that the running process says it uses."""
    started_at: str | None = None
    release: str | None = None
    content: dict[str, Json]


class FilesState(Observation):
    """The file everywhere."""

    files: list[HostFile]


@probe("config.files")
async def files(ctx: Context, p: Files) -> FilesState:
    """Read the file on every host, and ask the service manager about the service. Unobservable if a host is silent."""
    found = [await _file(ctx, p, host) for host in hosts_of(ctx, p.site, p.role)]
    return FilesState(files=found)


async def _file(ctx: Context, p: Files, host: Host) -> HostFile:
    status = '(cat "var/run/$1-status.json" 2>/dev/null || echo "{}") | head -1'
    look = f'cat etc/machine-id; svc status "$1" | head -1; {status}; cat "$2"'
    done = await ctx.use(Ssh).run(host.name, ["sh", "-c", look, "look", p.service, p.path])
    lines = done.output.splitlines()
    if len(lines) < 3:
        return HostFile(host=host.name, known=False, content={})
    service = understood(host, "\n".join(lines[:2]), done.errors)
    managed = json.loads(lines[1]) if service.known else {}
    said: dict[str, Any] = json.loads(lines[2])
    current = said.get("pid") == managed.get("pid")
    try:
        content: dict[str, Json] = json.loads("\n".join(lines[3:]))
    except ValueError:
        return HostFile(host=host.name, known=False, content={}, answered_by=lines[0])
    return HostFile(
        host=host.name,
        known=service.known,
        content=_without_secrets(content),
        running=service.running,
        started_at=managed.get("started_at"),
        release=service.release,
        state=said.get("state") if current else None,
        database=said.get("database") if current else None,
        answered_by=lines[0],
    )


def _without_secrets(content: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in content.items() if "password" not in name and "key" not in name}


class Configure(Files):
    """Change values of the file, keep the rest."""

    values: dict[str, Json]
    """Values by dotted name (`database.host`)."""


@action("config.set", observe=files, repeat="safe", unfenced=False, timeout_s=40)
async def configure(ctx: Context, p: Configure, before: FilesState) -> None:
    """Change values of a configuration file on every host of a group; what else stands in it stays."""
    contents = {}
    for file in before.files:
        if not file.known:
            raise StepFailed(f"{file.host} is not who was meant, or has no {p.path}.", world="untouched")
        done = await ctx.use(Ssh).run(file.host, ["cat", p.path])
        content = changed(json.loads(done.output), p.values)
        contents[file.host] = (json.dumps(content, indent=2) + "\n").encode()
    await put_on_each(ctx, hosts_of(ctx, p.site, p.role), p.path, contents)


@configure.check
def configured(p: Configure, now: FilesState) -> State:
    """Every host has every value."""
    if not all(file.known for file in now.files):
        return State.UNKNOWN
    return State.HOLDS if all(changed(file.content, p.values) == file.content for file in now.files) else State.ABSENT


@configure.undo
def configured_back(p: Configure, before: FilesState, after: FilesState | None) -> Use | None:
    """The values that were there before, where they were the same everywhere."""
    former = [{name: _value(file.content, name) for name in p.values} for file in before.files]
    if not former or any(each != former[0] for each in former) or None in former[0].values():
        return None
    return configure.use(p.but(values=former[0]))


class Provide(Files):
    """What the service needs to know here: its secret's current version, its database, and further values."""

    secret: str
    """Secret that the service logs in with; its current version is written down beside the configuration."""
    database: str
    """Database of the environment that the service must reach from the host."""
    values: dict[str, Json] = {}
    """Further values by dotted name."""


class Provided(Observation):
    """The file everywhere, and what it should say."""

    reached: list[str]
    """Hosts from which the database that the file names takes connections."""
    secret_version: str | None
    """Current version of the secret in this region."""
    files: list[HostFile]


@probe("config.provided")
async def provided(ctx: Context, p: Provide) -> Provided:
    """Read the file on every host, the secret's version, and try the database that the file names from there."""
    seen = await files(ctx, p)
    request = {"SecretId": p.secret}
    described = await ctx.use(Aws).call(ctx.site(p.site).name, "secretsmanager", "describe_secret", request)
    stages: dict[str, list[str]] = described.get("VersionIdsToStages", {})
    reached = [f.host for f in seen.files if await _reaches(ctx, f.host, *_written(f).rsplit(":", 1))]
    version = next((name for name, labels in stages.items() if "AWSCURRENT" in labels), None)
    return Provided(files=seen.files, secret_version=version, reached=reached)


@action("config.provide", observe=provided, repeat="safe", unfenced=False, timeout_s=40)
async def provide(ctx: Context, p: Provide, before: Provided) -> None:
    """Write values and the secret's version into the file on every host."""
    values: dict[str, Json] = {**p.values, "secret_version": before.secret_version}
    change = Configure(site=p.site, role=p.role, path=p.path, service=p.service, values=values)
    await configure(ctx, change, FilesState(files=before.files))


@provide.check
def is_provided(p: Provide, now: Provided) -> State:
    """Every host has every value and the current secret's version, and reaches the database its file names."""
    if not all(file.known for file in now.files) or now.secret_version is None:
        return State.UNKNOWN
    if len(now.reached) < len(now.files):
        return State.UNKNOWN
    wanted: dict[str, Json] = {**p.values, "secret_version": now.secret_version}
    return State.HOLDS if all(changed(f.content, wanted) == f.content for f in now.files) else State.ABSENT


@provide.undo
def stays_provided(p: Provide, before: Provided, after: Provided | None) -> Use | None:
    """Left: it is what this region's servers need to know whenever they serve."""
    return None


class Switch(Files):
    """Point a service at a database, and restart it one host after the other."""

    database: str
    """Database of the environment that the service uses, under `database.host` and `database.port`."""
    to: SiteName = "target"
    """Side of the database to use."""


class Using(Observation):
    """The file everywhere, and where the database to use is reached from there."""

    address: str
    reached: list[str]
    """Hosts from which that address takes connections."""
    files: list[HostFile]


@probe("config.database")
async def database_used(ctx: Context, p: Switch) -> Using:
    """Read the file on every host, look where the database is for them, and whether they reach it."""
    host, port = _address(ctx, p)
    seen = await files(ctx, p)
    reached = [file.host for file in seen.files if await _reaches(ctx, file.host, host, str(port))]
    return Using(files=seen.files, address=f"{host}:{port}", reached=reached)


async def _reaches(ctx: Context, host: str, address: str, port: str) -> bool:
    """Whether a connection can be made from a host."""
    done = await ctx.use(Ssh).run(host, ["python3", "-c", CONNECT, address, port], timeout_s=4)
    return done.exit_code == 0


def _address(ctx: Context, p: Switch) -> tuple[str, int]:
    side = ctx.environment.database(p.database, ctx.site(p.to).name)
    address = side.reached_from.get(ctx.site(p.site).name, side.address)
    return address.host, address.port


@action("config.switch", observe=database_used, repeat="safe", unfenced=False, timeout_s=60)
async def switch(ctx: Context, p: Switch, before: Using) -> None:
    """Write where the database is, then restart the service host by host in the order they are listed."""
    host, port = _address(ctx, p)
    values: dict[str, Json] = {"database.host": host, "database.port": port}
    change = Configure(site=p.site, role=p.role, path=p.path, service=p.service, values=values)
    await configure(ctx, change, FilesState(files=before.files))
    for each in hosts_of(ctx, p.site, p.role):
        token = f"{ctx.token}-{ctx.attempt}-restart"
        argv = ["svc", "restart", p.service]
        await ctx.use(Ssh).change(each.name, argv, token=token, permit=ctx.permit, timeout_s=10)
        await _until_it_works(ctx, p, each, before.address)


async def _until_it_works(ctx: Context, p: Switch, host: Host, address: str) -> None:
    """One host at a time: the next is touched only when this one works with the new database."""
    for _ in range(100):
        file = await _file(ctx, p, host)
        if _works(file, address):
            return
        await ctx.clock.sleep(0.1)
    raise StepFailed(f"{p.service} does not work on {host.name} after its restart: {file.state or 'no status'}.")


def _works(file: HostFile, address: str) -> bool:
    return file.running and file.state in ("running", "waiting") and file.database == address


@switch.check
def switched(p: Switch, now: Using) -> State:
    """Reached from everywhere, and the processes that run say that they work with that database."""
    if not all(file.known for file in now.files) or len(now.reached) < len(now.files):
        return State.UNKNOWN
    written = all(_written(file) == now.address for file in now.files)
    if written and all(_works(file, now.address) for file in now.files):
        return State.HOLDS
    return State.IN_PROGRESS if written and all(file.running for file in now.files) else State.ABSENT


def _written(file: HostFile) -> str:
    return f"{_value(file.content, 'database.host')}:{_value(file.content, 'database.port')}"


@switch.undo
def stays_switched(p: Switch, before: Using, after: Using | None) -> Use | None:
    """Left: the former database cannot be written to any more, and going back is failback's business."""
    return None


def changed(content: dict[str, Json], values: dict[str, Json]) -> dict[str, Json]:
    """A copy of `content` with these values by dotted name."""
    result: dict[str, Any] = json.loads(json.dumps(content))
    for name, value in values.items():
        *path, last = name.split(".")
        inner = result
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return result


def _value(content: dict[str, Json], name: str) -> Json:
    inner: Any = content
    for part in name.split("."):
        inner = inner.get(part) if isinstance(inner, dict) else None
    found: Json = inner
    return found
