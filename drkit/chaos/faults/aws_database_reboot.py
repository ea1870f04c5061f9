"""aws.database-reboot: a database instance is restarted; its connections break, and it comes back by itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from drkit.catalog import fault, probe
from drkit.chaos.onaws import OnAws
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper
from drkit.providers.aws import Aws, AwsError

#: RDS says in these words that an instance was restarted; so long a restart counts as the one that was asked for.
_RESTARTED: Final = "restarted"
_RECENT: Final = timedelta(minutes=5)


class DatabaseInstance(OnAws):
    """A database instance of RDS."""

    instance: str
    """Its identifier."""


class InstanceStatus(Observation):
    """What RDS says of a database instance."""

    status: str
    restarted_at: datetime | None
    """When it was last restarted; null: not in the last minutes."""
    at: datetime
    """What time it is for AWS."""


@probe("aws.database-instance", plane="control")
async def instance(ctx: Context, p: DatabaseInstance) -> InstanceStatus:
    """What RDS says of a database instance, and when it was last restarted."""
    aws = ctx.use(Aws)
    minutes = int(_RECENT.total_seconds()) // 60
    asked = {"SourceIdentifier": p.instance, "SourceType": "db-instance", "Duration": minutes}
    try:
        answer = await aws.call(p.site, "rds", "describe_db_instances", {"DBInstanceIdentifier": p.instance})
        events = await aws.pages(p.site, "rds", "describe_events", "Events", asked)
    except AwsError as error:
        raise Unobservable(error.message) from error
    return InstanceStatus(
        status=answer["DBInstances"][0]["DBInstanceStatus"],
        restarted_at=max((one["Date"] for one in events if _RESTARTED in one["Message"]), default=None),
        at=parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]),
    )


class Reboot(DatabaseInstance):
    """Which instance is to be restarted."""

    force_failover: bool = False
    """To the standby in another zone; only an instance that has one can."""


@fault(
    "aws.database-reboot", observe=instance, repeat="ask", plane="control", timeout_s=600.0,
    irreversible="what was not committed is lost; it comes back by itself, and nothing brings it back sooner",
)  # fmt: skip
async def reboot(ctx: Context, p: Reboot, before: InstanceStatus) -> None:
    """Restart a database instance; connections break at once, and it serves again when it has recovered."""
    asked = {"DBInstanceIdentifier": p.instance, "ForceFailover": p.force_failover}
    await ctx.use(Aws).call(p.site, "rds", "reboot_db_instance", asked)


@reboot.check
def rebooted(p: Reboot, now: InstanceStatus) -> State:
    """RDS says that it was restarted in the last minutes, and it is available again."""
    recent = now.restarted_at is not None and now.at - now.restarted_at < _RECENT
    if now.status == "available":
        return State.HOLDS if recent else State.ABSENT
    return State.IN_PROGRESS if now.status == "rebooting" else State.UNKNOWN


@reboot.by_hand
def reboot_by_hand(p: Reboot, paper: Paper) -> str:
    """One call."""
    call, name = "rds reboot-db-instance", p.instance
    return paper.aws(p.site, call, db_instance_identifier=name, force_failover=p.force_failover)
