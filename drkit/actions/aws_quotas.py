"""Before anything is made: quotas, capacity, and whether every API that the recovery calls answers."""

from __future__ import annotations

import json

from drkit.actions.together import together
from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import DrkitError
from drkit.model.observation import Observation
from drkit.model.paper import Paper, lines
from drkit.model.params import Params, SiteName
from drkit.providers.aws import Aws

#: One cheap read for each service that a recovery calls.
_READS = {
    "autoscaling": "describe_auto_scaling_groups",
    "cloudformation": "list_stacks",
    "dynamodb": "list_tables",
    "ec2": "describe_availability_zones",
    "ecr": "describe_repositories",
    "elasticache": "describe_replication_groups",
    "elbv2": "describe_load_balancers",
    "events": "list_rules",
    "kms": "list_aliases",
    "s3": "list_buckets",
    "secretsmanager": "list_secrets",
    "sqs": "list_queues",
    "ssm": "describe_parameters",
}


class Needs(Params):
    """What the recovery needs."""

    site: SiteName = "target"
    """Region that is entered."""
    vpc: dict[str, float] = {"L-F678F1CE": 1.0}
    """Quota codes of the service `vpc` and how much of each is needed."""
    written: str
    """Start of the names of SSM parameters that hold further quotas, `{"name", "value", "needed"}` each."""
    group: str
    """Auto scaling group that must be allowed to grow."""
    size: int
    """How far it must be allowed to grow."""
    services: list[str] = sorted(_READS)
    """Services whose API must answer."""


class Preflight(Observation):
    """What is there. `ok`: everything is enough, and every API answers."""

    ok: bool
    short: dict[str, str]
    """What is not enough: what it is, and what is needed."""
    silent: dict[str, str]
    """Services whose API did not answer, and what was said instead."""
    quotas: dict[str, float]
    group_maximum: int
    services: list[str]
    """Services whose API answered."""


@probe("aws.quotas.preflight", plane="control")
async def preflight(ctx: Context, p: Needs) -> Preflight:
    """Compare quotas with needs, and ask every API one cheap question."""
    needs = [(f"vpc/{code}", await _quota(ctx, p.site, code), needed) for code, needed in sorted(p.vpc.items())]
    needs += await _written(ctx, p)
    maximum = await _group_maximum(ctx, p)
    needs.append((f"group {p.group}", float(maximum), float(p.size)))
    services, silent = await _ask_all(ctx, p)
    short = {name: f"{have:g} of {needed:g}" for name, have, needed in needs if have < needed}
    return Preflight(
        ok=not short and not silent,
        quotas={name: have for name, have, _ in needs},
        short=short,
        group_maximum=maximum,
        services=services,
        silent=silent,
    )


async def _quota(ctx: Context, site: str, code: str) -> float:
    request = {"ServiceCode": "vpc", "QuotaCode": code}
    return float((await ctx.use(Aws).call(site, "service-quotas", "get_service_quota", request))["Quota"]["Value"])


async def _written(ctx: Context, p: Needs) -> list[tuple[str, float, float]]:
    request = {"Path": p.written, "Recursive": True}
    parameters = await ctx.use(Aws).pages(p.site, "ssm", "get_parameters_by_path", "Parameters", request)
    found = {each["Name"].removeprefix(p.written).strip("/"): json.loads(each["Value"]) for each in parameters}
    return [(name, float(quota["value"]), float(quota["needed"])) for name, quota in sorted(found.items())]


async def _group_maximum(ctx: Context, p: Needs) -> int:
    request = {"AutoScalingGroupNames": [p.group]}
    found = (await ctx.use(Aws).call(p.site, "autoscaling", "describe_auto_scaling_groups", request))[
        "AutoScalingGroups"
    ]
    return int(found[0]["MaxSize"]) if found else 0


async def _ask_all(ctx: Context, p: Needs) -> tuple[list[str], dict[str, str]]:
    services: list[str] = []
    silent: dict[str, str] = {}

    async def ask(service: str) -> None:
        try:
            await ctx.use(Aws).call(p.site, service, _READS[service])
        except DrkitError as error:
            silent[service] = error.message
        else:
            services.append(service)

    await together(ask(service) for service in p.services)
    return sorted(services), dict(sorted(silent.items()))


@preflight.by_hand
def look_before(p: Needs, paper: Paper) -> str:
    """Quotas, the group's largest size, and one cheap question for every API."""
    quota = "service-quotas get-service-quota"
    group, size = "autoscaling describe-auto-scaling-groups", "AutoScalingGroups[].MaxSize"
    return lines(
        *(
            [
                f"# at least {needed:g}",
                paper.aws(p.site, quota, service_code="vpc", quota_code=code, query="Quota.Value"),
            ]
            for code, needed in sorted(p.vpc.items())
        ),
        "# in each line `value` must be at least `needed`",
        paper.aws(
            p.site, "ssm get-parameters-by-path", path=p.written, recursive=True, query="Parameters[].[Name,Value]"
        ),
        f"# at least {p.size}",
        paper.aws(p.site, group, auto_scaling_group_names=[p.group], query=size),
        "# each must answer, whatever it says",
        [
            paper.aws(p.site, f"{'s3api' if name == 's3' else name} {_READS[name].replace('_', '-')}") + " >/dev/null"
            f" && echo {name} answers"
            for name in p.services
        ],
    )
