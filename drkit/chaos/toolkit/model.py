"""What an experiment file says, typed. Frozen data; `raw` is the file's own words, for the journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from drkit.plan.yaml import Where

Stage = Literal["before", "method", "after", "rollback", "during", "configuration", "tolerance"]


@dataclass(frozen=True, slots=True)
class Process:
    """A command. `arguments`: a list; text (a shell joins it); or a mapping of options, as older files have it."""

    path: str
    arguments: Any = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Http:
    """A request. `timeout`: seconds, `[connect, read]`, or a `${}` pattern."""

    url: str
    method: str = "GET"
    headers: dict[str, Any] | None = None
    arguments: Any = None
    timeout: Any = None
    verify_tls: bool = True
    max_retries: int = 0


@dataclass(frozen=True, slots=True)
class Python:
    """A function of a module. `secrets`: targets whose secrets it is given."""

    module: str
    func: str
    arguments: dict[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] | None = None
    timeout_s: float | None = None


Provider = Process | Http | Python


@dataclass(frozen=True, slots=True)
class Control:
    """Functions of a module that are called around parts of the experiment."""

    name: str
    module: str | None
    arguments: dict[str, Any]
    scope: Literal["before", "after"] | None
    automatic: bool
    ref: str | None
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Activity:
    """A probe or an action. `where` is its place in the file; `pauses` are seconds or `${}` patterns."""

    name: str
    kind: Literal["probe", "action"]
    provider: Provider
    where: Where
    raw: dict[str, Any]
    before: Any = None
    after: Any = None
    background: bool = False
    dry: str | None = None
    tolerance: Any = None
    tolerance_probe: Activity | None = None
    """The tolerance, where it is a probe that is asked about the value."""
    controls: tuple[Control, ...] = ()
    timeout_s: float | None = None

    @property
    def is_dry(self) -> bool:
        """Not to be carried out, as the file says of this activity."""
        return self.dry == "activities" or self.dry == f"{self.kind}s"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What holds as long as all is well."""

    title: str
    probes: tuple[Activity, ...]
    controls: tuple[Control, ...]
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A whole file. `digest` is of its bytes, `path` as it was given."""

    path: str
    digest: str
    title: str
    description: str
    hypothesis: Hypothesis | None
    method: tuple[Activity, ...]
    rollbacks: tuple[Activity, ...]
    configuration: dict[str, Any]
    secrets: dict[str, Any]
    controls: tuple[Control, ...]
    rollback_strategy: str | None
    hypothesis_strategy: str | None
    raw: dict[str, Any]

    @property
    def probes(self) -> tuple[Activity, ...]:
        """Those of the hypothesis."""
        return self.hypothesis.probes if self.hypothesis else ()

    @property
    def actions(self) -> tuple[Activity, ...]:
        """What may change something: actions of the method (and of a hypothesis that has any)."""
        return tuple(each for each in (*self.probes, *self.method) if each.kind == "action" and not each.is_dry)

    @property
    def all_controls(self) -> tuple[Control, ...]:
        """Every control, wherever it is declared."""
        inner = [control for activity in self.activities() for control in activity.controls]
        return (*self.controls, *(self.hypothesis.controls if self.hypothesis else ()), *inner)

    def titled(self, title: str) -> Experiment:
        """The same experiment under this title."""
        return replace(self, title=title, raw={**self.raw, "title": title})

    def activities(self) -> Iterator[Activity]:
        """Every activity, in the order of the file's parts."""
        yield from self.probes
        yield from self.method
        yield from self.rollbacks

    def steps(self) -> Iterator[tuple[str, Stage, Activity]]:
        """Every activity as a step of the run: id, stage, activity. A probe of the hypothesis is two steps."""
        stages: tuple[tuple[Stage, tuple[Activity, ...]], ...] = (
            ("before", self.probes), ("method", self.method), ("after", self.probes), ("rollback", self.rollbacks),
        )  # fmt: skip
        for stage, activities in stages:
            for number, activity in enumerate(activities, start=1):
                yield f"{stage}-{number}", stage, activity
