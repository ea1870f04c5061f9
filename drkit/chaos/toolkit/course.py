"""The course of an experiment: steady state, method, steady state, rollbacks. What happens is in the ledger, in order.

An action's intent is durable before it is sent, its result before anything else is sent or waited for: one commit for
both. Rollbacks hear of no wish to end:
they are how an experiment ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from drkit.chaos.toolkit.abort import Abort, Reason
from drkit.chaos.toolkit.calling import Calls
from drkit.chaos.toolkit.controls import Controls
from drkit.chaos.toolkit.ledger import Ledger
from drkit.chaos.toolkit.model import Activity, Experiment, Hypothesis, Process, Stage
from drkit.chaos.toolkit.outcome import Outcome, plain
from drkit.chaos.toolkit.tolerance import within
from drkit.chaos.toolkit.values import Values
from drkit.errors import DrkitError, JournalError, PreflightFailed
from drkit.model.events import Done, Failed, FaultChanged, NotNeeded, Prepared

FAULT = "chaostoolkit.experiment"
"""Name of the fault that all actions of an experiment are together: its rollbacks are the inverse of all of them."""


@dataclass
class Result:
    """What became of one activity. `failure`: why a rollback counts as failed."""

    status: str
    output: Any = None
    met: bool | None = None
    failure: str | None = None
    entry: dict[str, Any] = field(default_factory=dict)
    """As Chaos Toolkit's journal has it."""


@dataclass
class State:
    """One check of the hypothesis."""

    met: bool
    probes: list[dict[str, Any]]
    """Entries of those that were asked."""
    failed: bool = False
    """A probe could not even be carried out."""
    why: str = ""


@dataclass
class Course:
    """One experiment under way."""

    experiment: Experiment
    run: str
    values: Values
    ledger: Ledger
    abort: Abort
    calm: Abort
    """Never calls for the end: for rollbacks."""
    calls: Calls
    controls: Controls
    before_first_action: Callable[[], None] = lambda: None
    """Arms the lease; called once, when the intent is durable and nothing has been sent."""
    warn: Callable[[str], None] = lambda text: None
    trouble: DrkitError | None = None
    """Why it cannot go on: the journal cannot be written, or the lease not be armed."""
    more: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What controls added to the entries of steps; for the journal in Chaos Toolkit's shape only."""
    _acted: bool = False
    _injected: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)

    # Parts

    def hypothesis(self, stage: Stage, calls: Calls | None = None, record: bool = True) -> State:
        """Check it; ends at the first probe that fails or is out of its tolerance."""
        said = self.experiment.hypothesis
        assert said is not None  # callers look
        context = dict(said.raw)
        self.controls.around("hypothesis", "before", context, said.controls)
        state = self._check(said, stage, calls or self.calls, record)
        told = {"steady_state_met": state.met, "probes": state.probes}
        self.controls.around("hypothesis", "after", context, said.controls, told)
        return state

    def method(self) -> None:
        """Every activity, in order; those in the background beside what follows."""
        self.controls.around("method", "before", self.controls.raw, ())
        entries: list[dict[str, Any]] = []
        self._play("method", self.experiment.method, self.abort, entries)
        self.controls.around("method", "after", self.controls.raw, (), entries)

    def undo(self, done: Collection[str] = ()) -> list[str]:
        """The rollbacks that are not done yet, whatever happens to one of them; what failed, a sentence each."""
        if not self.experiment.rollbacks:
            return []
        self.controls.around("rollback", "before", self.controls.raw, ())
        entries: list[dict[str, Any]] = []
        failures = self._play("rollback", self.experiment.rollbacks, self.calm, entries, done)
        self.controls.around("rollback", "after", self.controls.raw, (), entries)
        return failures

    @property
    def acted(self) -> bool:
        """An action's intent is journaled: something may have changed."""
        return any(isinstance(row.fact, Prepared) for row in self.ledger.rows)

    def skip(self, stages: Collection[str], why: str) -> None:
        """Say of every step of these stages that has no result why it has none."""
        facts = [row.fact for row in self.ledger.rows]
        over = {fact.step for fact in facts if isinstance(fact, Done | Failed | NotNeeded)}
        sent = {fact.step for fact in facts if isinstance(fact, Prepared)} - over
        for step, stage, _ in self.experiment.steps():
            if stage in stages and step in sent:
                self.ledger.note(Failed, step=step, attempt=1, error=why, world="unknown", seen={"exception": [why]})
            elif stage in stages and step not in over:
                self.ledger.note(NotNeeded, step=step, attempt=1, why=why)

    def fault(self, state: str, **detail: Any) -> None:
        """Write on in the fault ledger."""
        self.ledger.note(FaultChanged, fault=FAULT, id=self.run, state=state, detail=detail)

    # Activities

    def _play(
        self, stage: Stage, activities: tuple[Activity, ...], abort: Abort, entries: list[dict[str, Any]],
        done: Collection[str] = (),
    ) -> list[str]:  # fmt: skip
        failures: list[str] = []
        threads: list[threading.Thread] = []

        def one(activity: Activity, step: str, calls: Calls) -> None:
            result = self.perform(activity, step, stage, calls, abort)
            entries.append(result.entry)
            if result.failure is not None:
                failures.append(f"{activity.name}: {result.failure}")

        def beside(activity: Activity, step: str) -> None:
            calls = self.calls.another()
            try:
                one(activity, step, calls)
            finally:
                calls.close()

        for number, activity in enumerate(activities, start=1):
            step = f"{stage}-{number}"
            if abort.reason is not None:
                break
            if step in done:
                continue
            if activity.background:
                threads.append(threading.Thread(target=beside, args=(activity, step), name=step))
                threads[-1].start()
            else:
                one(activity, step, self.calls)
        for thread in threads:
            while thread.is_alive():  # in short waits: a signal is handled between them
                thread.join(0.1)
        self._settle()
        return failures

    def perform(
        self, activity: Activity, step: str, stage: Stage, calls: Calls, abort: Abort, *, record: bool = True
    ) -> Result:
        """One activity with its pauses and controls: intent, call, verdict, result."""
        context = activity.raw
        if self.controls.any:
            context = dict(activity.raw)
            self.controls.around("activity", "before", context, activity.controls)
        if activity.before:
            self._pause(activity, activity.before, abort)
        if abort.reason is not None:
            return Result("failed")
        changes = activity.kind == "action" and not activity.is_dry
        if changes:
            self._intend(activity, step, stage)
            if abort.reason is not None:  # it cannot be written down: then it is not sent
                return Result("failed")
        elif not calls.at_once(activity):
            self._settle()
        start, began = datetime.now(UTC), time.monotonic()
        outcome = Outcome("succeeded") if activity.is_dry else calls.call(activity, step, abort)
        took = time.monotonic() - began
        look = {"value": plain(outcome.output), "start": start.isoformat(), "end": _now(), "duration": took}
        result = self._judged(activity, stage, outcome, calls, look)
        if context is not activity.raw:
            look |= {"activity": plain(context)} if context != activity.raw else {}
        if record:
            self._tell(step, activity, outcome, result, look)
        if activity.after and outcome.status != "cut":
            self._pause(activity, activity.after, abort)
        shown = result.entry = _state(activity, result, look)
        if self.controls.any:
            left = self.controls.around("activity", "after", context, activity.controls, dict(shown))
            if record and left != shown:
                self.more[step] = {key: left[key] for key in left if key != "activity" and left[key] != shown.get(key)}
        return result

    def _intend(self, activity: Activity, step: str, stage: Stage) -> None:
        with self._guard:
            try:
                first = stage != "rollback" and not self._acted
                if first:
                    self._acted = True
                    if self.experiment.rollbacks:
                        self.fault("intent", rollbacks=[each.name for each in self.experiment.rollbacks])
                        self.ledger.commit()
                        self.before_first_action()
                self.ledger.record(Prepared, step=step, attempt=1, params={"name": activity.name}, before=None)
            except (JournalError, PreflightFailed) as error:
                self._stuck(error)

    def _tell(self, step: str, activity: Activity, outcome: Outcome, result: Result, look: dict[str, Any]) -> None:
        """Note what became of it. It is durable before anything else is sent or waited for."""
        if result.status == "succeeded":
            self.ledger.note(Done, step=step, attempt=1, after=look)
        else:
            world = outcome.world if activity.kind == "action" else "untouched"
            why = result.failure or outcome.error or ""
            look["exception"] = list(outcome.trace) or [why]
            self.ledger.note(Failed, step=step, attempt=1, error=why, world=world, seen=look)
        if self._acted and not self._injected and activity.kind == "action":
            self._injected = True
            if self.experiment.rollbacks:
                self.fault("injected")

    def _settle(self) -> None:
        """Make durable what was noted."""
        try:
            self.ledger.commit()
        except JournalError as error:
            self._stuck(error)

    def _stuck(self, error: DrkitError) -> None:
        """Nothing is sent that cannot be written down, or undone. What was sent is rolled back all the same."""
        self.trouble = self.trouble or error
        self.abort.call(Reason(error.message, status="aborted"))

    def _judged(self, activity: Activity, stage: Stage, outcome: Outcome, calls: Calls, look: dict[str, Any]) -> Result:
        result = Result("succeeded" if outcome.status == "succeeded" else "failed", outcome.output)
        if outcome.status == "broken":
            self.abort.call(Reason(f"{activity.name}: {outcome.error}", status="aborted"))
        elif outcome.status == "exit":
            self.abort.call(Reason(f"interrupted by {activity.name}: {outcome.error}"))
        if outcome.status != "succeeded":
            result.failure = outcome.error
        if outcome.said:
            self.warn(f"{activity.name} says: {outcome.said.rstrip()}")
        if stage in ("before", "after", "during"):
            result.met = result.status == "succeeded" and self._within(activity, outcome.output, calls)
            look["tolerance_met"] = result.met
        elif stage == "rollback" and result.failure is None:
            result.failure = _why_not_undone(activity, outcome.output)
            if result.failure is not None:
                result.status = "failed"
        return result

    def _check(self, said: Hypothesis, stage: Stage, calls: Calls, record: bool) -> State:
        entries: list[dict[str, Any]] = []
        for number, probe in enumerate(said.probes, start=1):
            result = self.perform(probe, f"{stage}-{number}", stage, calls, self.abort, record=record)
            entries.append(result.entry)
            if result.status == "failed":
                return State(False, entries, failed=True, why=f"{probe.name}: {result.failure}")
            if not result.met:
                return State(
                    False, entries, why=f"{probe.name}: {plain(result.output)} is not within {probe.tolerance}"
                )
        return State(True, entries)

    def _within(self, activity: Activity, output: Any, calls: Calls) -> bool:
        if activity.is_dry:
            return True
        tolerance = activity.tolerance
        if isinstance(tolerance, str):
            tolerance = self.values.fill(tolerance)
        return bool(
            within(tolerance, output, fill=self.values.fill, ask=lambda value: self._asked(activity, value, calls))
        )

    def _asked(self, activity: Activity, value: Any, calls: Calls) -> bool:
        from dataclasses import replace

        from drkit.chaos.toolkit.model import Python

        asked = activity.tolerance_probe
        assert asked is not None  # the file was checked
        if isinstance(asked.provider, Python):
            arguments = {**asked.provider.arguments, "value": value}
            asked = replace(asked, provider=replace(asked.provider, arguments=arguments))
        outcome = calls.call(asked, "tolerance", self.abort)
        return outcome.status == "succeeded" and bool(outcome.output)

    def _pause(self, activity: Activity, said: Any, abort: Abort) -> None:
        seconds = self.values.fill(said)
        if activity.is_dry or activity.dry == "pause":
            return
        self._settle()
        abort.wait(float(seconds))


def _why_not_undone(activity: Activity, output: Any) -> str | None:
    """A rollback that could be carried out may still have failed; Chaos Toolkit does not look."""
    if not isinstance(output, dict) or not isinstance(output.get("status"), int):
        return None
    status = output["status"]
    if isinstance(activity.provider, Process):
        return None if status == 0 else f"exit code {status}: {str(output.get('stderr', '')).strip()[-200:]}"
    return f"HTTP status {status}" if status >= 400 and "headers" in output else None


def _state(activity: Activity, result: Result, look: dict[str, Any]) -> dict[str, Any]:
    """What a control is shown of an activity that has ended."""
    shown = {key: value for key, value in look.items() if key not in ("value", "activity")}
    return {"activity": activity.raw, "output": look["value"], "status": result.status, **shown}


def _now() -> str:
    return datetime.now(UTC).isoformat()
