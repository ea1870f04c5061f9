"""Commands on hosts over SSH, as argument lists, guarded so that a second attempt adopts the first."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MinLen

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation
from drkit.model.params import Params
from drkit.providers.ssh import Ssh


class Made(Params):
    """What a command leaves behind on a host."""

    host: str
    """Name of the host in the environment."""
    creates: str
    """Path on the host (relative to its root) that is there once the command has done its work."""


class There(Observation):
    """Whether a path is there; `answered_by` is the host's machine-id."""

    exists: bool


@probe("ssh.exists", side="neither")
async def exists(ctx: Context, p: Made) -> There:
    """Whether a path is there on a host, and that the host is the one that was meant."""
    meant = ctx.environment.host(p.host)
    look = 'cat etc/machine-id; test -e "$1" && echo there'
    done = await ctx.use(Ssh).run(p.host, ["sh", "-c", look, "look", p.creates])
    machine_id, *rest = done.output.split()
    if machine_id != meant.machine_id:
        raise Unobservable(f"Host {p.host} has machine-id {machine_id}, not {meant.machine_id}.")
    return There(exists=rest == ["there"], answered_by=machine_id)


class Run(Made):
    """Run a command whose effect is a file or folder on a host."""

    argv: Annotated[list[str], MinLen(1)]
    """The program and its arguments."""
    timeout_s: float = 60.0
    """How long it is waited for, in seconds; the command itself is not killed."""


@action(
    "ssh.run", observe=exists, repeat="token", side="neither", unfenced=False,
    irreversible="drkit does not know what a command changes, so it cannot take it back",
)  # fmt: skip
async def run(ctx: Context, p: Run, before: There) -> None:
    """Run a command on a host, once for this step; it is done once the path it creates is there."""
    await ctx.use(Ssh).change(p.host, p.argv, token=ctx.token, permit=ctx.permit, timeout_s=p.timeout_s)


@run.check
def created(p: Run, now: There) -> bool:
    """The path is there."""
    return now.exists
