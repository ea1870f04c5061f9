"""What an AWS API does to some calls on demand: throttles a share of them in AWS's own words, or lets them wait.

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
    until: float = 0.0
    """On `time.monotonic()`."""
    seen: int = 0

    @classmethod
    def parse(cls, region: str, body: Any) -> Trouble:
        """From JSON. Raises ValueError saying what is wrong."""
        given: dict[str, Any] = {"operation": "*", "percent": 100, "throttle": False, "delay_s": 0.0} | dict(body)
        try:
            found = cls(region=region, **given)
        except TypeError as error:
            raise ValueError(str(error)) from error
        if not found.lease_s > 0 or not 0 < found.percent <= 100 or found.delay_s < 0 or not found.meta.get("key"):
            raise ValueError("a trouble has a key, lease_s above 0, percent from 1 to 100, delay_s not below 0")
        return found

    def meets(self, region: str, call: Call) -> bool:
        """Whether this call is one of those that are met; counts it."""
        if (region, call.service) != (self.region, self.service) or not fnmatchcase(call.operation, self.operation):
            return False
        self.seen += 1
        return self.seen * self.percent // 100 > (self.seen - 1) * self.percent // 100

    def shown(self, now: float) -> dict[str, Any]:
        """As it stands, for those who look for it."""
        names = ("region", "service", "operation", "percent", "throttle", "delay_s", "seen", "meta")
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
            trouble.until = time.monotonic() + trouble.lease_s
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

    def meet(self, region: str, call: Call) -> tuple[float, tuple[int, str] | None]:
        """How long this call is to wait, and how it is turned away then; None: it is not."""
        if call.caller is not None and call.caller.startswith(_SPARED):
            return 0.0, None
        with self._lock:
            self._sweep()
            met = [trouble for trouble in self._by_key.values() if trouble.meets(region, call)]
        turned = _TOO_MANY[call.protocol] if any(trouble.throttle for trouble in met) else None
        return sum(trouble.delay_s for trouble in met), turned

    def _sweep(self) -> None:
        now = time.monotonic()
        self._by_key = {key: trouble for key, trouble in self._by_key.items() if trouble.until > now}
