"""aws.database-failover: another instance of an Aurora cluster becomes its writer."""

from __future__ import annotations

from drkit.catalog import fault, probe
from drkit.chaos.onaws import OnAws
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper
from drkit.providers.aws import Aws, AwsError


class Cluster(OnAws):
    """An Aurora cluster."""

    cluster: str
    """Its identifier."""


class ClusterState(Observation):
    """Who writes in a cluster."""

    writer: str | None
    """Identifier of the instance; null: none."""
    status: str


@probe("aws.database-cluster", plane="control")
async def cluster(ctx: Context, p: Cluster) -> ClusterState:
    """Who writes in a cluster, and what RDS says of the cluster."""
    asked = {"DBClusterIdentifier": p.cluster}
    try:
        found = (await ctx.use(Aws).call(p.site, "rds", "describe_db_clusters", asked))["DBClusters"][0]
    except AwsError as error:
        raise Unobservable(error.message) from error
    writers = [one["DBInstanceIdentifier"] for one in found["DBClusterMembers"] if one["IsClusterWriter"]]
    return ClusterState(writer=writers[0] if writers else None, status=found["Status"])


class Failover(Cluster):
    """Who is to write from now on."""

    to: str
    """Identifier of the instance that becomes the writer."""


@fault(
    "aws.database-failover", observe=cluster, repeat="ask", plane="control", timeout_s=300.0,
    irreversible="failing back is another failover, with another interruption",
)  # fmt: skip
async def failover(ctx: Context, p: Failover, before: ClusterState) -> None:
    """Make another instance the writer of a cluster; connections break, and nothing takes that back."""
    asked = {"DBClusterIdentifier": p.cluster, "TargetDBInstanceIdentifier": p.to}
    await ctx.use(Aws).call(p.site, "rds", "failover_db_cluster", asked)


@failover.check
def moved(p: Failover, now: ClusterState) -> State:
    """It is the writer, and the cluster is available again."""
    if now.status != "available":
        return State.IN_PROGRESS
    return State.HOLDS if now.writer == p.to else State.ABSENT


@failover.by_hand
def failover_by_hand(p: Failover, paper: Paper) -> str:
    """One call."""
    call = "rds failover-db-cluster"
    return paper.aws(p.site, call, db_cluster_identifier=p.cluster, target_db_instance_identifier=p.to)
