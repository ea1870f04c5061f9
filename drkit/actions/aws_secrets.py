"""Secrets Manager: replicas made primaries, their versions compared, and the database's login tried."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from drkit.actions.trying import tried
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, Raw, if_it_answers, lines, login
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError
from drkit.providers.postgres import try_login

ROLE_TAG, DIGEST_TAG = "drkit:role", "drkit:value-digest"
#: What differs between regions by nature and is not part of the value that must be equal.
_LOCAL = ("host", "port")


class SecretSet(Params):
    """Secrets that the application reads."""

    site: SiteName = "target"
    """Region of the secrets."""
    names: list[str]
    """Their names."""
    login: str = ""
    """Name of the one that holds the database's login, which is tried; empty: none."""
    database: str = ""
    """Database of the environment that the login is for."""


class SecretState(Observation):
    """One secret, without its value."""

    name: str
    role: str | None
    """`primary` or `replica`."""
    version: str | None
    """Identifier of the current version."""
    intact: bool
    """The value has the digest that is written beside it: it is the one that was agreed on."""
    source_version: str | None = None
    """The source's current version; null if it does not answer."""


class SecretsState(Observation):
    """All of them. `login` null: none is to be tried."""

    secrets: list[SecretState]
    source: str
    login: bool | None = None
    """The database accepts the login that the secret holds."""


@probe("aws.secrets.state")
async def state(ctx: Context, p: SecretSet) -> SecretsState:
    """Read every secret, compare it with its digest and with the source, and log in to the database with it."""
    found: list[SecretState] = []
    source = "answered"
    login: bool | None = None
    for name in p.names:
        told, theirs = ("unreachable", None) if source == "unreachable" else await tried(ctx, _version(ctx, name))
        source = told
        secret, value = await _look(ctx, p.site, name)
        found.append(secret.model_copy(update={"source_version": theirs}))
        if name == p.login:
            login = value is not None and await _log_in(ctx, p, value)
    return SecretsState(secrets=found, source=source, login=login)


async def _version(ctx: Context, name: str) -> str | None:
    described = await ctx.use(Aws).call(ctx.source, "secretsmanager", "describe_secret", {"SecretId": name})
    return _current(described)


async def _look(ctx: Context, site: str, name: str) -> tuple[SecretState, dict[str, Any] | None]:
    aws = ctx.use(Aws)
    try:
        described = await aws.call(site, "secretsmanager", "describe_secret", {"SecretId": name})
        answer = await aws.call(site, "secretsmanager", "get_secret_value", {"SecretId": name})
    except AwsError as error:
        if error.aws_code != "ResourceNotFoundException":
            raise
        return SecretState(name=name, role=None, version=None, intact=False), None
    value = json.loads(answer["SecretString"])
    tags = {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}
    digest = value_digest(value)
    intact = tags.get(DIGEST_TAG) == digest and answer["VersionId"] == _current(described)
    return SecretState(name=name, role=tags.get(ROLE_TAG), version=_current(described), intact=intact), value


def _current(described: dict[str, Any]) -> str | None:
    stages: dict[str, list[str]] = described.get("VersionIdsToStages", {})
    return next((version for version, names in stages.items() if "AWSCURRENT" in names), None)


def value_digest(value: dict[str, Any]) -> str:
    """Digest of the part of a secret's value that must be equal in every region."""
    shared = {name: each for name, each in value.items() if name not in _LOCAL}
    return "sha256:" + hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


async def _log_in(ctx: Context, p: SecretSet, value: dict[str, Any]) -> bool:
    side = ctx.environment.database(p.database, p.site)
    return await try_login(side.address, side.dbname, str(value.get("username")), str(value.get("password")))


@action("aws.secrets.promote", observe=state, repeat="safe", plane="control", timeout_s=60)
async def promote(ctx: Context, p: SecretSet, before: SecretsState) -> None:
    """Mark the replicas of this region as primaries."""
    aws = ctx.use(Aws)
    for secret in before.secrets:
        if secret.version is None:
            raise Unobservable(f"There is no secret {secret.name} in {p.site}.")
        if not secret.intact or secret.source_version not in (None, secret.version):
            raise StepFailed(f"{secret.name} in {p.site} is not what was agreed on.", world="untouched")
    if before.login is False:
        raise StepFailed(f"The database does not accept what {p.login} holds.", world="untouched")
    for secret in before.secrets:
        request = {"SecretId": secret.name, "Tags": [{"Key": ROLE_TAG, "Value": "primary"}]}
        await aws.call(p.site, "secretsmanager", "tag_resource", request)


@promote.check
def promoted(p: SecretSet, now: SecretsState) -> State:
    """All primaries, all intact, none older than the source's where the source says, and the login works."""
    for secret in now.secrets:
        if secret.source_version not in (None, secret.version) or not secret.intact:
            return State.UNKNOWN  # marking it again would not make it the right value
    if now.login is False:
        return State.UNKNOWN
    return State.HOLDS if all(secret.role == "primary" for secret in now.secrets) else State.ABSENT


@promote.undo
def left_primary(p: SecretSet, before: SecretsState, after: SecretsState | None) -> Use | None:
    """Left as they are: the values are equal on both sides, and failback decides which side leads."""
    return None


@state.by_hand
def look_at_secrets(p: SecretSet, paper: Paper) -> str:
    """Versions here and at the source, tags, and the login; no value is shown."""
    call, shown = "secretsmanager describe-secret", "[VersionIdsToStages,Tags]"
    return lines(
        "# the version that is AWSCURRENT must be the same on both sides, if the source answers",
        *(
            lines(
                paper.aws(p.site, call, secret_id=name, query=shown),
                if_it_answers(paper.aws(paper.source, call, secret_id=name, query="VersionIdsToStages")),
            )
            for name in p.names
        ),
        _login(p, paper) if p.login else [],
    )


def _login(p: SecretSet, paper: Paper) -> list[str]:
    """The login that the secret holds, tried at the database; the password goes from one command to the other."""
    value = paper.aws(p.site, "secretsmanager get-secret-value", secret_id=p.login, query="SecretString")
    side = paper.database(p.database, p.site)
    user = Raw(f'"$({value} | jq -r .username)"')
    return [
        "# the database must accept the login",
        f'PGPASSWORD="$({value} | jq -r .password)" {login(side, user)} -c "select current_user"',
    ]


@promote.by_hand
def promote_by_hand(p: SecretSet, paper: Paper) -> str:
    """Only after the check has shown equal versions and a login that works."""
    tags: list[dict[str, object]] = [{"Key": ROLE_TAG, "Value": "primary"}]
    return lines(
        "# look at the check below first: versions must be equal and the login must work",
        [paper.aws(p.site, "secretsmanager tag-resource", secret_id=name, tags=tags) for name in p.names],
    )
