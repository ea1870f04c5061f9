"""What faults of whole sites have in common: the supervisor does them, and holds their lease."""

from __future__ import annotations

from typing import Any, Literal

from drkit.sandbox.strikes import Drilled
from drkit.sandbox.strikes.asking import ask


class Shut:
    """Some sites answer nobody (`silence`), or let nobody log in (`logins`)."""

    def __init__(
        self, drilled: Drilled, what: Literal["silence", "logins"], sites: tuple[str, ...], lease_s: float
    ) -> None:
        self._drilled, self._what, self._sites, self._lease_s = drilled, what, sites, lease_s

    def begin(self) -> None:
        """One after the other."""
        meta = {"key": f"strike-{self._drilled.run}", "run": self._drilled.run, "step": self._drilled.step}
        for site in self._sites:
            ask(self._drilled.control, f"{self._what}/{site}", {"lease_s": self._lease_s, "meta": meta})

    def met(self) -> int:
        """Connections, or logins, that were refused."""
        return sum(one["met"] for one in self._shown())

    def lasts(self) -> bool:
        """Some are shut."""
        return bool(self._shown())

    def end(self) -> None:
        """They are open."""
        for site in self._sites:
            ask(self._drilled.control, f"{self._what}/{site}/over", {})

    def _shown(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(self._drilled.control, self._what)["sites"]
        return found
