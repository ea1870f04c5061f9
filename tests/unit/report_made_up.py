"""A made-up drill for tests of reports: its journal row by row, folded by the engine, with readings to match."""
# ruff: noqa: E501 - a table of steps reads better in long lines

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drkit.engine.fold import replay
from drkit.engine.state import RunState
from drkit.measure.loss import Coverage, loss, loss_over_time
from drkit.measure.recovery import Terms, phases, recovery
from drkit.model.events import (
    GENESIS,
    Answered,
    Asked,
    Began,
    Command,
    Copied,
    Done,
    Fact,
    Failed,
    FaultChanged,
    Finished,
    Opened,
    Prepared,
    Row,
)  # fmt: skip
from drkit.model.measurements import Findings, Journey, ReadingsRef, Write
from drkit.model.plan import Plan, PlanStep, Shortened
from drkit.model.values import Json, utc

WALL = 1_795_424_400.0  # when the run's clock read 0
DANA: dict[str, Json] = {"name": "dana", "uid": 1000, "how": "unix socket peer", "roles": ["incident-commander"]}

#: id, title, owner, needs, seconds, more of the plan's step
STEPS: list[tuple[str, str, str, tuple[str, ...], float, dict[str, Any]]] = [
    ("steady", "users are served", "", (), 3.0, {"kind": "probe", "part": "steady"}),
    ("outage", "us-east-1 dies", "", ("steady",), 0.3, {"part": "inject", "uses": "region.outage", "site": "us-east-1"}),
    ("detect", "detect: what is measured says go", "", ("outage",), 1.2, {"kind": "probe", "part": "detect"}),
    ("assess", "Confirm regional impairment", "IC", ("detect",), 0.6, {"kind": "probe"}),
    ("declare", "Declare DR: decision, approver, time recorded", "IC", ("assess",), 0.4, {"kind": "gate", "uses": "gate.approve"}),
    ("page", "Page roster, open bridge", "COM", ("assess",), 0.2, {"uses": "notify.page"}),
    ("bgp", "VPN: prefer DR path, BGP check", "NET", ("declare",), 1.1, {"simulated": "no router takes part", "uses": "net.bgp"}),
    ("fence", "Fence primary PostgreSQL and confirm", "DBA", ("declare",), 6.2, {"fences": True, "skippable": False, "site": "us-east-1", "uses": "postgres.fence"}),
    ("promote", "Promote the replica", "DBA", ("fence",), 0.9, {"promotes": True, "irreversible": "a new timeline begins", "site": "us-west-2", "uses": "postgres.promote"}),
    ("deploy", "Deploy services at pinned digests", "APP", ("bgp", "promote"), 4.4, {"site": "us-west-2", "uses": "service.start"}),
    ("traffic", "Shift traffic by routing control", "NET", ("deploy",), 0.5, {"site": "us-west-2", "uses": "aws.arc.routing-control"}),
    ("watch", "Watch TTL drain; outside probes green and held", "NET", ("traffic",), 5.0, {"kind": "probe"}),
    ("heal:outage", "heal", "", ("watch",), 2.0, {"part": "heal", "heals": "outage", "uses": "region.restore", "site": "us-east-1"}),
]  # fmt: skip


def plan(steps: Sequence[tuple[Any, ...]] = STEPS, **changed: Any) -> Plan:
    planned = [
        PlanStep.model_validate(
            {
                "id": id, "number": number, "uses": "test.step", "kind": "action", "title": title, "owner": owner or None,
                "needs": needs, "repeat": "safe", "params": {"role": "incident-commander"} if more.get("kind") == "gate" else {},
                **more,
            }
        )
        for number, (id, title, owner, needs, _, more) in enumerate(steps, start=1)
    ]  # fmt: skip
    return Plan.model_validate(
        {
            "schema": "drkit.plan/1", "runbook": "reliabletech", "runbook_digest": "sha256:" + "ab" * 32,
            "scenario": "region-loss", "hypothesis": "Losing us-east-1 keeps the shop down for at most a minute",
            "environment": "sandbox", "environment_kind": "sandbox", "account": "sandbox", "source": "us-east-1",
            "target": "us-west-2", "rto_s": 60.0, "rpo_s": 5.0, "catalog": "sha256:0", "drkit": "0.1.0", "steps": planned,
            "changed_parameters": [Shortened(name="hold", default="10m", value="5s", by="environment")], **changed,
        }
    )  # fmt: skip


def chained(facts: Sequence[Fact]) -> list[Row]:
    """A journal of these facts, in the order of their times."""
    rows: list[Row] = []
    for seq, fact in enumerate(sorted(facts, key=lambda fact: fact.t), start=1):
        if isinstance(fact, Copied) and fact.error is None:
            fact = replace(fact, upto=seq - 1)
        commands = (Command(verb="note", why="made up"),) if seq % 3 else ()
        rows.append(Row.link(seq, utc(WALL + fact.t), fact, commands, rows[-1].hash if rows else GENESIS))
    return rows


def opened(of: Plan, **changed: Any) -> Opened:
    values: dict[str, Any] = {
        "t": 0.0, "run": "k7qd", "run_kind": "drill", "plan": of.model_dump(mode="json", by_alias=True), "plan_hash": of.hash,
        "drkit": "0.1.0", "catalog": "sha256:0", "by": DANA, "host": "bastion-1", "wall": WALL, "drill": True,
    }  # fmt: skip
    return Opened(**(values | changed))


def answered(t: float, step: str, by: dict[str, Json], plan_hash: str, shown_hash: str) -> Answered:
    return Answered(
        t=t, step=step, answer="approve", by=by, role="database-owner", reason="agreed", plan_hash=plan_hash,
        shown_hash=shown_hash,
    )  # fmt: skip


def look(at: float, value: dict[str, Json]) -> dict[str, Json]:
    return {"at": utc(WALL + at), "origin": "bastion-1", "value": value}


def facts_of(of: Plan, took: Mapping[str, float], *, stop_at: str | None = None) -> tuple[list[Fact], dict[str, float]]:
    """What happens if every step starts when its needs end and succeeds; `stop_at` fails instead. And when each ended."""
    ended: dict[str, float] = {}
    facts: list[Fact] = [Began(t=0.1, by=DANA, confirmed=of.target)]
    for step in of.steps:
        if any(need not in ended for need in step.needs):
            continue
        start = max((ended[need] for need in step.needs), default=0.1) + 0.01
        end = start + took[step.id]
        if step.kind == "gate":
            shown: dict[str, Json] = {"question": "Go?", "loss_s": 0.8}
            answer = {"step": step.id, "by": DANA, "role": "incident-commander", "reason": "region down, AWS confirms"}
            facts.append(Asked(t=start, step=step.id, shown=shown, shown_hash="sha256:1"))
            facts.append(Answered(t=end, answer="approve", plan_hash=of.hash, shown_hash="sha256:1", **answer))  # type: ignore[arg-type]
        else:
            before = look(start, {"role": "standby", "lag_s": 0.1, "answered_by": "7412"})
            if step.kind == "action":
                facts.append(
                    Prepared(t=start + 0.02, step=step.id, attempt=1, params={"site": step.site}, before=before)
                )
            if step.part == "inject":
                lease: dict[str, Json] = {"lease": "supervisor", "left_s": 300.0}
                facts.append(FaultChanged(t=end, fault=step.uses, id=step.id, state="armed", detail=lease))
            if step.irreversible:
                facts.append(Copied(t=start + 0.03, upto=0))
            if step.id == stop_at:
                error = "the witness sees the source renew its lease"
                facts.append(Failed(t=end, step=step.id, attempt=1, error=error, world="untouched"))
                continue
            after = look(end, {"role": "primary", "lag_s": 0.1, "timeline": 2, "answered_by": "7412"})
            facts.append(Done(t=end, step=step.id, attempt=1, after=after))
        ended[step.id] = end
    return facts, ended


@dataclass
class MadeUp:
    """A whole run: rows, state and findings, ready for `build`."""

    rows: list[Row]
    state: RunState
    findings: Findings
    ended: dict[str, float] = field(default_factory=dict)


def drill(
    steps: Sequence[tuple[Any, ...]] = STEPS, *, lost: int = 7, stop_at: str | None = None, more: Sequence[Fact] = (),
    finish: bool = True, alter: Callable[[Findings], Findings] = lambda found: found, **changed: Any,
) -> MadeUp:  # fmt: skip
    """The drill of `STEPS`: down from the end of `outage` until shortly after `traffic`."""
    of = plan(steps, **changed)
    facts, ended = facts_of(of, {id: seconds for id, _, _, _, seconds, _ in steps}, stop_at=stop_at)
    last = max(ended.values())
    end: list[Fact] = [Finished(t=last + 0.1, outcome="done", why="every step is done or skipped")] if finish else []
    rows = chained([opened(of), *facts, *more, *end])
    down = ended["outage"] - 0.25
    up = ended.get("traffic", last + 3600) + 1.3  # long after the readings end, if traffic never moves
    return MadeUp(rows, replay(rows).state, alter(findings(down, up, ended, lost)), ended)


def findings(down: float, up: float, ended: Mapping[str, float], lost: int) -> Findings:
    """What users and ledgers saw: everything fails from `down` to `up`, and the last writes before it are gone."""
    chance = random.Random(7)
    journeys: list[Journey] = []
    for number in range(-100, round((min(up, 60) + 12) * 10)):
        t = number / 10
        ok = not down <= t < up
        site = "us-east-1" if t < down else "us-west-2"
        kind = "order" if (number + number // 20) % 2 else "browse"
        outcome = "ok" if ok else chance.choice(["timeout", "error"])
        journeys.append(
            Journey(number, kind, number % 20, t, utc(WALL + t), outcome, served_by=site if ok else None)  # type: ignore[arg-type]
        )
    found = recovery(journeys, Terms(window_s=5.0))
    split = phases(
        found, detected_t=ended.get("detect"), decided_t=ended.get("declare"), executed_t=ended.get("traffic")
    )
    found = found.model_copy(update={"phases": split})
    writes = [
        Write(f"canary:{n}", n / 40, utc(WALL + n / 40), True, "us-east-1" if n / 40 < down else "us-west-2", n)
        for n in range(-400, round((min(up, 60) + 10) * 40))
        if not down <= n / 40 < up
    ]
    before = [write.id for write in writes if write.t < down]
    present = {write.id for write in writes} - set(before[len(before) - lost :])
    compared = loss(
        writes, present, coverage=Coverage([w / 2 for w in range(-20, 200)]), outage_started_t=down,
        fenced_t=ended.get("fence"),
    )  # fmt: skip
    ref = ReadingsRef(
        id="a", kind="probes", path="/var/lib/drkit/sandbox/prober/probes-a.jsonl", head="sha256:" + "cd" * 32, count=902,
        host="bastion-1", boot_id="b", started_at=utc(WALL - 10),
    )  # fmt: skip
    return Findings(
        recovery=found, loss=compared, readings=(ref,), verified=True,
        journeys=tuple(j for j in journeys if down - 10 <= j.sent_t <= up + 10),
        writes=loss_over_time(writes, present, from_t=down - 10, to_t=up + 10),
    )  # fmt: skip
