"""aws.security-group-cut: a security group lets nobody in, and then the same as before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, Standing, aws_fault
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import State
from drkit.model.paper import Paper
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError

#: Whom a rule lets in, by kind.
SOURCES: Final = ("IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs")


class Group(OnAws):
    """A security group."""

    group: str
    """Its id, `sg-…`."""


class Ingress(Seen):
    """Whom a security group lets in."""

    rules: tuple[dict[str, Json], ...]
    """Its `IpPermissions`, without what is empty."""

    def standing(self, call: Call) -> Standing:
        """Each source is back by itself."""
        wanted = call.input["IpPermissions"]
        return "gone" if isinstance(wanted, list) and wanted[0] in list(apart(self.rules)) else "ours"


@probe("aws.security-group", plane="control")
async def group(ctx: Context, p: Group) -> Ingress:
    """Whom a security group lets in."""
    try:
        found = await ctx.use(Aws).call(p.site, "ec2", "describe_security_groups", {"GroupIds": [p.group]})
    except AwsError as error:
        raise Unobservable(error.message) from error
    rules = found["SecurityGroups"][0]["IpPermissions"]
    return Ingress(rules=tuple({key: value for key, value in rule.items() if value != []} for rule in rules))


class Cut(Group, AwsFault):
    """Which group is to let nobody in."""


@aws_fault("aws.security-group-cut", observe=group)
def cut(p: Cut, before: Ingress) -> Change:
    """Revoke every ingress rule of a security group; connections that are open already may last."""
    rules: dict[str, Json] = {"GroupId": p.group, "IpPermissions": list(before.rules)}
    revert = (
        Call("ec2", "AuthorizeSecurityGroupIngress", {"GroupId": p.group, "IpPermissions": [rule]})
        for rule in apart(before.rules)
    )
    return Change((Call("ec2", "RevokeSecurityGroupIngress", rules),), tuple(revert))


def apart(rules: Iterable[Mapping[str, Json]]) -> Iterator[dict[str, Json]]:
    """Each source of each rule by itself: one that somebody let in meanwhile must not keep the others out."""
    for rule in rules:
        what = {key: value for key, value in rule.items() if key not in SOURCES}
        for kind in SOURCES:
            sources = rule.get(kind)
            for source in sources if isinstance(sources, list) else ():
                yield what | {kind: [source]}


@cut.check
def nobody(p: Cut, now: Ingress) -> State:
    """It has no ingress rule; they go in one call."""
    return State.ABSENT if now.rules else State.HOLDS


@cut.by_hand
def cut_by_hand(p: Cut, paper: Paper) -> str:
    """The rules are kept in a variable: they are what has to come back."""
    query = "SecurityGroups[0].IpPermissions"
    listed = paper.aws(p.site, "ec2 describe-security-groups", group_ids=p.group)
    change = paper.aws(p.site, "ec2 revoke-security-group-ingress", group_id=p.group)
    return f'RULES="$({listed} --query {query} --output json)"\n{change} --ip-permissions "$RULES"'
