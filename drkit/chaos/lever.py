"""The safety lever: one object in the state store. While it is engaged, everything broken on purpose is healed, and
nothing new is broken, on whatever machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from drkit.errors import JournalError
from drkit.model.ports import Objects
from drkit.model.values import canonical

SCHEMA = "drkit.lever/1"


@dataclass(frozen=True, slots=True)
class Lever:
    """Who moved it last, when (UTC), and why."""

    engaged: bool
    by: str
    at: str
    reason: str

    def __str__(self) -> str:
        return f"{'engaged' if self.engaged else 'released'} by {self.by} at {self.at}: {self.reason}"


def move(objects: Objects, environment: str, lever: Lever) -> Lever:
    """Engage or release it. What it is now: one that is engaged already stays as it was engaged. JournalError."""
    while True:
        found = objects.get(_name(environment))
        now = None if found is None else _understood(found[0], environment)
        if now is not None and now.engaged == lever.engaged:
            return now
        data = canonical({"schema": SCHEMA} | asdict(lever))
        tag = None if found is None else found[1]
        if objects.put(_name(environment), data, if_absent=found is None, if_tag=tag) is not None:
            return lever


def read(objects: Objects, environment: str) -> Lever | None:
    """The lever; None if nobody ever moved it. JournalError if the store does not answer or holds something else."""
    found = objects.get(_name(environment))
    return None if found is None else _understood(found[0], environment)


def why_stop(objects: Objects, environment: str) -> str | None:
    """Why nothing may be broken on purpose now; None if it may."""
    lever = read(objects, environment)
    return f"the chaos lever was {lever}" if lever is not None and lever.engaged else None


def _understood(data: bytes, environment: str) -> Lever:
    try:
        fields = json.loads(data)
        if fields.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        return Lever(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(
            f"the chaos lever of {environment} cannot be read ({error})", hint="drkit --version"
        ) from error


def _name(environment: str) -> str:
    return f"chaos/{environment}/lever.json"
