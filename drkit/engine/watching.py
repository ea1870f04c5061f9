"""Looking at the world until it is as wanted: one look, what it says, and the loop around it.

A look is never reused: each is taken when it is needed, so that none is older than the step it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import anyio

from drkit.errors import ShutOut, Unobservable
from drkit.model.observation import Observation, State, Verdict, look
from drkit.model.ports import Clock
from drkit.model.values import Json, utc

#: The last look may take this long even if the deadline has passed: a call that hung for all of a step's time still
#: has to be looked after.
LOOK_S = 5.0


class Seen(NamedTuple):
    """What a probe saw and the Look to journal; or neither, and why nothing could be seen."""

    now: Observation | None = None
    look: dict[str, Json] | None = None
    why: str = ""
    shut_out: bool = False
    """Nothing will be seen however often it is looked."""


class Sight(NamedTuple):
    """One look and what it says. `checked` is the action's own check alone; `state` also counts `verify`.

    `reason` is there if it needs one beside what was seen.
    """

    state: State
    checked: State
    reason: str = ""
    observation: Observation | None = None
    look: dict[str, Json] | None = None
    shut_out: bool = False
    """To look again is of no use."""

    @property
    def why(self) -> str:
        """The reason, or what was seen. Said of few looks, so it is put together only then."""
        if self.reason or self.look is None:
            return self.reason
        value = self.look["value"]
        return f"seen: {shown(value if isinstance(value, dict) else None)}"


class End(NamedTuple):
    """How watching ended: `holds`, `deadline`, `shut out`, or what `stop` said; and the last look."""

    reason: str
    sight: Sight


async def observe_once(
    observe: Callable[[], Awaitable[Observation]], clock: Clock, origin: str, *, within_s: float
) -> Seen:
    """What is seen now."""
    try:
        with anyio.move_on_after(within_s):
            now = await observe()
            return Seen(now, look(now, at=utc(clock.wall()), origin=origin))
    except Unobservable as error:
        return Seen(why=str(error), shut_out=isinstance(error, ShutOut))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a probe, it did not see anything
        return Seen(why=f"{type(error).__name__}: {error}")
    return Seen(why=f"nothing was observed within {within_s:.1f} s")


def verified(sight: Sight, verdict: Verdict, reason: str) -> Sight:
    """A look whose check holds, after the runbook's `verify` was asked too. Unknown is not yet."""
    if verdict is Verdict.PASS:
        return sight
    state = State.IN_PROGRESS if verdict is Verdict.FAIL else State.UNKNOWN
    return Sight(state, sight.checked, f"verify: {reason}", sight.observation, sight.look)


async def watch(
    glance: Callable[[float], Awaitable[Sight]],
    clock: Clock,
    *,
    deadline: float,
    poll_s: float,
    hold_s: float,
    stop: Callable[[Sight], str | None] = lambda sight: None,
) -> End:
    """Look until it holds without a break for `hold_s`, until `deadline` (on `clock.monotonic()`), or until `stop`.

    Whoever is shut out does not look again.

    `glance` is given the seconds it may take. A hold that began before the deadline may last beyond it.
    """
    since: float | None = None
    while True:
        sight = await glance(max(deadline - clock.monotonic(), LOOK_S))
        now = clock.monotonic()
        if sight.state is State.HOLDS:
            since = now if since is None else since
            if now - since >= hold_s:
                return End("holds", sight)
            await clock.sleep(min(poll_s, hold_s - (now - since)))
            continue
        since = None
        if sight.shut_out:
            return End("shut out", sight)
        stopped = stop(sight)
        if stopped is not None:
            return End(stopped, sight)
        if now >= deadline:
            return End("deadline", sight)
        await clock.sleep(min(poll_s, max(deadline - now, 0.0)))


SHOWN_MAX = 300
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")


def shown(value: Mapping[str, Any] | None) -> str:
    """A look's value, short enough for a sentence: what is not known is left out or, inside of others, `?`."""
    if not value:
        return "nothing"
    text = _DIGEST.sub(r"\1", ", ".join(f"{key}={_words(item)}" for key, item in value.items() if item is not None))
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."


def _words(item: Any) -> str:
    """One value; inside of others who answered is left out, because they are named otherwise there."""
    if isinstance(item, Mapping):
        return f"({', '.join(f'{key}={_words(each)}' for key, each in item.items() if key != 'answered_by')})"
    if item is None:
        return "?"
    return f"[{', '.join(_words(each) for each in item)}]" if isinstance(item, list | tuple) else str(item)
