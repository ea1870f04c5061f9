"""IAM: roles and identity providers exist already. Read only: IAM writes are decided in the region that may be down."""

from __future__ import annotations

from drkit.catalog import probe
from drkit.context import Context
from drkit.model.observation import Observation
from drkit.model.paper import Paper, lines
from drkit.model.params import Params, SiteName
from drkit.providers.aws import Aws, AwsError


class Identities(Params):
    """What must exist."""

    site: SiteName = "target"
    """Region whose endpoint is asked; IAM's reads are answered everywhere."""
    roles: list[str]
    """Names of roles."""
    providers: list[str] = []
    """Host names of OpenID Connect providers."""


class Existing(Observation):
    """What exists. `ok`: nothing is missing."""

    ok: bool
    roles: list[str]
    providers: list[str]
    missing: list[str]


@probe("aws.iam.identities")
async def identities(ctx: Context, p: Identities) -> Existing:
    """Read roles and OpenID Connect providers; nothing is written."""
    aws = ctx.use(Aws)
    roles = [name for name in p.roles if await _role(aws, p.site, name)]
    answer = await aws.call(p.site, "iam", "list_open_id_connect_providers")
    known = {each["Arn"].partition("/")[2] for each in answer["OpenIDConnectProviderList"]}
    providers = [name for name in p.providers if name in known]
    missing = sorted({*p.roles, *p.providers} - {*roles, *providers})
    return Existing(ok=not missing, roles=roles, providers=providers, missing=missing)


async def _role(aws: Aws, site: str, name: str) -> bool:
    try:
        found = await aws.call(site, "iam", "get_role", {"RoleName": name})
    except AwsError as error:
        if error.aws_code != "NoSuchEntity":
            raise
        return False
    return bool(found["Role"]["AssumeRolePolicyDocument"])


@identities.by_hand
def look_at_identities(p: Identities, paper: Paper) -> str:
    """Each role, and every provider. Nothing is written: IAM writes need a region that may be down."""
    providers = "OpenIDConnectProviderList[].Arn"
    return lines(
        "# every role must be printed",
        [paper.aws(p.site, "iam get-role", role_name=role, query="Role.Arn") for role in p.roles],
        f"# must be among these: {', '.join(p.providers) or 'none is needed'}",
        paper.aws(p.site, "iam list-open-id-connect-providers", query=providers),
    )
