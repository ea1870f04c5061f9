"""Orders to a run: who types them, and how they reach its runner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drkit.engine.orders import Order, Reply
    from drkit.engine.runs import RunFolder
    from drkit.model.environment import Environment


def me(environment: Environment) -> dict[str, Any]:
    """Who types here, as the environment knows them."""
    from drkit.engine.orders import identity

    return identity(environment.people, os.getuid(), "terminal")


def typist(folder: RunFolder) -> dict[str, Any]:
    """Who types here, as the run's environment knows them. The runner asks the kernel instead of believing this."""
    return me(folder.request().environment)


def orders(by: dict[str, Any], wanted: Sequence[tuple[str, str | None, str | None, dict[str, Any]]]) -> tuple[Any, ...]:
    """Orders (verb, step, reason, args) as a runner takes them before anything else."""
    from drkit.model.events import Ordered

    return tuple(
        Ordered(verb=verb, by=by, step=step, reason=reason, args=args).to_json() for verb, step, reason, args in wanted
    )


def send(folder: RunFolder, fact: Order) -> Reply:
    """Hand an order to the runner; without one it is left for whoever resumes the run."""
    from drkit.engine import orders

    return orders.send(folder, fact)


def order(folder: RunFolder, verb: str, *, reason: str | None = None) -> Reply:
    """Send a plain order."""
    from drkit.model.events import Ordered

    return send(folder, Ordered(verb=verb, by=typist(folder), reason=reason))
