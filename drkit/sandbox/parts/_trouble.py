"""What an AWS API does to some calls on demand: turns a share of them away in AWS's own words, lets them wait, or
answers reads with what was so a while ago.

Each trouble has its end when it begins: nothing has to run for it to be over, and it dies with the process that holds
it. The sandbox's own parts, and schedules that undo faults, are never met by one.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from drkit.sandbox.parts._calls import Call

#: Callers who are the sandbox itself.
_SPARED: Final = ("sandbox-", "scheduler-lease")
#: How AWS says "too many", by the protocol of the service: status and code.
_TOO_MANY: Final = {
    "s3": (503, "SlowDown"),
    "ec2": (503, "RequestLimitExceeded"),
    "rest-json": (429, "TooManyRequestsException"),
    "json": (400, "ThrottlingException"),
    "query": (400, "Throttling"),
    "rest-xml": (400, "Throttling"),
}
#: How AWS says "you may not".
_DENIED: Final = {
    "s3": (403, "AccessDenied"),
    "ec2": (403, "UnauthorizedOperation"),
    "rest-json": (403, "AccessDeniedException"),
    "json": (400, "AccessDeniedException"),
    "query": (403, "AccessDenied"),
    "rest-xml": (403, "AccessDenied"),
}


@dataclass(frozen=True, slots=True)
class Met:
    """What a call has to expect of the troubles that it meets."""

    troubles: tuple[Trouble, ...] = ()

    @property
    def delay_s(self) -> float:
        """How long it waits."""
        return sum(trouble.delay_s for trouble in self.troubles)

    @property
    def stale_s(self) -> float:
        """How old the answer to a read is; 0: it is fresh."""
        return max((trouble.stale_s for trouble in self.troubles), default=0.0)

    def refusal(self, protocol: str) -> tuple[int, str, str] | None:
        """Status, code and words with which it is turned away; None: it is not."""
        if any(trouble.deny for trouble in self.troubles):
            return *_DENIED[protocol], "not authorized to perform this operation"
        if any(trouble.throttle for trouble in self.troubles):
            return *_TOO_MANY[protocol], "Rate exceeded"
        return None


@dataclass
class Trouble:
    """What happens to calls of one service at one region's gateway."""

    region: str
    service: str
    operation: str
    """Pattern (`Describe*`, `*`) for its name; of a REST call, for its method and path (`PUT /bucket/*`)."""
    percent: int
    """Of the calls that match, so many are met: evenly, not by chance."""
    throttle: bool
    delay_s: float
    lease_s: float
    meta: dict[str, Any]
    """Whose it is and how it is healed; its `key` names it."""
    deny: bool = False
    stale_s: float = 0.0
    """Reads show what was so this long ago, as far as that was asked for; 0: what is so."""
    after: tuple[tuple[str, str], ...] = ()
    """Services and patterns. Asleep until one of these calls was carried out, at most `waits_s`; then it begins."""
    loses: bool = False
    """The answer of that call is lost."""
    waits_s: float = 0.0
    until: float = 0.0
    """On `time.monotonic()`."""
    seen: int = 0
    """Calls that match."""
    met: int = 0
    """Calls that came out otherwise than they would have."""

    @classmethod
    def parse(cls, region: str, body: Any) -> Trouble:
        """From JSON. Raises ValueError saying what is wrong."""
        given: dict[str, Any] = {"operation": "*", "percent": 100, "throttle": False, "delay_s": 0.0} | dict(body)
        given["after"] = tuple((str(service), str(pattern)) for service, pattern in given.get("after", ()))
        try:
            found = cls(region=region, **given)
        except TypeError as error:
            raise ValueError(str(error)) from error
        if not found.lease_s > 0 or not 0 < found.percent <= 100 or not found.meta.get("key"):
            raise ValueError("a trouble has a key, lease_s above 0, percent from 1 to 100")
        if found.delay_s < 0 or found.stale_s < 0 or bool(found.after) != (found.waits_s > 0):
            raise ValueError("delay_s and stale_s are not below 0, waits_s is above 0 with after, and only then")
        return found

    def meets(self, region: str, call: Call) -> bool:
        """Whether this call is one of those that are met; counts it."""
        if self.after or (region, call.service) != (self.region, self.service):
            return False
        if not fnmatchcase(call.operation, self.operation):
            return False
        self.seen += 1
        return self.seen * self.percent // 100 > (self.seen - 1) * self.percent // 100

    def shown(self, now: float) -> dict[str, Any]:
        """As it stands, for those who look for it."""
        names = (
            "region",
            "service",
            "operation",
            "percent",
            "throttle",
            "delay_s",
            "deny",
            "stale_s",
            "seen",
            "met",
            "meta",
        )
        return {**{name: getattr(self, name) for name in names}, "expires_in_s": self.until - now}


@dataclass
class Troubles:
    """Those of all gateways. Thread-safe."""

    _by_key: dict[str, Trouble] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, trouble: Trouble) -> None:
        """From now on, until its lease is over. Begun twice it ends when it was to end."""
        with self._lock:
            self._sweep()
            trouble.until = time.monotonic() + (trouble.waits_s if trouble.after else trouble.lease_s)
            self._by_key.setdefault(trouble.meta["key"], trouble)

    def end(self, key: str) -> None:
        """Now, if it is not over yet."""
        with self._lock:
            self._by_key.pop(key, None)

    def shown(self) -> list[dict[str, Any]]:
        """Those that are not over."""
        with self._lock:
            self._sweep()
            now = time.monotonic()
            return [trouble.shown(now) for trouble in self._by_key.values()]

    def meet(self, region: str, call: Call) -> Met:
        """What this call has to expect."""
        if _spared(call):
            return Met()
        with self._lock:
            self._sweep()
            met = Met(tuple(trouble for trouble in self._by_key.values() if trouble.meets(region, call)))
            if met.delay_s or met.refusal(call.protocol) is not None:
                self._count(met)
        return met

    def told_old(self, met: Met) -> None:
        """What a read was answered is so no longer."""
        with self._lock:
            self._count(met)

    def carried_out(self, region: str, call: Call) -> bool:
        """What waited for this call begins. Whether its answer is lost."""
        if _spared(call):
            return False
        with self._lock:
            self._sweep()
            woken = [trouble for trouble in self._by_key.values() if trouble.region == region and _waits(trouble, call)]
            for trouble in woken:
                trouble.after = ()
                trouble.until = time.monotonic() + trouble.lease_s
        return any(trouble.loses for trouble in woken)

    @staticmethod
    def _count(met: Met) -> None:
        for trouble in met.troubles:
            trouble.met += 1

    def _sweep(self) -> None:
        now = time.monotonic()
        self._by_key = {key: trouble for key, trouble in self._by_key.items() if trouble.until > now}


def _spared(call: Call) -> bool:
    return call.caller is not None and call.caller.startswith(_SPARED)


def _waits(trouble: Trouble, call: Call) -> bool:
    return any(service == call.service and fnmatchcase(call.operation, pattern) for service, pattern in trouble.after)
