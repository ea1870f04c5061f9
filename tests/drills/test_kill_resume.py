"""The orchestrator is killed with -9 at the worst moments, and `drkit resume` finishes the job without repeating any.

Nothing in drkit helps these tests to hit their moments: they read the journal as anybody may, and kill.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from worlds import TARGET, Drill, Event, Seat, World, until, world

#: What must happen once however often a run is killed: the step's action, and the call that takes effect in the cloud.
ONCE = {
    "aws.network.open": "CreateStack",
    "aws.ec2.restore-volume": "CreateVolume",
    "aws.elasticache.create": "CreateReplicationGroup",
    "aws.kms.grant": "CreateGrant",
    "aws.cloudwatch.arm": "Publish",
}
SHIFT = "aws.arc.routing-control"


def before_the_fence(drill: Drill) -> None:
    """The region is known to be lost, and the fence was not begun."""
    first = drill.step(lambda step: step["part"] == "runbook")
    drill.reach(lambda event: is_fact(event, "step.done", first))
    drill.kill()
    assert not drill.facts("step.intent", drill.step(lambda step: step["fences"]))


def in_the_promotion(drill: Drill) -> None:
    """Promote was sent and nobody has seen what came of it."""
    sent(drill, lambda step: step["promotes"])


def in_the_shift(drill: Drill) -> None:
    """The routing controls are being changed."""
    sent(drill, lambda step: step["uses"] == SHIFT)


def twice_in_the_promotion(drill: Drill) -> None:
    """As above; and the runner that resumes is killed as soon as it has begun to look."""
    in_the_promotion(drill)
    killed = drill.events()[-1]["seq"]
    resume(drill)
    drill.reach(lambda event: event["seq"] > killed and is_fact(event, "run.resumed"))
    drill.kill()


def in_the_report(drill: Drill) -> None:
    """Everything is done, and the report is half written."""
    drill.reach(lambda event: is_fact(event, "run.finished"))
    reports = drill.seat.world.project / "reports" / drill.id
    until(reports.exists, within_s=60)
    drill.kill()
    assert not (drill.folder / "exit.json").exists(), "the report was complete before we came"


Moment = Callable[[Drill], None]
MOMENTS: list[Moment] = [
    before_the_fence, in_the_promotion, in_the_shift, twice_in_the_promotion, in_the_report,
]  # fmt: skip


def sent(drill: Drill, which: Callable[[dict[str, Any]], bool]) -> None:
    """Kill between a step's intent and its result."""
    step = drill.step(which)
    drill.reach(lambda event: any(c["verb"] == "apply" and c["step"] == step for c in event["commands"]))
    drill.kill()
    assert drill.facts("step.intent", step) and not drill.facts("step.done", step), "we came too late"


def is_fact(event: Event, kind: str, step: str | None = None) -> bool:
    return bool(event["fact"]["kind"] == kind and step in (None, event["fact"].get("step")))


def resume(drill: Drill) -> None:
    """As an operator does; returns when the run goes on."""
    drill.seat.expect(0, "resume", drill.id, "--detach")


def finish(drill: Drill, *words: str) -> None:
    """Resume and watch to the end. Exit 4 would do too: how long the dead lay unnoticed counts as recovery time."""
    done = drill.seat.drkit("resume", drill.id, *words)
    assert done.returncode in (0, 4), f"exit {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr


def check(drill: Drill) -> None:
    """The service is up over there, the run is done, and nothing was done twice."""
    made = drill.seat.world
    assert made.order() == TARGET
    events = drill.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert drill.facts("run.finished")[0]["outcome"] == "done"
    assert drill.report["outcome"] == "done"
    assert drill.report["evidence"]["verified"]
    check_effects(made, drill, check_no_step_was_repeated(events))


def check_no_step_was_repeated(events: list[Event]) -> Counter[str]:
    """By the journal: one intent a step, one result, nothing sent after it; sent again only if it was seen absent.

    How often each step may have been sent: once, and once more whenever its effect was seen absent.
    """
    intents, applied, absent = Counter[str](), Counter[str](), Counter[str]()
    done: set[str] = set()
    for event in events:
        fact = event["fact"]
        if fact["kind"] == "step.intent":
            intents[fact["step"]] += 1
        elif fact["kind"] == "step.absent":
            absent[fact["step"]] += 1
        elif fact["kind"] in ("step.done", "step.already"):
            assert fact["step"] not in done, f"{fact['step']} was done twice"
            done.add(fact["step"])
        for command in event["commands"]:
            if command["verb"] in ("apply", "prepare", "recover"):
                assert command["step"] not in done, f"{command['step']} was begun again although it was done"
            if command["verb"] == "apply":
                applied[command["step"]] += 1
    assert set(intents.values()) == {1}, "one intent a step, whatever comes after it"
    sent_at_most = Counter({step: 1 + absent[step] for step in intents})
    assert applied <= sent_at_most, "sent again without being seen absent"
    return sent_at_most


def check_effects(made: World, drill: Drill, sent_at_most: Counter[str]) -> None:
    """By the world: each effect once (or as often as it was seen absent and sent again)."""
    assert made.database_says(TARGET, "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)") == "00000002", (
        "promoted once: one new timeline"
    )
    steps = drill.events()[0]["fact"]["plan"]["steps"]
    calls = Counter(c["operation"] for c in made.log("aws-calls") if c["caller"] == "drkit" and c["status"] == 200)
    calls.update(c["operation"] for c in made.log("routing-calls") if c["status"] == 200)
    for uses, operation in (ONCE | {SHIFT: "UpdateRoutingControlStates"}).items():
        for step in (step["id"] for step in steps if step["uses"] == uses):
            assert 1 <= calls[operation] <= sent_at_most[step], (
                f"{operation} was called {calls[operation]} times by {step}"
            )
    told = Counter((m["kind"], m["path"], token) for m in made.log("messages") for token in tokens(drill, m))
    for (kind, path, token), count in told.items():
        step = token.removeprefix(f"drkit-{drill.id}-")
        assert count <= sent_at_most[step], f"{kind} {path} was told {count} times of {step}"


def tokens(drill: Drill, message: dict[str, Any]) -> list[str]:
    """The steps that a message is of, by the token it carries."""
    steps = [step["id"] for step in drill.events()[0]["fact"]["plan"]["steps"] if step["uses"] == "notify.send"]
    text = str(message["body"])
    return [token for step in steps if (token := f"drkit-{drill.id}-{step}") in text]


@pytest.mark.soak
def test_a_run_that_is_killed_at_every_bad_moment_converges_and_repeats_nothing() -> None:
    with world() as made:
        drill = made.seat().drill("--set", "link_delay=100ms")
        for moment in (before_the_fence, twice_in_the_promotion, in_the_shift):
            moment(drill)
            resume(drill)
        in_the_report(drill)
        finish(drill)
        check(drill)


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_run_that_is_killed_is_finished_by_resume(moment: Moment) -> None:
    with world() as made:
        drill = made.seat().drill()
        moment(drill)
        finish(drill)
        check(drill)


@pytest.mark.soak
def test_viewers_and_terminals_are_not_missed() -> None:
    """The terminal the drill was started from is closed, a second viewer is killed, and the runner gets a hang-up."""
    with world() as made:
        seat = made.seat()
        viewer, terminal = in_a_terminal(seat, "drill", "run", "region-loss", "--env", "sandbox")
        drill = Drill(seat, until(lambda: begun(seat), within_s=60))
        promote = drill.step(lambda step: step["promotes"])
        drill.reach(lambda event: is_fact(event, "step.done", drill.step(lambda step: step["part"] == "runbook")))
        os.close(terminal)
        assert viewer.wait(timeout=30) != 0, "it was hung up on"
        watching = seat.start("status", drill.id, "--watch")
        drill.reach(lambda event: is_fact(event, "step.done", promote))
        watching.kill()
        watching.wait(timeout=10)
        runner = drill.runner
        assert runner is not None and runner.send(signal.SIGHUP)
        drill.reach(lambda event: is_fact(event, "run.finished"))
        until(lambda: (drill.folder / "exit.json").exists(), within_s=60)
        assert not drill.facts("run.resumed")
        check(drill)


def in_a_terminal(seat: Seat, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """drkit with a terminal of its own on all sides, and our end of that terminal."""
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *seat.command(*words)], cwd=seat.world.project,
        env=seat.environ | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    return started, ours


def begun(seat: Seat) -> str | None:
    """The id of the one run of this person, once it has begun."""
    journals = list((seat.home / "state" / "drkit" / "runs").glob("*/journal.db"))
    return journals[0].parent.name if journals and Drill(seat, journals[0].parent.name).events() else None


@pytest.mark.soak
def test_a_run_goes_on_from_another_machine_with_what_the_state_store_has() -> None:
    with world() as made:
        seat, other = made.seat(), made.seat("lee")
        drill = seat.drill()
        in_the_promotion(drill)
        before = drill.events()
        shutil.rmtree(seat.home)
        elsewhere = Drill(other, drill.id)
        finish(elsewhere, "--state", made.environment["state_store"], "--env", "sandbox")
        after = elsewhere.events()
        kept = [event["seq"] for event in after if event in before]
        assert kept == list(range(1, len(kept) + 1)), "the journal goes on where the copy ends"
        promote = elsewhere.step(lambda step: step["promotes"])
        assert any(is_fact(event, "step.intent", promote) for event in after[: len(kept)]), (
            "what cannot be undone was copied before it was sent"
        )
        assert elsewhere.facts("run.resumed")[0]["from_copy"] is True
        check(elsewhere)
