"""aws.key-disable: a key of KMS is disabled, and enabled again."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Predicate

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, aws_fault
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import State
from drkit.model.paper import Paper
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError


class KmsKey(OnAws):
    """A key of KMS."""

    key: Annotated[str, Predicate(lambda id: "/" not in id and ":" not in id)]
    """Its id; no alias, which may name another key by the time it is enabled again."""


class KmsKeyState(Seen):
    """What KMS says of a key."""

    state: str
    """`Enabled`, `Disabled`, or what no fault of ours made of it (`PendingDeletion`)."""


@probe("aws.key", plane="control")
async def key(ctx: Context, p: KmsKey) -> KmsKeyState:
    """Whether a key is enabled."""
    try:
        found = await ctx.use(Aws).call(p.site, "kms", "describe_key", {"KeyId": p.key})
    except AwsError as error:
        raise Unobservable(error.message) from error
    return KmsKeyState(state=found["KeyMetadata"]["KeyState"], answered_by=found["KeyMetadata"]["Arn"])


class DisableKey(KmsKey, AwsFault):
    """Which key is to be disabled."""


@aws_fault("aws.key-disable", observe=key)
def disable(p: DisableKey, before: KmsKeyState) -> Change:
    """Disable a key: nothing sealed with it can be opened, and nothing more be sealed, until it is enabled again.

    AWS itself may stop what cannot open its data any more, a database of RDS say; enabling the key does not start it.
    """
    it: dict[str, Json] = {"KeyId": p.key}
    return Change((Call("kms", "DisableKey", it),), (Call("kms", "EnableKey", it),))


@disable.check
def disabled(p: DisableKey, now: KmsKeyState) -> State:
    """It is disabled; healed only when it is enabled."""
    return {"Disabled": State.HOLDS, "Enabled": State.ABSENT}.get(now.state, State.UNKNOWN)


@disable.by_hand
def disable_by_hand(p: DisableKey, paper: Paper) -> str:
    """One call."""
    return paper.aws(p.site, "kms disable-key", key_id=p.key)
