"""What one attempt has done to the world so far: noted by providers as they write, read when a later call is refused.

A refusal proves something about one call only. What an attempt leaves behind is known by what went through before it,
so every write of a provider is made inside `writing`. It follows the attempt into its tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from drkit.errors import NotSupported, Refused, ShutOut, StepFailed, Unreachable

#: Nothing was done by a call that ended so.
_NOTHING = (Refused, NotSupported, Unreachable, ShutOut)


@dataclass
class Written:
    """The writes of one attempt that were not refused, in order: those that went through, and those nobody knows of."""

    through: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)

    @property
    def world(self) -> str:
        """What is known of the world when nothing more is sent: `untouched`, `changed` or `unknown`."""
        return "unknown" if self.doubtful else "changed" if self.through else "untouched"

    def __str__(self) -> str:
        """Said after a refusal: empty, or a sentence."""
        if len(self.through) <= 1:
            return f"Before that, {self.through[0]} went through." if self.through else ""
        return f"Before that, {len(self.through)} calls went through, the last one {self.through[-1]}."


_now: ContextVar[Written | None] = ContextVar("written", default=None)


@contextmanager
def attempt() -> Iterator[Written]:
    """One attempt begins; what is written inside belongs to it."""
    mine = Written()
    before = _now.set(mine)
    try:
        yield mine
    finally:
        _now.reset(before)


def so_far() -> Written:
    """Of the attempt that is under way; nothing, outside of one."""
    return _now.get() or Written()


def taken_back() -> None:
    """All that this attempt wrote was undone: its failure leaves the world as it was."""
    mine = so_far()
    mine.through.clear()
    mine.doubtful.clear()


@contextmanager
def writing(what: str) -> Iterator[None]:
    """A write is sent inside. How it ends says whether it counts: a refusal does not, a lost answer is doubtful."""
    mine = so_far()
    try:
        yield
    except _NOTHING:
        raise
    except StepFailed as error:
        if error.world == "unknown":
            mine.doubtful.append(what)
        raise
    except BaseException:  # cancelled, too: it was under way
        mine.doubtful.append(what)
        raise
    mine.through.append(what)
