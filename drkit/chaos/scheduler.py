"""Start what is due, each occurrence at most once, whenever this process is killed.

An occurrence is decided by one durable write that also names the run under which it will start. What comes after it
may be repeated by anybody: asking a runner to begin a run that has begun changes nothing, because a run has one journal
and one place in the state store. So a scheduler that finds a decision whose run it cannot see begins that run, and
never a second one.

Every occurrence is decided once. One that nobody was there to decide within `start_within` is *missed*; with
`catch_up: once` the last of the missed ones starts after all, judged by the instant at which it really does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from drkit.chaos import choose
from drkit.chaos.calendar import Facts, Timetable, occurrences, verdict
from drkit.chaos.ledger import Decision, Ledger, Record, seconds
from drkit.errors import DrkitError
from drkit.model.values import digest, show_duration, utc

BEGINS_WITHIN_S: Final = 60.0
"""A runner that has not written its first event by then is asked again."""
ATTEMPTS: Final = 3


class Starter(Protocol):
    """How a run is started. Everything but `reserve` may be repeated for one run."""

    def reserve(self) -> str:
        """A run id that nobody uses."""

    def start(self, table: Timetable, decision: Decision) -> None:
        """Ask a runner to begin the decision's run. DrkitError: it cannot be started, and no runner was asked."""

    def begun(self, run: str) -> bool:
        """This run has begun, here or elsewhere. JournalError: that cannot be told now."""

    def failure(self, run: str) -> DrkitError | None:
        """Why its runner could not begin it; None: it could, or has not said so yet."""


@dataclass
class Scheduler:
    """Decides for one environment. One at a time: `held` raises Locked when that is no longer us.

    `tick` raises JournalError when the state store does not answer: nothing was decided then, and the next one tries
    again. Locked: another scheduler decides.
    """

    ledger: Ledger
    starter: Starter
    look: Callable[[], Facts]
    """What is the case now; `last` is filled in from the ledger."""
    held: Callable[[], None]
    tell: Callable[[Timetable, Decision], None]
    """Called for every outcome, when it is durable."""
    records: dict[str, tuple[Record, str]] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    """When this process last asked for each run."""

    def tick(self, tables: Sequence[Timetable], now: float) -> None:
        """Decide and start everything that is due; look after what was started."""
        self.held()
        for table in tables:
            self._open(table, now)
        for table in tables:
            self._look_after(table, tables, now)
        for table in sorted(tables, key=lambda each: (self._oldest_due(each, now), each.name)):
            if self._record(table).pending is None:
                self._decide(table, tables, now)

    def waiting(self, tables: Sequence[Timetable]) -> bool:
        """Something was allowed and is not yet seen to have begun."""
        return any(table.name not in self.records or self._record(table).pending for table in tables)

    def _open(self, table: Timetable, now: float) -> None:
        """Read a scenario's record, or begin it: what was due before it was first seen does not count."""
        if table.name in self.records:
            return
        found = self.ledger.read(table.name)
        if found is None:
            since = utc(now - table.schedule.start_within)
            record = Record(scenario=table.name, since=since, upto=since)
            found = record, self.ledger.write(record, None)
        self.records[table.name] = found

    def _record(self, table: Timetable) -> Record:
        return self.records[table.name][0]

    def _write(self, record: Record) -> None:
        _, version = self.records.pop(record.scenario)  # if the answer is lost it must be read again
        self.records[record.scenario] = record, self.ledger.write(record, version)

    def _oldest_due(self, table: Timetable, now: float) -> float:
        return next(occurrences(table, seconds(self._record(table).upto), now), now)

    def _decide(self, table: Timetable, tables: Sequence[Timetable], now: float) -> None:
        record = self._record(table)
        due = list(occurrences(table, seconds(record.upto), now))
        if not due:
            return
        late = now - due[-1] > table.schedule.start_within
        caught_up = late and table.schedule.catch_up == "once"
        missed = due if late and not caught_up else due[:-1]
        if missed:
            decision = Decision(at=utc(missed[-1]), outcome="missed", why=(_missed(missed, now),), decided=utc(now))
            self._write(record.add(decision, missed[-1]))
            self.tell(table, decision)
        if len(missed) < len(due):
            self._judge(table, tables, due[-1], now, caught_up)

    def _judge(self, table: Timetable, tables: Sequence[Timetable], at: float, now: float, caught_up: bool) -> None:
        facts = self._facts(tables)
        start = now if caught_up else at
        found = verdict(table, at, facts, tables, start=start)
        late = (f"caught up {show_duration(now - at)} late",) if caught_up else ()
        decision = Decision(
            at=utc(at), outcome="allowed" if found.allowed else "refused", why=(*late, *found.why), decided=utc(now),
            seed=digest([table.calendar.seed, utc(at), table.name]), drawn=dict(found.drawn),
            inventory=choose.snapshot(facts.inventory) if found.drawn else None,
        )  # fmt: skip
        if found.allowed:
            self.held()
            decision = decision.model_copy(
                update={"run": self.starter.reserve(), "attempts": 1, "start": utc(start)}
            )  # fmt: skip
        self._write(self._record(table).add(decision, at))  # from here on the occurrence is decided, once
        self.tell(table, decision)
        if found.allowed:
            self._start(table, decision, tables, now)

    def _facts(self, tables: Sequence[Timetable], *, again: Timetable | None = None) -> Facts:
        """What is the case, with what this ledger knows: last starts, and the run that is about to begin.

        `again`: as it was before this one was allowed.
        """
        facts = self.look()
        last: dict[str, float] = {}
        begins: str | None = None
        for table in tables:
            record = self._record(table)
            start = record.started_before if table == again else record.last_start
            if start is not None:
                last[table.name] = seconds(start)
            if record.pending is not None and table != again:
                begins = f"{table.name} ({record.pending.run}) is about to begin"
        return replace(facts, last=last, drill=facts.drill or begins)

    def _start(self, table: Timetable, decision: Decision, tables: Sequence[Timetable], now: float) -> None:
        assert decision.run is not None
        self.held()  # whoever froze since the decision may have lost its place
        self.asked[decision.run] = now
        try:
            self.starter.start(table, decision)
        except DrkitError as error:
            if not self.starter.begun(decision.run):
                self._fail(table, decision, error.message)
                return
        self._look_after(table, tables, now)

    def _look_after(self, table: Timetable, tables: Sequence[Timetable], now: float) -> None:
        """See whether what was allowed has begun; ask again where it has not, and nobody is about to begin it."""
        decision = self._record(table).pending
        if decision is None or decision.run is None:
            return
        if self.starter.begun(decision.run):
            self._settle(table, decision.model_copy(update={"outcome": "started"}))
            return
        failure = self.starter.failure(decision.run)
        if failure is not None:
            self._fail(table, decision, failure.message)
        elif now - self.asked.get(decision.run, now - BEGINS_WITHIN_S) >= BEGINS_WITHIN_S:
            self._ask_again(table, decision, tables, now)

    def _ask_again(self, table: Timetable, decision: Decision, tables: Sequence[Timetable], now: float) -> None:
        """Begin what was allowed and did not begin, if it still may: the same run, however often it is asked for."""
        at = seconds(decision.at)
        late = now - at > table.schedule.start_within
        if decision.attempts >= ATTEMPTS:
            self._fail(table, decision, f"its runner was asked {decision.attempts} times and never began")
            return
        if late and table.schedule.catch_up == "skip":
            why = f"the scheduler ended before the start, and {show_duration(now - at)} have passed"
            self._settle(table, decision.model_copy(update={"outcome": "missed", "why": (*decision.why, why)}))
            return
        start = now if late else at
        found = verdict(table, at, self._facts(tables, again=table), tables, start=start)
        if found.allowed:
            more = {"attempts": decision.attempts + 1, "start": utc(start)}
            again = decision.model_copy(update=more)
            self._write(self._record(table).settle(again, last_start=again.start))
            self._start(table, again, tables, now)
        elif now - seconds(decision.decided) >= BEGINS_WITHIN_S:  # before that a runner may be about to begin it
            self._settle(table, decision.model_copy(update={"outcome": "refused", "why": found.why}))

    def _fail(self, table: Timetable, decision: Decision, why: str) -> None:
        self._settle(table, decision.model_copy(update={"outcome": "failed", "why": (*decision.why, why)}))

    def _settle(self, table: Timetable, decision: Decision) -> None:
        record = self._record(table)
        started = decision.outcome == "started"
        settled = decision if started else decision.model_copy(update={"start": None})
        self._write(record.settle(settled, last_start=decision.start if started else record.started_before))
        self.tell(table, settled)


def _missed(missed: Sequence[float], now: float) -> str:
    if len(missed) == 1:
        return f"nobody was there to start it: decided {show_duration(now - missed[0])} late"
    return f"{len(missed)} occurrences from {utc(missed[0])} to {utc(missed[-1])}: nobody was there to start them"
