"""aws.zone-isolate: nothing enters or leaves the subnets of a zone, by rules of the network ACLs that guard them."""

from __future__ import annotations

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.faults._acl import Acl, acls_of, barred, barring, first_of
from drkit.chaos.faults._mirror import apart, give_back, takeovers
from drkit.chaos.onaws import AwsFault, Change, OnAws, Own, Seen, Standing, aws_fault
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.faults import fault_key
from drkit.model.observation import State
from drkit.model.paper import Paper, lines, var
from drkit.providers.aws import Aws


class Zone(OnAws):
    """An availability zone."""

    zone: str
    """Its name, `us-west-2a`."""
    vpc: str | None = None
    """Only subnets of this network; null: of every one in the region."""


class ZoneAcls(Seen):
    """The network ACLs that guard a zone."""

    subnets: tuple[str, ...]
    """Those in the zone."""
    acls: tuple[Acl, ...]

    def standing(self, call: Call) -> Standing | None:
        """As of a single subnet; an ACL that guards none of the zone any more is not known."""
        mine = [acl for acl in self.acls if acl.id == call.input["NetworkAclId"]]
        return mine[0].standing(call) if mine else None


@probe("aws.zone", plane="control")
async def zone(ctx: Context, p: Zone) -> ZoneAcls:
    """Which subnets are in a zone, which network ACLs guard them, and their rules."""
    filters = {"availability-zone": p.zone} | ({"vpc-id": p.vpc} if p.vpc is not None else {})
    asked = {"Filters": [{"Name": name, "Values": [value]} for name, value in filters.items()]}
    found = await ctx.use(Aws).pages(p.site, "ec2", "describe_subnets", "Subnets", asked)
    subnets = tuple(sorted(one["SubnetId"] for one in found))
    if not subnets:
        raise Unobservable(f"There is no subnet in {p.zone}.")
    return ZoneAcls(subnets=subnets, acls=tuple(await acls_of(ctx, p.site, subnets)))


class IsolateZone(Zone, AwsFault):
    """Which zone is to be cut off."""


async def _apart(ctx: Context, p: IsolateZone, before: ZoneAcls) -> ZoneAcls:
    """It is to be cut off by ACLs that guard nothing outside of it."""
    acls = await apart(ctx, p.site, fault_key(isolate.name, p), before.subnets)
    return before.model_copy(update={"acls": tuple(acls)})


async def _together(ctx: Context, p: IsolateZone) -> None:
    await give_back(ctx, p.site, fault_key(isolate.name, p))


@aws_fault("aws.zone-isolate", observe=zone, timeout_s=300.0, own=Own(_apart, _together))
def isolate(p: IsolateZone, before: ZoneAcls) -> Change:
    """Deny everything in and out of each subnet of a zone. Control planes, and what has no subnet, stay up."""
    moved = [call for acl in before.acls for call in takeovers(acl)]
    rules = [both for acl in before.acls for both in barring(acl, fault_key(isolate.name, p))]
    return Change((*moved, *(made for made, _ in rules)), tuple(gone for _, gone in rules))


@isolate.check
def isolated(p: IsolateZone, now: ZoneAcls) -> State:
    """All rules are there, at every ACL; absent when none is."""
    return barred(now.acls, fault_key(isolate.name, p))


@isolate.by_hand
def isolate_by_hand(p: IsolateZone, paper: Paper) -> str:
    """Which ACLs guard the zone, and four rules for each."""
    filters = [f"Name=availability-zone,Values={p.zone}"] + ([f"Name=vpc-id,Values={p.vpc}"] if p.vpc else [])
    subnets = paper.aws(p.site, "ec2 describe-subnets", filters=filters, query="Subnets[].SubnetId")
    found = paper.aws(p.site, "ec2 describe-network-acls", query="NetworkAcls[].NetworkAclId")
    chosen = "\"Name=association.subnet-id,Values=$(echo $SUBNETS | tr ' ' ,)\""
    create, first = "ec2 create-network-acl-entry", first_of(fault_key(isolate.name, p))
    made = [
        "  " + paper.aws(p.site, create, network_acl_id=var("ACL"), rule_number=n, protocol="-1", rule_action="deny")
        + f" --{net} --{way}"
        for n, net in ((first, "cidr-block 0.0.0.0/0"), (first + 1, "ipv6-cidr-block ::/0"))
        for way in ("ingress", "egress")
    ]  # fmt: skip
    return lines(f"SUBNETS=$({subnets})", f"for ACL in $({found} --filters {chosen}); do", made, "done")
