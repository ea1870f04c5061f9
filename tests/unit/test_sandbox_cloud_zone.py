"""Which side a name leads to: weights, routing controls, and what is served when no side is on."""

from __future__ import annotations

import random
from collections import Counter

from drkit.sandbox.parts._routing_state import CELLS
from drkit.sandbox.parts._wire import tree
from drkit.sandbox.parts._zone import Record, Zone, answer, has_name, parse_zone

EAST, WEST = "127.1.1.10", "127.1.2.10"


def zone() -> Zone:
    found: dict[tuple[str, str], tuple[Record, ...]] = {}
    shop = "shop.example."
    found[shop, "A"] = tuple(
        Record(shop, "A", 0, (), alias=f"{cell}.{shop}", identifier=cell, weight=weight)
        for cell, weight in CELLS.items()
    )
    for cell in CELLS:
        name = f"{cell}.{shop}"
        found[name, "A"] = (
            Record(name, "A", 1, (EAST,), identifier=f"{cell}/us-east-1"),
            Record(name, "A", 1, (WEST,), identifier=f"{cell}/us-west-2"),
        )
    found["db.example.", "CNAME"] = (Record("db.example.", "CNAME", 1, ("db-east.example",)),)
    found["db-east.example.", "A"] = (Record("db-east.example.", "A", 1, ("127.1.1.11",)),)
    return found


def states(*west: str) -> dict[str, bool]:
    return {f"{cell}/us-east-1": cell not in west for cell in CELLS} | {
        f"{cell}/us-west-2": cell in west for cell in CELLS
    }


def served(controls: dict[str, bool], last: dict[tuple[str, str], str], count: int = 1) -> Counter[str]:
    draw = random.Random(1)
    found = (answer(zone(), controls, last, "Shop.Example", "A", draw) for _ in range(count))
    return Counter(records[-1].values[0] for records in found)


def test_traffic_follows_the_controls_cell_by_cell_in_proportion_to_their_weights() -> None:
    assert served(states(), {}, 200) == {EAST: 200}
    shares = [served(states(*cells), {}, 4000)[WEST] / 4000 for cells in (["cell-10"], ["cell-10", "cell-40"], CELLS)]
    assert abs(shares[0] - 0.10) < 0.03
    assert abs(shares[1] - 0.50) < 0.03
    assert shares[2] == 1.0


def test_with_no_side_on_the_side_last_served_stays() -> None:
    last: dict[tuple[str, str], str] = {}
    served(states(*CELLS), last, 200)
    assert served(dict.fromkeys(states(), False), last, 200) == {WEST: 200}


def test_controls_that_cannot_be_read_leave_traffic_where_it_was() -> None:
    last: dict[tuple[str, str], str] = {}
    served(states(), last, 200)
    assert served({}, last, 200) == {EAST: 200}


def test_a_side_is_never_served_while_its_control_is_off() -> None:
    last: dict[tuple[str, str], str] = {}
    served(states(), last, 50)
    assert served(states(*CELLS), last, 200) == {WEST: 200}


def test_a_cname_is_answered_with_what_it_leads_to() -> None:
    records = answer(zone(), {}, {}, "db.example", "A", random.Random(1))
    assert [(record.type, record.values) for record in records] == [
        ("CNAME", ("db-east.example",)),
        ("A", ("127.1.1.11",)),
    ]


def test_unknown_names_have_no_answer_and_names_above_records_exist() -> None:
    assert answer(zone(), {}, {}, "nobody.example", "A", random.Random(1)) == ()
    assert not has_name(zone(), "nobody.example")
    assert has_name(zone(), "example")


def test_a_loop_of_aliases_ends() -> None:
    looped: Zone = {("a.", "A"): (Record("a.", "A", 0, (), alias="a."),)}
    assert answer(looped, {}, {}, "a", "A", random.Random(1)) == ()


def test_record_sets_are_read_from_route_53s_xml() -> None:
    xml = b"""<R xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ResourceRecordSet><Name>Shop.example.</Name>
    <Type>A</Type><SetIdentifier>cell-10/us-west-2</SetIdentifier><Weight>0</Weight><TTL>1</TTL><ResourceRecords>
    <ResourceRecord><Value>127.1.2.10</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></R>"""
    parsed = parse_zone(tree(xml).iter("ResourceRecordSet"))
    expected = Record("shop.example.", "A", 1, ("127.1.2.10",), identifier="cell-10/us-west-2", weight=0)
    assert parsed == {("shop.example.", "A"): (expected,)}
