"""The engine killed at every journal write and around every effect of the real 47-step graph: it always converges.

As `test_engine_crash`, with the shipped runbook's graph and its actions' real declarations. `make test` takes a sample
that is spread over the whole run, `make soak` every single one.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Sequence
from functools import cache

import anyio
import pytest
from engine_fakes import Engine, World
from standins import real_plan, stand_in_plan
from test_engine_crash import BACKENDS, POLICY, DeadlyWorld, DyingStore, converged, finish, killed, run

from drkit.catalog import Catalog
from drkit.engine.memory import MemoryStore
from drkit.model import events as e
from drkit.model.plan import Plan

#: One in so many crashes is part of `make test`.
SAMPLE = 40


@cache
def graph() -> Plan:
    return stand_in_plan(real_plan())


@cache
def catalog() -> Catalog:
    return Catalog(["engine_fakes", "standins"])


class Uneven(DeadlyWorld):
    """Every name answers after a time of its own, so that few results share a journal write."""

    async def write(self, name: str, value: int, token: str, *, once: bool = False) -> None:
        await anyio.sleep(_latency_s(name))
        await super().write(name, value, token, once=once)

    async def read(self, name: str) -> int | None:
        await anyio.sleep(_latency_s(name))
        return await super().read(name)


def _latency_s(name: str) -> float:
    return zlib.crc32(name.encode()) % 97 / 50_000


def engine(world: World, store: MemoryStore) -> Engine:
    return Engine(graph(), world=world, store=store, catalog=catalog())


@cache
def undisturbed(backend: str) -> tuple[int, int]:
    """How many journal writes and how many effects the whole run has, when nobody is killed."""
    store, world = DyingStore(), Uneven()
    whole = engine(world, store)
    assert run(backend, lambda: whole.start(policy=POLICY)).outcome == "done"
    converged(whole)
    return store.appends, len(world.calls)


def every(total: int, step: int) -> Sequence[int]:
    return sorted({1, *range(step, total, step), total})


def die_writing(backend: str, moments: Iterable[int], durable: bool) -> int:
    """Die at each of these writes, or until there are no more; how often it died."""
    died = 0
    for moment in moments:
        store = DyingStore(dies_at=moment, durable=durable)
        dead = engine(Uneven(), store)
        if not killed(backend, lambda dead=dead: dead.start(policy=POLICY)):  # type: ignore[misc]
            assert store.appends < moment, "it came to that write, and did not die"
            converged(dead)
            break
        died += 1
        converged(finish(backend, dead))
    return died


def die_sending(backend: str, moments: Iterable[int], after: bool) -> None:
    for moment in moments:
        dead = engine(Uneven(dies_at=moment, after=after), MemoryStore())
        assert killed(backend, lambda dead=dead: dead.start(policy=POLICY)), moment  # type: ignore[misc]
        assert dead.facts(e.Interrupted) == [], "whoever is being stopped writes nothing more"
        converged(finish(backend, dead))


def test_the_stand_ins_have_the_real_graph_and_the_real_declarations() -> None:
    real = real_plan()
    assert len(real.steps) == len(graph().steps) == 47
    kept = ("id", "number", "kind", "needs", "repeat", "irreversible", "fences", "promotes", "skippable", "optional",
            "on_failure", "retry")  # fmt: skip
    for theirs, ours in zip(real.steps, graph().steps, strict=True):
        assert [getattr(theirs, name) for name in kept] == [getattr(ours, name) for name in kept]
        if theirs.kind == "action":
            told, meant = catalog().entry(ours.uses), Catalog().entry(theirs.uses)
            for name in ("repeat", "irreversible", "fences", "promotes", "skippable"):
                assert getattr(told, name) == getattr(meant, name), (theirs.id, name)
    assert {step.repeat for step in real.steps if step.kind == "action"} == {"safe", "token"}
    assert [step.id for step in real.steps if step.irreversible and step.promotes]
    assert [step.id for step in real.steps if step.fences]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sample_of_crashes_converges(backend: str) -> None:
    writes, effects = undisturbed(backend)
    assert writes > 47 and effects == sum(step.kind == "action" for step in graph().steps)
    moments = every(writes - 5, SAMPLE)
    died = die_writing(backend, moments, durable=backend == "trio")
    # On asyncio real time decides how many results share a write, so that a busy machine's run may have far fewer.
    assert died == len(moments) if backend == "trio" else died >= len(moments) // 2
    die_sending(backend, every(effects, SAMPLE // 2), after=backend == "asyncio")


@pytest.mark.soak
@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_every_journal_write_of_all_47_steps(backend: str, durable: bool) -> None:
    assert die_writing(backend, itertools.count(1), durable) > 47


@pytest.mark.soak
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_around_every_effect_of_all_47_steps(backend: str, after: bool) -> None:
    die_sending(backend, range(1, undisturbed(backend)[1] + 1), after)
