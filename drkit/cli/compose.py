"""Put together what commands reach the world with. The engine must not know providers, so this is done here, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drkit.context import Context
    from drkit.model.environment import Environment
    from drkit.model.ports import Holder


@asynccontextmanager
async def reach(
    environment: Environment, source: str, target: str, *, mode: str, run: str = "look", step: str = "look"
) -> AsyncIterator[Context]:
    """A context to look through, with providers that are closed afterwards."""
    from drkit.context import Context, Providers
    from drkit.engine.clock import SystemClock
    from drkit.providers.secrets import Secrets

    secrets = Secrets(environment)
    providers = Providers(environment, secrets)
    try:
        yield Context(
            environment=environment, providers=providers, secrets=secrets, clock=SystemClock(), run=run, step=step,
            source=source, target=target, mode=mode,
        )  # fmt: skip
    finally:
        await providers.aclose()


async def holder(environment: Environment) -> Holder | None:
    """Who holds the environment's lease now. JournalError if the state store does not answer."""
    import anyio.to_thread

    from drkit.engine.lease import look
    from drkit.providers.objects import open_objects

    found = await anyio.to_thread.run_sync(look, open_objects(environment), environment.name)
    return None if found is None else found[1]
