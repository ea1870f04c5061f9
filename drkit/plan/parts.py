"""What runbooks and scenarios have in common: uses of the catalog, parameters, probes, expressions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drkit.catalog import Entry, Probe
from drkit.errors import Mistake
from drkit.model.plan import PlanProbe
from drkit.model.values import Json
from drkit.plan import expressions
from drkit.plan.bind import Bound, StepKind, bind, nothing_yet
from drkit.plan.hints import meant
from drkit.plan.kinds import Kind, kind_of_fields
from drkit.plan.reading import Read
from drkit.plan.surroundings import Surroundings, answer
from drkit.plan.yaml import Where


class Resolving:
    """Resolves the parts of one file; `mistakes` grows as it goes."""

    def __init__(self, loaded: Read[Any], around: Surroundings) -> None:
        self.loaded, self.around = loaded, around
        self.mistakes: list[Mistake] = []
        self._probe_kinds: dict[str, Kind] = {}

    def within(self, around: Surroundings) -> Resolving:
        """The same file in other surroundings; mistakes go to the same place."""
        found = Resolving(self.loaded, around)
        found.mistakes, found._probe_kinds = self.mistakes, self._probe_kinds
        return found

    def wrong(
        self, where: Where, message: str, hint: str | None = None, *, key: bool = False, offset: int | None = None
    ) -> None:
        """Report a mistake."""
        self.mistakes.append(self.loaded.document.mistake(where, message, hint, key=key, offset=offset))

    def entry(self, uses: str, where: Where) -> Entry | None:
        """The catalog's entry; a mistake with the closest names if there is none."""
        found = self.around.catalog.find(uses)
        if found is None:
            self.wrong(
                where, f'there is no action, probe or gate "{uses}"', meant(uses, self.around.names(), "drkit actions")
            )
        return found

    def bind(self, entry: Entry, given: Mapping[str, Json], where: Where, steps: StepKind = nothing_yet) -> Bound:
        """Parameters of one use; mistakes are taken over."""
        bound = bind(entry, given, self.around, self.loaded.document, where, steps)
        self.mistakes += bound.mistakes
        return bound

    def expression(self, text: str | None, where: Where, steps: StepKind | None = None, **more: Kind) -> None:
        """Check a yes-or-no expression, which may read the probes and `more`."""
        if text is None:
            return
        probes = kind_of_fields(self._probe_kinds, "probes")
        kinds = self.around.kinds(probes=probes, **more)
        for problem in expressions.check(text, kinds, steps):
            self.wrong(where, problem.message, problem.hint, offset=problem.offset)

    def probes(self) -> dict[str, PlanProbe]:
        """The probes that expressions may read."""
        found: dict[str, PlanProbe] = {}
        for name, spec in self.loaded.spec.probes.items():
            where: Where = ("probes", name)
            entry = self.entry(spec.uses, (*where, "uses"))
            self._probe_kinds[name] = answer(entry) or Kind("any")
            if entry is None:
                continue
            if not isinstance(entry, Probe):
                self.wrong((*where, "uses"), f"{spec.uses} is not a probe: only probes can be read by expressions")
                continue
            bound = self.bind(entry, spec.with_, (*where, "with"))
            found[name] = PlanProbe(uses=spec.uses, params=bound.params)
        for where in self.loaded.dropped:
            if where[0] == "probes" and len(where) == 2:
                self._probe_kinds[str(where[1])] = Kind("any")  # reported already
        return found
