"""A runbook resolved against an environment: every step, its parameters, its side and its risks. Frozen, plain JSON."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from drkit.model.runbook import OnFailure, Retry
from drkit.model.values import Json, digest


class PlanStep(BaseModel):
    """One step, resolved. `params` is complete but for `${ steps.… }` references, which the fold renders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    number: int
    """Place in the plan as people read it, from 1; 0: it came, or will come, into being while the run goes on."""
    uses: str
    kind: Literal["action", "probe", "gate", "join", "when"]
    """`join` ends when all that it stands for has ended; `when` decides whether a nested runbook is needed."""
    title: str = ""
    owner: str | None = None
    params: dict[str, Json] = Field(default_factory=dict)
    needs: tuple[str, ...] = ()
    timeout_s: float = 60.0
    poll_s: float = 0.2
    settle_s: float = 0.0
    verify: str | None = None
    hold_s: float = 0.0
    when: str | None = None
    on_failure: OnFailure = "pause"
    retry: Retry | None = None
    optional: bool = False
    # What the action's code declares; the author of the file has no say in these.
    repeat: Literal["safe", "token", "ask"] = "ask"
    site: str | None = None
    """Name of the site it touches; None: neither side."""
    plane: Literal["control", "data", "none"] = "none"
    irreversible: str | None = None
    unfenced: bool = False
    fences: bool = False
    promotes: bool = False
    skippable: bool = True
    """May be skipped as already so."""
    simulated: str | None = None
    """Why no real part stands behind it in this environment."""
    part: Literal["runbook", "steady", "inject", "detect", "heal", "after"] = "runbook"
    """Which part of a drill it is; everything but `runbook` comes from the scenario."""
    heals: str | None = None
    """Id of the inject step whose fault a heal step removes."""
    join: Join | None = None
    """What it stands for."""
    scope: str | None = None
    """In `Plan.scopes`: what it reads instead of the run's own."""


class Join(BaseModel):
    """A step that stands for several: it needs them, and its result is made of theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: Literal["runbook", "items"]
    """Steps of a nested runbook (the result is a mapping of theirs), or one for each entry of a list (a list)."""
    over: str | None = None
    """Reference to a list that only steps will have seen; None: what it stands for is in the plan."""
    at_once: int | None = None
    body: tuple[PlanStep, ...] = ()
    """What is done for each entry of `over`; the last one ends when the entry is done."""


class PlanProbe(BaseModel):
    """A probe that expressions may read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uses: str
    params: dict[str, Json] = Field(default_factory=dict)


class PlanScope(BaseModel):
    """What steps of a nested runbook, or those for one entry of a list, read instead of the run's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outer: str | None = None
    """The scope in which its parameters are filled in; None: the run's own."""
    runbook: str | None = None
    """None: only an entry of a list; everything else is read from the outer scope."""
    digest: str | None = None
    parameters: dict[str, Json] = Field(default_factory=dict)
    later: dict[str, str | dict[str, Json] | list[Json]] = Field(default_factory=dict)
    """Parameters whose references steps will answer."""
    probes: dict[str, PlanProbe] = Field(default_factory=dict)
    item: bool = False
    """It is for one entry of a list: `each` is the entry, `index` its place."""
    each: Json = None
    index: int | None = None


class Shortened(BaseModel):
    """A parameter that the environment or the command line changed: plans and reports show it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    default: Json
    value: Json
    by: str
    """`environment`, `scenario` or `--set`."""


class Plan(BaseModel):
    """What will be done, to what, and what it would mean. Nothing was touched to make it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    schema_: Literal["drkit.plan/1"] = Field("drkit.plan/1", alias="schema")
    runbook: str
    runbook_digest: str
    scenario: str | None = None
    scenario_digest: str | None = None
    hypothesis: str | None = None
    environment: str
    environment_kind: Literal["sandbox", "staging", "production"]
    account: str
    mode: Literal["graceful", "ungraceful"] = "ungraceful"
    source: str
    target: str
    rto_s: float | None = None
    rpo_s: float | None = None
    parameters: dict[str, Json] = Field(default_factory=dict)
    changed_parameters: tuple[Shortened, ...] = ()
    probes: dict[str, PlanProbe] = Field(default_factory=dict)
    scopes: dict[str, PlanScope] = Field(default_factory=dict)
    deadline_s: float | None = None
    """The run pauses when it is not over by then."""
    stop_when: tuple[str, ...] = ()
    """While faults are held, any of these (or that it cannot be told) aborts the run."""
    steady: tuple[str, ...] = ()
    """What must hold also while faults are held; where it does not, the hypothesis is false."""
    decide: str | None = None
    recovered_when: str | None = None
    steps: tuple[PlanStep, ...]
    warnings: tuple[str, ...] = ()
    catalog: str
    """Digest of what the actions used here declare."""
    drkit: str

    @cached_property
    def hash(self) -> str:
        """What approvals and saved plans bind to."""
        return digest(self.model_dump(mode="json", by_alias=True))

    def but(self, **changes: object) -> Plan:
        """The same plan with some fields changed. (A plain copy would keep the hash of what it was.)"""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "schema_"}
        return Plan.model_validate({"schema": self.schema_, **fields, **changes})

    @cached_property
    def injects(self) -> bool:
        """Whether it breaks anything on purpose."""
        return any(step.part == "inject" for step in self.steps)

    @cached_property
    def recovers(self) -> bool:
        """A runbook is carried out: there is a recovery to measure. A plan that only breaks or heals has none."""
        return any(step.part == "runbook" for step in self.steps)

    def step(self, id: str) -> PlanStep:
        """The step called `id`. KeyError if there is none."""
        return self._by_id[id]

    @cached_property
    def _by_id(self) -> dict[str, PlanStep]:
        return {step.id: step for step in self.steps}
