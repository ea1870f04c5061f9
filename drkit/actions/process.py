"""Commands on this machine, as argument lists. What they did is observed, never believed from their exit code."""

from __future__ import annotations

from typing import Annotated

import anyio
from annotated_types import MinLen

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed
from drkit.model.observation import Observation, State
from drkit.model.params import Params
from drkit.providers.process import Process

_UNKNOWN_EFFECT = "drkit does not know what a command changes, so it cannot take it back"
Argv = Annotated[list[str], MinLen(1)]


class Made(Params):
    """What a command leaves behind."""

    creates: str
    """Path that is there once the command has done its work."""


class There(Observation):
    """Whether a path is there."""

    exists: bool
    size_bytes: int | None = None


@probe("process.exists", side="neither")
async def exists(ctx: Context, p: Made) -> There:
    """Whether a path is there on this machine."""
    path = anyio.Path(p.creates)
    if not await path.exists():
        return There(exists=False)
    return There(exists=True, size_bytes=(await path.stat()).st_size)


class Run(Made):
    """Run a command whose effect is a file or folder."""

    argv: Argv
    """The program and its arguments; no shell sees them."""
    timeout_s: float = 60.0
    """The command is killed after this many seconds."""


@action("process.run", observe=exists, repeat="safe", side="neither", irreversible=_UNKNOWN_EFFECT)
async def run(ctx: Context, p: Run, before: There) -> None:
    """Run a command on this machine; it is done once the path it creates is there."""
    await _run(ctx, p.argv, p.timeout_s)


@run.check
def created(p: Run, now: There) -> bool:
    """The path is there."""
    return now.exists


class Proof(Params):
    """A command that looks."""

    proof: Argv
    """Command that ends with 0 when the effect is in place, with 1 when it is not; anything else is unknown."""


class Proven(Observation):
    """What the looking command said."""

    exit_code: int
    output: str


@probe("process.proof", side="neither")
async def prove(ctx: Context, p: Proof) -> Proven:
    """Run the command that looks."""
    ended = await ctx.use(Process).run(p.proof, timeout_s=10)
    return Proven(exit_code=ended.exit_code, output=ended.output[-2000:])


class Change(Proof):
    """Run a command whose effect another command can see."""

    argv: Argv
    """The program and its arguments; no shell sees them."""
    timeout_s: float = 60.0
    """The command is killed after this many seconds."""


@action("process.repeatable", observe=prove, repeat="safe", side="neither", irreversible=_UNKNOWN_EFFECT)
async def repeatable(ctx: Context, p: Change, before: Proven) -> None:
    """Run a command that may be run any number of times; another command proves its effect."""
    await _run(ctx, p.argv, p.timeout_s)


@action("process.once", observe=prove, repeat="ask", side="neither", irreversible=_UNKNOWN_EFFECT)
async def once(ctx: Context, p: Change, before: Proven) -> None:
    """Run a command that must not be repeated when its outcome is unknown; another command proves its effect."""
    await _run(ctx, p.argv, p.timeout_s)


@repeatable.check
@once.check
def in_place(p: Change, now: Proven) -> State:
    """The looking command says so."""
    return {0: State.HOLDS, 1: State.ABSENT}.get(now.exit_code, State.UNKNOWN)


async def _run(ctx: Context, argv: list[str], timeout_s: float) -> None:
    ended = await ctx.use(Process).run(argv, timeout_s=timeout_s)
    if ended.exit_code != 0:
        last = (ended.errors.strip() or ended.output.strip() or "no output").splitlines()[-1]
        raise StepFailed(f"{argv[0]} ended with {ended.exit_code}: {last}")
