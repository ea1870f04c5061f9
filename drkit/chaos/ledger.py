"""What was decided about each occurrence, and why: one object a scenario in the environment's state store.

Every write is conditional on what was read. A scheduler that froze and lost its place to another one finds that its
writes no longer hold, and can decide nothing more.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drkit.chaos.calendar import Hold
from drkit.errors import JournalError, Locked
from drkit.model.ports import Objects
from drkit.model.schedule import SkipWhen
from drkit.model.values import canonical, utc

KEPT: Final = 500
"""Decisions that are kept of each scenario."""

Outcome = Literal["allowed", "started", "refused", "missed", "failed"]
"""`allowed`: to be started under the run id that stands beside it, and not yet seen to have begun."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Decision(_Kept):
    """What was decided about one occurrence."""

    at: str
    """The occurrence (UTC)."""
    outcome: Outcome
    why: tuple[str, ...]
    decided: str
    """When (UTC)."""
    start: str | None = None
    """From when gaps to the next one count; None: it was not started."""
    run: str | None = None
    attempts: int = 0
    """How often a runner was asked to begin this run."""
    drawn: dict[str, str] = Field(default_factory=dict)
    seed: str = ""
    """What its targets are picked with."""
    inventory: str | None = None
    """Digest of what was drawn from."""


class Record(_Kept):
    """One scenario's schedule so far. Only the last decision may be `allowed`: nothing is decided past it."""

    schema_: Literal["drkit.schedule/1"] = Field("drkit.schedule/1", alias="schema")
    scenario: str
    since: str
    """From when on its occurrences count (UTC)."""
    upto: str
    """Every occurrence up to here is decided (UTC)."""
    last_start: str | None = None
    decisions: tuple[Decision, ...] = ()

    @property
    def pending(self) -> Decision | None:
        """The decision that still has to be seen to have begun."""
        last = self.decisions[-1] if self.decisions else None
        return last if last is not None and last.outcome == "allowed" else None

    @property
    def started_before(self) -> str | None:
        """When the last one before the last decision started."""
        return next((each.start for each in reversed(self.decisions[:-1]) if each.outcome == "started"), None)

    def add(self, decision: Decision, upto: float) -> Record:
        """The record with one decision more."""
        return self.model_copy(
            update={
                "decisions": (*self.decisions, decision)[-KEPT:], "upto": utc(upto),
                "last_start": decision.start or self.last_start,
            }
        )  # fmt: skip

    def settle(self, decision: Decision, *, last_start: str | None) -> Record:
        """The record with its last decision replaced by what became of it."""
        return self.model_copy(update={"decisions": (*self.decisions[:-1], decision), "last_start": last_start})


def seconds(instant: str) -> float:
    """Seconds since the epoch of what `utc` gave."""
    return datetime.fromisoformat(instant).timestamp()


@dataclass(frozen=True)
class Ledger:
    """The ledger of one environment. JournalError: the state store does not answer, or holds what we cannot read."""

    objects: Objects
    environment: str

    def read(self, scenario: str) -> tuple[Record, str] | None:
        """A scenario's record and its version; None if it was never scheduled here."""
        key = self._key(scenario)
        found = self.objects.get(key)
        return None if found is None else (_parsed(found[0], key), found[1])

    def write(self, record: Record, version: str | None) -> str:
        """Replace the version that was read (None: there was none); the new version. Locked if it changed since."""
        key, data = self._key(record.scenario), _bytes(record)
        written = self.objects.put(key, data, if_absent=version is None, if_tag=version)
        if written is not None:
            return written
        # The condition also fails when our own write got through and its answer did not.
        found = self.objects.get(key)
        if found is not None and found[0] == data:
            return found[1]
        raise Locked(
            f"another scheduler decides for {self.environment} now: the record of {record.scenario} was changed",
            hint=f"drkit schedule next --env {self.environment}",
        )

    def holds(self) -> tuple[Hold, ...]:
        """The change freeze and the incident that were declared, also those that are over."""
        found = self.objects.get(self._holds)
        if found is None:
            return ()
        return tuple(Hold(**each) for each in _holds(found[0], self._holds))

    def declare(self, kind: SkipWhen, hold: Hold | None) -> None:
        """Replace the hold of this kind; None: take it back."""
        while True:
            found = self.objects.get(self._holds)
            held = [] if found is None else _holds(found[0], self._holds)
            kept = [each for each in held if each["kind"] != kind] + ([asdict(hold)] if hold is not None else [])
            data = canonical({"schema": "drkit.holds/1", "holds": kept})
            version = None if found is None else found[1]
            if self.objects.put(self._holds, data, if_absent=version is None, if_tag=version) is not None:
                return

    def _key(self, scenario: str) -> str:
        return f"schedule/{self.environment}/scenarios/{scenario}.json"

    @property
    def _holds(self) -> str:
        return f"schedule/{self.environment}/holds.json"


def _bytes(record: Record) -> bytes:
    return canonical(record.model_dump(mode="json", by_alias=True))


def _parsed(data: bytes, key: str) -> Record:
    try:
        return Record.model_validate_json(data)
    except ValidationError as error:
        raise _unreadable(key, str(error.errors()[0]["msg"])) from error


def _holds(data: bytes, key: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(data)
        if found["schema"] != "drkit.holds/1":
            raise ValueError("another schema")
        held: list[dict[str, Any]] = found["holds"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(key, str(error)) from error
    return held


def _unreadable(key: str, why: str) -> JournalError:
    return JournalError(
        f"{key} cannot be read ({why}): written by a newer drkit?", state="Nothing was changed.", hint="drkit --version"
    )
