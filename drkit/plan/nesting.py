"""Steps that stand for several, unfolded while the plan is made: nested runbooks, and `for_each` over a list. Pure.

A plan shows every step before anything is touched. Steps of a nested runbook are called `PARENT/STEP`, those for an
entry of a list `STEP/ENTRY`; the step itself stays in the plan, needs them all, and its result is made of theirs. Only
where no one but a step can know the list, the plan holds what will be done for any entry of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from drkit.errors import Unobservable
from drkit.model.plan import Join, PlanScope, PlanStep
from drkit.model.runbook import RUNBOOK, StepSpec
from drkit.model.values import Json
from drkit.plan import bind, expressions, fanning
from drkit.plan.hints import meant
from drkit.plan.kinds import ANY, Kind, kind_of_value, why_not_assignable
from drkit.plan.parameters import why_not
from drkit.plan.parts import Resolving
from drkit.plan.reading import Loaded
from drkit.plan.references import Unclosed, look_up, whole
from drkit.plan.steps import Steps
from drkit.plan.surroundings import ListEntry, Surroundings
from drkit.plan.yaml import Where

_A_LIST = "for_each: [orders, users]"
_NOT_OF_A_RUNBOOK = ("timeout", "verify", "hold", "retry")


def unfolded(steps: Steps) -> list[PlanStep]:
    """Every step of the file with all that it stands for, under the names they have in this file."""
    steps.read()
    return [step for spec in steps.specs for step in _unfold(steps, spec)]


def _unfold(steps: Steps, spec: StepSpec) -> list[PlanStep]:
    """All steps that this one stands for, and itself at the end; just itself if it is an ordinary one."""
    where, needs = steps.at[spec.id], steps.needs[spec.id]
    if spec.for_each is None:
        if spec.at_once is not None:
            hint = "add for_each: [...], or leave at_once out"
            steps.on.wrong((*where, "at_once"), "at_once limits for_each, and there is none", hint, key=True)
        if "for_each" in spec.model_fields_set:
            steps.on.wrong((*where, "for_each"), "for_each names no list", _A_LIST, key=True)
        return _once(steps, spec, steps.on, spec.id, needs)
    found = _entries(steps, spec, (*where, "for_each"))
    if found is None:
        return [_join(spec, needs, Join(of="items"))]
    items, kind = found
    if isinstance(items, str):
        root = f"{spec.id}/{fanning.ANY_ENTRY}"
        body = tuple(_once(steps, spec, _for_entry(steps.on, ListEntry(kind)), root, needs))
        join = _join(spec, needs, Join(of="items", over=items, at_once=spec.at_once, body=body))
        fences = any(step.fences for step in fanning.every(body))
        policy = "pause" if fences else spec.on_failure or "pause"
        return [join.model_copy(update={"fences": fences, "on_failure": policy})]
    unfolded: list[PlanStep] = []
    roots: list[str] = []
    for place, (key, item) in enumerate(zip(fanning.keys_of(items), items, strict=True)):
        root = f"{spec.id}/{key}"
        own = _once(steps, spec, _for_entry(steps.on, ListEntry(kind_of_value(item), (item, place))), root, needs)
        earlier = roots[place - spec.at_once] if spec.at_once is not None and place >= spec.at_once else None
        unfolded += fanning.behind(own, root, earlier)
        roots.append(root)
    if not items and _fences(steps, spec):
        steps.on.wrong((*where, "for_each"), f"{spec.id} is a fence, and this list is empty: nothing would be fenced")
    return [*unfolded, _join(spec, tuple(roots) or needs, Join(of="items", at_once=spec.at_once))]


def _for_entry(on: Resolving, entry: ListEntry) -> Resolving:
    return on.within(replace(on.around, entry=entry))


def _fences(steps: Steps, spec: StepSpec) -> bool:
    entry = steps.entries[spec.id]
    return bool(getattr(entry, "fences", False))


def _join(spec: StepSpec, needs: tuple[str, ...], join: Join) -> PlanStep:
    return PlanStep(
        id=spec.id, number=0, uses=spec.uses, kind="join", title=spec.title, owner=spec.owner, needs=needs, join=join,
        repeat="safe", skippable=False, timeout_s=0.0,
    )  # fmt: skip


# Lists


def _entries(steps: Steps, spec: StepSpec, where: Where) -> tuple[list[Json] | str, Kind] | None:
    """The list and the kind of its entries; a reference where steps will answer it; None if it is mistaken."""
    on, given = steps.on, spec.for_each
    if isinstance(given, list):
        data, later, mistakes = bind.filled(
            {"for_each": given}, on.around, on.loaded.document, where[:-1], steps.step_kinds(spec.id)
        )
        on.mistakes += mistakes
        if later:
            on.wrong(where, "what stands in a list must be known when the plan is made", "for_each: ${ steps.ID.list }")
            return None
        items = data["for_each"]
        return (items, ANY) if isinstance(items, list) and not mistakes else None
    try:
        reference = whole(given) if isinstance(given, str) else None
    except Unclosed as error:
        on.wrong(where, str(error), offset=error.offset)
        return None
    if reference is None:
        on.wrong(where, "for_each must be a list, or one reference to a list", _A_LIST)
        return None
    checked = expressions.check_reference(reference.text, on.around.kinds(), steps.step_kinds(spec.id))
    for problem in checked.problems:
        on.wrong(where, problem.message, problem.hint, offset=reference.offset + problem.offset)
    why = "it may be missing" if checked.kind.optional else f"it is {checked.kind}, and a list is needed"
    if not checked.problems and (checked.kind.optional or checked.kind.name not in ("list", "any")):
        on.wrong(where, f"{reference.text}: {why}", _A_LIST, offset=reference.offset)
    if checked.problems or checked.kind.optional or checked.kind.name not in ("list", "any"):
        return None
    unknown = "environment" in checked.roots and on.around.environment is None
    if unknown or bind.later(reference.text, on.around):
        return str(given), checked.kind.item or ANY
    return _known(steps, reference.text, reference.path, where)


def _known(steps: Steps, text: str, path: tuple[str, ...] | None, where: Where) -> tuple[list[Json] | str, Kind] | None:
    values = steps.on.around.values
    try:
        found = look_up(path, values) if path is not None else expressions.value(text, values)
    except Unobservable as error:
        steps.on.wrong(where, error.message)
        return None
    if isinstance(found, list):
        return found, ANY
    steps.on.wrong(where, f"{text} is {kind_of_value(found)}, and a list is needed", _A_LIST)
    return None


# One step, or one runbook


def _once(steps: Steps, spec: StepSpec, on: Resolving, id: str, needs: tuple[str, ...]) -> list[PlanStep]:
    """What is done once, under this id; the last of them ends when all is done."""
    if spec.uses.startswith(RUNBOOK):
        return _runbook(steps, spec, on, id, needs)
    step = steps.step(spec, on, id, needs)
    if on.around.entry is not None:
        steps.scopes[id] = _item(PlanScope(), on.around.entry)
        step = step.model_copy(update={"scope": id})
    return [step]


def _item(scope: PlanScope, entry: ListEntry | None) -> PlanScope:
    if entry is None:
        return scope
    each, index = entry.known if entry.known is not None else (None, None)
    return scope.model_copy(update={"item": True, "each": each, "index": index})


def _runbook(steps: Steps, spec: StepSpec, on: Resolving, id: str, needs: tuple[str, ...]) -> list[PlanStep]:
    """Every step of the runbook that this step carries out."""
    where, name = steps.at[spec.id], spec.uses.removeprefix(RUNBOOK)
    for key in _NOT_OF_A_RUNBOOK:
        if getattr(spec, key) is not None:
            on.wrong(
                (*where, key),
                f"{spec.uses} is a runbook: {key} belongs to the steps in it",
                f"move {key} to them",
                key=True,
            )
    on.expression(spec.when, (*where, "when"), steps.step_kinds(spec.id))
    nested = _nested(steps, on, name, (*where, "uses"))
    if nested is None:
        steps.vague.add(id)
        return [_join(spec, needs, Join(of="runbook")).model_copy(update={"id": id, "fences": True})]
    parameters, later, kinds = _parameters(steps, spec, on, nested, (*where, "with"))
    around = Surroundings(
        on.around.environment, on.around.catalog, on.around.source, on.around.target, on.around.mode,
        {**parameters, **later}, kinds,
    )  # fmt: skip
    inside = Steps(_inheriting(nested, spec), Resolving(nested, around), within=(*steps.within, steps.name))
    probes, found = inside.on.probes(), unfolded(inside)
    on.mistakes += inside.on.mistakes
    scope = PlanScope(
        runbook=nested.runbook.metadata.name, digest=nested.digest, parameters=parameters, later=later, probes=probes
    )
    steps.scopes[id] = _item(scope, on.around.entry)
    _adopt(steps, inside, id)
    return _placed(steps, spec, on, id, needs, found)


def _adopt(steps: Steps, inside: Steps, id: str) -> None:
    """Take over what was found out about the steps of a nested runbook."""
    for key, scope in inside.scopes.items():
        outer = id if scope.outer is None else f"{id}/{scope.outer}"
        steps.scopes[f"{id}/{key}"] = scope.model_copy(update={"outer": outer})
    steps.places |= {f"{id}/{each}": place for each, place in inside.places.items()}
    steps.vague |= {f"{id}/{each}" for each in inside.vague}


def _placed(
    steps: Steps, spec: StepSpec, on: Resolving, id: str, needs: tuple[str, ...], found: list[PlanStep]
) -> list[PlanStep]:
    """A nested runbook's steps under the step that carries them out; those that need nothing need what it needs."""

    def name(local: str) -> str:
        return f"{id}/{local}"

    def scope(local: str | None) -> str:
        return id if local is None else f"{id}/{local}"

    below = [fanning.renamed(step, name, scope) for step in found]
    head: list[PlanStep] = []
    if spec.when is not None:
        fences = [step.id for step in fanning.every(below) if step.fences]
        if fences:
            message = f"{fences[0]} is a fence: it is never optional, conditional or skipped"
            on.wrong((*steps.at[spec.id], "when"), message, key=True)
        head = [
            PlanStep(
                id=name(fanning.WHEN), number=0, uses=spec.uses, kind="when", title=fanning.needed(name(fanning.WHEN)),
                owner=spec.owner, needs=needs, when=spec.when, repeat="safe", skippable=False,
                scope=id if on.around.entry else None,
            )
        ]  # fmt: skip
        if on.around.entry is not None:
            # What decides about the runbook reads what the step reads, not what its steps do.
            steps.scopes[name(fanning.WHEN)] = _item(PlanScope(), on.around.entry)
            head = [head[0].model_copy(update={"scope": name(fanning.WHEN)})]
    first = (head[0].id,) if head else needs
    below = [step if step.needs else step.model_copy(update={"needs": first}) for step in below]
    of = {step.id for step in found if "/" not in step.id}
    join = _join(spec, tuple(name(each) for each in of_order(found, of)), Join(of="runbook"))
    return [*head, *below, join.model_copy(update={"id": id})]


def of_order(found: list[PlanStep], ids: set[str]) -> list[str]:
    """These ids in the order of the steps."""
    return [step.id for step in found if step.id in ids]


def _nested(steps: Steps, on: Resolving, name: str, where: Where) -> Loaded | None:
    """The runbook called `name`, or None and a mistake."""
    library = on.loaded.library
    nested = library.found.get(name)
    way = [*steps.within, steps.name]
    if name in way:
        turn = " -> ".join([*way[way.index(name) :], name])
        on.wrong(where, f"these runbooks carry each other out: {turn}", "take this step out of one of them")
        return None
    if nested is None:
        on.wrong(where, f'there is no runbook "{name}" beside this one', meant(name, library.known))
        return None
    if isinstance(nested, tuple):
        on.mistakes += nested
        return None
    on.mistakes += nested.mistakes
    allowed = nested.runbook.metadata.regions
    strange = [region for region in (on.around.source, on.around.target) if allowed and region not in allowed]
    if strange and on.around.environment is not None:
        on.wrong(where, f"{name} moves between {', '.join(allowed)}, and {strange[0]} is not among them")
    return nested


def _parameters(
    steps: Steps, spec: StepSpec, on: Resolving, nested: Loaded, where: Where
) -> tuple[dict[str, Json], dict[str, str | dict[str, Json] | list[Json]], Mapping[str, Kind]]:
    """Values of a nested runbook's parameters: those known, templates of those that steps will answer, their kinds."""
    declared = nested.runbook.parameters
    environment = on.around.environment.parameters if on.around.environment is not None else {}
    values = {name: environment.get(name, each.default) for name, each in declared.items()}
    data, kinds, mistakes = bind.filled(spec.with_, on.around, on.loaded.document, where, steps.step_kinds(spec.id))
    on.mistakes += mistakes
    later: dict[str, str | dict[str, Json] | list[Json]] = {}
    for name, value in data.items():
        if name not in declared:
            on.wrong((*where, name), f'{spec.uses} has no parameter "{name}"', meant(name, declared), key=True)
            continue
        default = declared[name].default
        if name in kinds:
            why = why_not_assignable(kinds[name], kind_of_value(default)) if default is not None else None
            assert isinstance(value, str | dict | list)  # a reference is text, or stands in something
            later[name] = value
            values.pop(name)
        else:
            why = why_not(default, value)
            values[name] = value
        if why:
            on.wrong((*where, name), f"parameter {name} of {spec.uses}: {why}")
    return values, later, kinds


def _inheriting(nested: Loaded, spec: StepSpec) -> Loaded:
    """The runbook with what its own steps leave open said by the step that carries it out."""

    def told(step: StepSpec) -> StepSpec:
        return step.model_copy(
            update={
                "owner": step.owner or spec.owner or nested.runbook.metadata.owner,
                "optional": step.optional or spec.optional,
                "on_failure": step.on_failure or spec.on_failure,
            }
        )

    book = nested.runbook.model_copy(update={"steps": [told(step) for step in nested.runbook.steps]})
    return Loaded(
        nested.path, nested.digest, book, nested.document, nested.mistakes, nested.origin, nested.dropped,
        nested.library,
    )  # fmt: skip
