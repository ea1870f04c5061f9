"""`drkit drill matrix`: every fault at every moment of every step of a runbook, and what became of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drkit.cli import environment as environments
from drkit.cli.drill import SetOption, group
from drkit.cli.settings import Settings, pairs
from drkit.errors import DrkitError, Exit, UsageError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from drkit.drill.matrix import Cell, Ending, Matrix, Result
    from drkit.drill.rehearsing import Stage

LETTERS = {"resumed": "R", "safe stop": "S", "wrong": "W", "not applicable": ".", "missed": "?"}
#: The longest reason in a line for people; the JSON has all of it.
SHOWN = 110


def register(app: typer.Typer) -> None:
    """Put `drill matrix` beside `drill run`."""
    group.command("matrix")(matrix)


def matrix(
    ctx: typer.Context,
    runbook: Annotated[str, typer.Argument(help="Name or file of a runbook.")],
    sample: Annotated[int | None, typer.Option("--sample", min=1, metavar="N", help="Only N cells, by --seed.")] = None,
    part: Annotated[
        str | None, typer.Option("--part", metavar="K/N", help="Only the K-th of N parts of all cells.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Latencies, orders and the sample follow it.")] = 0,
    only: Annotated[
        str | None, typer.Option("--only", metavar="STEP:MOMENT:FAULT", help="One cell again: promote:during:kill.")
    ] = None,
    changes: SetOption = None,
    scenario: Annotated[str, typer.Option("--scenario", help="With --env sandbox: what is drilled.")] = "region-loss",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the result; left out: reports/matrix-RUNBOOK.")
    ] = None,
) -> None:
    """Strike a runbook at every moment of every step with every fault. Exit 4 if a cell is wrong.

    On the simulator the real engine carries the runbook's graph out on stand-ins, in virtual time. With --env sandbox
    some cells are struck in real drills. A cell is resumed (it finished without a person), a safe stop (the next
    command it named recovered it), or wrong. `drkit help matrix`.
    """
    from drkit.drill.matrix import Matrix
    from drkit.drill.rehearsing import prepare
    from drkit.plan.files import load_runbook

    settings: Settings = ctx.obj
    if settings.env not in (None, environments.SANDBOX):
        raise UsageError(f"the matrix is played on the simulator or in the sandbox, not in {settings.env}",
                         hint=f"drkit drill matrix {runbook}")  # fmt: skip
    real = settings.env is not None
    stage = prepare(load_runbook(environments.find_file("runbook", runbook)), pairs(changes), seed)
    chosen = _chosen(stage, sample, part, only, real)
    folder = None if only is not None else out or Path.cwd() / "reports" / f"matrix-{stage.real.runbook}"

    def told_of(results: list[Result]) -> Matrix:
        return Matrix(stage.real, tuple(results), seed, environments.SANDBOX if real else "simulator")

    results: list[Result] = []
    for result in _struck(settings, stage, chosen, scenario, runbook) if real else _played(settings, stage, chosen):
        results.append(result)
        if real and folder is not None:  # of hours that are cut off, what was found so far is kept
            _save(told_of(results), folder)
    told = told_of(results)
    settings.say.result(told.to_json(), lambda: settings.say.line("\n".join(lines(told))))
    if folder is not None:
        _save(told, folder)
        settings.say.note(f"Saved in {folder}")
    wrong = told.wrong
    settings.say.next(_again(told, wrong[0]) if wrong else f"drkit drill run {scenario} --runbook {runbook}")
    if wrong:
        raise typer.Exit(int(Exit.MISSED))


def _chosen(stage: Stage, sample: int | None, part: str | None, only: str | None, real: bool) -> tuple[Cell, ...]:
    """The cells that are asked for. Where it is for real never all of them unasked: each takes minutes."""
    from drkit.drill.matrix import Cell, cells, touched
    from drkit.drill.matrix import part as parted
    from drkit.drill.matrix import sample as drawn

    if real:
        from drkit.cli.offering import offered

        can = offered(stage.real)
    else:
        can = touched(stage.real, stage.reaches)
    if only is not None:
        cell = Cell.read(only, stage.real)
        if cell not in can:
            raise UsageError(_why_not(cell, stage, real), hint="drkit help matrix")
        return (cell,)
    if part is not None:
        can = parted(can, part)
    elif real and sample is None:
        raise UsageError(
            f"each of the {len(can)} cells is a drill of its own in a sandbox of its own: say how many",
            hint="add --sample 12, or --part 1/40",
        )
    if sample is not None:
        return drawn(can, sample, stage.seed)
    return cells(stage.real) if part is None else can


def _why_not(cell: Cell, stage: Stage, real: bool) -> str:
    from drkit.drill.matrix import Fault, applies

    reach = stage.reaches[cell.step]
    if not applies(cell, reach):
        return f"{cell.fault} cannot touch {cell.step}, which reaches {', '.join(sorted(reach.all)) or 'nothing'}"
    if real and cell.fault is Fault.DISK:
        from drkit.sandbox.strikes import disk

        if (missing := disk.why_not()) is not None:
            return f"{cell} cannot be struck for real: {missing}"
    return f"{cell} cannot be struck for real"


def _struck(
    settings: Settings, stage: Stage, chosen: tuple[Cell, ...], scenario: str, runbook: str
) -> Iterator[Result]:
    from drkit.cli.offering import ways
    from drkit.cli.striking import Struck, world
    from drkit.sandbox.strikes import disk

    if (missing := disk.why_not()) is not None:
        settings.say.note(f"Without a slow disk: {missing}")
    for count, cell in enumerate(chosen, 1):
        settings.say.note(f"{count} of {len(chosen)}: {cell} in a sandbox of its own (some minutes)")
        with world() as made:
            result = Struck(cell, ways(stage.real, cell.step), scenario, runbook, made).result()
        settings.say.note(f"  {result.ending}  {result.why}".rstrip())
        yield result


def _played(settings: Settings, stage: Stage, chosen: tuple[Cell, ...]) -> Iterator[Result]:
    from drkit.drill.matrix import Ending

    whole = stage.undisturbed()
    if whole.ending is not Ending.RESUMED:
        raise DrkitError(f"even without a fault {stage.real.runbook} does not end well on the simulator: {whole.why}",
                         hint="drkit validate runbooks")  # fmt: skip
    settings.say.note(f"Playing {len(chosen)} cells of {stage.real.runbook} on the simulator")
    for count, cell in enumerate(chosen, 1):
        yield stage.play(cell)
        if count % 100 == 0:
            settings.say.note(f"  {count} of {len(chosen)}")


def lines(told: Matrix) -> list[str]:
    """The matrix as people read it: the table, every safe stop, every wrong cell, the sum."""
    from drkit.drill.matrix import Ending, Fault, Moment, by_step

    table = by_step(told.results)
    wide = max([len("step"), *map(len, table)])
    head = f"{'step':<{wide}}  " + "  ".join(f"{fault.value:<8}" for fault in Fault)
    text = [
        f"{told.plan.runbook} on the {told.where}, seed {told.seed}: before, during and after each step",
        "R resumed   S safe stop   W wrong   . cannot be touched   ? missed", "", head.rstrip(),
    ]  # fmt: skip
    for step, row in table.items():
        found = {at: LETTERS[result.ending] for at, result in row.items()}
        faults = (" ".join(found.get((fault, moment), " ") for moment in Moment) for fault in Fault)
        text.append(f"{step:<{wide}}  {'  '.join(f'{letters:<8}' for letters in faults)}".rstrip())
    for result in told.having(Ending.SAFE_STOP):
        text.append(f"S  {result.cell}  {_short(result.why)}")
        text.append(f"     {', then '.join(result.commands)}: recovered")
    for result in told.wrong:
        text += [f"W  {result.cell}  {result.why}", f"     {_again(told, result)}"]
    return [*text, "", *_sum(told)]


def _sum(told: Matrix) -> list[str]:
    from drkit.drill.matrix import Ending

    count, share = told.count(), told.resumed_share
    said = ", ".join(f"{count[ending]} {ending}" for ending in Ending)
    of_transient = "none of them has a fault that passes" if share is None else f"{share:.1%} resumed"
    again = "not counted" if told.repeated is None else f"{told.repeated}, all declared safe to repeat"
    return [
        *(f"      {fault:<8}  {_named(count)}" for fault, count in told.by_fault.items()),
        f"{'FAIL' if told.wrong else 'OK'}    {len(told.results)} cells: {said}",
        f"      where the fault passes by itself: {of_transient}",
        f"      effects sent again although they were there: {again}",
    ]


def _named(count: Counter[Ending]) -> str:
    return ", ".join(f"{number} {ending}" for ending, number in sorted(count.items()))


def _again(told: Matrix, result: Result) -> str:
    where = "" if told.where == "simulator" else f" --env {told.where}"
    return f"drkit drill matrix {told.plan.runbook}{where} --seed {told.seed} --only {result.cell}"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _save(told: Matrix, folder: Path) -> None:
    """Both forms, as files. DrkitError if they cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "matrix.json").write_text(json.dumps(told.to_json(), indent=2) + "\n", encoding="utf-8")
        (folder / "matrix.txt").write_text("\n".join(lines(told)) + "\n", encoding="utf-8")
    except OSError as error:
        raise DrkitError(f"the matrix cannot be written to {folder}: {error.strerror}",
                         hint="add --out FOLDER") from error  # fmt: skip
