"""Random plans, random workers, random people, random crashes: what must hold in every history of the fold."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from engine_fakes import DANA, LEE, LOOK, Folding, approve, gate, order, step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drkit.engine.fold import Run
from drkit.engine.refusals import why_not
from drkit.engine.state import BUSY, Phase, Status
from drkit.model import events as e
from drkit.model.plan import Join, PlanScope, PlanStep
from drkit.model.runbook import Retry
from drkit.model.values import Json

USES = ["fake.put", "fake.put", "fake.put-once", "fake.put-ask", "fake.final", "fake.fence", "fake.value", "gate"]
WORK = ("prepare", "observe", "apply", "recover", "ask", "copy", "decide")


def random_plan(r: random.Random) -> list[PlanStep]:
    steps: list[PlanStep] = []
    if r.random() < 0.4:
        steps += scoped(r)
    for n in range(r.randint(1, 9)):
        needs = [s.id for s in steps if r.random() < 0.3]
        uses = r.choice(USES)
        if uses == "gate":
            steps.append(gate(f"s{n}", *needs, approvals=r.choice([1, 2])))
            continue
        more: dict[str, Any] = {"on_failure": r.choice(["pause"] * 4 + ["skip", "retry", "abort", "rollback"])}
        if r.random() < 0.2:
            more["retry"] = Retry(times=2, backoff=1.0)
        steps.append(step(f"s{n}", *needs, uses=uses, optional=r.random() < 0.15, **more))
    return steps


def scoped(r: random.Random) -> list[PlanStep]:
    """A list that only a step knows, and a nested runbook with an approval in it, perhaps under a condition."""
    body = step("all/*", uses="fake.put", params={"name": "${ each }"}, scope="all/*", optional=r.random() < 0.2)
    over = Join(of="items", over="${ steps.find.names }", at_once=r.choice([None, 1, 2]), body=(body,))
    when = [PlanStep(id="book/_when", number=1, uses="x", kind="when", needs=("all",), when="1 == 1")]
    first = ["book/_when"] if r.random() < 0.5 else ["all"]
    inside = [gate("book/go", *first, escalate=[{"after": 5.0, "role": "dba"}]), step("book/put", "book/go")]
    return [
        step("find", uses="fake.value"),
        PlanStep(id="all", number=1, uses="x", kind="join", needs=("find",), join=over),
        *(when if first != ["all"] else []),
        *inside,
        PlanStep(id="book", number=1, uses="x", kind="join", needs=("book/put",), join=Join(of="runbook")),
    ]


class History:
    """A fold, workers that do what it says sooner or later, and a record to check."""

    def __init__(self, r: random.Random) -> None:
        self.r = r
        self.f = Folding(
            *random_plan(r), begin=False, policy=r.choice([None, {"name": "n", "*": "approve"}]),
            scopes={"all/*": PlanScope(item=True)}, deadline_s=r.choice([None, None, 5.0]),
        )  # fmt: skip
        self.names: list[Json] = [f"e{n}" for n in range(r.randint(0, 3))]
        self.work: list[e.Command] = []
        self.timers: dict[str, float] = {}
        self.recorded: dict[str, Any] = {}
        self.decided: list[tuple[e.Command, ...]] = [()]
        self.take(e.Began(by=DANA))

    def take(self, fact: e.Fact) -> None:
        if isinstance(fact, e.Prepared) and self.f.state.steps[fact.step].phase is Phase.PREPARING:
            self.recorded[fact.step] = fact.params
        ended_before = {s.id for s in self.f.state.steps.values() if s.phase is Phase.ENDED}
        commands = self.f.commands(fact)
        self.decided.append(commands)
        for command in commands:
            self.check(command, ended_before)
            if command.verb == "timer":
                self.timers[str(command.args["timer"])] = float(str(command.args["at_t"]))
            elif command.verb == "cancel":
                self.work = [w for w in self.work if w.step != command.step]
            else:
                self.work.append(command)
        self.check_counts()

    def check(self, command: e.Command, ended_before: set[str]) -> None:
        if command.verb not in WORK:
            return
        if command.step is None:
            assert command.verb == "copy" and self.f.state.rolling_back, "only a rollback is copied as a whole"
            return
        state = self.f.state.steps[command.step]
        assert command.step not in ended_before, f"{command.verb} of a step that had ended"
        doing = [w for w in self.work if w.step == command.step and w.verb in WORK and w.verb != "copy"]
        assert not doing, f"{command.verb} while {doing[0].verb} is under way"
        if state.undoes is None:
            for need in state.plan.needs:
                assert self.f.state.steps[need].phase is Phase.ENDED, f"{command.verb} before {need} has ended"
        if state.grown:
            assert command.step.rpartition("/")[2] in self.names, "for an entry that nobody saw"
        self.check_at_once()
        if command.verb == "apply":
            assert command.args["params"] == self.recorded[command.step], "not what its intent says"

    def check_at_once(self) -> None:
        """Entries that have begun and have not ended are never more than the list allows."""
        whole = self.f.state.steps.get("all")
        limit = None if whole is None or whole.plan.join is None else whole.plan.join.at_once
        entries = [s for s in self.f.state.steps.values() if s.grown and s.undoes is None]
        begun = [s for s in entries if s.started_t is not None and s.phase is not Phase.ENDED]
        assert limit is None or len(begun) <= limit, f"{len(begun)} at once"

    def check_counts(self) -> None:
        steps = self.f.state.steps.values()
        announcing = self.f.state.announcing is not None
        assert self.f.state.busy == sum(s.phase in BUSY for s in steps) + announcing
        assert not announcing or all(s.token == "" for s in steps if s.undoes is not None), "taken back unannounced"
        assert self.f.state.unsettled == sum(s.phase is not Phase.ENDED for s in steps if s.undoes is None) or (
            self.f.state.rolling_back
        )  # fmt: skip
        for s in steps:
            if s.plan.fences and s.phase is Phase.ENDED and s.ended is Status.DONE:
                assert s.after is not None or len(s.overridden) == 2
            if s.plan.fences:
                assert s.ended is not Status.SKIPPED or s.reason == "already so"

    def report(self, command: e.Command, *, well: bool = False) -> None:
        """What a worker says in the end."""
        r, step, attempt = self.r, command.step or "", command.args.get("attempt", 1)
        bad = not well and r.random() < 0.35
        fact: e.Fact
        if command.verb == "finish":
            fact = e.Finished(outcome=str(command.args["outcome"]))
        elif command.verb == "answer":
            args: dict[str, Any] = {k: v for k, v in command.args.items() if k != "attempt"}
            fact = e.Answered(step=step, **args)
        elif command.verb == "copy":
            fact = e.Copied(upto=int(str(command.args["upto"])), error="down" if bad else None)
        elif command.verb == "ask":
            self.decided.append(tuple(self.ask(step)))
            return
        elif bad:
            fact = r.choice(self.bad_ends(command))(step, attempt)
        elif command.verb == "prepare":
            undo = {"uses": "fake.put", "params": {"name": step}, "repeat": "safe"}
            before = LOOK
            fact = e.Prepared(step=step, attempt=attempt, params={"name": step}, before=before, undo=undo)  # type: ignore[arg-type]
        elif command.verb == "decide" and not well and r.random() < 0.4:
            fact = e.NotNeeded(step=step, attempt=attempt, why="when: it is not")  # type: ignore[arg-type]
        else:
            look = LOOK if step != "find" else {**LOOK, "value": {"names": self.names}}
            fact = e.Done(step=step, attempt=attempt, after=look)  # type: ignore[arg-type]
        self.take(fact)

    def ask(self, step: str) -> list[e.Command]:
        f = self.f
        from drkit.engine import gates

        ask = f.state.steps[step].ask
        assert ask is not None
        shown = next(c for c in reversed([c for d in self.decided for c in d]) if c.verb == "ask" and c.step == step)
        what = shown.args["shown"]
        assert isinstance(what, dict)
        hash = gates.shown_hash(f.plan.hash, step, ask.purpose, what)
        before = len(self.decided)
        self.take(e.Asked(step=step, shown=what, shown_hash=hash, purpose=ask.purpose))
        return list(self.decided.pop(before))

    def bad_ends(self, command: e.Command) -> Sequence[Callable[[str, Any], e.Fact]]:
        def failed(step: str, attempt: Any) -> e.Fact:
            world = "untouched" if command.verb in ("prepare", "observe") else self.r.choice(["changed", "unknown"])
            return e.Failed(step=step, attempt=attempt, error="broke", world=world)

        def uncertain(step: str, attempt: Any) -> e.Fact:
            return e.Uncertain(step=step, attempt=attempt, reason="no answer")

        def absent(step: str, attempt: Any) -> e.Fact:
            return e.NotDone(step=step, attempt=attempt)

        def already(step: str, attempt: Any) -> e.Fact:
            return e.AlreadySo(step=step, params={}, seen=LOOK)

        fence = self.f.state.steps[command.step or ""].plan.fences
        ends: dict[str, list[Callable[[str, Any], e.Fact]]] = {
            "prepare": [failed] if fence else [failed, already],
            "observe": [failed],
            "decide": [failed],
            "apply": [failed, uncertain],
            "recover": [failed, uncertain, absent],
        }
        return ends[command.verb]

    def crash(self) -> None:
        """Nobody is at work any more; a new runner takes over."""
        self.work.clear()
        self.timers.clear()
        self.take(e.Resumed(by=DANA, host="there", wall=2e6))

    def fire(self) -> None:
        timer = self.r.choice(list(self.timers))
        self.f.t = max(self.f.t, self.timers.pop(timer))
        self.take(e.Fired(timer=timer))

    def say(self) -> None:
        """Anybody says anything; what is refused must change nothing."""
        r, step = self.r, self.r.choice(list(self.f.state.steps))
        by = r.choice([DANA, LEE])
        if self.f.state.steps[step].phase is Phase.ASKED and r.random() < 0.8:
            fact: e.Fact = approve(self.f.state, step, by, r.choice(["approve", "approve", "reject"]))
        else:
            verb = r.choice(["pause", "resume", "retry", "skip", "done", "resolve", "override-fence", "until", "from"]
                            + ["abort"] * (r.random() < 0.1))  # fmt: skip
            fact = order(verb, step, by, as_=r.choice(["done", "not-done"]), loss_s=3.0, rollback=r.random() < 0.5)
        if why_not(fact, self.f.state) is None:
            self.take(fact)
        else:
            assert self.f.run.take(fact) == ()
            self.f.run.state.seq -= 1  # a refusal is journaled as another fact

    def settle(self) -> None:
        """From here on everything works and somebody decides what is open: the run must come to its end."""
        for _ in range(600):
            state = self.f.state
            if state.outcome is not None:
                return
            if self.work:
                self.report(self.work.pop(0), well=True)
            elif self.timers and any(s.phase is Phase.BACKOFF for s in state.steps.values()):
                self.fire()
            elif state.paused is not None or state.until is not None:
                self.take(order("resume"))
            else:
                self.decide()
        raise AssertionError(f"no end: {self.f.state.phase} {self.f.state.blocks()}")

    def decide(self) -> None:
        state = self.f.state
        for s in state.steps.values():
            if s.phase is Phase.ASKED and s.ask is not None:
                who = next(p for p in (DANA, LEE) if p["name"] not in [a["name"] for a in s.ask.approved_by])
                self.take(approve(state, s.id, who))
                return
            if s.phase is Phase.BLOCKED and (s.undoes is not None or state.aborting is None):
                if s.plan.kind == "join":  # its list was never seen
                    self.take(order("skip", s.id))
                elif s.ended is Status.UNCERTAIN:
                    self.take(order("resolve", s.id, as_="not-done"))
                else:
                    self.take(order("retry", s.id))
                return
        raise AssertionError(f"nothing to decide and nothing happens: {state.phase}")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_whatever_happens_the_rules_hold_and_the_run_can_be_brought_to_its_end(seed: int) -> None:
    r = random.Random(seed)
    history = History(r)
    for _ in range(r.randint(0, 60)):
        if history.f.state.outcome is not None:
            break
        chance = r.random()
        if chance < 0.62 and history.work:
            history.report(history.work.pop(r.randrange(len(history.work))))
        elif chance < 0.72 and history.timers:
            history.fire()
        elif chance < 0.78:
            history.crash()
        else:
            history.say()
    history.settle()
    again = Run(history.f.plan)
    assert [again.take(fact) for fact in history.f.facts][1:] == history.decided[1:]
