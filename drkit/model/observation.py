"""What was seen, by whom, when and from where; and the three or four answers a question can have. Pure."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from drkit.model.values import Json


class Verdict(StrEnum):
    """The answer to "is it so?". The worst of several wins: fail, then unknown, then pass."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


class State(StrEnum):
    """What a check says of an observation. Only ABSENT permits applying again; IN_PROGRESS is waited for."""

    HOLDS = "holds"
    IN_PROGRESS = "in_progress"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Observation(BaseModel):
    """Base of every typed answer of a probe. `answered_by` is the identity of who answered, where that can be had."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    answered_by: str | None = None
    """Identity of who answered, where that can be had."""


def look(now: Observation, *, at: str, origin: str) -> dict[str, Json]:
    """An observation as journaled, a *look*: the answer (`value`), when (`at`, UTC), from which host (`origin`)."""
    return {"at": at, "origin": origin, "value": now.model_dump(mode="json")}
