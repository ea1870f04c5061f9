"""What experiments left behind on this machine: `drkit chaos leftovers` names it, `drkit chaos stop` rolls it back."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from drkit.cli import toolkit
from drkit.cli.settings import Settings
from drkit.errors import DrkitError

if TYPE_CHECKING:
    from drkit.chaos.toolkit.leftover import Left
    from drkit.engine.runs import RunFolder
    from drkit.model.faults import Markers


def leftovers() -> Markers:
    """What experiments of this machine did and nobody undid."""
    from drkit.chaos.toolkit.course import FAULT
    from drkit.chaos.toolkit.leftover import left_in
    from drkit.engine.runs import all_runs
    from drkit.model.faults import Marker, Markers

    found: list[Marker] = []
    silent: list[str] = []
    for folder in all_runs():
        try:
            left = left_in(folder)
        except DrkitError as error:
            silent.append(f"run {folder.id}: {error.message}")
            continue
        if left is not None:
            params: dict[str, Any] = {"title": left.title, "rollbacks": left.rollbacks}
            state: Literal["injected", "overdue"] = "injected" if left.alive else "overdue"
            steps = ", ".join(left.actions)
            found.append(
                Marker(
                    key=left.run, fault=FAULT, params=params, where="this machine", run=left.run, step=steps,
                    state=state,
                )
            )  # fmt: skip
    return Markers(markers=tuple(found), silent=tuple(silent))


@dataclass
class Stopped:
    """What `stop` came to."""

    found: bool = False
    """There was something."""
    stuck: list[str] = field(default_factory=list)
    """What is still there, a sentence each."""

    def check(self) -> None:
        """DrkitError if something is still there."""
        if self.stuck:
            raise DrkitError(
                "what experiments left is not all undone\n" + "\n".join(self.stuck),
                state="What is named here is still there.", hint="drkit chaos leftovers",
            )  # fmt: skip


def stop(settings: Settings, run: str | None) -> Stopped:
    """Roll back what experiments left, of one run or of all. What cannot be is told, and holds up nothing else."""
    from drkit.engine import runs

    stopped = Stopped()
    for folder in runs.all_runs():
        if run in (None, folder.id) and toolkit.is_run(folder):
            try:
                _stop(settings, folder, stopped)
            except DrkitError as error:
                stopped.found = True
                stopped.stuck.append(f"{folder.id}: {error.message}")
    return stopped


def _stop(settings: Settings, folder: RunFolder, stopped: Stopped) -> None:
    from drkit.chaos.toolkit.leftover import left_in

    left = left_in(folder)
    if left is None:
        return
    stopped.found = True
    if left.alive:
        _abort(settings, folder)
        left = left_in(folder)
    if left is not None:
        stopped.stuck += _roll_back(settings, folder, left)


def _roll_back(settings: Settings, folder: RunFolder, left: Left) -> list[str]:
    from drkit.chaos.toolkit import reading
    from drkit.chaos.toolkit.opening import kept_in
    from drkit.chaos.toolkit.rescue import roll_back

    kept = kept_in(folder)
    assert kept is not None  # it is an experiment's folder: something was left in it
    if not left.rollbacks:
        settings.say.warn(
            f"{left.run} ({left.title}): no rollbacks are declared; undo by hand: {', '.join(left.actions)}"
        )
    os.chdir(kept.cwd if Path(kept.cwd).is_dir() else "/")
    if kept.whole:
        experiment = reading.from_data(kept.data, kept.path, kept.digest, (kept.configuration, {})).experiment
    else:
        experiment = reading.load(Path(kept.path), (kept.configuration, {})).experiment
        if experiment.digest != kept.digest:
            why = "holds secrets, so that no copy was kept, and has changed since"
            return [f"{left.run}: {kept.path} {why}: undo by hand {', '.join(left.actions)}"]
    values = toolkit.values_of(settings, experiment, (kept.configuration, {}))
    settings.say.note(f"Rolling {left.run} back: {left.title}")
    by = str(toolkit.me(None)["name"])
    failures = roll_back(
        folder, experiment, values, by=by, why=f"drkit chaos stop by {by}", deadline_s=kept.deadline_s,
        tell=lambda row: toolkit.tell(settings, experiment, row), warn=settings.say.warn,
    )  # fmt: skip
    return [f"{left.run}: rollback {failure}" for failure in failures]


def _abort(settings: Settings, folder: RunFolder) -> None:
    """End a run that goes on, or whose dead-man is at work; waits until it is over."""
    import time

    from drkit.cli.ordering import order
    from drkit.engine.runs import alive

    settings.say.note(f"Ending {folder.id}, which goes on")
    order(folder, "abort", reason="drkit chaos stop")
    deadline = time.monotonic() + 60
    while alive(folder):
        if time.monotonic() > deadline:
            raise DrkitError(f"{folder.id} has not ended within a minute", hint=f"drkit status {folder.id}")
        time.sleep(0.1)
