"""What drkit can do and see: actions, probes, faults and gates, declared by decorators, loaded by subject.

Nothing registers itself anywhere: a decorator makes an entry, and `Catalog.load` collects the entries of the modules
that entry points name (`drkit.actions`: one per subject, `postgres = "drkit.actions.postgres"`). Loading is
all-or-nothing: every mistake in every entry is reported at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar, get_type_hints

from drkit.context import Context
from drkit.errors import CatalogError
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper
from drkit.model.params import Params, Use, schema_of
from drkit.model.values import Json, canonical_text, digest

GROUP = "drkit.actions"

#: `site`: whichever side the parameter `site` (or `region`) names.
Side = Literal["source", "target", "neither", "site"]
#: What an action needs to be up: the control plane that creates things, or only what already runs.
Plane = Literal["control", "data", "none"]
Repeat = Literal["safe", "token", "ask"]

PT = TypeVar("PT", bound=Params)
OT = TypeVar("OT", bound=Observation)


@dataclass
class Probe(Generic[PT, OT]):
    """A read-only observation with a typed answer. Calling it observes once; Unobservable if it cannot tell."""

    name: str
    observe: Callable[[Context, PT], Awaitable[OT]]
    params: type[PT] = field(init=False)
    answer: type[OT] = field(init=False)
    side: Side = "site"
    plane: Plane = "data"
    doc: str = ""
    module: str = ""
    commander: Callable[[PT, Paper], str] | None = None
    mistakes: list[str] = field(default_factory=list)

    async def __call__(self, ctx: Context, params: PT) -> OT:
        """Observe once."""
        return await self.observe(ctx, params)

    def by_hand(self, function: Callable[[PT, Paper], str]) -> Callable[[PT, Paper], str]:
        """Decorator: the pure function that gives the shell lines with which a person looks without drkit."""
        self.commander = function
        return function

    def use(self, params: PT) -> Use:
        """This probe with these parameters, written down."""
        return Use(uses=self.name, params=params.model_dump(mode="json"))


@dataclass
class Action(Generic[PT, OT]):
    """A registered change: observe, check, intent, apply, observe until the check holds."""

    name: str
    apply: Callable[[Context, PT, OT], Awaitable[None]]
    observe: Probe[Any, OT]
    repeat: Repeat
    params: type[PT] = field(init=False)
    side: Side = "site"
    plane: Plane = "data"
    irreversible: str | None = None
    """Why it cannot be undone; exactly one of this and `undo`."""
    unfenced: bool = True
    """True: its target cannot refuse a holder whose lease ran out."""
    fences: bool = False
    promotes: bool = False
    skippable: bool = True
    """False for fences, proofs and messages: never skipped as already so."""
    settle_s: float = 0.0
    """A check that fails after a lost answer is believed only after this."""
    timeout_s: float = 60.0
    poll_s: float = 0.2
    """How often the observation is repeated while waiting for the check."""
    doc: str = ""
    module: str = ""
    checker: Callable[[PT, OT], bool | State] | None = None
    undoer: Callable[[PT, OT, OT | None], Use | None] | None = None
    commander: Callable[[PT, Paper], str] | None = None
    fault: bool = False
    lease: str | None = None
    """What heals a fault at its target when we do not; None: nothing would, so it is irreversible."""
    consent: str | None = None
    """Parameter with which a fault, unless it is false, takes two persons' consent although it can be healed."""
    heal: Action[PT, OT] | None = None
    """The action that heals a fault, whoever injected it."""
    mistakes: list[str] = field(default_factory=list)

    async def __call__(self, ctx: Context, params: PT, before: OT) -> None:
        """Send the change once."""
        await self.apply(ctx, params, before)

    def check(self, function: Callable[[PT, OT], bool | State]) -> Callable[[PT, OT], bool | State]:
        """Decorator: the pure predicate that says whether the change is in effect."""
        self.checker = function
        return function

    def undo(self, function: Callable[[PT, OT, OT | None], Use | None]) -> Callable[[PT, OT, OT | None], Use | None]:
        """Decorator: the pure function that names the compensation; `after` is None when the outcome is uncertain."""
        self.undoer = function
        return function

    def healed_by(
        self, function: Callable[[Context, PT, OT], Awaitable[None]]
    ) -> Callable[[Context, PT, OT], Awaitable[None]]:
        """Decorator: what heals this fault; an action of its own, done when the fault is seen to be gone."""
        healing: Action[PT, OT] = Action(
            f"{self.name}.heal", function, self.observe, "safe", side=self.side, plane=self.plane, skippable=False,
            irreversible="what is healed is broken again only by another fault", timeout_s=self.timeout_s,
            poll_s=self.poll_s, doc=f"Heal what {self.name} broke, whoever did.", module=self.module,
        )  # fmt: skip
        healing.params = self.params
        healing.checker = lambda params, now: _opposite[self.state(params, now)]
        self.heal = healing
        self.undoer = lambda params, before, after: healing.use(params)
        return function

    def by_hand(self, function: Callable[[PT, Paper], str]) -> Callable[[PT, Paper], str]:
        """Decorator: the pure function that gives the shell lines with which a person does the same without drkit."""
        self.commander = function
        return function

    def use(self, params: PT) -> Use:
        """This action with these parameters, written down."""
        return Use(uses=self.name, params=params.model_dump(mode="json"))

    def why_consent(self, given: Mapping[str, Json]) -> str | None:
        """What two persons have to consent to before this is injected with `given`; None: nothing."""
        if self.fault and self.irreversible is not None:
            return f"{self.name} cannot be healed: {self.irreversible}"
        if self.consent is not None and given.get(self.consent, False) is not False:  # a reference may become true
            return f"{self.name} breaks what is no copy ({self.consent}): {canonical_text(dict(given))}"
        return None

    def state(self, params: PT, now: OT) -> State:
        """What the check says of an observation."""
        assert self.checker is not None, f"{self.name} has no check"  # refused at load
        answer = self.checker(params, now)
        return answer if isinstance(answer, State) else (State.HOLDS if answer else State.ABSENT)


_opposite = {
    State.HOLDS: State.ABSENT,
    State.ABSENT: State.HOLDS,
    State.IN_PROGRESS: State.IN_PROGRESS,
    State.UNKNOWN: State.UNKNOWN,
}


@dataclass
class Gate(Generic[PT]):
    """A step that belongs to the fold itself: it waits for people. Its parameters are shown and bound to."""

    name: str
    params: type[PT]
    doc: str = ""
    module: str = ""
    mistakes: list[str] = field(default_factory=list)


Entry = Probe[Any, Any] | Action[Any, Any] | Gate[Any]


def probe(
    name: str, *, side: Side = "site", plane: Plane = "data"
) -> Callable[[Callable[[Context, PT], Awaitable[OT]]], Probe[PT, OT]]:
    """Declare a probe: `async def f(ctx, params) -> Observation`, whose docstring is its description."""

    def declare(function: Callable[[Context, PT], Awaitable[OT]]) -> Probe[PT, OT]:
        entry = Probe(name, function, side=side, plane=plane, doc=inspect.getdoc(function) or "")
        entry.module = function.__module__
        hints = _hints(function, entry.mistakes, name)
        entry.params = _model(hints, 1, Params, entry.mistakes, name)
        entry.answer = _model(hints, "return", Observation, entry.mistakes, name)
        _described(entry.params, entry.doc, name, entry.mistakes)
        return entry

    return declare


def action(
    name: str,
    *,
    observe: Probe[Any, OT],
    repeat: Repeat,
    side: Side = "site",
    plane: Plane = "data",
    irreversible: str | None = None,
    unfenced: bool = True,
    fences: bool = False,
    promotes: bool = False,
    skippable: bool = True,
    settle_s: float = 0.0,
    timeout_s: float = 60.0,
    poll_s: float = 0.2,
    fault: bool = False,
    lease: str | None = None,
    consent: str | None = None,
) -> Callable[[Callable[[Context, PT, OT], Awaitable[None]]], Action[PT, OT]]:
    """Declare an action: `async def f(ctx, params, before) -> None`. Its parameters extend the probe's."""

    def declare(function: Callable[[Context, PT, OT], Awaitable[None]]) -> Action[PT, OT]:
        entry = Action(
            name, function, observe, repeat,
            side=side, plane=plane, irreversible=irreversible, unfenced=unfenced, fences=fences, promotes=promotes,
            skippable=skippable and not fences, settle_s=settle_s, timeout_s=timeout_s, poll_s=poll_s, fault=fault,
            lease=lease, consent=consent, doc=inspect.getdoc(function) or "", module=function.__module__,
        )  # fmt: skip
        hints = _hints(function, entry.mistakes, name)
        entry.params = _model(hints, 1, Params, entry.mistakes, name)
        doc = entry.doc or inspect.getdoc(entry.params) or ""
        _described(entry.params, doc, name, entry.mistakes)
        entry.doc = doc
        return entry

    return declare


def fault(
    name: str, *, observe: Probe[Any, OT], lease: str | None = None, irreversible: str | None = None,
    repeat: Repeat = "safe", side: Side = "site", plane: Plane = "data", unfenced: bool = True,
    timeout_s: float = 60.0, poll_s: float = 0.2, consent: str | None = None,
) -> Callable[[Callable[[Context, PT, OT], Awaitable[None]]], Action[PT, OT]]:  # fmt: skip
    """Declare a fault: an action that is healed (`healed_by`) and heals itself (`lease` says what does it).

    One that cannot is `irreversible`: never injected unattended, and only with two persons' consent. So is one whose
    parameter `consent` names is not false.
    """
    return action(
        name, observe=observe, repeat=repeat, side=side, plane=plane, unfenced=unfenced, skippable=False,
        timeout_s=timeout_s, poll_s=poll_s, fault=True, lease=lease, irreversible=irreversible, consent=consent,
    )  # fmt: skip


class Catalog:
    """Entries by name, loaded one subject at a time (`postgres.promote` belongs to `postgres`)."""

    def __init__(self, modules: Iterable[str] = ()) -> None:
        """`modules` are loaded at once, beside what entry points name: for tests and for authors of actions."""
        self._entries: dict[str, Entry] = {}
        self._loaded: set[str] = set()
        self.add(modules)

    @cached_property
    def _subjects(self) -> dict[str, str]:
        """Module by subject: `aws.ec2` is a subject of its own beside `aws`; one that has a file of its own, an entry's
        whole name."""
        return {point.name: point.value for point in entry_points(group=GROUP)}

    def find(self, name: str) -> Entry | None:
        """The entry called `name`, or None; loads its subject on first use."""
        if name not in self._entries:
            subjects = {subject for subject in self._subjects if f"{name}.".startswith(f"{subject}.")}
            modules = {self._subjects[subject] for subject in subjects - self._loaded}
            self._loaded |= subjects
            self.add(sorted(modules))
        return self._entries.get(name)

    def entry(self, name: str) -> Entry:
        """The entry called `name`. CatalogError if there is none."""
        entry = self.find(name)
        if entry is None:
            raise CatalogError([f'there is no action, probe or gate called "{name}"'])
        return entry

    def loaded(self) -> list[str]:
        """Names of the entries loaded so far."""
        return sorted(self._entries)

    def load_all(self) -> dict[str, Entry]:
        """Every entry of every installed subject, by name."""
        for subject in self._subjects:
            self.find(subject + ".")
        return dict(sorted(self._entries.items()))

    def add(self, modules: Iterable[str]) -> None:
        """Collect the entries of these modules. CatalogError with every mistake; then nothing was added."""
        self.admit(entry for module in modules for entry in _declared(import_module(module)) if entry.module == module)

    def admit(self, entries: Iterable[Entry]) -> None:
        """These too, wherever they come from. CatalogError with every mistake; then nothing was added."""
        found: dict[str, Entry] = {}
        mistakes: list[str] = []
        for entry in entries:
            mistakes += entry.mistakes + (_incomplete(entry) if isinstance(entry, Action) else [])
            other = found.get(entry.name) or self._entries.get(entry.name)
            if other is not None and other is not entry:
                mistakes.append(f"{entry.name} is declared twice, in {other.module} and in {entry.module}.")
            found[entry.name] = entry
        if mistakes:
            raise CatalogError(mistakes)
        self._entries.update(found)

    def digest(self, names: Iterable[str]) -> str:
        """Digest of what the entries called `names` declare: goes into a run's first event."""
        return digest({name: _declaration(self.entry(name)) for name in sorted(set(names))})


def _declared(module: ModuleType) -> list[Entry]:
    """The entries that a module holds, each fault with its heal."""
    found = [entry for entry in vars(module).values() if isinstance(entry, Probe | Action | Gate)]
    return found + [entry.heal for entry in found if isinstance(entry, Action) and entry.heal is not None]


def _declaration(entry: Entry) -> dict[str, Any]:
    facts: dict[str, Any] = {"params": schema_of(entry.params)}
    if isinstance(entry, Action):
        facts |= {"repeat": entry.repeat, "side": entry.side, "plane": entry.plane, "irreversible": entry.irreversible,
                  "fences": entry.fences, "promotes": entry.promotes, "unfenced": entry.unfenced}  # fmt: skip
    return facts


def _hints(function: Callable[..., Any], mistakes: list[str], name: str) -> list[tuple[str, Any]]:
    try:
        return list(get_type_hints(function, include_extras=True).items())
    except NameError as error:  # a type that exists only under TYPE_CHECKING
        mistakes.append(f"{name}: its annotations cannot be read at run time ({error}).")
        return []


def _model(hints: list[tuple[str, Any]], which: int | str, base: type[Any], mistakes: list[str], name: str) -> Any:
    wanted = dict(hints).get("return") if which == "return" else (hints[1][1] if len(hints) > 1 else None)
    if not (isinstance(wanted, type) and issubclass(wanted, base)):
        what = "its answer" if which == "return" else "its second parameter"
        mistakes.append(f"{name}: {what} must be annotated with a {base.__name__}.")
        return base
    return wanted


def _described(params: type[Params], doc: str, name: str, mistakes: list[str]) -> None:
    if not doc:
        mistakes.append(f"{name} has no docstring: it is what `drkit explain {name}` prints.")
    for key, info in params.model_fields.items():
        if not info.description:
            mistakes.append(f"{name}: parameter {key} has no description.")


def _incomplete(entry: Action[Any, Any]) -> list[str]:
    """Sentences for what an action still lacks once its module is loaded."""
    mistakes = []
    if entry.checker is None:
        mistakes.append(f"{entry.name} has no check: declare one with @{entry.apply.__name__}.check.")
    if (entry.undoer is None) == (entry.irreversible is None):
        mistakes.append(f"{entry.name} needs exactly one of @{entry.apply.__name__}.undo and irreversible=...")
    if entry.fault and (entry.heal is None) != (entry.irreversible is not None):
        mistakes.append(f"{entry.name} is a fault: it needs exactly one of healed_by and irreversible=...")
    if entry.fault and (entry.lease is None) != (entry.heal is None):
        mistakes.append(f"{entry.name} is a fault: lease= says what heals it when drkit does not.")
    if entry.consent is not None and entry.consent not in entry.params.model_fields:
        mistakes.append(f"{entry.name} has no parameter {entry.consent}, which is to say whether consent is needed.")
    missing = [key for key in entry.observe.params.model_fields if key not in entry.params.model_fields]
    if missing:
        mistakes.append(
            f"{entry.name}: its parameters must extend those of {entry.observe.name}; {', '.join(missing)} is missing."
        )
    return mistakes
