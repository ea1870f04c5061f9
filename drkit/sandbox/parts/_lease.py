"""The writer's side of the dead-man lease: acquire, renew, release, and never outlive it.

Validity counts from the *sending* of the last acknowledged renewal, on CLOCK_BOOTTIME. Two things end it:

- the holder itself, a guard time before the term is over: it closes its door and stops its server;
- the kernel, exactly at the end of the term: a timer that sends SIGKILL to this process. It needs no instruction of
  ours to be carried out, so it also works while we are stopped, swapped out or stuck between a check and a send.

A lease taken by override has no witness to count its term, and so no end until one has adopted it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from drkit.sandbox.parts._aio import fetch

_CLOCK_BOOTTIME = 7
_TIMER_ABSTIME = 1


def boot_time() -> float:
    """Seconds since boot, also those asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Event(ctypes.Structure):
    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_byte * 48),
    ]


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class Watchdog:
    """A kernel timer that kills this process at an instant of CLOCK_BOOTTIME unless it is moved before."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timer_create"):  # glibc before 2.34 keeps it apart
            self._libc = ctypes.CDLL("librt.so.1", use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _Event(None, signal.SIGKILL, 0)
        if self._libc.timer_create(_CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            self._fail("timer_create")

    def kill_at(self, instant: float) -> None:
        """Move the end to this reading of CLOCK_BOOTTIME."""
        seconds = int(instant)
        self._set(_Timespec(seconds, int((instant - seconds) * 1e9)))

    def disarm(self) -> None:
        """There is nothing left that could be acknowledged."""
        self._set(_Timespec(0, 0))

    def _set(self, value: _Timespec) -> None:
        spec = _Itimerspec(_Timespec(0, 0), value)
        if self._libc.timer_settime(self._timer, _TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
            self._fail("timer_settime")

    def _fail(self, call: str) -> None:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


class Refusal(Exception):
    """The witness said no; `why` is its word for it: held, superseded, revoked, not the holder."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class WriterLease:
    """One holder's lease. Methods raise Refusal, or OSError/TimeoutError/ValueError if no answer came."""

    def __init__(self, witness: str, holder: str, site: str, term_s: float) -> None:
        self.witness, self.holder, self.site, self.term_s = witness, holder, site, term_s
        self.guard_s = term_s / 10
        self.epoch: int | None = None
        self.by_override = False
        """No witness has granted it (yet)."""
        self._ends = 0.0
        self._silent_since: float | None = None
        self._watchdog = Watchdog()

    @property
    def held(self) -> bool:
        """We were granted it and have not given it up; says nothing about time."""
        return self.epoch is not None

    @property
    def remaining_s(self) -> float:
        """How long we may still acknowledge; 0 when it is over, infinite by override."""
        if not self.held:
            return 0.0
        return float("inf") if self.by_override else max(0.0, self._ends - boot_time())

    @property
    def valid(self) -> bool:
        """We may acknowledge now."""
        return self.remaining_s > 0

    @property
    def witness_silent_s(self) -> float:
        """How long the witness has not said what it knows, counted from the first answer missed; 0 if it has."""
        return 0.0 if self._silent_since is None else boot_time() - self._silent_since

    async def look(self) -> int:
        """The present epoch as the witness knows it, whoever holds it."""
        try:
            return int((await self._ask("GET", "/lease"))["epoch"])
        except (OSError, ValueError):
            if self._silent_since is None:
                self._silent_since = boot_time()  # now, not when it was asked: it may have lived until then
            raise

    async def acquire(self, expect_epoch: int | None = None) -> int:
        """Ask for it; the epoch granted."""
        sent = boot_time()
        return self._granted(await self._ask("POST", "/acquire", site=self.site, expect_epoch=expect_epoch), sent)

    def take(self, epoch: int) -> None:
        """Write under this epoch although nobody granted it. Two persons must have said so."""
        self.epoch, self.by_override = epoch, True

    async def adopt(self, begun: Mapping[str, Any], *, ended: bool = False) -> int:
        """Have the witness take over what was begun without it; the epoch from now on. `ended`: nobody writes any more.

        `begun` is the override: `epoch` under which it was begun, `token` of the run.
        """
        sent = boot_time()
        reply = await self._ask(
            "POST", "/adopt", site=self.site, epoch=begun["epoch"], token=begun["token"], ended=ended
        )
        return int(reply["epoch"]) if ended else self._granted(reply, sent)

    async def renew(self) -> None:
        """Extend it, counted from now."""
        sent = boot_time()
        await self._ask("POST", "/renew", epoch=self.epoch)
        self._extend(sent)

    async def release(self) -> None:
        """Give it up. Only to be called when nothing can be acknowledged any more."""
        epoch = self.epoch
        self.drop()
        await self._ask("POST", "/release", epoch=epoch)

    def drop(self) -> None:
        """Forget it without a word to the witness, which will see that it is not renewed."""
        self.epoch, self.by_override = None, False
        self._watchdog.disarm()

    def _granted(self, reply: dict[str, Any], sent: float) -> int:
        self.epoch, self.by_override = int(reply["epoch"]), False
        self._extend(sent)
        return self.epoch

    def _extend(self, sent: float) -> None:
        if self.held and boot_time() < sent + self.term_s:
            self._ends = sent + self.term_s - self.guard_s
            self._watchdog.kill_at(sent + self.term_s)

    async def _ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        given = {"holder": self.holder, **body}
        reply = await fetch(method, f"{self.witness}{path}", given, timeout_s=self.term_s / 3)
        found = reply.json()
        if not isinstance(found, dict):
            raise ValueError(f"the witness answered {found!r}")
        if reply.status not in (200, 409):
            raise ValueError(f"the witness answered {reply.status}")
        self._silent_since = None
        if reply.status == 409:
            raise Refusal(str(found.get("refused")))
        return found


def log(text: str) -> None:
    """One line to the part's log."""
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", file=sys.stderr, flush=True)
