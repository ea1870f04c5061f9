"""What a scenario file says: what healthy means, what is broken, what answers it, and when to stop. Frozen data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from drkit.model.runbook import Expression, Metadata, Name, Objectives, Parameter, ProbeSpec, Spec
from drkit.model.schedule import Schedule
from drkit.model.values import Duration, Json


class Given(Spec):
    """A setting that the world must have before the scenario starts; applied like a step, and journaled."""

    id: Name
    uses: str
    """Action that arranges it."""
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")


class Expectation(Spec):
    """One check that means healthy."""

    expect: Expression
    hold: Duration = 0.0
    """How long it must hold without a break."""
    timeout: Duration = 60.0
    during: bool = False
    """Also while faults are held; otherwise before they are injected and after they are healed."""


class Target(Spec):
    """What a fault may hit."""

    uses: str
    """Probe that answers an inventory."""
    where: dict[str, Json] = Field(default_factory=dict)
    max: str | int | None = None
    """Refused if it would be more than this many, or this share (`30%`), with what is broken already."""
    pick: str | int | None = None
    """Only so many, or this share, chosen by the seed; None: all that match."""
    never: list[str] = Field(default_factory=list)
    """Names that are left alone."""
    allow: list[Literal["last", "quorum", "standby"]] = Field(default_factory=list)
    """What may be taken although the service then has no replica, no majority or no standby left."""


class MethodStep(Spec):
    """One thing that happens: a fault is injected, or a runbook runs."""

    id: Name
    inject: str | None = None
    """Fault to inject."""
    run: str | None = None
    """`runbook/NAME`: starts when what is measured says go, never because something is known to be broken."""
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")
    on: str | None = None
    """Name under `targets`."""
    duration: Duration | None = None
    """How long the fault is held."""
    noticed: Expression | None = None
    """What tells that the fault is noticed. It is then healed at once; if that takes longer than `duration`, the
    hypothesis is false."""
    start: Duration = 0.0
    mode: Literal["drill"] | None = None

    @model_validator(mode="after")
    def one_of_inject_and_run(self) -> MethodStep:
        """Exactly one of `inject` and `run`."""
        if (self.inject is None) == (self.run is None):
            raise ValueError(f"{self.id} needs exactly one of inject and run")
        return self

    @model_validator(mode="after")
    def noticed_within(self) -> MethodStep:
        """`noticed` waits for a fault, and not for ever."""
        if self.noticed is not None and (self.inject is None or self.duration is None):
            raise ValueError(f"{self.id}: noticed needs inject and duration, within which it must be so")
        return self


class Scenario(Spec):
    """Steady state, faults, and what must bring the service back."""

    apiVersion: Literal["drkit/v1"]
    kind: Literal["Scenario"]
    metadata: Metadata
    hypothesis: str
    environment: str | None = None
    """Environment it is meant for; production also needs --allow-production."""
    source: str | None = None
    """Region that is left, where a runbook is run."""
    target: str | None = None
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    given: list[Given] = Field(default_factory=list)
    probes: dict[str, ProbeSpec] = Field(default_factory=dict)
    targets: dict[str, Target] = Field(default_factory=dict)
    steady_state: list[Expectation] = Field(default_factory=list)
    method: Annotated[list[MethodStep], Field(min_length=1)]
    approvals: dict[str, Literal["approve", "reject"]] = Field(default_factory=dict)
    """Recorded policy by role: what a drill's gates are answered with. Never covers the override of a fence."""
    stop_when: list[Expression] = Field(default_factory=list)
    """While faults are held, any of these (or that it cannot be told) aborts the run and heals."""
    seed: str = ""
    """Which targets are picked follows from this and the inventory."""
    rollback: Literal["always", "on_deviation", "never"] = "always"
    """`never` leaves faults to their leases; `on_deviation` heals as `always` does."""
    objectives: Objectives = Objectives()
    schedule: Schedule | None = None
