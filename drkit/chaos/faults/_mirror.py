"""A network ACL of a fault's own, for subnets that share theirs with others: it says the same, and then denies, too.

Which association a subnet gets when its ACL is replaced is known only afterwards, so no lease that exists before could
put the old one back. It can take rules away from an ACL that is there already. So the fault makes one that says what
the shared one says, arms its lease against that, moves the subnets over and denies there. Once the lease has undone
that, they are guarded as before; whoever heals, or sweeps the spent lease, also moves them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from drkit.chaos.awslease import Call
from drkit.chaos.faults._acl import Acl, Rule, acls_of, read, without
from drkit.context import Context
from drkit.errors import Refused
from drkit.model import written
from drkit.providers.aws import Aws

#: Tags: whose it is, and which ACL its subnets belong to.
_FAULT: Final = "drkit:fault"
_INSTEAD: Final = "drkit:instead-of"
#: What is numbered higher is AWS's own: every ACL has it.
_LAST: Final = 32766


async def apart(ctx: Context, site: str, key: str, inside: Sequence[str]) -> list[Acl]:
    """The ACLs in which these subnets, and no others, can be cut off, by id; for shared ones, such as will be.

    Their rules are those without the fault. A new one guards nobody yet: it `takes` associations over. DrkitError.
    """
    found: dict[str, Acl] = {}
    for acl in await acls_of(ctx, site, inside):
        mine = acl if {*acl.subnets} <= {*inside} else await _mirror(ctx, site, key, acl, inside)
        if mine.id not in found or mine.takes:  # one that a killed attempt has moved a part to is seen twice
            found[mine.id] = without(mine, key)
    return sorted(found.values(), key=lambda acl: acl.id)


def takeovers(acl: Acl) -> list[Call]:
    """What moves subnets to this ACL."""
    return [
        Call("ec2", "ReplaceNetworkAclAssociation", {"AssociationId": one, "NetworkAclId": acl.id}) for one in acl.takes
    ]


async def give_back(ctx: Context, site: str, key: str) -> None:
    """Move the subnets back to the ACLs they had, and delete those of the fault. DrkitError."""
    aws = ctx.use(Aws)
    for one in await _made(ctx, site, key):
        for each in one["Associations"]:
            back = {"AssociationId": each["NetworkAclAssociationId"], "NetworkAclId": _tags(one)[_INSTEAD]}
            await aws.call(site, "ec2", "replace_network_acl_association", back)
        await aws.call(site, "ec2", "delete_network_acl", {"NetworkAclId": one["NetworkAclId"]})
    written.taken_back()


async def _mirror(ctx: Context, site: str, key: str, shared: Acl, inside: Sequence[str]) -> Acl:
    """An ACL of the fault's own that says what a shared one says, made or found made. Refused if it says else."""
    aws = ctx.use(Aws)
    old = await _described(aws, site, shared.id)
    made = [one["NetworkAclId"] for one in await _made(ctx, site, key) if _tags(one)[_INSTEAD] == shared.id]
    if not made:
        tags = [{"Key": _FAULT, "Value": key}, {"Key": _INSTEAD, "Value": shared.id}]
        asked = {"VpcId": old["VpcId"], "TagSpecifications": [{"ResourceType": "network-acl", "Tags": tags}]}
        made = [(await aws.call(site, "ec2", "create_network_acl", asked))["NetworkAcl"]["NetworkAclId"]]
    there = read(await _described(aws, site, made[0]))
    for rule in _written_rules(shared):
        if rule not in there.rules:
            await aws.call(site, "ec2", "create_network_acl_entry", {"NetworkAclId": there.id, **rule})
    there = read(await _described(aws, site, there.id))
    # Who is moved to an ACL that says something else is broken by that alone, and no lease knows of it.
    if _written_rules(without(there, key)) != _written_rules(shared):
        raise Refused(f"{there.id} was to say what {shared.id} says, and does not.", hint="drkit chaos leftovers")
    takes = sorted(one["NetworkAclAssociationId"] for one in old["Associations"] if one["SubnetId"] in inside)
    return there.model_copy(update={"takes": tuple(takes)})


def _written_rules(acl: Acl) -> list[Rule]:
    """What people or drkit have made it say, in one order."""
    mine = [rule for rule in acl.rules if int(str(rule["RuleNumber"])) <= _LAST]
    return sorted(mine, key=lambda rule: (str(rule["Egress"]), int(str(rule["RuleNumber"]))))


async def _described(aws: Aws, site: str, id: str) -> dict[str, Any]:
    answer = await aws.call(site, "ec2", "describe_network_acls", {"NetworkAclIds": [id]})
    found: dict[str, Any] = answer["NetworkAcls"][0]
    return found


async def _made(ctx: Context, site: str, key: str) -> list[Any]:
    asked = {"Filters": [{"Name": f"tag:{_FAULT}", "Values": [key]}]}
    return await ctx.use(Aws).pages(site, "ec2", "describe_network_acls", "NetworkAcls", asked)


def _tags(found: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
