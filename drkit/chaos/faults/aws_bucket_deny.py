"""aws.bucket-deny: nobody may do something with a bucket any more, by a statement whose condition ends by itself."""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.faults._policy import caller, deny, document, lapsed, patterns, sid_of
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, Standing, aws_fault
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.faults import fault_key
from drkit.model.observation import State
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError


class Bucket(OnAws):
    """A bucket."""

    bucket: str
    """Its name."""


class BucketPolicy(Seen):
    """Who may do what with a bucket."""

    statements: tuple[dict[str, Json], ...]
    asked_by: str
    """ARN of the user or role that drkit itself acts as."""
    at: datetime
    """What time it is for AWS."""

    def standing(self, call: Call) -> Standing:
        """The inverse puts back the whole: only over what differs from it by our one statement."""
        text = call.input.get("Policy")
        stored = json.loads(text)["Statement"] if isinstance(text, str) else []
        others = [one for one in self.statements if not str(one.get("Sid", "")).startswith("drkit")]
        if len(others) == len(self.statements):
            return "gone" if others == stored else "theirs"
        return "ours" if others == stored else "changed"


@probe("aws.bucket-policy", plane="control")
async def bucket_policy(ctx: Context, p: Bucket) -> BucketPolicy:
    """Who may do what with a bucket, and what time it is for AWS."""
    aws, it = ctx.use(Aws), {"Bucket": p.bucket}
    found: list[Any] = []
    try:
        answer = await aws.call(p.site, "s3", "get_bucket_location", it)
        found = json.loads((await aws.call(p.site, "s3", "get_bucket_policy", it))["Policy"])["Statement"]
    except AwsError as error:
        if error.aws_code != "NoSuchBucketPolicy":
            raise Unobservable(error.message) from error
    at = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return BucketPolicy(statements=tuple(found), asked_by=await caller(ctx, p.site), at=at)


class DenyBucket(Bucket, AwsFault):
    """What nobody may do with a bucket."""

    actions: tuple[str, ...]
    """As IAM names them: `s3:GetObject`, `s3:PutObject`."""


@aws_fault("aws.bucket-deny", observe=bucket_policy, dated=True)
def bucket_deny(p: DenyBucket, before: BucketPolicy) -> Change:
    """Deny everybody some actions on a bucket and its objects, but for the lease's role and the one drkit acts as."""
    it: dict[str, Json] = {"Bucket": p.bucket}
    spared = [*patterns(f"arn:aws:iam::*:role/{p.role}"), *patterns(before.asked_by)]

    def put(until: datetime) -> tuple[Call, ...]:
        statement = deny(
            fault_key(bucket_deny.name, p), p.actions, until, Principal="*",
            Resource=[f"arn:aws:s3:::{p.bucket}", f"arn:aws:s3:::{p.bucket}/*"],
            Condition={"ArnNotLike": {"aws:PrincipalArn": spared}},
        )  # fmt: skip
        return (Call("s3", "PutBucketPolicy", {**it, "Policy": document([*before.statements, statement])}),)

    stored: dict[str, Json] = {**it, "Policy": document(list(before.statements))}
    back = Call("s3", "PutBucketPolicy", stored) if before.statements else Call("s3", "DeleteBucketPolicy", it)
    return Change(put, (back,))


@bucket_deny.check
def denied(p: DenyBucket, now: BucketPolicy) -> State:
    """The statement is there and has not lapsed; absent when its text is gone, too."""
    sid = sid_of(fault_key(bucket_deny.name, p))
    found = [one for one in now.statements if one.get("Sid") == sid]
    if not found:
        return State.ABSENT
    return State.IN_PROGRESS if lapsed(found[0], now.at) else State.HOLDS
