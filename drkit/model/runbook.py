"""What a runbook file says, before it meets an environment. Frozen data; the words are those of the YAML file."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from drkit.model.values import DURATION_PATTERN, Duration, Json, parse_duration

REFERENCE_PATTERN = r"\$\{.+\}"


def _duration_or_reference(value: object) -> float | str:
    return value if isinstance(value, str) and "${" in value else parse_duration(value)


#: Seconds, or a `${ … }` reference that becomes a duration when the file is resolved.
DurationOrReference = Annotated[
    float | str,
    BeforeValidator(_duration_or_reference),
    WithJsonSchema({"type": "string", "pattern": f"{DURATION_PATTERN}|{REFERENCE_PATTERN}"}),
]
#: Without dots, so that `steps.ID.field` reads one way only.
StepId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
#: A CEL expression, bare where the schema says so.
Expression = Annotated[str, Field(json_schema_extra={"format": "cel"})]
OnFailure = Literal["pause", "retry", "skip", "rollback", "abort"]


#: A list, or a `${ … }` reference to one.
Items = Annotated[
    Json, WithJsonSchema({"anyOf": [{"type": "array"}, {"type": "string", "pattern": REFERENCE_PATTERN}]})
]
#: What `uses` begins with where a step carries out another runbook.
RUNBOOK = "runbook/"


class Spec(BaseModel):
    """Base of everything people write in YAML: unknown keys are mistakes, types are strict."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Metadata(Spec):
    """What the file is called and who answers for it."""

    name: Name
    owner: str
    """Team that answers for this file."""
    description: str = ""
    regions: list[str] = Field(default_factory=list)
    """Regions it may move between; empty: any."""


class Objectives(Spec):
    """What recovery is measured against."""

    rto: Duration | None = None
    """Recovery time objective."""
    rpo: Duration | None = None
    """Data-loss objective."""
    detect: Duration | None = None
    """How soon the outage must be noticed."""


class ProbeSpec(Spec):
    """A probe that expressions may read as `probes.NAME`."""

    uses: str
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")


class Parameter(Spec):
    """A value that `--set`, the scenario or the environment may override; read as `${ params.NAME }`."""

    default: Json
    description: str = ""


class Retry(Spec):
    """Repeat a failed step by itself: only for actions whose `repeat` is safe or token."""

    times: Annotated[int, Ge(1)] = 3
    """Attempts beside the first."""
    backoff: Duration = 1.0
    """Wait before the first repetition; doubles each time."""
    jitter: float = 0.2
    """Fraction by which each wait varies."""


class StepSpec(Spec):
    """One step: follows the one written above it unless it has `needs:`."""

    id: StepId
    uses: str
    """Action, probe or gate; or `runbook/NAME`, all steps of that runbook."""
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")
    for_each: Items = None
    """Do it once for each entry of this list, or of the list that a reference names; it reads `each` and `index`."""
    at_once: Annotated[int, Ge(1)] | None = None
    """For how many entries at the same time; left out: for all."""
    title: str = ""
    owner: str | None = None
    """Who answers for this step."""
    needs: list[str] | None = None
    """Steps that must end first; `[]` starts at once; left out: the step above."""
    timeout: DurationOrReference | None = None
    verify: Expression | None = None
    """Beside the action's own check, this must hold too: reads `now`, `before`, `params`, `probes`, `steps`."""
    hold: DurationOrReference | None = None
    """How long check and verify must hold without a break; may be a `${ params.NAME }` reference."""
    when: Expression | None = None
    """Run only if true; unknown asks."""
    on_failure: OnFailure | None = None
    retry: Retry | None = None
    optional: bool = False
    """Its failure never holds back the run."""


class Runbook(Spec):
    """A reviewed procedure."""

    apiVersion: Literal["drkit/v1"]
    kind: Literal["Runbook"]
    metadata: Metadata
    objectives: Objectives = Objectives()
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    probes: dict[str, ProbeSpec] = Field(default_factory=dict)
    deadline: Annotated[Duration, Gt(0)] | None = None
    """How long a run may take: when it is not over by then, nothing new is started until an operator decides."""
    decide: Expression | None = None
    """May we go? Evaluated by `assess` and before a run."""
    steps: Annotated[list[StepSpec], Field(min_length=1)]
    recovered_when: Expression | None = None
    """Are we back? Confirms; the clock stops where the good period began."""
