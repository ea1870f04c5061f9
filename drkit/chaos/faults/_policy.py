"""Statements of policies that deny until a date, and whom they must not hit. Pure, but for who asks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from drkit.context import Context
from drkit.model.values import Json
from drkit.providers.aws import Aws

_DATE: Final = "%Y-%m-%dT%H:%M:%SZ"


def sid_of(key: str) -> str:
    """Name of the statement of the fault with this key: letters and digits only, as IAM wants it."""
    return f"drkit{zlib.crc32(key.encode()):08x}"


def deny(key: str, actions: Sequence[str], until: datetime, **more: Json) -> dict[str, Json]:
    """A statement that denies these actions until then, and nothing after."""
    ends: Json = {"aws:CurrentTime": until.strftime(_DATE)}
    conditions = more.pop("Condition", {})
    assert isinstance(conditions, dict)
    return {
        "Sid": sid_of(key), "Effect": "Deny", "Action": list(actions), **more,
        "Condition": {"DateLessThan": ends, **conditions},
    }  # fmt: skip


def lapsed(statement: Any, now: datetime) -> bool:
    """Whether a statement of ours denies nothing any more."""
    ends = datetime.strptime(statement["Condition"]["DateLessThan"]["aws:CurrentTime"], _DATE).replace(tzinfo=UTC)
    return now >= ends


def document(statements: Sequence[Json]) -> str:
    """A policy of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


async def caller(ctx: Context, site: str) -> str:
    """ARN of the user or role that our own calls are made as. DrkitError."""
    arn: str = (await ctx.use(Aws).call(site, "sts", "get_caller_identity"))["Arn"]
    return role_arn(arn)


def patterns(arn: str) -> list[Json]:
    """What a role's ARN looks like with and without a path, which its sessions do not tell; of others, the ARN."""
    head, role, name = arn.partition(":role/")
    return [arn, f"{head}:role/*/{name}"] if role else [arn]


def role_arn(arn: str) -> str:
    """A session of a role (`…:assumed-role/NAME/SESSION`) as that role; any other identity as it is."""
    head, _, rest = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.split('/')[0]}" if rest else arn
