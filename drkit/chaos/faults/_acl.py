"""Rules of a network ACL that deny everything: known by a number drawn for the fault, and by all they say.

AWS deletes a rule by its number alone. So numbers are drawn from those below the usual ones: nobody gives a rule of
their own such a number by chance, and we delete none that says something else.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from drkit.chaos.awslease import Call
from drkit.chaos.onaws import Standing
from drkit.context import Context
from drkit.errors import Refused, Unobservable
from drkit.model.observation import State
from drkit.model.values import Json
from drkit.providers.aws import Aws

#: Rules are usually numbered from here on, in hundreds.
USUAL: Final = 100
_NETS: Final = (("CidrBlock", "0.0.0.0/0"), ("Ipv6CidrBlock", "::/0"))
Rule = dict[str, Json]


class Acl(BaseModel):
    """A network ACL."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    subnets: tuple[str, ...] = ()
    """Whom it guards."""
    rules: tuple[Rule, ...] = ()
    """What it says, as EC2 words it."""
    takes: tuple[str, ...] = ()
    """Associations of subnets that a fault is about to move to it."""

    def standing(self, delete: Call) -> Standing:
        """Whether the rule that this call deletes is there, and is one of ours."""
        number, egress = delete.input["RuleNumber"], delete.input["Egress"]
        there = [rule for rule in self.rules if (rule["RuleNumber"], rule["Egress"]) == (number, egress)]
        if not there:
            return "gone"
        return "ours" if any(there[0] == _deny(int(str(number)), egress, net) for net in _NETS) else "theirs"


async def acls_of(ctx: Context, site: str, subnets: Sequence[str]) -> list[Acl]:
    """The network ACLs that guard these subnets, in order of their ids. Unobservable if one has none; DrkitError."""
    found = [read(one) for one in await ctx.use(Aws).pages(site, "ec2", "describe_network_acls", "NetworkAcls")]
    guarding = sorted((acl for acl in found if {*acl.subnets} & {*subnets}), key=lambda acl: acl.id)
    if unguarded := {*subnets} - {subnet for acl in guarding for subnet in acl.subnets}:
        raise Unobservable(f"No network ACL guards {', '.join(sorted(unguarded))} in {site}: is there such a subnet?")
    return guarding


def first_of(key: str) -> int:
    """Number of the first of the two rules of the fault with this key; the second one follows."""
    return 2 * (zlib.crc32(key.encode()) % (USUAL // 2 - 1)) + 1


def barring(acl: Acl, key: str) -> Iterator[tuple[Call, Call]]:
    """Rule by rule, what denies everything that this ACL guards and what reverts it. Refused where a rule of its own
    would come first."""
    first = first_of(key)
    before = sorted({int(str(rule["RuleNumber"])) for rule in acl.rules if int(str(rule["RuleNumber"])) <= first + 1})
    if before:
        raise Refused(
            f"{acl.id} has a rule {before[0]} of its own, which comes before {first}, the number drawn for this fault.",
            hint=f"renumber it: usual numbers begin at {USUAL}",
        )
    for rule in _rules(first):
        named = {"NetworkAclId": acl.id, "RuleNumber": rule["RuleNumber"], "Egress": rule["Egress"]}
        made = {"NetworkAclId": acl.id, **rule}
        yield Call("ec2", "CreateNetworkAclEntry", made), Call("ec2", "DeleteNetworkAclEntry", named)


def barred(acls: Iterable[Acl], key: str) -> State:
    """Whether all of these deny everything by the rules of the fault with this key."""
    wanted = _rules(first_of(key))
    there = [rule in acl.rules for acl in acls for rule in wanted]
    if not any(there):
        return State.ABSENT
    return State.HOLDS if all(there) else State.IN_PROGRESS


def without(acl: Acl, key: str) -> Acl:
    """As it is but for the rules of the fault with this key."""
    ours = _rules(first_of(key))
    return acl.model_copy(update={"rules": tuple(rule for rule in acl.rules if rule not in ours)})


def _rules(first: int) -> list[Rule]:
    return [_deny(first + n, egress, net) for n, net in enumerate(_NETS) for egress in (False, True)]


def _deny(number: int, egress: Json, net: tuple[str, str]) -> Rule:
    return {"RuleNumber": number, "Egress": egress, "Protocol": "-1", "RuleAction": "deny", net[0]: net[1]}


def read(found: dict[str, Any]) -> Acl:
    """One of EC2's answers."""
    return Acl(
        id=found["NetworkAclId"], subnets=tuple(sorted({each["SubnetId"] for each in found["Associations"]})),
        rules=tuple(found["Entries"]),
    )  # fmt: skip
