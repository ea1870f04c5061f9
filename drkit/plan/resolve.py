"""A loaded runbook, an environment and a catalog make a plan; every mistake is reported at once. Pure.

Mistakes of form that the file was read with are reported together with those of meaning, so nobody corrects one to be
shown the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from drkit import __version__
from drkit.catalog import Catalog, Entry, Gate, Probe
from drkit.errors import FileError, Mistake, UsageError
from drkit.model.environment import Environment
from drkit.model.plan import Plan, PlanProbe, PlanStep
from drkit.model.runbook import StepSpec
from drkit.model.values import Json, parse_duration
from drkit.plan import expressions, risks
from drkit.plan.bind import Bound, StepKind, bind
from drkit.plan.graph import ancestors, cycle, implied
from drkit.plan.hints import listed, meant
from drkit.plan.kinds import Kind, kind_of_fields, kind_of_value
from drkit.plan.parameters import chosen
from drkit.plan.reading import Loaded, Read, in_order
from drkit.plan.references import Reference, Unclosed, look_up, whole
from drkit.plan.surroundings import Surroundings, answer
from drkit.plan.yaml import Where

Mode = Literal["graceful", "ungraceful"]
_GATE_TIMEOUT_S = 600.0
_PROBE_TIMEOUT_S = 60.0


def resolve(
    loaded: Loaded,
    environment: Environment,
    catalog: Catalog,
    *,
    source: str,
    target: str,
    mode: Mode = "ungraceful",
    parameters: Mapping[str, Json] | None = None,
    changed_by: str | Mapping[str, str] = "--set",
) -> Plan:
    """The plan. FileError with every mistake in the runbook; UsageError for regions and parameters that do not fit.

    `changed_by` says who set `parameters`: `--set`, `scenario`, or that by name.
    """
    _regions(loaded, environment, source, target)
    values, changed = chosen(loaded.runbook.parameters, environment.parameters, parameters or {}, changed_by)
    around = Surroundings(environment, catalog, source, target, mode, values)
    resolving = Resolving(loaded, around)
    probes, steps = resolving.everything()
    if resolving.mistakes or loaded.mistakes:
        raise FileError(in_order([*loaded.mistakes, *resolving.mistakes]))
    runbook = loaded.runbook
    objectives = runbook.objectives
    uses = [step.uses for step in steps] + [probe.uses for probe in probes.values()]
    return Plan(
        schema="drkit.plan/1",
        runbook=runbook.metadata.name,
        runbook_digest=loaded.digest,
        environment=environment.name,
        environment_kind=environment.kind,
        account=environment.account,
        mode=mode,
        source=source,
        target=target,
        rto_s=objectives.rto if environment.rto is None else environment.rto,
        rpo_s=objectives.rpo if environment.rpo is None else environment.rpo,
        parameters=values,
        changed_parameters=changed,
        probes=probes,
        decide=runbook.decide,
        recovered_when=runbook.recovered_when,
        steps=tuple(steps),
        warnings=tuple(risks.warnings(steps, runbook, environment, source)),
        catalog=catalog.digest(uses),
        drkit=__version__,
    )


def resolve_mistakes(loaded: Loaded, around: Surroundings) -> list[Mistake]:
    """Everything that would be wrong with a plan made of this runbook."""
    resolving = Resolving(loaded, around)
    resolving.everything()
    return resolving.mistakes


def _regions(loaded: Loaded, environment: Environment, source: str, target: str) -> None:
    for name in (source, target):
        if name not in environment.regions:
            kind = f"{name} is not a region" if name in (s.name for s in environment.sites) else f'no region "{name}"'
            hint = meant(name, environment.regions)
            raise UsageError(f"{environment.name} has {kind}" if kind.startswith("no") else kind, hint=hint)
    if source == target:
        others = [region for region in environment.regions if region != target]
        hint = f"--region {others[0]}" if others else None
        raise UsageError(f"source and target are both {target}: there is nothing to move", hint=hint)
    allowed = loaded.runbook.metadata.regions
    strange = [name for name in (source, target) if allowed and name not in allowed]
    if strange:
        name = loaded.runbook.metadata.name
        raise UsageError(f"{name} moves between {listed(allowed)}, and {listed(strange)} is not among them")


class Resolving:
    """Resolves the parts of one file; `mistakes` grows as it goes. Also used for scenarios."""

    def __init__(self, loaded: Read[Any], around: Surroundings) -> None:
        self.loaded, self.around = loaded, around
        self.mistakes: list[Mistake] = []
        self._probe_kinds: dict[str, Kind] = {}

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

    def bind(self, entry: Entry, given: Mapping[str, Json], where: Where, steps: StepKind | None = None) -> Bound:
        """Parameters of one use; mistakes are taken over."""
        document = self.loaded.document
        bound = bind(entry, given, self.around, document, where, steps) if steps else bind(
            entry, given, self.around, document, where
        )  # fmt: skip
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

    def everything(self) -> tuple[dict[str, PlanProbe], list[PlanStep]]:
        """A runbook's probes and steps, resolved; its other expressions, checked."""
        probes, steps = self.probes(), Steps(self).resolve()
        self.expression(self.loaded.spec.decide, ("decide",))
        self.expression(self.loaded.spec.recovered_when, ("recovered_when",))
        return probes, steps


class Steps:
    """Resolves a runbook's steps."""

    def __init__(self, resolving: Resolving) -> None:
        self.on = resolving
        self.loaded = cast(Loaded, resolving.loaded)
        self.specs: list[StepSpec] = []
        self.at: dict[str, Where] = {}
        self.entries: dict[str, Entry | None] = {}
        self.needs: dict[str, tuple[str, ...]] = {}
        self.before: dict[str, frozenset[str]] | None = None
        self.vague: set[str] = set()  # steps some of whose needs are mistaken: nothing is said about what they rest on

    def resolve(self) -> list[PlanStep]:
        """All of them; those with mistakes are left out."""
        self._ids()
        self._graph()
        self.entries = {spec.id: self.on.entry(spec.uses, (*self.at[spec.id], "uses")) for spec in self.specs}
        steps = [step for number, spec in enumerate(self.specs, 1) if (step := self._step(number, spec))]
        if self.before is not None:
            for id in risks.unguarded_promotions(self.specs, self.needs, self.entries):
                if self._rests_on_vague(id):
                    continue
                self.on.wrong(
                    (*self.at[id], "uses"),
                    f"{id} promotes, and no fence is certain to be done before it",
                    "let it need a fence: no optional or skippable step may stand between them",
                )
        return steps

    def _ids(self) -> None:
        for index, spec in enumerate(self.loaded.runbook.steps):
            where = self.loaded.where("steps", index)
            if spec.id in self.at:
                line = self.loaded.document.place((*self.at[spec.id], "id")).line
                self.on.wrong((*where, "id"), f'"{spec.id}" is the id of the step in line {line} already')
                continue
            self.at[spec.id] = where
            self.specs.append(spec)

    def _rests_on_vague(self, step: str) -> bool:
        assert self.before is not None
        return bool({step, *self.before[step]} & self.vague)

    def _lost(self) -> bool:
        """Whether a mistake of form took something out that the graph is made of."""
        return any(
            where[0] == "steps" and (len(where) == 2 or where[2] in ("id", "needs")) for where in self.loaded.dropped
        )

    def _graph(self) -> None:
        ids = [spec.id for spec in self.specs]
        whole_graph = not self._lost()
        declared: dict[str, list[str] | None] = {}
        for spec in self.specs:
            known: list[str] = []
            for index, need in enumerate(spec.needs or ()):
                where = (*self.at[spec.id], "needs", index)
                if need == spec.id:
                    self.on.wrong(where, f"{need} needs itself")
                elif need in self.at:
                    known.append(need)
                else:
                    self.vague.add(spec.id)
                    if whole_graph:
                        self.on.wrong(where, f'there is no step "{need}"', meant(need, ids))
            declared[spec.id] = known if spec.needs is not None else None
        self.needs = implied(ids, declared)
        around = cycle(self.needs)
        if around:
            first = min(around, key=ids.index)
            turn = around.index(first)
            path = " -> ".join([*around[turn:], *around[:turn], first])
            self.on.wrong((*self.at[first], "needs"), f"these steps wait for each other: {path}")
        elif whole_graph:
            self.before = ancestors(self.needs)

    def _step(self, number: int, spec: StepSpec) -> PlanStep | None:
        entry, where = self.entries[spec.id], self.at[spec.id]
        steps = self._step_kinds(spec.id)
        if entry is None:
            self._expressions(spec, None, where, steps)
            return None
        bound = self.on.bind(entry, spec.with_, (*where, "with"), steps)
        self._expressions(spec, entry, where, steps)
        for key, message, hint in risks.refusals(spec, entry):
            self.on.wrong((*where, key), message, hint, key=True)
        timeout = self._duration(spec.timeout, (*where, "timeout"))
        environment = self.on.around.environment
        common = {
            "id": spec.id, "number": number, "uses": spec.uses, "title": spec.title, "owner": spec.owner,
            "params": bound.params, "needs": self.needs[spec.id], "verify": spec.verify, "when": spec.when,
            "hold_s": self._duration(spec.hold, (*where, "hold")) or 0.0, "on_failure": spec.on_failure or "pause",
            "retry": spec.retry, "optional": spec.optional,
            "simulated": environment.simulated.get(spec.uses) if environment else None,
        }  # fmt: skip
        if isinstance(entry, Gate):
            own = bound.params.get("timeout")
            waits = timeout or (parse_duration(own) if own is not None and "${" not in str(own) else _GATE_TIMEOUT_S)
            return PlanStep.model_validate(common | {"kind": "gate", "timeout_s": waits, "skippable": False})
        around = self.on.around
        sides = {"source": around.source, "target": around.target, "neither": None, "site": bound.site}
        common |= {"site": sides[entry.side], "plane": entry.plane}
        if isinstance(entry, Probe):
            waits = timeout if timeout is not None else _PROBE_TIMEOUT_S
            return PlanStep.model_validate(
                common | {"kind": "probe", "timeout_s": waits, "repeat": "safe", "skippable": False}
            )
        return PlanStep.model_validate(
            common
            | {
                "kind": "action", "timeout_s": timeout if timeout is not None else entry.timeout_s,
                "poll_s": entry.poll_s, "settle_s": entry.settle_s, "repeat": entry.repeat,
                "irreversible": entry.irreversible, "unfenced": entry.unfenced, "fences": entry.fences,
                "promotes": entry.promotes, "skippable": entry.skippable,
            }
        )  # fmt: skip

    def _expressions(self, spec: StepSpec, entry: Entry | None, where: Where, steps: StepKind) -> None:
        self.on.expression(spec.when, (*where, "when"), steps)
        if spec.verify is None:
            return
        if isinstance(entry, Gate):
            self.on.wrong((*where, "verify"), f"{entry.name} observes nothing, so nothing can be verified", key=True)
            return
        seen = answer(entry) or Kind("any")
        more = {"now": seen} | ({} if isinstance(entry, Probe) else {"before": seen})
        self.on.expression(spec.verify, (*where, "verify"), steps, **more)

    def _step_kinds(self, reader: str) -> StepKind:
        """Which steps `reader` may read, and what they answer."""

        def kind(step: str) -> Kind | str:
            if step not in self.entries:
                if self._lost():
                    return Kind("any")
                hint = meant(step, self.entries)
                return f'there is no step "{step}"' + (f"; {hint}" if hint else "")
            if self.before is not None and step not in self.before[reader] and not self._rests_on_vague(reader):
                if step == reader:
                    return "a step cannot read its own answer here; in verify it is `now`"
                return f"{step} need not have ended by then; add {step} to needs"
            entry = self.entries[step]
            if isinstance(entry, Gate):
                return f"{step} is a gate and observes nothing"
            spec = next(spec for spec in self.specs if spec.id == step)
            found = answer(entry) or Kind("any")
            return found.maybe() if risks.may_be_skipped(spec) else found

        return kind

    def _duration(self, value: float | str | None, where: Where) -> float | None:
        if not isinstance(value, str):
            return value
        try:
            reference = whole(value)
        except Unclosed as error:
            self.on.wrong(where, str(error), offset=error.offset)
            return None
        if reference is None:
            self.on.wrong(where, "text and references cannot be mixed here", "${ params.NAME }")
            return None
        kinds = self.on.around.kinds()
        checked = expressions.check_reference(reference.text, kinds)
        for problem in checked.problems:
            self.on.wrong(where, problem.message, problem.hint, offset=reference.offset + problem.offset)
        if checked.problems:
            return None
        found = self._value(reference)
        if not isinstance(found, str):
            message = f"{reference.text} is {kind_of_value(found)}, not a duration"
            self.on.wrong(where, message, "write 90s, 5m or 1h", offset=reference.offset)
            return None
        try:
            return parse_duration(found)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            self.on.wrong(where, f"{reference.text}: {message}", hint, offset=reference.offset)
            return None

    def _value(self, reference: Reference) -> Json:
        if reference.path is not None:
            return look_up(reference.path, self.on.around.values)
        return expressions.value(reference.text, self.on.around.values)
