"""aws.iam-deny: a role may not do something any more, by an inline policy whose condition ends by itself."""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.faults._policy import caller, deny, document, lapsed
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, aws_fault
from drkit.context import Context
from drkit.errors import Refused, Unobservable
from drkit.model.faults import fault_key
from drkit.model.observation import State
from drkit.model.paper import Paper, lines
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError

_PREFIX = "drkit-"


class Role(OnAws):
    """A role of IAM, which is the same from every region."""

    denied_role: str
    """Its name."""


class Denials(Seen):
    """What faults deny a role."""

    policies: dict[str, Json]
    """Its inline policies that faults have put there, by name."""
    asked_by: str
    """ARN of the user or role that drkit itself acts as."""
    at: datetime
    """What time it is for AWS."""


@probe("aws.role-denials", plane="control")
async def denials(ctx: Context, p: Role) -> Denials:
    """Which inline policies of a role faults have put there, and what time it is for AWS."""
    aws, role = ctx.use(Aws), {"RoleName": p.denied_role}
    try:
        answer = await aws.call(p.site, "iam", "list_role_policies", role)
        found: dict[str, Any] = {}
        for name in (one for one in answer["PolicyNames"] if one.startswith(_PREFIX)):
            got = await aws.call(p.site, "iam", "get_role_policy", {**role, "PolicyName": name})
            found[name] = got["PolicyDocument"]
    except AwsError as error:
        raise Unobservable(error.message) from error
    at = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return Denials(policies=found, asked_by=await caller(ctx, p.site), at=at)


class Deny(Role, AwsFault):
    """What a role may not do."""

    actions: tuple[str, ...]
    """As IAM names them: `s3:GetObject`, `rds:*`."""


@aws_fault("aws.iam-deny", observe=denials, dated=True)
def iam_deny(p: Deny, before: Denials) -> Change:
    """Deny a role some actions, everywhere. Never to the role that undoes it, nor to the one drkit acts as."""
    if p.denied_role in (p.role, before.asked_by.rsplit("/", 1)[-1]):
        raise Refused(f"aws.iam-deny: {p.denied_role} is needed to undo it.", hint="drkit explain aws.iam-deny")
    key = fault_key(iam_deny.name, p)
    it: dict[str, Json] = {"RoleName": p.denied_role, "PolicyName": _PREFIX + key}

    def put(until: datetime) -> tuple[Call, ...]:
        text = document([deny(key, p.actions, until, Resource="*")])
        return (Call("iam", "PutRolePolicy", {**it, "PolicyDocument": text}),)

    return Change(put, (Call("iam", "DeleteRolePolicy", it),))


@iam_deny.check
def denied(p: Deny, now: Denials) -> State:
    """The policy is there and has not lapsed; absent when its text is gone, too."""
    found: Any = now.policies.get(_PREFIX + fault_key(iam_deny.name, p))
    if found is None:
        return State.ABSENT
    return State.IN_PROGRESS if lapsed(found["Statement"][0], now.at) else State.HOLDS


@iam_deny.by_hand
def deny_by_hand(p: Deny, paper: Paper) -> str:
    """One call; the date is that of the lease's end."""
    key = fault_key(iam_deny.name, p)
    policy = json.loads(document([deny(key, p.actions, datetime(2000, 1, 1), Resource="*")]))
    policy["Statement"][0]["Condition"]["DateLessThan"]["aws:CurrentTime"] = "UNTIL"
    names = {"role_name": p.denied_role, "policy_name": _PREFIX + key}
    put = paper.aws(p.site, "iam put-role-policy", **names, policy_document=policy)
    return lines("# UNTIL is an instant, as 2026-11-23T08:00:00Z", put)
