"""An API that throttles and is late: as a plain client meets it, healed by drkit and by the lease alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cloud_parts import EAST, WEST, Cloud, until

from drkit import testing
from drkit.catalog import Action
from drkit.context import Context
from drkit.errors import Refused
from drkit.model.environment import Environment, Site
from drkit.model.faults import Nothing
from drkit.model.observation import State
from drkit.sandbox.api_faults import latency, throttle
from drkit.sandbox.control import Control
from drkit.sandbox.faults import left
from drkit.sandbox.layout import Folders
from drkit.sandbox.parts._aio import serve
from drkit.sandbox.processes import Process, identify
from drkit.sandbox.strikes import Drilled
from drkit.sandbox.strikes.denied import denied
from drkit.sandbox.strikes.permissions import Permission
from drkit.sandbox.strikes.stale import Stale
from drkit.sandbox.supervisor import Part, Supervisor


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ExitStack() as stack:
        made = Cloud(stack, tmp_path_factory.mktemp("cloud"), ("ec2", "s3", "dynamodb"))
        made.client("s3", WEST).create_bucket(Bucket="orders", CreateBucketConfiguration={"LocationConstraint": WEST})
        yield made


@asynccontextmanager
async def sandbox(cloud: Cloud, folder: Path) -> AsyncIterator[Context]:
    """A supervisor's control API before the real AWS part, and a run's context."""
    (folder / "state").mkdir()
    supervisor = Supervisor(Folders(folder))
    process = identify(cloud.process.pid)
    assert process is not None
    supervisor.parts["aws"] = Part("aws", "outside", "", {}, process, cloud.process, cloud.ready)
    server, port = await serve(Control(supervisor).handle, "127.1.4.31")
    sites = tuple(Site(name=name, kind="region", aws_endpoint=cloud.url(name)) for name in (EAST, WEST))
    environment = Environment(
        name="test", kind="sandbox", account="x", sites=sites, state_store="file:///nowhere",
        control=f"http://127.1.4.31:{port}",
    )  # fmt: skip
    ctx = testing.context(environment, source=EAST, target=WEST, step="inject")
    try:
        yield ctx
    finally:
        await ctx.providers.aclose()
        server.close()


async def injected(ctx: Context, fault: Action[Any, Any], **params: Any) -> Any:
    """Inject it as the engine does; its parameters."""
    p = fault.params.model_validate({"site": WEST, "lease_s": 600.0, **params})
    await fault(ctx, p, await fault.observe(ctx, p))
    assert fault.state(p, await fault.observe(ctx, p)) is State.HOLDS
    return p


async def healed(ctx: Context, fault: Action[Any, Any], p: Any) -> None:
    assert fault.heal is not None
    await fault.heal(ctx, p, await fault.observe(ctx, p))
    assert fault.state(p, await fault.observe(ctx, p)) is State.ABSENT


def refused(call: Any, **given: Any) -> tuple[int, str] | None:
    """Status and code of a plain client's error; None: it was served."""
    from botocore.exceptions import ClientError

    try:
        call(**given)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return None


async def test_calls_are_turned_away_in_the_words_of_their_service(cloud: Cloud, tmp_path: Path) -> None:
    s3, ec2, dynamodb = (cloud.client(name, WEST) for name in ("s3", "ec2", "dynamodb"))
    async with sandbox(cloud, tmp_path) as ctx:
        ps = [await injected(ctx, throttle, service=name) for name in ("s3", "dynamodb")]
        some = await injected(ctx, throttle, service="ec2", operation="Describe*")
        assert refused(s3.list_objects_v2, Bucket="orders") == (503, "SlowDown")
        assert refused(dynamodb.list_tables) == (400, "ThrottlingException")
        assert refused(ec2.describe_vpcs) == (503, "RequestLimitExceeded")
        assert refused(ec2.create_vpc, CidrBlock="10.0.0.0/16") is None
        assert refused(cloud.client("ec2", EAST).describe_vpcs) is None
        found = (await left(ctx, Nothing())).markers
        assert [(m.fault, m.where, m.step, m.state) for m in found] == [
            ("aws.api-throttle", f"region {WEST}", "inject", "injected")
        ] * 3
        assert all(m.expires_in_s is not None and 0 < m.expires_in_s <= 600 for m in found)
        for p in (*ps, some):
            await healed(ctx, throttle, p)
        assert refused(s3.list_objects_v2, Bucket="orders") is refused(ec2.describe_vpcs) is None
        assert (await left(ctx, Nothing())).markers == ()


async def test_of_many_calls_the_share_that_was_asked_for_is_met(cloud: Cloud, tmp_path: Path) -> None:
    s3 = cloud.client("s3", WEST)
    async with sandbox(cloud, tmp_path) as ctx:
        p = await injected(ctx, throttle, service="s3", operation="GET /orders*", percent=25)
        met = [refused(s3.list_objects_v2, Bucket="orders") is not None for _ in range(12)]
        await healed(ctx, throttle, p)
    assert met == [False, False, False, True] * 3


async def test_a_late_api_is_late_until_it_is_healed(cloud: Cloud, tmp_path: Path) -> None:
    ec2 = cloud.client("ec2", WEST)
    async with sandbox(cloud, tmp_path) as ctx:
        p = await injected(ctx, latency, service="ec2", delay_s=0.4)
        began = time.monotonic()
        ec2.describe_vpcs()
        assert time.monotonic() - began >= 0.4
        await healed(ctx, latency, p)
        assert (await left(ctx, Nothing())).markers == ()


async def test_calls_are_served_again_when_the_lease_is_over_and_nobody_heals(cloud: Cloud, tmp_path: Path) -> None:
    s3, lease_s = cloud.client("s3", WEST), 1.5
    async with sandbox(cloud, tmp_path) as ctx:
        p = throttle.params.model_validate({"site": WEST, "service": "s3", "lease_s": lease_s})
        began = time.monotonic()
        await throttle(ctx, p, await throttle.observe(ctx, p))
    until(lambda: refused(s3.list_objects_v2, Bucket="orders") is None)
    assert time.monotonic() - began >= lease_s, "not one call was served before"
    assert cloud.admin("/troubles")["troubles"] == []


async def test_whoever_holds_the_environment_no_longer_is_refused_at_the_gateway(cloud: Cloud, tmp_path: Path) -> None:
    @dataclass
    class Over:
        def remaining_s(self) -> float:
            return 0.0

    async with sandbox(cloud, tmp_path) as ctx:
        with pytest.raises(Refused, match="lease of the environment is over"):
            await injected(replace(ctx, lease=Over()), throttle, service="s3")
        assert cloud.admin("/troubles")["troubles"] == []


LISTS, MAKES = Permission("dynamodb", "ListTables", writes=False), Permission("dynamodb", "CreateTable", writes=True)
TABLE: dict[str, Any] = {
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
}  # fmt: skip


def struck(ctx: Context, **more: Any) -> Drilled:
    assert ctx.environment.control is not None
    return Drilled(ctx.environment.control, WEST, ctx.run, "tables", Process(1, 1), (LISTS, MAKES), **more)


async def test_a_permission_of_a_step_is_gone_until_it_is_granted_again(cloud: Cloud, tmp_path: Path) -> None:
    dynamodb = cloud.client("dynamodb", WEST)
    async with sandbox(cloud, tmp_path) as ctx:
        strike = denied(struck(ctx))
        await asyncio.to_thread(strike.begin)
        assert await asyncio.to_thread(strike.met) == 0
        assert (await left(ctx, Nothing())).markers == (), "it is no fault of a ledger: nobody is to heal it"
        assert refused(dynamodb.list_tables) == (400, "AccessDeniedException")
        assert refused(dynamodb.describe_limits) is None, "of other calls nothing was said"
        assert await asyncio.to_thread(strike.met) == 1 and await asyncio.to_thread(strike.lasts)
        await asyncio.to_thread(strike.end)
        assert refused(dynamodb.list_tables) is None and not await asyncio.to_thread(strike.lasts)


async def test_reads_are_stale_from_the_effect_of_a_step_on_whose_answer_is_lost(cloud: Cloud, tmp_path: Path) -> None:
    from botocore.exceptions import ConnectionClosedError

    dynamodb = cloud.client("dynamodb", WEST)
    async with sandbox(cloud, tmp_path) as ctx:
        dynamodb.create_table(TableName="before", **TABLE)
        assert dynamodb.list_tables()["TableNames"] == ["before"]
        strike = Stale(struck(ctx, after=(MAKES,), loses=True))
        await asyncio.to_thread(strike.begin)
        with pytest.raises(ConnectionClosedError):
            dynamodb.create_table(TableName="effect", **TABLE)
        assert "effect" not in dynamodb.list_tables()["TableNames"] and await asyncio.to_thread(strike.met) == 1
        await asyncio.to_thread(strike.end)
        assert dynamodb.list_tables()["TableNames"] == ["before", "effect"]
