"""KMS: a key that the application may use here, proven by encrypting and decrypting with it."""

from __future__ import annotations

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, keep, lines, var
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError

PLAINTEXT = b"drkit looks whether this key works"


class Key(Params):
    """A key and who must be allowed to use it."""

    site: SiteName = "target"
    """Region of the key."""
    alias: str
    """Alias of the key, with `alias/`."""
    grantee: str
    """ARN of the principal that the grant is for."""
    operations: list[str] = ["Encrypt", "Decrypt"]
    """What the grantee must be allowed to do."""


class KeyState(Observation):
    """A key as it is."""

    key_id: str | None
    state: str | None
    multi_region: bool = False
    granted: list[str]
    """Operations that grants allow the grantee."""
    round_trip: bool
    """What was encrypted with it was decrypted to the same bytes."""


@probe("aws.kms.key", plane="data")
async def key(ctx: Context, p: Key) -> KeyState:
    """Look up a key by its alias, its grants, and encrypt and decrypt something with it."""
    aws = ctx.use(Aws)
    try:
        found = (await aws.call(p.site, "kms", "describe_key", {"KeyId": p.alias}))["KeyMetadata"]
    except AwsError as error:
        if error.aws_code != "NotFoundException":
            raise
        return KeyState(key_id=None, state=None, granted=[], round_trip=False)
    grants = await aws.pages(p.site, "kms", "list_grants", "Grants", {"KeyId": found["KeyId"]})
    allowed = {
        operation for each in grants if each["GranteePrincipal"] == p.grantee for operation in each["Operations"]
    }
    return KeyState(
        key_id=found["KeyId"],
        state=found["KeyState"],
        multi_region=bool(found.get("MultiRegion")),
        granted=sorted(allowed),
        round_trip=await _round_trip(aws, p),
        answered_by=found["Arn"],
    )


async def _round_trip(aws: Aws, p: Key) -> bool:
    try:
        sealed = await aws.call(p.site, "kms", "encrypt", {"KeyId": p.alias, "Plaintext": PLAINTEXT}, write=False)
        opened = await aws.call(p.site, "kms", "decrypt", {"CiphertextBlob": sealed["CiphertextBlob"]})
    except AwsError:
        return False
    return bool(opened["Plaintext"] == PLAINTEXT)


@action("aws.kms.grant", observe=key, repeat="safe", plane="control", timeout_s=60)
async def grant(ctx: Context, p: Key, before: KeyState) -> None:
    """Let the application use the key of this region."""
    if before.key_id is None:
        raise StepFailed(f"There is no key {p.alias} in {p.site}.", world="untouched")
    request = {"KeyId": before.key_id, "GranteePrincipal": p.grantee, "Operations": p.operations, "Name": ctx.token}
    await ctx.use(Aws).call(p.site, "kms", "create_grant", request)


@grant.check
def usable(p: Key, now: KeyState) -> State:
    """Enabled, granted, and proven to work."""
    if now.key_id is None:
        return State.UNKNOWN
    good = now.state == "Enabled" and set(p.operations) <= set(now.granted) and now.round_trip
    return State.HOLDS if good else State.ABSENT


@grant.undo
def left_granted(p: Key, before: KeyState, after: KeyState | None) -> Use | None:
    """Left in place: the application is the same on both sides, and so is what it may read."""
    return None


@key.by_hand
def look_at_key(p: Key, paper: Paper) -> str:
    """State, grants, and a round trip; what is encrypted is no secret."""
    sealed = paper.aws(p.site, "kms encrypt", key_id=p.alias, plaintext="fileb:///dev/stdin", query="CiphertextBlob")
    opened = "base64 -d | " + paper.aws(p.site, "kms decrypt", ciphertext_blob="fileb:///dev/stdin", query="Plaintext")
    return lines(
        paper.aws(p.site, "kms describe-key", key_id=p.alias, query="KeyMetadata.[KeyId,KeyState,MultiRegion]"),
        keep("KEY", paper.aws(p.site, "kms describe-key", key_id=p.alias, query="KeyMetadata.KeyId")),
        f"# the operations granted to {p.grantee} must include {', '.join(p.operations)}",
        paper.aws(p.site, "kms list-grants", key_id=var("KEY"), query="Grants[].[GranteePrincipal,Operations]"),
        "# the round trip must print: it works",
        f"printf 'it works' | {sealed} | {opened} | base64 -d",
    )


@grant.by_hand
def grant_by_hand(p: Key, paper: Paper) -> str:
    """A grant on the key behind the alias."""
    found = paper.aws(p.site, "kms describe-key", key_id=p.alias, query="KeyMetadata.KeyId")
    give = paper.aws(
        p.site, "kms create-grant", key_id=var("KEY"), grantee_principal=p.grantee, operations=p.operations
    )
    return lines(keep("KEY", found), give)
