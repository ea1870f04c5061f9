"""The steps of one runbook file: who needs whom, and what each will do and where. Pure."""

from __future__ import annotations

from pathlib import Path

from drkit.catalog import Entry, Gate, Probe
from drkit.model.plan import PlanScope, PlanStep
from drkit.model.runbook import RUNBOOK, StepSpec
from drkit.model.values import Json, parse_duration
from drkit.plan import expressions, risks
from drkit.plan.answers import kind_of
from drkit.plan.bind import StepKind, later
from drkit.plan.graph import ancestors, cycle, implied
from drkit.plan.hints import meant
from drkit.plan.kinds import Kind, kind_of_value
from drkit.plan.parts import Resolving
from drkit.plan.reading import Loaded
from drkit.plan.references import Reference, Unclosed, look_up, whole
from drkit.plan.surroundings import answer
from drkit.plan.yaml import Where

_GATE_TIMEOUT_S = 600.0
_PROBE_TIMEOUT_S = 60.0


def _whole(need: str, ids: list[str]) -> str | None:
    """A part of a step is not needed by itself."""
    whole = need.partition("/")[0]
    return f"write {whole}, which ends when all of it has" if whole != need and whole in ids else None


class Steps:
    """Resolves a runbook's steps."""

    def __init__(self, loaded: Loaded, resolving: Resolving, *, within: tuple[str, ...] = ()) -> None:
        """`within`: the runbooks whose steps carry this one out, the outermost first."""
        self.loaded, self.on, self.within = loaded, resolving, within
        self.name = Path(loaded.path).stem
        self.scopes: dict[str, PlanScope] = {}
        self.places: dict[str, tuple[Resolving, Where]] = {}  # of every step by its id in the plan
        self.specs: list[StepSpec] = []
        self.at: dict[str, Where] = {}
        self.entries: dict[str, Entry | None] = {}
        self.needs: dict[str, tuple[str, ...]] = {}
        self.before: dict[str, frozenset[str]] | None = None
        self.vague: set[str] = set()  # steps some of whose needs are mistaken: nothing is said about what they rest on

    def read(self) -> None:
        """Find out which steps there are, what they use, and who needs whom."""
        self._ids()
        self._graph()
        self.entries = {
            spec.id: None if spec.uses.startswith(RUNBOOK) else self.on.entry(spec.uses, (*self.at[spec.id], "uses"))
            for spec in self.specs
        }

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
                        self.on.wrong(where, f'there is no step "{need}"', _whole(need, ids) or meant(need, ids))
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

    def step(self, spec: StepSpec, on: Resolving, id: str, needs: tuple[str, ...]) -> PlanStep:
        """One step under this id. (Of an unknown action it passes for a fence: nothing rests on it but a mistake.)"""
        entry, where = self.entries[spec.id], self.at[spec.id]
        self.places[id] = (on, where)
        steps = self.step_kinds(spec.id)
        if entry is None:
            self._expressions(spec, on, None, where, steps)
            return PlanStep(id=id, number=0, uses=spec.uses, kind="probe", needs=needs, fences=True)
        bound = on.bind(entry, spec.with_, (*where, "with"), steps)
        self._expressions(spec, on, entry, where, steps)
        for key, message, hint in risks.refusals(spec, entry):
            on.wrong((*where, key), message, hint, key=True)
        timeout = self._duration(spec.timeout, on, (*where, "timeout"))
        environment = on.around.environment
        common = {
            "id": id, "number": 0, "uses": spec.uses, "title": spec.title, "owner": spec.owner,
            "params": bound.params, "needs": needs, "verify": spec.verify, "when": spec.when,
            "hold_s": self._duration(spec.hold, on, (*where, "hold")) or 0.0, "on_failure": spec.on_failure or "pause",
            "retry": spec.retry, "optional": spec.optional,
            "simulated": environment.simulated.get(spec.uses) if environment else None,
        }  # fmt: skip
        if isinstance(entry, Gate):
            self._asked_too(bound.params, on, (*where, "with", "escalate"))
            own = bound.params.get("timeout")
            waits = timeout or (parse_duration(own) if own is not None and "${" not in str(own) else _GATE_TIMEOUT_S)
            return PlanStep.model_validate(common | {"kind": "gate", "timeout_s": waits, "skippable": False})
        around = on.around
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

    def _asked_too(self, params: dict[str, Json], on: Resolving, where: Where) -> None:
        """Nobody is asked too in a role that nobody has. (Where no roles are given, that is all that is known.)"""
        people = on.around.environment.people if on.around.environment is not None else ()
        held = {role for person in people for role in person.roles}
        later = params.get("escalate")
        for index, each in enumerate(later if isinstance(later, list) else []):
            role = each.get("role") if isinstance(each, dict) else None
            if held and isinstance(role, str) and "${" not in role and role not in held:
                name = on.around.environment.name if on.around.environment is not None else ""
                message = f"nobody in {name} has the role {role}: nobody would be asked too"
                on.wrong((*where, index, "role"), message, meant(role, held))

    def _expressions(
        self, spec: StepSpec, on: Resolving, entry: Entry | None, where: Where, steps: StepKind
    ) -> None:  # fmt: skip
        on.expression(spec.when, (*where, "when"), steps)
        if spec.verify is None:
            return
        if isinstance(entry, Gate):
            on.wrong((*where, "verify"), f"{entry.name} observes nothing, so nothing can be verified", key=True)
            return
        seen = answer(entry) or Kind("any")
        more = {"now": seen} | ({} if isinstance(entry, Probe) else {"before": seen})
        on.expression(spec.verify, (*where, "verify"), steps, **more)

    def step_kinds(self, reader: str) -> StepKind:
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
            spec = next(spec for spec in self.specs if spec.id == step)
            return kind_of(spec, self.entries[step], self.loaded.library, self.on.around.catalog.find)

        return kind

    def _duration(self, value: float | str | None, on: Resolving, where: Where) -> float | None:
        if not isinstance(value, str):
            return value
        try:
            reference = whole(value)
        except Unclosed as error:
            on.wrong(where, str(error), offset=error.offset)
            return None
        if reference is None:
            on.wrong(where, "text and references cannot be mixed here", "${ params.NAME }")
            return None
        kinds = on.around.kinds()
        checked = expressions.check_reference(reference.text, kinds)
        for problem in checked.problems:
            on.wrong(where, problem.message, problem.hint, offset=reference.offset + problem.offset)
        if checked.problems:
            return None
        if later(reference.text, on.around):
            on.wrong(where, f"{reference.text} is known only while the run goes on", "90s", offset=reference.offset)
            return None
        found = self._value(reference, on)
        if not isinstance(found, str):
            message = f"{reference.text} is {kind_of_value(found)}, not a duration"
            on.wrong(where, message, "write 90s, 5m or 1h", offset=reference.offset)
            return None
        try:
            return parse_duration(found)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            on.wrong(where, f"{reference.text}: {message}", hint, offset=reference.offset)
            return None

    def _value(self, reference: Reference, on: Resolving) -> Json:
        if reference.path is not None:
            return look_up(reference.path, on.around.values)
        return expressions.value(reference.text, on.around.values)
