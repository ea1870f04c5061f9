"""Carry an experiment out: lock, dead-man, journal, orders and signals around its course; and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.chaos.toolkit import lease as dead_man
from drkit.chaos.toolkit import shape
from drkit.chaos.toolkit.abort import Abort, Reason, signals_to
from drkit.chaos.toolkit.calling import Calls
from drkit.chaos.toolkit.controls import Controls
from drkit.chaos.toolkit.course import Course
from drkit.chaos.toolkit.desk import Desk
from drkit.chaos.toolkit.ending import Ended, write_journal
from drkit.chaos.toolkit.ledger import Ledger
from drkit.chaos.toolkit.locks import Hold, released
from drkit.chaos.toolkit.model import Experiment
from drkit.chaos.toolkit.opening import Options
from drkit.chaos.toolkit.redaction import Redaction
from drkit.chaos.toolkit.rescue import roll_back
from drkit.chaos.toolkit.values import Values
from drkit.errors import FileError, JournalError, Mistake, PreflightFailed
from drkit.model.events import Began, Finished, LeaseChanged, Noted, Opened, Row

if TYPE_CHECKING:
    from drkit.engine.runs import RunFolder


@dataclass
class Show:
    """Where a run says what happens."""

    row: Callable[[Row], None] = lambda row: None
    warn: Callable[[str], None] = lambda text: None


def carry_out(
    folder: RunFolder, experiment: Experiment, values: Values, options: Options, opened: dict[str, Any], hold: Hold,
    *, show: Show | None = None, also: Path | None = None,
) -> Ended:  # fmt: skip
    """Run it to its end; the journal is written, nothing is left at work. The hold is released.

    DrkitError if it could not go on: its journal cannot be written, its lease not be armed. What was done until then is
    rolled back.
    """
    from drkit.engine.journal import SqliteStore

    show = show or Show()
    abort = Abort()
    calm = Abort()
    lease = _dead_man(folder, experiment, values, options, hold)
    with ExitStack() as stack:
        stack.callback(abort.close)
        stack.callback(calm.close)
        stack.callback(_give_back, hold, show)
        if lease is not None:
            stack.push(lease.leave)
        stack.enter_context(signals_to(abort))
        store = stack.enter_context(SqliteStore(folder.journal))
        folder.claim()
        ledger = Ledger(store, redaction=Redaction(values.secrets))
        ledger.tell = show.row
        ledger.note(Opened, **opened)
        ledger.note(LeaseChanged, state="held", token=hold.token, lock_id=hold.lock_id, detail=hold.where)
        ledger.record(Began, by=opened["by"])
        calls = Calls(folder.id, values, options.deadline_s)
        stack.callback(calls.close)
        desk = Desk(folder, ledger, abort)
        desk.open()
        stack.callback(desk.close)
        hold.keep(abort)
        warn = _warner(ledger, show)
        controls = Controls(experiment, values, calls, abort, calm, warn, ledger.redaction)
        course = Course(experiment, folder.id, values, ledger, abort, calm, calls, controls, warn=warn)
        course.before_first_action = lambda: _arm(lease, course, options)
        ended = _conduct(course, options)
        return _end(folder, course, ended, also)


def _dead_man(
    folder: RunFolder, experiment: Experiment, values: Values, options: Options, hold: Hold
) -> dead_man.Lease | None:
    """None: nothing is done that could be undone, or it must not be."""
    if not experiment.actions or not experiment.rollbacks or options.rollbacks == "never":
        return None
    known = deepcopy(values)  # controls may change ours

    def rescue(why: str) -> None:
        hold.inherit()
        failures = roll_back(folder, experiment, known, by="lease", why=why, deadline_s=options.deadline_s)
        hold.release()
        for failure in failures:
            print(f"rollback failed: {failure}")

    return dead_man.prepare(rescue, folder.log, hold.descriptors)


def _arm(lease: dead_man.Lease | None, course: Course, options: Options) -> None:
    if lease is None:
        return
    lease.arm(options.term_s)
    course.fault("armed", pid=lease.pid, term_s=options.term_s, how="detached process")


def _conduct(course: Course, options: Options) -> Ended:
    """The parts in their order, whatever becomes of them."""
    ended = Ended()
    experiment, controls, abort = course.experiment, course.controls, course.abort
    checks = bool(experiment.probes) and options.hypothesis != "skip"
    controls.begin()
    controls.around("experiment", "before", controls.raw, experiment.controls)
    if checks and options.hypothesis in ("default", "before-method-only", "continuously") and abort.reason is None:
        state = course.hypothesis("before")
        if abort.reason is None and not state.met:
            ended.gate, ended.why = False, state.why
            ended.status = "failed" if state.failed else "completed"
    if ended.gate and abort.reason is None:
        watching = _Watching(course, options, ended) if checks else None
        if watching is not None and options.hypothesis in ("during-method-only", "continuously"):
            watching.start()
        course.method()
        if watching is not None:
            watching.stop()
        if checks and options.hypothesis in ("default", "after-method-only", "continuously") and abort.reason is None:
            state = course.hypothesis("after")
            if abort.reason is None and not state.met:
                ended.deviated, ended.why = True, state.why
                ended.status = "failed" if state.failed else "completed"
    if abort.reason is not None:
        ended.status, ended.why = abort.reason.status, abort.reason.why
        ended.deviated = ended.deviated or abort.reason.status == "failed"
    ended.acted = course.acted
    course.skip(("before", "method", "after"), ended.why or "not asked for")
    _roll_back(course, ended, options)
    return ended


def _roll_back(course: Course, ended: Ended, options: Options) -> None:
    reason = course.abort.reason
    wanted = {
        "always": True, "never": False, "deviated": ended.deviated,
        "default": ended.status not in ("failed", "interrupted"),
    }[options.rollbacks]  # fmt: skip
    if reason is not None and not reason.rollbacks:
        wanted = False
    if isinstance(course.trouble, PreflightFailed) and not ended.acted:
        wanted = False  # the lease could not be armed, and nothing was sent
    if not wanted:
        course.skip(("rollback",), f"not wanted (--rollback-strategy {options.rollbacks})")
        return
    ended.failures = course.undo()
    ended.rolled_back = bool(course.experiment.rollbacks) and not ended.failures
    if course.experiment.rollbacks and ended.acted:
        course.fault("failed" if ended.failures else "healed", failures=ended.failures)
    if ended.failures:
        ended.status, ended.why = "failed", "; ".join([*filter(None, [ended.why]), *ended.failures])


def _end(folder: RunFolder, course: Course, ended: Ended, also: Path | None) -> Ended:
    controls, ledger = course.controls, course.ledger
    trouble, redaction = course.trouble, ledger.redaction
    ended.why, ended.failures = redaction.clean(ended.why), redaction.clean(ended.failures)
    try:
        ledger.record(Finished, outcome=ended.outcome, why=ended.why or ("deviated" if ended.deviated else None))
    except JournalError as error:
        trouble = trouble or error
    told = shape.journal(
        ledger.rows, course.experiment, status=ended.status, deviated=ended.deviated, during=ended.during,
        more=course.more, redaction=redaction,
    )  # fmt: skip
    told = controls.around("experiment", "after", controls.raw, course.experiment.controls, told)
    controls.end()
    try:
        write_journal(folder, redaction.clean(told), also)
        folder.end({"exit": int(ended.exit_code), "outcome": ended.outcome, "why": ended.why or None})
    except OSError as error:
        trouble = trouble or JournalError(
            f"{error.filename} cannot be written: {error.strerror}", state="The experiment is over.",
            hint=f"df -h {folder.path}",
        )  # fmt: skip
    if trouble is not None:
        raise trouble
    return ended


class _Watching:
    """The hypothesis, again and again while the method runs, with a worker of its own."""

    def __init__(self, course: Course, options: Options, ended: Ended) -> None:
        self._course, self._options, self._ended = course, options, ended
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hypothesis")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """The method is over."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        course, calls = self._course, self._course.calls.another()
        try:
            while not self._over.is_set() and course.abort.reason is None:
                state = course.hypothesis("during", calls, record=False)
                if course.abort.reason is not None:
                    return
                self._ended.during.append({"steady_state_met": state.met, "probes": state.probes})
                if not state.met:
                    course.ledger.note(Noted, text=f"steady state not met: {state.why}", by={"name": "hypothesis"})
                    if self._options.fail_fast:
                        course.abort.call(Reason(f"steady state not met: {state.why}", status="failed"))
                        return
                self._over.wait(self._options.frequency_s)
        finally:
            calls.close()


def titled(experiment: Experiment, values: Values) -> Experiment:
    """The experiment with its title filled in, without secrets."""
    title = str(Redaction(values.secrets).clean(values.fill(experiment.title)))
    return experiment if title == experiment.title else experiment.titled(title)


def check_controls(experiment: Experiment, values: Values) -> None:
    """Ask each control whether it is valid. FileError if one says no. Imports them: only before a run."""
    if not experiment.all_controls:
        return
    calls = Calls("check", values)
    try:
        wrong = Controls(experiment, values, calls, Abort(), Abort(), lambda text: None, Redaction()).why_not_valid()
    finally:
        calls.close()
    if wrong:
        raise FileError([Mistake(experiment.path, 1, 1, f"a control refuses: {why}") for why in wrong])


def _warner(ledger: Ledger, show: Show) -> Callable[[str], None]:
    def warn(text: str) -> None:
        ledger.note(Noted, text=text, by={"name": "experiment"})  # without secrets, and said as it is noted
        fact = ledger.rows[-1].fact
        show.warn(fact.text if isinstance(fact, Noted) else "")

    return warn


def _give_back(hold: Hold, show: Show) -> None:
    why = released(hold)
    if why is not None:
        show.warn(f"the lock was not given back: {why}")
