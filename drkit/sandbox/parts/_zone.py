"""Which records answer a question: weighted records and aliases of Route 53, routing controls as their health. Pure.

A record whose set identifier is the name of a routing control (`cell-10/us-west-2`) is served only while that control
is on. When no side of a name is on, the side last served stays: an answer that may be stale beats none.
"""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One Route 53 record set."""

    name: str
    type: str
    ttl_s: int
    values: tuple[str, ...]
    alias: str | None = None
    identifier: str | None = None
    weight: int = 1


Zone = Mapping[tuple[str, str], tuple[Record, ...]]
"""(lower-case name with the final dot, type) → its record sets."""


def parse_zone(elements: Iterable[ElementTree.Element]) -> Zone:
    """A zone from the `ResourceRecordSet` elements of a Route 53 answer."""
    zone: dict[tuple[str, str], tuple[Record, ...]] = {}
    for element in elements:
        alias = element.findtext("AliasTarget/DNSName")
        record = Record(
            name=_canonical(element.findtext("Name", "")),
            type=element.findtext("Type", ""),
            ttl_s=int(element.findtext("TTL") or 0),
            values=tuple(value.text or "" for value in element.findall("ResourceRecords/ResourceRecord/Value")),
            alias=_canonical(alias) if alias else None,
            identifier=element.findtext("SetIdentifier"),
            weight=int(element.findtext("Weight", "1")),
        )
        key = (record.name, record.type)
        zone[key] = (*zone.get(key, ()), record)
    return zone


def has_name(zone: Zone, name: str) -> bool:
    """True if the zone has any record of that name (NODATA rather than NXDOMAIN)."""
    wanted = _canonical(name)
    return any(found == wanted or found.endswith("." + wanted) for found, _ in zone)


def answer(
    zone: Zone,
    states: Mapping[str, bool],
    last: MutableMapping[tuple[str, str], str],
    name: str,
    type_: str,
    draw: random.Random,
) -> tuple[Record, ...]:
    """The plain records that answer a question, aliases and CNAMEs followed within the zone; empty if there are none.

    `last` remembers which identifier was served for each name and is written to.
    """
    answers: list[Record] = []
    wanted = _canonical(name)
    for _ in range(8):  # a longer chain is a loop
        group = zone.get((wanted, type_), ()) or zone.get((wanted, "CNAME"), ())
        chosen = _choose(group, states, last, draw)
        if chosen is None:
            break
        if chosen.alias is not None:
            wanted = chosen.alias
            continue
        # What an alias leads to is answered under the name that was asked for.
        answers.append(chosen)
        if chosen.type == type_ or type_ == "CNAME":
            break
        wanted = _canonical(chosen.values[0])
    return tuple(answers)


def _choose(
    group: tuple[Record, ...],
    states: Mapping[str, bool],
    last: MutableMapping[tuple[str, str], str],
    draw: random.Random,
) -> Record | None:
    if not group:
        return None
    key = (group[0].name, group[0].type)
    healthy = [record for record in group if record.weight > 0 and _healthy(record, states)]
    if not healthy:
        remembered = [record for record in group if record.identifier == last.get(key)]
        # Route 53, too, serves all records of a group when none is healthy.
        healthy = remembered or list(group)
    chosen = draw.choices(healthy, weights=[max(record.weight, 1) for record in healthy])[0]
    if chosen.identifier is not None:
        last[key] = chosen.identifier
    return chosen


def _healthy(record: Record, states: Mapping[str, bool]) -> bool:
    # An alias to a name whose sides are all off stays: its weight decides how much traffic a cell has, not its health.
    is_side = record.identifier is not None and "/" in record.identifier
    return states.get(record.identifier or "", False) if is_side else True


def _canonical(name: str) -> str:
    return name.lower().rstrip(".") + "."
