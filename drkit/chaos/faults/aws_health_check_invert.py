"""aws.health-check-invert: Route 53 takes the healthy for dead, so that records which follow a health check move."""

from __future__ import annotations

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, aws_fault
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.paper import Paper
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError


class HealthCheck(OnAws):
    """A health check of Route 53, which is the same from every region."""

    health_check: str
    """Its id."""


class Inversion(Seen):
    """Whether a health check means the opposite."""

    inverted: bool
    version: int
    """Counts up with every change of its settings."""


@probe("aws.health-check", plane="control")
async def health_check(ctx: Context, p: HealthCheck) -> Inversion:
    """Whether a health check means the opposite, and the version of its settings."""
    try:
        answer = await ctx.use(Aws).call(p.site, "route53", "get_health_check", {"HealthCheckId": p.health_check})
    except AwsError as error:
        raise Unobservable(error.message) from error
    found = answer["HealthCheck"]
    return Inversion(inverted=found["HealthCheckConfig"].get("Inverted", False), version=found["HealthCheckVersion"])


class Invert(HealthCheck, AwsFault):
    """Which health check is to mean the opposite."""


@aws_fault("aws.health-check-invert", observe=health_check)
def invert(p: Invert, before: Inversion) -> Change:
    """Invert a health check: DNS leaves what is healthy. Each call names the version it changes, and no other."""

    def update(inverted: bool, version: int) -> Call:
        asked: dict[str, Json] = {"HealthCheckId": p.health_check, "HealthCheckVersion": version, "Inverted": inverted}
        return Call("route53", "UpdateHealthCheck", asked)

    return Change((update(True, before.version),), (update(False, before.version + 1),))


@invert.check
def inverted(p: Invert, now: Inversion) -> bool:
    """Its settings say so; resolvers follow when their answers expire."""
    return now.inverted


@invert.by_hand
def invert_by_hand(p: Invert, paper: Paper) -> str:
    """One call."""
    return paper.aws(p.site, "route53 update-health-check", health_check_id=p.health_check) + " --inverted"
