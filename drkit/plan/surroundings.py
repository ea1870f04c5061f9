"""What references and expressions may read, as values and as kinds. Pure.

Values in `with:` read `params`, `source`, `target`, `mode`, `environment` (known when the plan is made) and `steps`
(what steps before have observed). Expressions also read `probes`, and in `verify` also `now` and `before`. While a run
goes on, `environment` has its name and kind only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from drkit.catalog import Action, Catalog, Entry, Probe
from drkit.model.environment import Environment
from drkit.model.plan import Plan
from drkit.model.values import Json
from drkit.plan.kinds import INT, STRING, Kind, kind_of_fields, kind_of_model, kind_of_value


@dataclass(frozen=True)
class ListEntry:
    """An entry of a list that something is done for: `each`, and its place."""

    kind: Kind
    known: tuple[Json, int] | None = None
    """None until steps have seen the list."""


@dataclass(frozen=True)
class Surroundings:
    """What a file is resolved against."""

    environment: Environment | None
    """None: a file is checked by itself, and what only an environment knows is taken on trust."""
    catalog: Catalog
    source: str
    target: str
    mode: str
    parameters: Mapping[str, Json]
    later: Mapping[str, Kind] = field(default_factory=dict)
    """Parameters that steps will answer."""
    entry: ListEntry | None = None

    @cached_property
    def values(self) -> dict[str, Json]:
        """What can be put in place now."""
        known: dict[str, Json] = {
            "params": {name: value for name, value in self.parameters.items() if name not in self.later},
            "source": _site(self.source),
            "target": _site(self.target),
            "mode": self.mode,
        }
        if self.entry is not None and self.entry.known is not None:
            known["each"], known["index"] = self.entry.known
        if self.environment is not None:
            known["environment"] = self.environment.model_dump(mode="json")
        return known

    def kinds(self, **more: Kind) -> dict[str, Kind]:
        """What expressions may read while the run goes on, beside `more`."""
        params = {name: kind_of_value(value) for name, value in self.parameters.items()} | dict(self.later)
        site = kind_of_fields({"name": STRING, "region": STRING})
        entry = {} if self.entry is None else {"each": self.entry.kind, "index": INT}
        return (
            {
                "params": kind_of_fields(params, "params"),
                "source": site,
                "target": site,
                "mode": Kind("string", words=("graceful", "ungraceful")),
                "environment": kind_of_fields(
                    {"name": STRING, "kind": Kind("string", words=("sandbox", "staging", "production"))}, "environment"
                ),
            }
            | entry
            | more
        )

    def names(self) -> list[str]:
        """Every name the catalog has, for hints. Without the subjects whose extra is not installed."""
        try:
            return list(self.catalog.load_all())
        except ImportError:
            return self.catalog.loaded()

    def role(self, name: str) -> str:
        """The name of a site, given it or the role `source` or `target`."""
        return {"source": self.source, "target": self.target}.get(name, name)


def answer(entry: Entry | None) -> Kind | None:
    """The kind of what a step or probe will have seen; None for gates."""
    probe = entry if isinstance(entry, Probe) else entry.observe if isinstance(entry, Action) else None
    return kind_of_model(probe.answer, f"the answer of {probe.name}") if probe is not None else None


def run_scope(plan: Plan, *, steps: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """What expressions and references read while a plan is carried out.

    `steps` holds the last observation (plain JSON) of each step that has one; `more` is `probes`, `now`, `before`.
    """
    return {
        "params": plan.parameters,
        "source": _site(plan.source),
        "target": _site(plan.target),
        "mode": plan.mode,
        "environment": {"name": plan.environment, "kind": plan.environment_kind},
        "steps": steps or {},
    } | more


def _site(name: str) -> dict[str, Json]:
    return {"name": name, "region": name}
