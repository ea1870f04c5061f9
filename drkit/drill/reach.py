"""Which ways an action or a probe goes to the world, read from its code: providers it uses, words it says. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import CodeType, ModuleType
from typing import Any

from drkit.catalog import Action, Entry, Probe


@dataclass(frozen=True, slots=True)
class Reach:
    """Names of the provider classes (`Aws`, `Ssh`) that its effect and its looks use."""

    effect: frozenset[str]
    look: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """Both."""
        return self.effect | self.look


def reach(entry: Entry) -> Reach:
    """What the code of `entry`, and whatever of drkit's code that names, uses. A gate uses nothing."""
    if isinstance(entry, Action):
        return Reach(_used_by(entry.apply), _used_by(entry.observe.observe))
    if isinstance(entry, Probe):
        return Reach(frozenset(), _used_by(entry.observe))
    return Reach(frozenset(), frozenset())


def words(entry: Entry) -> tuple[frozenset[str], frozenset[str]]:
    """The strings in the code of its effect, and of its looks: among them services, and what is asked of them."""
    if isinstance(entry, Action):
        return _said_by(entry.apply), _said_by(entry.observe.observe)
    return frozenset(), _said_by(entry.observe) if isinstance(entry, Probe) else frozenset()


def _used_by(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(thing.__name__ for thing in _all_named_by(function) if _is_provider(thing))


def _said_by(function: Callable[..., Any]) -> frozenset[str]:
    codes = (thing.__code__ for thing in _all_named_by(function) if inspect.isfunction(thing))
    return frozenset(word for code in codes for word in _strings(code))


def _all_named_by(function: Callable[..., Any]) -> Iterator[Any]:
    """It, and whatever of drkit's code it names, directly or not, up to the providers."""
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        yield thing
        if not _is_provider(thing):
            waiting += _named_by(thing)


def _is_provider(thing: object) -> bool:
    return inspect.isclass(thing) and inspect.ismethod(getattr(thing, "connect", None))


def _named_by(thing: Any) -> Iterator[Any]:
    """What drkit's code in `thing` names."""
    if isinstance(thing, Action):
        yield from (thing.apply, thing.observe)
    elif isinstance(thing, Probe):
        yield thing.observe
    elif isinstance(thing, partial):
        yield thing.func
    elif inspect.isclass(thing) and thing.__module__.startswith("drkit."):
        yield from (member for member in vars(thing).values() if inspect.isfunction(member))
    elif inspect.isfunction(thing) and thing.__module__.startswith("drkit."):
        names = set(_names(thing.__code__))
        known = [thing.__globals__[name] for name in names if name in thing.__globals__]
        yield from known
        for module in known:
            if isinstance(module, ModuleType) and module.__name__.startswith("drkit."):
                yield from (vars(module)[name] for name in names if name in vars(module))


def _names(code: CodeType) -> Iterator[str]:
    """Also of what is defined inside of it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _strings(code: CodeType) -> Iterator[str]:
    """Also in what is defined inside of it, and in tuples."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _strings(constant)
        elif isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from (part for part in constant if isinstance(part, str))
