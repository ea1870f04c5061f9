"""What faults of the AWS API have in common: the gateway of the region entered does them, and holds their lease."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from drkit.sandbox.strikes import Drilled
from drkit.sandbox.strikes.asking import ask

Calls = Iterable[tuple[str, str]]
"""Services, as requests are signed for them, and patterns for operations."""


WAITS_S: Final = 60.0
"""How long it lies in wait for a step's effect."""


class Gateway:
    """Some calls come out otherwise: `what` says how (`parts._trouble`)."""

    def __init__(self, drilled: Drilled, calls: Calls, lease_s: float, **what: Any) -> None:
        self._drilled = drilled
        self._calls = tuple(calls)
        self._what = {**what, "lease_s": lease_s}
        if drilled.after:
            after = [(one.service, one.pattern) for one in drilled.after]
            self._what |= {"after": after, "loses": drilled.loses, "waits_s": WAITS_S}

    def begin(self) -> None:
        """All of them at once."""
        with ThreadPoolExecutor(len(self._calls)) as at_once:
            list(at_once.map(self._begin, range(len(self._calls))))

    def _begin(self, number: int) -> None:
        drilled, (service, operation) = self._drilled, self._calls[number]
        # Without a fault's name it is in nobody's ledger, and nobody is asked to heal it: it is over by itself.
        meta = {"key": f"{self._prefix}{number}", "run": drilled.run, "step": drilled.step}
        ask(drilled.control, f"troubles/{drilled.region}",
            {**self._what, "service": service, "operation": operation, "meta": meta})  # fmt: skip

    def met(self) -> int:
        """Calls."""
        return sum(one["met"] for one in self._ours())

    def lasts(self) -> bool:
        """The gateway has some of them."""
        return bool(self._ours())

    def end(self) -> None:
        """What is left of them."""
        for one in self._ours():
            ask(self._drilled.control, f"troubles/{one['meta']['key']}/end", {})

    @property
    def _prefix(self) -> str:
        return f"strike-{self._drilled.run}-"

    def _ours(self) -> list[dict[str, Any]]:
        found = ask(self._drilled.control, "troubles")["troubles"]
        return [one for one in found if one["meta"]["key"].startswith(self._prefix)]
