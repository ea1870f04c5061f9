"""Build the world: which step needs which; and the environment that comes out.

Every step of the table starts as soon as the steps it needs are done; what one part announced goes into the next one's
configuration, so no port is fixed anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable

from drkit.sandbox import steps_cloud, steps_data, steps_service
from drkit.sandbox.layout import Settings
from drkit.sandbox.portrait import environment_of
from drkit.sandbox.processes import identify
from drkit.sandbox.supervisor import Supervisor, report, say
from drkit.sandbox.worksite import Worksite, write

Step = Callable[[Worksite], Awaitable[None]]

STEPS: dict[str, tuple[Step, tuple[str, ...]]] = {
    "secrets": (steps_data.secrets, ()),
    "links": (steps_data.links, ()),
    "witness": (steps_data.witness, ()),
    "writer": (steps_data.writer, ("secrets", "links", "witness")),
    "schema": (steps_data.schema, ("writer",)),
    "standby": (steps_data.standby, ("schema",)),
    "aws": (steps_cloud.aws, ()),
    "routing": (steps_cloud.routing, ()),
    "sinks": (steps_cloud.sinks, ()),
    "edges": (steps_service.edges, ("links",)),
    "seed": (steps_cloud.seed, ("secrets", "aws", "sinks", "edges")),
    "hosts": (steps_service.hosts_with_shop, ("secrets", "links", "aws")),
    "targets": (steps_service.targets, ("hosts", "edges")),
    "replicator": (steps_cloud.replicator, ("seed",)),
    "names": (steps_cloud.names, ("routing", "seed")),
    "service": (steps_service.service, ("names", "targets", "standby")),
    "prober": (steps_service.prober, ("service",)),
}
"""Name of a step → what it does, and the steps that must be done before."""


async def assemble(supervisor: Supervisor, serve_control: Callable[[Supervisor], Awaitable[str]]) -> None:
    """Start everything, then write environment.json. Raises DrkitError (maybe in a group) for what did not start."""
    folders = supervisor.folders
    settings = Settings(**json.loads(folders.settings.read_text()))
    control = await serve_control(supervisor)
    own = identify(os.getpid())
    assert own is not None
    write(folders.supervisor, {"pid": own.pid, "start": own.start, "control": control})
    site = Worksite(supervisor, settings, control)
    await build(site)
    write(folders.environment, environment_of(site).model_dump(mode="json"))


async def build(site: Worksite, goals: Iterable[str] = STEPS) -> None:
    """Carry out every step that `goals` need, each as soon as it can. Raises a group of what went wrong."""
    done = {name: asyncio.Event() for name in needed(goals)}

    async def carry_out(name: str) -> None:
        step, needs = STEPS[name]
        for need in needs:
            await done[need].wait()
        await step(site)
        done[name].set()
        report({"part": name})
        say(f"{name} is ready")

    async with asyncio.TaskGroup() as group:
        for name in STEPS:
            if name in done:
                group.create_task(carry_out(name))


def needed(goals: Iterable[str]) -> set[str]:
    """The goals and every step that one of them needs, directly or not."""
    wanted: set[str] = set()
    pending = list(goals)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += STEPS[name][1]
    return wanted
