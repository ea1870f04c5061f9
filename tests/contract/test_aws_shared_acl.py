"""Subnets that share their network ACL with others are cut off alone, and guarded by it again when all is healed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
from aws_world import Dying, Killed, World, built, guarding, shut
from cloud_parts import WEST, until

from drkit.catalog import Action
from drkit.chaos.faults.aws_subnet_isolate import isolate
from drkit.chaos.faults.aws_zone_isolate import isolate as isolate_zone
from drkit.chaos.leases import faults
from drkit.context import Context
from drkit.errors import Refused
from drkit.model.faults import Markers, Nothing
from drkit.model.observation import State
from drkit.providers.aws import Aws


class Shared(NamedTuple):
    """A fault, its target, the subnets that it is to cut off, and those that it must spare."""

    fault: Action[Any, Any]
    target: Callable[[World], dict[str, Any]]
    inside: tuple[str, ...]
    outside: tuple[str, ...]

    def params(self, world: World) -> Any:
        return self.fault.params.model_validate({"site": WEST, "lease_s": 600.0, **self.target(world)})

    def cut_off(self, world: World) -> list[bool]:
        return [shut(guarding(world, name)) for name in self.inside]

    def says(self, world: World) -> list[Any]:
        """What guards them, but for the last rule, which AWS itself gives every ACL."""
        return [[rule for rule in guarding(world, name) if rule[0] < 32767] for name in self.inside]

    async def injected(self, ctx: Context, p: Any) -> None:
        await self.fault(ctx, p, await self.fault.observe(ctx, p))

    async def healed(self, ctx: Context, p: Any) -> None:
        assert self.fault.heal is not None
        await self.fault.heal(ctx, p, await self.fault.observe(ctx, p))


SUBNET = Shared(isolate, lambda w: {"subnet": w.names["c1"]}, ("c1",), ("c2", "d1"))
ZONE = Shared(isolate_zone, lambda w: {"zone": "us-west-2c", "vpc": w.names["vpc"]}, ("c1", "c2"), ("d1",))
EACH = pytest.mark.parametrize("case", [SUBNET, ZONE], ids=["subnet", "zone"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield built(stack, tmp_path_factory.mktemp("cloud"))


def acls(world: World) -> dict[str, Any]:
    """Every network ACL: whom it guards, and what it says."""
    found = world.client("ec2").describe_network_acls()["NetworkAcls"]
    return {
        one["NetworkAclId"]: (
            sorted(each["SubnetId"] for each in one["Associations"]), sorted(map(str, one["Entries"]))
        )
        for one in found
    }  # fmt: skip


@EACH
async def test_they_are_cut_off_alone_and_given_back(world: World, case: Shared) -> None:
    ctx, before = world.context(step="inject"), acls(world)
    p = case.params(world)
    await case.injected(ctx, p)
    assert all(case.cut_off(world)) and not any(shut(guarding(world, name)) for name in case.outside)
    assert case.fault.state(p, await case.fault.observe(ctx, p)) is State.HOLDS
    (left,) = (await faults(ctx, Nothing())).markers
    assert (left.fault, left.state, left.why) == (case.fault.name, "armed", None)
    await case.healed(ctx, case.fault.params.model_validate(left.params, strict=False))
    assert acls(world) == before and world.schedules() == []


@EACH
async def test_their_lease_alone_opens_them_and_the_sweep_moves_them_back(world: World, case: Shared) -> None:
    ctx, before = world.context(step="inject"), acls(world)
    said = case.says(world)
    p = case.params(world)
    await case.injected(ctx, p)
    for name in world.schedules():
        world.bring_forward(name)
    until(lambda: case.says(world) == said)
    assert acls(world) != before, "they say the same, and are not those they had"
    found = await faults(ctx, Nothing())
    assert found.markers == () and [one.fault for one in found.spent] == [case.fault.name]
    await case.healed(ctx, p)
    assert acls(world) == before and await faults(ctx, Nothing()) == Markers()


# All four take a minute; two of them are enough to see each case, and each way to die, at every write.
@pytest.mark.parametrize(
    ("case", "arrives"),
    [
        pytest.param(SUBNET, False, id="subnet-lost"),
        pytest.param(ZONE, True, id="zone-arrives"),
        pytest.param(SUBNET, True, id="subnet-arrives", marks=pytest.mark.soak),
        pytest.param(ZONE, False, id="zone-lost", marks=pytest.mark.soak),
    ],
)
async def test_wherever_drkit_is_killed_nobody_is_cut_off_without_a_whole_lease(
    world: World, case: Shared, arrives: bool
) -> None:
    ctx, before, killed = world.context(step="inject"), acls(world), 0
    p = case.params(world)
    while True:
        dying = world.context(step="inject", fakes={Aws: Dying(ctx.environment, killed, arrives=arrives)})
        try:
            await case.injected(dying, p)
            break
        except Killed:
            killed += 1
        armed = len(world.schedules())
        denied = [rule for name in case.inside for rule in guarding(world, name) if rule[1] == "deny" and rule[0] < 100]
        assert armed == 4 or not denied
        if armed < 4:
            await case.injected(ctx, p)  # resumed
        await case.healed(ctx, p)
        assert acls(world) == before and world.schedules() == [], f"killed at write {killed}"
    # An ACL, two rules as they were, four schedules, an association for each subnet, four rules that deny.
    assert killed == 1 + 2 + 4 + len(case.inside) + 4
    await case.healed(ctx, p)
    assert acls(world) == before


async def test_where_no_lease_can_be_armed_nothing_of_ours_is_left(world: World) -> None:
    ctx, before = world.context(step="inject"), acls(world)
    world.cloud.set(WEST, "503", service="sts")
    try:
        with pytest.raises(Refused, match="lease cannot be armed"):
            await SUBNET.injected(ctx, SUBNET.params(world))
    finally:
        world.cloud.set(WEST)
    assert acls(world) == before and world.schedules() == []
