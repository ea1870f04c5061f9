"""aws.subnet-isolate: nothing enters or leaves a subnet, by rules before all others of its network ACL."""

from __future__ import annotations

from typing import Final

from drkit.catalog import probe
from drkit.chaos.onaws import AwsFault, Call, Change, OnAws, aws_fault
from drkit.context import Context
from drkit.errors import Refused, Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, keep, lines, var
from drkit.model.values import Json
from drkit.providers.aws import Aws

#: Number of the first rule of an ACL, and of the one after it: for IPv4 and for IPv6.
RULES: Final = {1: ("CidrBlock", "0.0.0.0/0"), 2: ("Ipv6CidrBlock", "::/0")}


class Subnet(OnAws):
    """A subnet."""

    subnet: str
    """Its id, `subnet-…`."""


class SubnetAcl(Observation):
    """The network ACL of a subnet."""

    acl: str
    others: tuple[str, ...] = ()
    """Further subnets that it guards."""
    denying: int
    """How many of the four rules are there by which it denies everything: in and out, IPv4 and IPv6."""
    taken: bool = False
    """Another rule has one of their numbers."""


@probe("aws.subnet", plane="control")
async def subnet(ctx: Context, p: Subnet) -> SubnetAcl:
    """Which network ACL guards a subnet, and whether it denies everything first."""
    asked = {"Filters": [{"Name": "association.subnet-id", "Values": [p.subnet]}]}
    found = (await ctx.use(Aws).call(p.site, "ec2", "describe_network_acls", asked))["NetworkAcls"]
    if not found:
        raise Unobservable(f"There is no subnet {p.subnet} in {p.site}.")
    mine = [entry for entry in found[0]["Entries"] if entry["RuleNumber"] in RULES]
    ours = [e for e in mine if e["RuleAction"] == "deny" and e["Protocol"] == "-1" and _everything(e)]
    guarded = {each["SubnetId"] for each in found[0]["Associations"]}
    return SubnetAcl(
        acl=found[0]["NetworkAclId"], others=tuple(sorted(guarded - {p.subnet})), denying=len(ours),
        taken=len(ours) < len(mine),
    )  # fmt: skip


def _everything(entry: dict[str, object]) -> bool:
    key, value = RULES[int(str(entry["RuleNumber"]))]
    return entry.get(key) == value


class Isolate(Subnet, AwsFault):
    """Which subnet is to be cut off."""


@aws_fault("aws.subnet-isolate", observe=subnet)
def isolate(p: Isolate, before: SubnetAcl) -> Change:
    """Deny everything in and out of a subnet, open connections too, by its own network ACL."""
    if before.others or before.taken:
        why = f"guards {', '.join(before.others)} too" if before.others else "has rules 1 or 2 of its own"
        raise Refused(f"aws.subnet-isolate: {before.acl} {why}.", hint="give the subnet a network ACL of its own")
    rules: list[dict[str, Json]] = [
        {"NetworkAclId": before.acl, "RuleNumber": n, "Egress": egress} for n in RULES for egress in (False, True)
    ]
    deny: dict[str, Json] = {"Protocol": "-1", "RuleAction": "deny"}
    made = [{**rule, **deny, key: net} for rule in rules for key, net in [RULES[int(str(rule["RuleNumber"]))]]]
    return Change(
        tuple(Call("ec2", "CreateNetworkAclEntry", rule) for rule in made),
        tuple(Call("ec2", "DeleteNetworkAclEntry", rule) for rule in rules),
    )


@isolate.check
def isolated(p: Isolate, now: SubnetAcl) -> State:
    """All four rules are there; absent when none is."""
    return {0: State.ABSENT, 2 * len(RULES): State.HOLDS}.get(now.denying, State.IN_PROGRESS)


@isolate.by_hand
def isolate_by_hand(p: Isolate, paper: Paper) -> str:
    """The ACL, which must guard no other subnet, and its four rules."""
    asked, query = f"Name=association.subnet-id,Values={p.subnet}", "NetworkAcls[0].NetworkAclId"
    create = "ec2 create-network-acl-entry"
    made = [
        paper.aws(p.site, create, network_acl_id=var("ACL"), rule_number=n, protocol="-1", rule_action="deny")
        + f" --{'cidr-block' if n == 1 else 'ipv6-cidr-block'} {net} --{way}"
        for n, (_, net) in RULES.items() for way in ("ingress", "egress")
    ]  # fmt: skip
    return lines(keep("ACL", paper.aws(p.site, "ec2 describe-network-acls", filters=asked, query=query)), made)
