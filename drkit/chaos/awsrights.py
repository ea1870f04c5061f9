"""Whether the role of a lease may make its inverse calls, as IAM itself works it out. Where it cannot: unchecked.

A lease whose role may not undo the fault is no lease. IAM's simulation knows policies, boundaries and organisation;
not what a condition needs that only the real request has, nor policies of the resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from drkit.chaos.awslease import Call
from drkit.context import Context
from drkit.errors import DrkitError, Refused
from drkit.providers.aws import Aws

MAY: Final = "may undo it"
#: Where permissions are not called as the operation.
_PERMISSIONS: Final = {"s3:PutBucketReplication": "s3:PutReplicationConfiguration"}
#: The ARN of what a call changes, by the parameter that names it.
_ARNS: Final = {
    "InstanceIds": "arn:aws:ec2:{region}:{account}:instance/{it}",
    "GroupId": "arn:aws:ec2:{region}:{account}:security-group/{it}",
    "NetworkAclId": "arn:aws:ec2:{region}:{account}:network-acl/{it}",
    "HealthCheckId": "arn:aws:route53:::healthcheck/{it}",
    "Bucket": "arn:aws:s3:::{it}",
    "RoleName": "arn:aws:iam::{account}:role/{it}",
    "KeyId": "arn:aws:kms:{region}:{account}:key/{it}",
    "FunctionName": "arn:aws:lambda:{region}:{account}:function:{it}",
}


def permission(call: Call) -> str:
    """What IAM calls the right to make this call."""
    name = f"{call.service}:{call.operation}"
    return _PERMISSIONS.get(name, name)


def arns(calls: Iterable[Call], region: str, account: str) -> list[str]:
    """What these calls change."""
    found: dict[str, None] = {}
    for call in calls:
        for key in call.input.keys() & _ARNS.keys():
            value = call.input[key]
            for it in value if isinstance(value, list) else [value]:
                found[_ARNS[key].format(region=region, account=account, it=it)] = None
    return list(found)


def judged(results: Sequence[Mapping[str, Any]], role: str) -> str:
    """What IAM's answers amount to: `MAY`, or why it is unchecked. Refused if the role may not."""
    for one in results:
        if one["EvalDecision"] != "allowed" and not one.get("MissingContextValues"):
            raise Refused(
                f"The lease's role {role} may not {one['EvalActionName']} on {one['EvalResourceName']} "
                f"({one['EvalDecision']}): it could not undo the fault. Nothing was injected.",
                hint=f"aws iam list-attached-role-policies --role-name {role}",
            )
    missing = sorted({name for one in results for name in one.get("MissingContextValues", ())})
    return f"unchecked: it depends on {', '.join(missing)}" if missing else MAY


async def rights(ctx: Context, site: str, role: str, revert: Sequence[Call]) -> str:
    """`MAY`, or why it is unchecked. Refused if IAM says that the role may not make one of these calls."""
    results: list[Any] = []
    by_right: dict[str, list[Call]] = {}
    for call in revert:
        by_right.setdefault(permission(call), []).append(call)
    aws = ctx.use(Aws)
    try:
        account = (await aws.call(site, "sts", "get_caller_identity"))["Account"]
        for right, calls in by_right.items():
            asked = {
                "PolicySourceArn": f"arn:aws:iam::{account}:role/{role}", "ActionNames": [right],
                "ResourceArns": arns(calls, ctx.site(site).name, account),
            }  # fmt: skip
            found = await aws.pages(site, "iam", "simulate_principal_policy", "EvaluationResults", asked)
            results += found
    except DrkitError as error:
        return f"unchecked: {error.message}"
    return judged(results, role)
