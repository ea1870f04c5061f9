"""Which members a fault hits, and why a set of them must not be hit. Pure: a function of inventory, seed and limits.

The choice orders names by a hash of seed and name, so it depends on nothing but what is written down: not on the order
of an inventory, a version of Python or a hash seed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence

from drkit.chaos.choose import Aim, lot
from drkit.errors import Refused, UsageError
from drkit.model.inventory import Inventory, Member
from drkit.model.scenario import Target

_SHARE = re.compile(r"(\d+)\s*%")


def chosen(name: str, target: Target, found: Inventory, active: Collection[str], seed: str) -> list[Member]:
    """The members that `targets.NAME` means. Refused with what to change if there are none, too many, or too dear.

    `active` names members that are broken already, by whoever: they count.
    """
    matching = [member for member in found.members if not {member.name, *member.tags} & set(target.never)]
    if not matching:
        left = f", and all {len(found.members)} are under never:" if found.members else ""
        raise Refused(f"targets.{name} matches nothing{left}", hint=f"change targets.{name}.where")
    by_name = sorted(matching, key=lambda member: member.name)
    picked = pick(matching, str(target.pick), seed) if target.pick is not None else by_name
    if target.max is not None:
        broken = {member.name for member in picked} | (set(active) & {member.name for member in found.members})
        most = amount(str(target.max), len(found.members))
        if len(broken) > most:
            already = len(broken) - len({member.name for member in picked})
            raise Refused(
                f"targets.{name} would hit {len(broken)} of {len(found.members)}"
                + (f" ({already} broken already)" if already else "") + f", and max is {target.max} ({most})",
                hint=f"narrow targets.{name}.where, or pick: {most}" if most else f"raise targets.{name}.max",
            )  # fmt: skip
    why = why_not(picked, [*found.members, *found.others], active, target.allow)
    if why is not None:
        raise Refused(f"targets.{name}: {why}", hint=f"narrow targets.{name}.where")
    return picked


def aimed(target: Target, found: Inventory, aim: Aim) -> Target:
    """The same target, in which whatever the aim does not take is left alone."""
    left = [member.name for member in found.members if not aim.takes(member.tags)]
    return target.model_copy(update={"never": [*target.never, *left]})


def pick(members: Iterable[Member], how_many: str, seed: str) -> list[Member]:
    """So many of them, or this share, by the seed; in the order of the choice."""
    ordered = sorted(members, key=lambda member: lot(seed, member.name))
    return ordered[: max(1, amount(how_many, len(ordered)))]


def amount(text: str, of: int) -> int:
    """`3` or `30%` of so many, rounded down. UsageError if it is neither."""
    share = _SHARE.fullmatch(text.strip())
    if share is not None and int(share[1]) <= 100:
        return math.floor(of * int(share[1]) / 100)
    if text.strip().isdigit():
        return int(text)
    raise UsageError(f'"{text}" is neither a number nor a share', hint="write 2 or 30%")


def why_not(
    hit: Sequence[Member], all: Iterable[Member], active: Collection[str], allow: Collection[str] = ()
) -> str | None:
    """Why these must not be hit together with what is broken already; None if they may."""
    members = {member.name: member for member in all} | {member.name: member for member in hit}
    broken = {member.name for member in hit} | (set(active) & members.keys())
    for member in hit:
        if member.standby and "standby" not in allow:
            return f"{member.name} is the standby: a failover would need it"
    for group in dict.fromkeys(member.group for member in hit):
        whole = [member for member in members.values() if member.group == group]
        left = [member for member in whole if member.name not in broken]
        if not left and "last" not in allow:
            return f"nothing of {group} would be left ({len(whole)} of {len(whole)} hit)"
        if any(member.votes for member in whole) and 2 * len(left) <= len(whole) and "quorum" not in allow:
            return f"{group} would lose its majority ({len(left)} of {len(whole)} left)"
    return None
