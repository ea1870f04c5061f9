"""ElastiCache: a cache in the region entered. It starts empty; what it held is rebuilt as users come."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Cache(Params):
    """A replication group."""

    site: SiteName = "target"
    """Region of the cache."""
    name: str
    """Id of the replication group."""


class CacheState(Observation):
    """The group as it is; `status` null: there is none."""

    status: str | None
    nodes: int = 0
    automatic_failover: bool = False


@probe("aws.elasticache.state", plane="control")
async def state(ctx: Context, p: Cache) -> CacheState:
    """Look for a replication group and count its nodes."""
    try:
        answer = await ctx.use(Aws).call(
            p.site, "elasticache", "describe_replication_groups", {"ReplicationGroupId": p.name}
        )
    except AwsError as error:
        if "NotFound" not in error.aws_code:
            raise
        return CacheState(status=None)
    group = answer["ReplicationGroups"][0]
    return CacheState(
        status=group["Status"],
        nodes=sum(len(shard.get("NodeGroupMembers", [])) for shard in group.get("NodeGroups", [])),
        automatic_failover=group.get("AutomaticFailover") == "enabled",
        answered_by=group.get("ARN"),
    )


class Create(Cache):
    """Make a cache with a replica that can take over."""

    nodes: Annotated[int, Ge(2)] = 2
    """Number of nodes."""
    node_type: str = "cache.t4g.small"
    """Kind of node."""
    engine: str = "redis"
    """Engine of the cache."""


@action("aws.elasticache.create", observe=state, repeat="safe", plane="control", timeout_s=900, poll_s=0.3)
async def create(ctx: Context, p: Create, before: CacheState) -> None:
    """Make the replication group; its name keeps a second attempt from making another one."""
    request = {
        "ReplicationGroupId": p.name,
        "ReplicationGroupDescription": f"made by {ctx.token}",
        "Engine": p.engine,
        "CacheNodeType": p.node_type,
        "NumNodeGroups": 1,
        "ReplicasPerNodeGroup": p.nodes - 1,
        "AutomaticFailoverEnabled": True,
        "Tags": [{"Key": "drkit:token", "Value": ctx.token}],
    }
    try:
        await ctx.use(Aws).call(p.site, "elasticache", "create_replication_group", request)
    except AwsError as error:
        if "AlreadyExists" not in error.aws_code:
            raise


@create.check
def created(p: Create, now: CacheState) -> State:
    """Available, with as many nodes as meant, and able to fail over by itself."""
    if now.status is None:
        return State.ABSENT
    if now.status in ("creating", "modifying"):
        return State.IN_PROGRESS
    good = now.status == "available" and now.nodes >= p.nodes and now.automatic_failover
    return State.HOLDS if good else State.UNKNOWN


@create.undo
def left_created(p: Create, before: CacheState, after: CacheState | None) -> Use | None:
    """Left: users' sessions may be in it as soon as it is there; failback's list names it."""
    return None


@state.by_hand
def look_at_cache(p: Cache, paper: Paper) -> str:
    """Status, automatic failover and members."""
    shown = "ReplicationGroups[].[Status,AutomaticFailover,length(NodeGroups[0].NodeGroupMembers)]"
    return paper.aws(p.site, "elasticache describe-replication-groups", replication_group_id=p.name, query=shown)


@create.by_hand
def create_by_hand(p: Create, paper: Paper) -> str:
    """Its name keeps a second attempt from making another one."""
    return paper.aws(
        p.site, "elasticache create-replication-group", replication_group_id=p.name,
        replication_group_description="made by hand", engine=p.engine, cache_node_type=p.node_type,
        num_node_groups=1, replicas_per_node_group=p.nodes - 1, automatic_failover_enabled=True,
    )  # fmt: skip
