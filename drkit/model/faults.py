"""What every fault has in common: a lease it heals by without us, and the marker it leaves at its target. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

from annotated_types import Gt, Le
from pydantic import BaseModel, ConfigDict

from drkit.model.observation import Observation
from drkit.model.params import Params
from drkit.model.values import Json, canonical

LEASE_MAX_S = 86400.0
#: Who consents to breaking what cannot be healed or is no copy: always two persons, never a recorded answer.
CONSENT_ROLE = "chaos-owner"


class Leased(Params):
    """Base of the parameters of every fault that can heal itself."""

    lease_s: Annotated[float, Gt(0), Le(LEASE_MAX_S)] = 1800.0
    """Seconds after which it heals itself at its target, with or without drkit; a scenario's `duration` sets it."""


class Nothing(Params):
    """No parameters: every target of the kind that the probe knows is asked."""


class Marker(BaseModel):
    """A fault as its target remembers it; whoever reads it can heal it without any ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """Which fault at which target: `fault_key`."""
    fault: str
    params: dict[str, Json]
    where: str
    """Target, as people call it."""
    run: str | None = None
    step: str | None = None
    state: Literal["armed", "injected", "overdue", "spent"]
    """`armed`: its lease exists, it may or may not be injected; `overdue`: its lease is gone and it is not healed;
    `spent`: its lease has healed it, and is still written down."""
    expires_in_s: float | None = None
    """None: its lease is gone."""
    why: str | None = None
    """What is known of why it has not healed itself."""


class Markers(Observation):
    """Faults that are not healed, as their targets say; a probe that answers this is asked by `chaos leftovers`."""

    markers: tuple[Marker, ...] = ()
    spent: tuple[Marker, ...] = ()
    """Of faults that their leases have healed: nothing is broken, and something is left to be tidied away."""
    silent: tuple[str, ...] = ()
    """Targets that did not answer: what is left there is unknown."""


def joined(found: Iterable[Markers]) -> Markers:
    """Several answers as one."""
    answers = list(found)
    return Markers(
        markers=tuple(marker for one in answers for marker in one.markers),
        spent=tuple(marker for one in answers for marker in one.spent),
        silent=tuple(name for one in answers for name in one.silent),
    )


def fault_key(fault: str, params: Params) -> str:
    """Name of a fault at its target: what is broken there, not who did it, so two runs cannot break the same twice.

    Safe in file names, tags and unit names (`[a-z0-9-]`, at most 63 characters).
    """
    what = params.model_dump(mode="json", exclude={"lease_s"})
    sum = hashlib.sha256(canonical({"fault": fault, "params": what})).hexdigest()
    return f"{fault.replace('.', '-')[:50]}-{sum[:12]}"
