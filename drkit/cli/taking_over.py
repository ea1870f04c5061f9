"""A real run comes while a drill breaks things: the chaos lever is engaged and the drill's faults are healed.

The run itself takes the drill's lease. Healing goes on beside it, in a run of its own, so that it can delay nothing:
a target of the drill may be just what does not answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from drkit.cli import compose
from drkit.cli.settings import Settings
from drkit.errors import JournalError

if TYPE_CHECKING:
    from drkit.engine.runs import Request, RunFolder

LOG = "healing.log"


def drill_in_the_way(request: Request) -> str | None:
    """The drill that holds the environment now; None if none does, or it cannot be told (the lease will tell)."""
    import anyio

    if request.drill:
        return None
    try:
        holder = anyio.run(compose.holder, request.environment)
    except JournalError:
        return None
    return holder.run if holder is not None and holder.drill else None


def make_way(settings: Settings, request: Request, folder: RunFolder, drill: str) -> None:
    """Engage the lever, and heal what that drill broke, beside this run."""
    from drkit.chaos.lever import Lever, move
    from drkit.model.values import utc
    from drkit.providers.objects import open_objects

    name = request.environment.name
    settings.say.note(f"{drill}, a drill, holds {name}: its lease is taken and what it broke is healed.")
    by, reason = str(request.by.get("name")), f"{request.kind} {request.run} came while the drill {drill} was going on"
    try:
        move(open_objects(request.environment), name, Lever(True, by, utc(time.time()), reason))
        settings.say.next(f"drkit chaos lever release --reason ... --env {name}")
    except JournalError as error:
        settings.say.warn(f"The chaos lever could not be engaged: {error.message}")
    words = [sys.executable, "-m", "drkit.cli", "--env", name, "chaos", "stop", "--run", drill]
    with (folder.path / LOG).open("ab") as log:
        subprocess.Popen(  # it outlives us, as the runner does
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=dict(os.environ)
        )
    settings.say.note(f"Healing goes on beside this run: {folder.path / LOG}")
