"""Responders are told what a run waits for: a real runner, real receivers, one of them dead, and a kill -9."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud_parts import ask, part
from runner_fakes import asked, environment, kill, kinds, started, state, step, stop, until

from drkit.engine import orders
from drkit.engine.journal import read_rows
from drkit.engine.news import heard
from drkit.engine.runs import RunFolder
from drkit.engine.spawning import Spawned
from drkit.model.environment import Environment, Sink
from drkit.model.events import Answered
from drkit.model.runbook import Retry
from drkit.notify import outbox

SECOND_CALL = [{"after": 0.3, "role": "cto"}]


class Desk:
    """The receivers: what arrived of which event."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.ready = ready

    def set(self, kind: str, mode: str) -> None:
        assert ask(f"{self.ready['admin']['url']}/kinds/{kind}", {"mode": mode})["mode"] == mode

    def got(self, kind: str) -> list[str]:
        found = ask(f"{self.ready['admin']['url']}/messages?kind={kind}")["messages"]
        return [str(each["body"]) for each in found]

    def pages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(f"{self.ready['admin']['url']}/pages")
        return found

    def sinks(self) -> tuple[Sink, ...]:
        base, receipts = self.ready["http"]["url"], f"{self.ready['admin']['url']}/messages"
        kinds: list[tuple[Any, str]] = [("slack", "/slack/x"), ("pagerduty", "/pagerduty"), ("webhook", "/webhook/ops")]
        return tuple(
            Sink(name=kind, kind=kind, url=base + path, audience="responders", real=False,
                 receipts=None if kind == "webhook" else receipts)
            for kind, path in kinds
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    where = {"address": "127.1.4.26", "port": 0}
    config = {"http": where, "smtp": where, "admin": where, "messages": str(tmp_path / "messages.jsonl")}
    with part("sinks", config, tmp_path) as (_, ready):
        yield Desk(ready)


@pytest.fixture
def runners() -> Iterator[list[Spawned]]:
    made: list[Spawned] = []
    yield made
    for runner in made:
        stop(runner)


def watched(tmp_path: Path, desk: Desk) -> Environment:
    return environment(tmp_path).model_copy(update={"sinks": desk.sinks()})


def waits(tmp_path: Path, desk: Desk, **more: Any) -> RunFolder:
    """A run that asks, and after a while asks somebody else too."""
    gate = step("agree", "a", uses="gate.approve")
    gate = gate.model_copy(update={"params": {"role": "ic", "escalate": SECOND_CALL}})
    return asked(tmp_path, [step("a"), gate, step("b", "agree")], env=watched(tmp_path, desk), **more)


def approve(folder: RunFolder) -> None:
    asks = next(state(folder).asks()).ask
    assert asks is not None and asks.shown_hash is not None
    reply = orders.send(
        folder,
        Answered(step="agree", answer="approve", by={}, role="ic", reason="go", plan_hash=state(folder).plan_hash,
                 shown_hash=asks.shown_hash),
    )  # fmt: skip
    assert reply.answer == "accepted", reply


def test_who_is_asked_and_who_is_asked_next_is_told_once_each_although_slack_is_dead_and_the_runner_is_killed(
    tmp_path: Path, desk: Desk, runners: list[Spawned]
) -> None:
    desk.set("slack", "refuse")
    folder = waits(tmp_path, desk)
    runners.append(started(folder))
    until(lambda: len(desk.pages()) == 3)
    begun, first, second = (page["payload"] for page in desk.pages())
    assert "begun by" in begun["summary"]
    assert "agree: waits for approval by ic" in first["summary"] and "drkit approve" in first["custom_details"]["text"]
    assert "by ic or cto, as ic has not answered" in second["summary"]
    assert [each["severity"] for each in (begun, first, second)] == ["info", "critical", "critical"]
    # What was taken and not yet noted would be sent again, as it must be.
    until(lambda: [outbox.read(folder.path / outbox.NAME)[kind].waiting for kind in ("pagerduty", "webhook")] == [0, 0])
    kill(runners[0])
    places = outbox.read(folder.path / outbox.NAME)
    assert places["slack"].waiting == 3 and "undelivered (slack: " in str(outbox.undelivered(places))
    runners.append(started(folder))
    until(lambda: len(desk.pages()) == 4)
    assert "resumed by" in desk.pages()[3]["payload"]["summary"]
    approve(folder)
    until(lambda: folder.ended() is not None)  # with Slack dead
    desk.set("slack", "ok")
    until(runners[1].gone)

    rows = list(read_rows(folder.journal))
    told = heard(rows).news(lambda seq: rows[seq - 1].hash)
    assert len(told) == 5
    for kind in ("slack", "pagerduty", "webhook"):
        found = desk.got(kind)
        count = Counter(notice.seq for notice in told for text in found if notice.head in text)
        assert count == {notice.seq: 1 for notice in told}, f"{kind}: each event once, with its hash"
    assert outbox.undelivered(outbox.read(folder.path / outbox.NAME)) is None
    assert desk.pages()[0]["status"] == "resolved", "what was opened when it began"


def test_a_dead_receiver_delays_neither_the_run_nor_its_end(tmp_path: Path, desk: Desk, runners: list[Spawned]) -> None:
    for kind in ("slack", "pagerduty", "webhook"):
        desk.set(kind, "hang")
    folder = asked(tmp_path, [step("a"), step("b", "a")], env=watched(tmp_path, desk))
    runners.append(started(folder))
    until(lambda: folder.ended() is not None, 15)
    assert state(folder).outcome == "done"
    assert desk.got("slack") == [], "nobody had taken anything when it was over"
    left = outbox.undelivered(outbox.read(folder.path / outbox.NAME))
    assert left is not None and "undelivered (slack: " in left
    other = asked(tmp_path, [step("c")], env=environment(tmp_path))
    runners.append(started(other))
    until(lambda: state(other).outcome == "done" if "run.opened" in kinds(other) else False)


def test_a_failed_step_pages_only_when_it_is_not_tried_again_by_itself(
    tmp_path: Path, desk: Desk, runners: list[Spawned]
) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "a").mkdir()  # a file of that name can neither be read nor written
    tried = step("a", retry=Retry(times=2, backoff=0.05)).model_copy(update={"timeout_s": 0.2})
    folder = asked(tmp_path, [tried], env=watched(tmp_path, desk), drill=True)
    runners.append(started(folder, "--leave"))
    until(runners[0].gone)
    assert kinds(folder).count("step.failed") == 3
    stuck = [page["payload"] for page in desk.pages() if page["payload"]["severity"] == "critical"]
    assert len(stuck) == 1 and stuck[0]["summary"].startswith("[DRILL] ") and "a: failed:" in stuck[0]["summary"]
    assert f"drkit retry {folder.id} a" in stuck[0]["custom_details"]["text"]
