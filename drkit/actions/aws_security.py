"""Security of the side entered: web ACL in front, audit trail logging, threat detection on, TLS valid."""

from __future__ import annotations

from drkit.actions.aws_acm import Names, certificates
from drkit.actions.aws_elb import Balancer
from drkit.actions.aws_elb import state as balancer_state
from drkit.catalog import probe
from drkit.context import Context
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName
from drkit.providers.aws import Aws, AwsError


class Guarded(Params):
    """What must be guarded."""

    site: SiteName = "target"
    """Region that is entered."""
    balancer: str
    """Load balancer that users reach."""
    group: str
    """Auto scaling group behind it."""
    trail: str
    """Audit trail that must be logging."""
    names: list[str]
    """Host names that the certificate must cover."""


class Guard(Observation):
    """What was seen. `ok`: nothing is wrong."""

    ok: bool
    wrong: list[str]
    web_acl: str | None
    logging: bool
    detectors: int
    certificate_days: float | None


@probe("aws.security.guard", plane="control")
async def guard(ctx: Context, p: Guarded) -> Guard:
    """Look at web ACL, trail, detectors and certificate."""
    wrong: list[str] = []
    balancer = await balancer_state(ctx, Balancer(site=p.site, name=p.balancer, group=p.group))
    if balancer.web_acl is None:
        wrong.append("no web ACL protects the load balancer")
    if not balancer.tls:
        wrong.append("the load balancer has no HTTPS listener with a certificate")
    logging = await _logging(ctx, p)
    if not logging:
        wrong.append(f"the trail {p.trail} does not log")
    detectors = await _detectors(ctx, p.site)
    if not detectors:
        wrong.append("no detector is enabled")
    certificate = await certificates(ctx, Names(site=p.site, names=p.names))
    if not certificate.ok:
        wrong.append("no valid certificate covers the names")
    return Guard(
        ok=not wrong,
        wrong=wrong,
        web_acl=balancer.web_acl,
        logging=logging,
        detectors=detectors,
        certificate_days=certificate.days_left,
    )


async def _logging(ctx: Context, p: Guarded) -> bool:
    try:
        return bool((await ctx.use(Aws).call(p.site, "cloudtrail", "get_trail_status", {"Name": p.trail}))["IsLogging"])
    except AwsError as error:
        if "TrailNotFound" not in error.aws_code:
            raise
        return False


async def _detectors(ctx: Context, site: str) -> int:
    aws = ctx.use(Aws)
    ids = (await aws.call(site, "guardduty", "list_detectors"))["DetectorIds"]
    states = [(await aws.call(site, "guardduty", "get_detector", {"DetectorId": id}))["Status"] for id in ids]
    return states.count("ENABLED")
