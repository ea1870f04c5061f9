"""All rows of the sabotage table in the runbook's order, and the table as Markdown: as it stands, or as a run went."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sabotage_data
import sabotage_region
import sabotage_service
import sabotage_stopping
import sabotage_users
from sabotage_rows import Row, Sabotaged
from sabotage_walk import FOR_REAL, RUNBOOK, Outcome, Walk, walk

from drkit.plan.files import load_runbook

Case = tuple[Sabotaged, Row | None]


def in_order() -> tuple[Sabotaged, ...]:
    """Every step of the runbook, in its order. KeyError for one that has no rows."""
    found = {
        each.step: each
        for part in (sabotage_stopping, sabotage_region, sabotage_data, sabotage_service, sabotage_users)
        for each in part.STEPS
    }
    return tuple(found[step.id] for step in load_runbook(RUNBOOK).spec.steps)


STEPS = in_order()


def cases(steps: Iterable[Sabotaged] = STEPS) -> Iterator[Case]:
    """Every row, and behind a step's rows the step itself with nothing broken."""
    for step in steps:
        for row in step.rows:
            yield step, row
        yield step, None


def name(case: Case) -> str:
    """What a case is called, in results and in tests."""
    step, row = case
    return f"{step.step}: {row.what if row else FOR_REAL}"


def carry_out(going: Walk, case: Case) -> Outcome:
    """Do it."""
    step, row = case
    return going.row(step.step, row) if row else going.for_real(step.step)


def markdown(outcomes: Mapping[str, Outcome] | None = None) -> str:
    """The table; with a run's outcomes by the name of their case, how each ended and what it said."""
    lines = [
        "| # | step | what is real | metadata only | what users would notice | sabotage | it must say |"
        if outcomes is None
        else "| # | step | what is real | metadata only | what users would notice | sabotage | ended | said |",
    ]
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    for number, step in enumerate(STEPS, start=1):
        for place, row in enumerate(step.rows):
            about = (str(number), step.step, step.real, step.metadata or "-", step.users) if not place else ("",) * 5
            lines.append(_line([*about, *_result(step, row, outcomes)]))
    return "\n".join([*lines, "", summary(outcomes)])


def _result(step: Sabotaged, row: Row, outcomes: Mapping[str, Outcome] | None) -> list[str]:
    if outcomes is None:
        return [row.what, f"nothing: {row.cannot}" if row.cannot else f"`{row.says}`"]
    found = outcomes.get(name((step, row)))
    if found is None:
        return [row.what, "not carried out", ""]
    return [row.what, found.status, found.complaint or found.said or f"cannot be noticed: {row.cannot}"]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def summary(outcomes: Mapping[str, Outcome] | None = None) -> str:
    """How many rows there are, how many steps are real to what extent, and how many sabotages were noticed."""
    rows = {name((step, row)): row for step in STEPS for row in step.rows}
    partly = sum(bool(step.metadata) for step in STEPS)
    cannot = sum(bool(row.cannot) for row in rows.values())
    text = (
        f"{len(rows)} sabotages of {len(STEPS)} steps; {cannot} of them cannot be noticed, and say why;"
        f" of {partly} steps a part is metadata only here, or ends at a recorder"
    )
    if outcomes is None:
        return text + "."
    done = {row: found for row, found in outcomes.items() if row in rows}
    noticed = sum(found.complaint is None and not rows[row].cannot for row, found in done.items())
    ended = Counter(found.status for found in done.values())
    how = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
    seconds = sum(found.seconds for found in outcomes.values())
    return f"{text}. Of {len(done)} carried out {noticed} were noticed and told as they are ({how}); {seconds:.0f} s."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or carry it out first; the number of rows that went wrong."""
    parser = argparse.ArgumentParser(prog="sabotage", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="print the table as Markdown")
    what.add_argument("--run", action="store_true", help="carry it out, and print the table with its results")
    parser.add_argument("--world", type=Path, help="in the sandbox that is up in this folder; else in one of its own")
    parser.add_argument("--only", nargs="*", metavar="STEP", help="the rows of these steps only")
    asked = parser.parse_args(arguments)
    if asked.list:
        print(markdown())
        return 0
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as stack:
        folder = asked.world.absolute() if asked.world else stack.enter_context(_own_world())
        going = stack.enter_context(walk(folder))
        for case in cases(step for step in STEPS if not asked.only or step.step in asked.only):
            found = outcomes[name(case)] = carry_out(going, case)
            print(f"{'ok ' if found.complaint is None else 'BAD'} {found.seconds:5.1f} s  {name(case)}: {found.status}")
            print(f"             {found.complaint or found.said}", flush=True)
    print(markdown(outcomes))
    return sum(found.complaint is not None for found in outcomes.values())


@contextmanager
def _own_world() -> Iterator[Path]:
    from worlds import world

    with world() as made:
        yield made.folder
