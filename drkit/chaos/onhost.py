"""Faults on hosts: armed, injected and healed by one script at the host, which `onhost.sh` is.

The host is asked first for its boot and its clock. What is sent then carries the instant, on that clock, after which
nothing may be injected: an injector that was frozen and wakes too late is stopped at the target.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeVar, get_type_hints

from drkit.actions.together import together
from drkit.catalog import Action, Probe, fault, probe
from drkit.context import Context
from drkit.errors import DrkitError, OutcomeUnknown, Refused, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model.environment import Host, Isolation
from drkit.model.events import FaultChanged
from drkit.model.faults import Leased, Marker, Markers, Nothing, fault_key, joined
from drkit.model.observation import Observation
from drkit.model.params import Params
from drkit.model.values import Json
from drkit.providers.ssh import Completed, Ssh

#: How a fault on a host heals itself, as plans print it.
ON_HOST: Final = "a unit or a process of the host's own"
IN_KERNEL: Final = "the host's kernel, and a unit or a process of the host's own"

#: From the least to the most that a host keeps to itself.
_ISOLATIONS: Final[tuple[Isolation, ...]] = ("none", "mount-ns", "netns", "machine")

#: Exit codes of the script by which nothing is injected: busy, older token, stranger, taken, no room to write it down,
#: late, reverted, unarmed.
_NOTHING: Final = (90, 91, 92, 93, 95, 96, 97, 99)
_LEFT: Final = 98
CALL_S: Final = 20.0


class OnHost(Params):
    """A host of the environment."""

    host: str
    """Name of the host in the environment."""


class HostFault(OnHost, Leased):
    """Base of the parameters of faults on a host."""


PT = TypeVar("PT", bound=HostFault)
OT = TypeVar("OT", bound=Observation)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What breaks and what reverts, as shell of the host, run in its root.

    `$FAULT` is the fault's own folder, empty but for what the protocol keeps there, in which `injector` names the
    session that injects (pid and start time). `$LEFT_S` and `$LEFT_MS` are what is left of the lease, for what can
    expire by itself. The revert is idempotent, and ends with another code than 0 if something is left; it comes before
    a second attempt to inject.
    """

    inject: str
    revert: str
    starts: bool = True
    """The revert may start what stays, such as a service, which must not inherit that a lease goes before whatever else
    computes. Where it starts nothing, all of it goes first."""


#: From a fault's name, its host and its parameters to shell that ends with another code than 0 where nothing may be
#: injected. Raises Refused where that is known without asking the host.
Guard = Callable[[str, Host, Any], str]

#: Shell: `session PID [BORN]` lists what is in the session that a process leads or led (BORN: and only if no other
#: process bears its number by now): pid, start time, state and resident pages, a line each. (`cat`, since `sed` ends at
#: the first process that dies while it is read, and would not list the others.) `alive COLUMN VALUE` does so of the
#: kernel's lines that it is given and that have this value in this column.
SESSION: Final = r"""session() {
  leads=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20)
  [ -z "${2:-}" ] || [ -z "$leads" ] || [ "$leads" = "$2" ] || return 0
  cat /proc/[0-9]*/stat 2>/dev/null | alive '$5' "$1"
}
alive() {
  sed 's/^\([0-9]*\) (.*) /\1 /' | awk -v led="$2" "$1"' == led && $2 != "Z" && $2 != "X" {print $1, $21, $2, $23}'
}
"""

#: Revert: ends everything that the inject script left running. It pauses: a lease goes before whatever else computes,
#: and who is killed ends only when he computes. It ends well also where somebody has ended before he was killed.
STOP_ALL: Final = f"""{SESSION}
if read -r pid born 2>/dev/null <"$FAULT/injector"; then
  while session "$pid" "$born" | grep -q .; do
    session "$pid" "$born" | while read -r one rest; do kill -KILL "$one" 2>/dev/null; done
    sleep 0.01
  done
fi
"""


def host_fault(
    name: str, *, observe: Probe[Any, OT], needs: Isolation = "none", lease: str = ON_HOST,
    timeout_s: float = 60.0, consent: str | None = None, guard: Guard | None = None,
) -> Callable[[Callable[[PT], Recipe]], Action[PT, OT]]:  # fmt: skip
    """Declare a fault on a host by a pure function from its parameters to a recipe; its heal is made of it.

    `needs`: the least isolation of a host that makes the fault harmless to others. `consent`: as `catalog.fault` has
    it. `guard`: what the host's environment adds in front of the inject. The docstring describes the fault.
    """

    def declare(recipe: Callable[[PT], Recipe]) -> Action[PT, OT]:
        async def apply(ctx: Context, p: PT, before: OT) -> None:
            made = recipe(p)
            if guard is not None:
                made = replace(made, inject=guard(name, known(ctx, p.host), p) + made.inject)
            await inject(ctx, name, p, made, needs)

        async def heal(ctx: Context, p: PT, before: OT) -> None:
            await healed(ctx, name, p)

        hints = get_type_hints(recipe)
        params = next(iter(hints.values()))
        apply.__annotations__ = {"ctx": Context, "p": params, "before": Observation, "return": type(None)}
        apply.__doc__, apply.__module__ = recipe.__doc__, recipe.__module__
        entry: Action[PT, OT] = fault(
            name, observe=observe, lease=lease, unfenced=False, timeout_s=timeout_s, consent=consent
        )(apply)
        entry.healed_by(heal)
        assert entry.heal is not None  # just declared
        entry.by_hand(lambda p, paper: recipe(p).inject)
        entry.heal.by_hand(lambda p, paper: recipe(p).revert)
        return entry

    return declare


async def inject(ctx: Context, name: str, p: HostFault, recipe: Recipe, needs: Isolation) -> None:
    """Arm the lease and inject. Refused, Unreachable or ShutOut if nothing was injected, StepFailed,
    OutcomeUnknown."""
    host = known(ctx, p.host)
    isolated_enough(host, name, needs)
    boot, uptime_cs = (await _script(ctx, host, "clock")).output.split()
    start_by, until_s = int(uptime_cs) + round(100 * p.lease_s), ctx.permit.until(int(uptime_cs) / 100)
    if until_s is not None:
        start_by = min(start_by, int(until_s * 100) - 1)  # the last hundredth that is over before our own lease is
    key = fault_key(name, p)
    meta = {"fault": name, "params": p.model_dump(mode="json"), "run": ctx.run, "step": ctx.step}
    try:
        done = await _script(
            ctx, host, "inject", key, ctx.token, host.machine_id, str(ctx.fencing_token), boot, str(start_by),
            str(round(100 * p.lease_s)), json.dumps(meta), "starts" if recipe.starts else "",
            recipe.inject, recipe.revert,
        )  # fmt: skip
    except Unobservable as lost:
        if isinstance(lost, Unreachable | ShutOut):
            raise
        raise OutcomeUnknown(f"{lost.message} {name} may be injected; its lease heals it.") from lost
    _injected_or_raise(host, name, done)
    _, left_cs, kind = done.output.split()[-3:]
    detail: dict[str, Json] = {"key": key, "host": host.name, "lease": kind, "left_s": int(left_cs) / 100}
    for state in ("armed", "injected"):
        ctx.tell(FaultChanged(fault=name, id=ctx.step, state=state, detail=dict(detail)))


def isolated_enough(host: Host, name: str, needs: Isolation) -> None:
    """Refused if the fault called `name` would reach beyond the host."""
    if _ISOLATIONS.index(host.isolation) < _ISOLATIONS.index(needs):
        raise Refused(
            f"{name} on {host.name} would reach beyond it: it needs {needs}, and the host's isolation is "
            f"{host.isolation}.", hint="drkit explain " + name,
        )  # fmt: skip


async def healed(ctx: Context, name: str, p: HostFault) -> None:
    """Revert what the host remembers of this fault; nothing, if it remembers none. StepFailed with what is left."""
    host = known(ctx, p.host)
    key = fault_key(name, p)
    done = await _script(ctx, host, "heal", key)
    if done.exit_code != 0:
        raise StepFailed(
            f"{name} on {host.name} is not healed: {_last(done)}", world="changed",
            hint=f"ssh {host.name} 'cat /var/lib/drkit/faults/{key}/log'",
        )  # fmt: skip
    said, _, meta = done.output.partition("\n")
    if said != "absent":
        state, by = said.split()
        ctx.tell(FaultChanged(fault=name, id=json.loads(meta)["step"], state=state, detail={"key": key, "by": by}))


@probe("host.faults", side="neither")
async def faults(ctx: Context, p: Nothing) -> Markers:
    """Faults that hosts remember and that are not healed, at every host of the environment."""
    return joined(await together([_left_on(ctx, host) for host in ctx.environment.hosts]))


async def _left_on(ctx: Context, host: Host) -> Markers:
    try:
        done = await _script(ctx, host, "list", timeout_s=5.0)
    except DrkitError as silent:
        return Markers(silent=(f"host {host.name}: {silent.message}",))
    if done.exit_code != 0:
        return Markers(silent=(f"host {host.name}: {_last(done)}",))
    return Markers(markers=tuple(_marker(host.name, line) for line in done.output.splitlines()))


def _marker(host: str, line: str) -> Marker:
    """A line of the script's `list`."""
    key, state, left_cs, meta = line.split("\t", 3)
    told = json.loads(meta)
    return Marker(
        key=key, fault=told["fault"], params=told["params"], where=f"host {host}", run=told["run"], step=told["step"],
        state="overdue" if left_cs == "-" else "injected" if state == "injected" else "armed",
        expires_in_s=None if left_cs == "-" else int(left_cs) / 100,
    )  # fmt: skip


def known(ctx: Context, name: str) -> Host:
    """The host called `name`. Refused if there is none."""
    try:
        return ctx.environment.host(name)
    except KeyError as error:
        raise Refused(f"there is no host {error.args[0]}", hint="drkit doctor") from error


async def _script(ctx: Context, host: Host, *args: str, timeout_s: float = CALL_S) -> Completed:
    return await ctx.use(Ssh).run(host.name, ["sh", "-c", script_text(), "drkit-fault", *args], timeout_s=timeout_s)


@cache
def script_text() -> str:
    """What is sent to a host, before its arguments."""
    return files("drkit.chaos").joinpath("onhost.sh").read_text()


def _injected_or_raise(host: Host, name: str, done: Completed) -> None:
    if done.exit_code == 0:
        return
    said = f"{name} on {host.name}: {_last(done)}."
    if done.exit_code in _NOTHING:
        raise Refused(said, hint="drkit chaos leftovers")
    if done.exit_code == _LEFT:
        raise StepFailed(said, world="changed", hint="drkit chaos stop --all")
    raise StepFailed(f"{name} on {host.name}: its script could not run: {_last(done)}", world="untouched")


def _last(done: Completed) -> str:
    lines = (done.output.strip() or done.errors.strip()).splitlines()
    return lines[-1] if lines else f"it ended with {done.exit_code} and said nothing"
