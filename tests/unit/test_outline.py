"""The order in which people read steps, and what is said of those that stand for several."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drkit.cli.mermaid import mermaid
from drkit.model.outline import outline, progress, standings
from drkit.model.plan import Join, PlanStep

# As a run has them: the plan's first, a step behind what it stands for; then those it found out about.
IDS = ["look", "all", "zones/a", "zones/b", "zones", "last", "all/x/load", "all/x", "all/y/load", "all/y"]


def step(id: str, *needs: str, join: Join | None = None, **more: object) -> PlanStep:
    kind = "join" if join is not None else "probe"
    return PlanStep.model_validate(
        {"id": id, "number": 0, "uses": "x.y", "kind": kind, "needs": needs, "join": join, **more}
    )


def test_what_stands_for_several_is_a_heading_whenever_they_came() -> None:
    assert [(place.id, place.depth) for place in outline(IDS)] == [
        ("look", 0), ("all", 0), ("all/x", 1), ("all/x/load", 2), ("all/y", 1), ("all/y/load", 2),
        ("zones", 0), ("zones/a", 1), ("zones/b", 1), ("last", 0),
    ]  # fmt: skip
    assert [place.below for place in outline(IDS)][1] == ("all/x", "all/y")


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), unique=True))
def test_every_step_is_told_once_and_below_its_heading(ids: list[str]) -> None:
    places = outline(ids)
    told = [place.id for place in places]
    assert sorted(told) == sorted(ids)
    for place in places:
        headings = [id for id in ids if place.id.startswith(f"{id}/")]
        assert place.depth == len(headings)
        assert all(told.index(heading) < told.index(place.id) for heading in headings)
        # Nothing stands between a heading and what is below it but what is below it too.
        for heading in headings:
            between = told[told.index(heading) + 1 : told.index(place.id)]
            assert all(id.startswith(f"{heading}/") for id in between)


def test_a_list_says_how_far_it_has_come_and_where_somebody_must_look() -> None:
    places = outline(IDS)
    statuses = dict.fromkeys(IDS, "pending") | {"all/x": "done", "all/x/load": "done", "all/y/load": "failed"}
    stand = standings(places, statuses)
    assert (stand["all/y"], stand["all"], stand["zones"]) == ("failed", "failed", "pending")
    items = Join(of="items")
    assert progress(items, [stand["all/x"], stand["all/y"]]) == "1 of 2 entries, 1 failed"
    assert progress(items, ["done", "skipped", "running"]) == "2 of 3 entries, 1 under way, 1 skipped"
    assert progress(Join(of="runbook"), ["done"]) == "1 of 1 step"
    assert progress(items, []) == "no entries"
    assert progress(Join(of="items", over="${ steps.look.hosts }"), []) == (
        "for each of steps.look.hosts, once that is known"
    )


def test_a_nested_runbook_is_a_frame_and_an_unknown_list_one_node() -> None:
    over = Join(of="items", over="${ steps.look.hosts }", at_once=2, body=(step("all/*"),))
    lines = mermaid(
        [
            step("look", title='say "hi" #1'), step("all", "look", join=over), step("end/a", "all"),
            step("end", "end/a", join=Join(of="runbook")), step("end_a", "end"),
        ],
        {"look": "done", "all": "pending"},
    )  # fmt: skip
    text = "\n".join(lines)
    assert '  look["look: say #quot;hi#quot; #35;1 (done)"]' in lines
    assert '  all[["all: x.y, for each of steps.look.hosts, 2 at once"]]' in lines
    assert "all/*" not in text
    # `end` is a word of Mermaid's own, and end/a and end_a must not become one node.
    frame = lines.index('  subgraph end_2["end: x.y"]')
    assert lines[frame + 1 : frame + 3] == ['    end_a["end/a: x.y"]', "  end"]
    assert {"  look --> all", "  all --> end_a", "  end_2 --> end_a_2"} <= set(lines)
    assert "  end_a --> end_2" not in lines
    assert "  class look done" in lines
