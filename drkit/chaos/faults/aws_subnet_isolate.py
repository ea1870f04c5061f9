"""aws.subnet-isolate: nothing enters or leaves a subnet, by the first rules of a network ACL that guards no other."""

from __future__ import annotations

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.faults._acl import Acl, acls_of, barred, barring, first_of
from drkit.chaos.faults._mirror import apart, give_back, takeovers
from drkit.chaos.onaws import AwsFault, Change, OnAws, Own, Seen, Standing, aws_fault
from drkit.context import Context
from drkit.model.faults import fault_key
from drkit.model.observation import State
from drkit.model.paper import Paper, keep, lines, var


class Subnet(OnAws):
    """A subnet."""

    subnet: str
    """Its id, `subnet-…`."""


class SubnetAcl(Seen):
    """The network ACL of a subnet."""

    acl: Acl

    def standing(self, call: Call) -> Standing | None:
        """A rule is ours by its number and all it says; of an ACL that guards the subnet no longer nothing is known."""
        return self.acl.standing(call) if call.input["NetworkAclId"] == self.acl.id else None


@probe("aws.subnet", plane="control")
async def subnet(ctx: Context, p: Subnet) -> SubnetAcl:
    """Which network ACL guards a subnet, and its rules."""
    (acl,) = await acls_of(ctx, p.site, [p.subnet])
    return SubnetAcl(acl=acl)


class Isolate(Subnet, AwsFault):
    """Which subnet is to be cut off."""


async def _apart(ctx: Context, p: Isolate, before: SubnetAcl) -> SubnetAcl:
    """It is to be cut off by an ACL that guards no other."""
    (acl,) = await apart(ctx, p.site, fault_key(isolate.name, p), [p.subnet])
    return before.model_copy(update={"acl": acl})


async def _together(ctx: Context, p: Isolate) -> None:
    await give_back(ctx, p.site, fault_key(isolate.name, p))


@aws_fault("aws.subnet-isolate", observe=subnet, own=Own(_apart, _together))
def isolate(p: Isolate, before: SubnetAcl) -> Change:
    """Deny everything in and out of a subnet, open connections too, by a network ACL of its own."""
    rules = list(barring(before.acl, fault_key(isolate.name, p)))
    return Change((*takeovers(before.acl), *(made for made, _ in rules)), tuple(gone for _, gone in rules))


@isolate.check
def isolated(p: Isolate, now: SubnetAcl) -> State:
    """All four rules are there; absent when none is."""
    return barred([now.acl], fault_key(isolate.name, p))


@isolate.by_hand
def isolate_by_hand(p: Isolate, paper: Paper) -> str:
    """The ACL, which must guard no other subnet, and its four rules."""
    asked, query = f"Name=association.subnet-id,Values={p.subnet}", "NetworkAcls[0].NetworkAclId"
    create, first = "ec2 create-network-acl-entry", first_of(fault_key(isolate.name, p))
    made = [
        paper.aws(p.site, create, network_acl_id=var("ACL"), rule_number=n, protocol="-1", rule_action="deny")
        + f" --{net} --{way}"
        for n, net in ((first, "cidr-block 0.0.0.0/0"), (first + 1, "ipv6-cidr-block ::/0"))
        for way in ("ingress", "egress")
    ]  # fmt: skip
    return lines(keep("ACL", paper.aws(p.site, "ec2 describe-network-acls", filters=asked, query=query)), made)
