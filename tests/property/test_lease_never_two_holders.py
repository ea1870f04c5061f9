"""Whatever contenders do, freeze, lose or kill: never two may start effects, and the token only grows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drkit.engine.identity import ProcessId
from drkit.engine.lease import LeaseProtocol, Record
from drkit.errors import JournalError, Locked
from drkit.model.ports import Clock, Objects

TERM_S, DRILL_TERM_S, LONGEST_S = 20.0, 8.0, 15.0


@dataclass
class World:
    """True time, and the one bucket."""

    now: float = 1000.0
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    writes: int = 0


@dataclass
class SkewedClock(Clock):
    """One machine's clock: its own zero, its own idea of the date."""

    world: World
    offset: float

    def monotonic(self) -> float:
        return self.world.now + self.offset

    def wall(self) -> float:
        return 1.8e9 + self.world.now - 7 * self.offset

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the protocol itself never waits")


@dataclass
class SlowStore(Objects):
    """Each call takes its time, before and after it is carried out; answers can be lost, and calls sent twice."""

    world: World
    data: st.DataObject | None = None
    meanwhile: Callable[[SlowStore], None] = lambda store: None

    def get(self, key: str) -> tuple[bytes, str] | None:
        self._wait()
        found = self.world.objects.get(key)
        self._wait()
        return None if found is None else (found[0], str(found[1]))

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        self._wait()
        trouble = self._draw(st.sampled_from(["none"] * 12 + ["down", "lost answer", "sent twice"]))
        if trouble == "down":
            raise JournalError("the state store does not answer")
        tag = self._put(key, data, if_absent, if_tag)
        if trouble == "sent twice":
            tag = self._put(key, data, if_absent, if_tag)
        self._wait()
        if trouble == "lost answer":
            raise JournalError("the state store does not answer")
        return tag

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.world.objects if key.startswith(prefix))

    def describe(self) -> str:
        return "memory"

    def _put(self, key: str, data: bytes, if_absent: bool, if_tag: str | None) -> str | None:
        found = self.world.objects.get(key)
        if (if_absent and found is not None) or (if_tag is not None and (found is None or str(found[1]) != if_tag)):
            return None
        if not key.endswith("claim.json"):
            old = Record.from_bytes(found[0], key).token if found else 0
            assert Record.from_bytes(data, key).token >= old, "the fencing token went back"
        self.world.writes += 1
        self.world.objects[key] = (data, self.world.writes)
        return str(self.world.writes)

    def _wait(self) -> None:
        self.world.now += self._draw(st.sampled_from([0.0] * 20 + [0.3, 5.0, 9.0, 30.0]))
        self.meanwhile(self)

    def _draw(self, strategy: st.SearchStrategy[Any]) -> Any:
        assert self.data is not None
        return self.data.draw(strategy)


class Contenders(RuleBasedStateMachine):
    """Two real runs and a drill, each on a machine of its own."""

    @initialize(offsets=st.tuples(*[st.floats(-1e5, 1e5)] * 3))
    def start(self, offsets: tuple[float, ...]) -> None:
        self.world = World()
        self.stores = [SlowStore(self.world) for _ in offsets]
        self.tokens: set[int] = set()
        self.nested = False
        self.contenders = [
            LeaseProtocol(
                store, "sandbox", SkewedClock(self.world, offset),
                who=f"p{n}", host=f"m{n}", process=ProcessId(1, 1, f"another machine {n}"),
                term_s=TERM_S, drill_term_s=DRILL_TERM_S, longest_call_s=LONGEST_S,
            )
            for n, (store, offset) in enumerate(zip(self.stores, offsets, strict=True))
        ]  # fmt: skip
        for store in self.stores:
            store.meanwhile = self.somebody_else

    def somebody_else(self, waiting: SlowStore) -> None:
        """While one call is under way, another contender may act."""
        assert waiting.data is not None
        who = waiting.data.draw(st.sampled_from([None] * 12 + [0, 1, 2]))
        if self.nested or who is None or self.stores[who] is waiting:
            return
        self.nested = True
        try:
            if waiting.data.draw(st.booleans()):
                self._attempt(who, take_over=waiting.data.draw(st.booleans()), data=waiting.data)
            else:
                self._renew(who, waiting.data)
        finally:
            self.nested = False
        self._never_two()

    @rule(seconds=st.sampled_from([0.3, 2.0, 7.0, 12.0, 19.0, 36.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(who=st.integers(0, 2), take_over=st.sampled_from([True, True, False]), data=st.data())
    def try_to_get_it(self, who: int, take_over: bool, data: st.DataObject) -> None:
        self._attempt(who, take_over, data)

    def _attempt(self, who: int, take_over: bool, data: st.DataObject) -> None:
        self.stores[who].data = data
        try:
            holder = self.contenders[who].attempt(f"run{who}", drill=who == 2, take_over=take_over)
        except (Locked, JournalError):
            return
        if holder is not None:
            assert holder.token not in self.tokens, "a fencing token came twice"
            self.tokens.add(holder.token)

    @rule(who=st.integers(0, 2), data=st.data())
    def renew(self, who: int, data: st.DataObject) -> None:
        self._renew(who, data)

    def _renew(self, who: int, data: st.DataObject) -> None:
        self.stores[who].data = data
        try:
            self.contenders[who].renew()
        except Locked:
            assert self.contenders[who].remaining_s() <= 0
        except JournalError:
            pass

    @rule(who=st.integers(0, 2), data=st.data())
    def release(self, who: int, data: st.DataObject) -> None:
        self.stores[who].data = data
        with suppress(JournalError):
            self.contenders[who].release()
        assert self.contenders[who].remaining_s() <= 0

    @invariant()
    def one_holder(self) -> None:
        self._never_two()

    def _never_two(self) -> None:
        live = [n for n, contender in enumerate(self.contenders) if contender.remaining_s() > 0]
        assert len(live) <= 1, f"{live} may all start effects"


TestContenders = Contenders.TestCase
TestContenders.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
