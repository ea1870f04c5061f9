"""The override of a fence on two real databases: two persons, a dead witness, and what they can and cannot do.

The engine, its actions and providers are the real ones; people speak as the order desk would have them (the kernel's
word for who they are is tested with the desk and the command line).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from database_world import SETTINGS, Databases, Writer, databases, until_async

from drkit.catalog import Catalog
from drkit.context import Providers
from drkit.engine.clock import SystemClock
from drkit.engine.driver import Driver
from drkit.engine.executor import Executor
from drkit.engine.fold import Run
from drkit.engine.memory import MemoryInbox, MemoryStore
from drkit.engine.scene import Scene
from drkit.engine.state import RunState
from drkit.model import events as e
from drkit.model.environment import Environment, Site, Witness
from drkit.model.values import Json
from drkit.plan.files import load_runbook
from drkit.plan.resolve import resolve
from drkit.providers.secrets import Secrets
from drkit.sandbox.layout import ONPREM, SOURCE, TARGET
from drkit.sandbox.portrait import database_of

DANA: dict[str, Json] = {"name": "dana", "uid": 1001, "how": "unix socket peer", "roles": ["incident-commander"]}
LEE: dict[str, Json] = {"name": "lee", "uid": 1002, "how": "unix socket peer", "roles": ["database-owner"]}
TOKEN = 7
LOSS_S = 30.0
RUNBOOK = """
apiVersion: drkit/v1
kind: Runbook
metadata: {name: move, owner: nobody}
steps:
  - {id: fence, uses: postgres.fence, with: {database: orders, site: source}}
  - {id: promote, uses: postgres.promote, with: {database: orders, site: target}}
"""


class Move:
    """One run: fence, then promote; it rests whenever people have to decide."""

    def __init__(self, world: Databases, folder: Path) -> None:
        regions = tuple(Site(name=region, kind="region") for region in (SOURCE, TARGET))
        environment = Environment(
            name="databases", kind="sandbox", account="none", state_store="file:///nowhere",
            sites=(*regions, Site(name=ONPREM, kind="on-prem")),
            databases=tuple(database_of(world.site, region) for region in (SOURCE, TARGET)),
            witness=Witness(
                name="witness", site=ONPREM, url=world.site.endpoint("witness").url, term_s=SETTINGS.term_s,
                margin_s=SETTINGS.margin_s,
            ),
        )  # fmt: skip
        book = folder / "move.yaml"
        book.write_text(RUNBOOK)
        catalog, secrets = Catalog(), Secrets(environment)
        self.plan = resolve(load_runbook(book), environment, catalog, source=SOURCE, target=TARGET)
        self.providers = Providers(environment, secrets)
        self.store, self.inbox, clock = MemoryStore(), MemoryInbox(), SystemClock()
        executor = Executor(Scene(self.plan, catalog, self.providers, secrets, clock, "k7qd", fencing_token=TOKEN))
        self.driver = Driver(Run(self.plan), self.store, self.inbox, executor, clock, head=e.GENESIS, stay=False)

    async def begin(self) -> RunState:
        plan, policy = self.plan, {"name": "nightly", "*": "approve"}
        opened = e.Opened(
            run="k7qd", run_kind="run", plan=plan.model_dump(mode="json", by_alias=True), plan_hash=plan.hash,
            drkit="0", catalog=plan.catalog, by=DANA, host="here", wall=0.0, drill=True, policy=dict(policy),
        )  # fmt: skip
        return await self.say(opened, e.Began(by=DANA))

    async def say(self, *facts: e.Fact) -> RunState:
        for fact in facts:
            self.inbox.put(fact)
        return await self.driver.run()

    async def override(self, by: dict[str, Json], loss_s: float = LOSS_S) -> RunState:
        reason = "the witness burnt down with the region"
        return await self.say(
            e.Ordered(verb="override-fence", by=by, step="fence", reason=reason, args={"loss_s": loss_s})
        )

    def facts(self, kind: type[e.Fact]) -> list[Any]:
        return [row.fact for row in self.store.read() if isinstance(row.fact, kind)]


@pytest.fixture
async def world() -> AsyncIterator[Databases]:
    async with databases() as made:
        yield made


async def kill_witness(world: Databases) -> None:
    part = world.supervisor.parts["witness"]
    part.process.send(signal.SIGKILL)
    while part.running:
        await asyncio.sleep(0.02)


async def test_two_persons_and_nobody_less_make_the_target_the_writer_without_a_witness(
    world: Databases, tmp_path: Path
) -> None:
    old = Writer(lambda: world.connect(SOURCE), 1, SOURCE)
    await old.has(20)
    await kill_witness(world)  # the source is alive, and nothing of it is cut
    move = Move(world, tmp_path)

    state = await move.begin()
    assert (state.steps["fence"].status, state.steps["promote"].status) == ("failed", "pending")
    assert "If it lives and only we cannot reach it" in str(state.steps["fence"].error)
    state = await move.override(DANA)
    ask = state.steps["fence"].ask
    assert ask is not None and ask.shown["loss_s"] == LOSS_S and "may still be writing" in str(ask.shown["fence"])
    state = await move.override(DANA)
    assert "it takes another person" in move.facts(e.Refusal)[-1].why
    assert "must state the same" in (await move.override(LEE, 5.0), move.facts(e.Refusal)[-1].why)[1]
    assert not move.facts(e.Answered), "no policy of a drill answers this"
    assert (await world.agent(TARGET))["role"] == "standby"
    assert state.steps["promote"].status == "pending"

    state = await move.override(LEE)
    assert state.steps["promote"].status == "done", state.steps["promote"].error
    told = state.results["promote"]
    assert isinstance(told, dict)
    assert (told["override_epoch"], told["overridden_by"], told["lease_site"]) == (2, ["dana", "lee"], None)
    new = Writer(lambda: world.connect(TARGET), 1_000_000, TARGET)
    await new.has(20)
    assert old.ended, "the source has stopped itself"
    assert old.acknowledged[-1][1] < new.acknowledged[0][1], "no write is acknowledged on both sides"
    by = (await world.agent(TARGET))["override"]
    assert (by["by"], by["run"], by["token"], by["loss_s"]) == (["dana", "lee"], "k7qd", TOKEN, LOSS_S)
    await move.providers.aclose()

    await world.supervisor.restart("witness")
    lease = await until_async(world.lease, lambda lease: lease["site"] == TARGET, within_s=5)
    assert (lease["epoch"], lease["override"]) == (2, TOKEN)
    status = await until_async(lambda: world.agent(TARGET), lambda s: not s["lease"]["by_override"], within_s=5)
    assert (status["override"], status["role"]) == (None, "primary")
    await world.supervisor.restart(f"agent-{SOURCE}")  # if the kernel had to stop it, at the end of its term
    refused = await world.agent(SOURCE, "/rejoin", {"as": "writer"})
    status = await until_async(lambda: world.agent(SOURCE), lambda s: s["role"] == "stopped", within_s=5)
    assert status["fenced"]["reason"] == "no writer's lease: superseded", refused
    await new.has(len(new.acknowledged) + 5)
    await new.stop()
    assert new.refused is None, "the witness's return interrupts nobody"


async def test_without_an_override_a_promotion_without_a_witness_acknowledges_nothing(world: Databases) -> None:
    await kill_witness(world)
    with pytest.raises(psycopg.OperationalError), world.connect(TARGET) as promoter:
        await asyncio.to_thread(lambda: promoter.execute("SELECT pg_promote(true, 60)").fetchone())
    status = await until_async(lambda: world.agent(TARGET), lambda s: s["role"] == "stopped", within_s=10)
    assert "the witness does not answer" in status["fenced"]["reason"]


async def test_no_override_beats_a_witness_that_answers(world: Databases) -> None:
    old = Writer(lambda: world.connect(SOURCE), 1, SOURCE)
    await old.has(5)
    alone = {"by": ["dana", "dana"], "run": "k7qd", "token": TOKEN, "loss_s": LOSS_S}
    assert "two persons" in (await world.agent(TARGET, "/promote", {"override": alone}))["error"]
    answer = await world.agent(TARGET, "/promote", {"override": alone | {"by": ["dana", "lee"]}})
    assert "no writer's lease: held" in answer["error"]
    status = await until_async(lambda: world.agent(TARGET), lambda s: s["role"] == "stopped", within_s=10)
    assert status["override"] is None, "it was for this promotion"
    await old.has(len(old.acknowledged) + 5)
    await old.stop()
    assert old.refused is None


async def test_an_override_is_known_to_the_witness_even_if_it_was_over_before_that_came_back(world: Databases) -> None:
    await kill_witness(world)
    override = {"by": ["dana", "lee"], "run": "k7qd", "token": TOKEN, "loss_s": LOSS_S}
    assert (await world.agent(TARGET, "/promote", {"override": override}))["lease"]["by_override"]
    await world.agent(TARGET, "/fence", {"mode": "graceful", "reason": "asked to"})
    await world.supervisor.restart("witness")
    lease = await until_async(world.lease, lambda lease: lease["override"] == TOKEN, within_s=5)
    assert (lease["site"], lease["released"], lease["expired"]) == (TARGET, True, True)
    await world.agent(SOURCE, "/rejoin", {"as": "writer"})
    status = await until_async(lambda: world.agent(SOURCE), lambda s: s["role"] == "stopped", within_s=5)
    assert status["fenced"]["reason"] == "no writer's lease: superseded", "what the target acknowledged is not there"
    rejoined = await world.agent(TARGET, "/rejoin", {"as": "writer"})
    assert rejoined["role"] in ("promoting", "primary"), rejoined
