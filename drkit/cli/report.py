"""`drkit report` and `drkit evidence verify`: what a run can prove, from its journal and the readings it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drkit.cli import seen as seeing
from drkit.cli.settings import Settings
from drkit.errors import DrkitError, Exit

if TYPE_CHECKING:
    from drkit.cli.seen import Seen
    from drkit.engine.runs import RunFolder
    from drkit.model.ports import Objects
    from drkit.report import Story

PANEL = "Prove"
Format = Literal["html", "md", "json", "junit", "prom"]
ENDINGS: dict[Format, str] = {"html": "html", "md": "md", "json": "json", "junit": "xml", "prom": "prom"}
RunArgument = Annotated[str, typer.Argument(help="Run id; left out: the last run.")]

evidence = typer.Typer(no_args_is_help=True, help="What cannot be disputed.")


def register(app: typer.Typer) -> None:
    """Put `report` and `evidence` on `app`."""
    app.command("report", rich_help_panel=PANEL)(report)
    app.add_typer(evidence, name="evidence", rich_help_panel=PANEL)


def report(
    ctx: typer.Context,
    run: RunArgument = "last",
    form: Annotated[Format | None, typer.Option("--format", "-f", help="What to print; left out: md.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Where the files go; left out: reports/RUN.")] = None,
) -> None:
    """Recovery time and data loss against their objectives, and everything that was done. Also written to files."""
    from drkit.cli.say import queried, write
    from drkit.report import render

    settings: Settings = ctx.obj
    look = seeing.read(seeing.find(run))
    told = story(look)
    where = folder or folder_of(look)
    files = write_files(told, where, since=look.folder.journal.stat().st_mtime if look.state.outcome else None)
    chosen: Format = form or ("json" if settings.output != "text" or settings.query else "md")
    text = render(told, chosen)
    if chosen == "json" and settings.query is not None:
        import json

        text = json.dumps(queried(json.loads(text), settings.query), indent=2, ensure_ascii=False)
    write(text.rstrip("\n"))
    settings.say.note(f"Written: {', '.join(str(file) for file in files)}")


def story(look: Seen) -> Story:
    """The report of a run, built from its journal and readings alone."""
    from drkit.measure.findings import findings, instants, journaled
    from drkit.report import build

    rows = look.rows
    _ = look.state  # a run without a journal has no report, and says so
    found = findings(journaled(rows), instants(rows, look.state.plan), folders=[look.folder.path])
    return build(rows, look.state, found)


def write_files(told: Story, where: Path, *, since: float | None = None) -> list[Path]:
    """Every form of the report, each a file in `where`. DrkitError if they cannot be written.

    `since`: when the journal was last written; files that are newer say the same already and are left alone.
    """
    from drkit.report import render

    try:
        where.mkdir(parents=True, exist_ok=True)
        files: list[Path] = []
        for form, ending in ENDINGS.items():
            file = where / f"report.{ending}"
            if since is None or not file.exists() or file.stat().st_mtime <= since:
                file.write_text(render(told, form), encoding="utf-8")
            files.append(file)
    except OSError as error:
        raise DrkitError(
            f"the report cannot be written to {where}: {error.strerror}",
            state="The run and its journal are not affected.",
            hint="drkit report RUN --out FOLDER",
        ) from error
    return files


def folder_of(look: Seen) -> Path:
    """`reports/RUN` of the project the run was started in."""
    project = look.folder.request().project
    return (Path(project) if project else Path.cwd()) / "reports" / look.folder.id


@evidence.command("verify")
def verify(
    ctx: typer.Context,
    run: RunArgument = "last",
    local: Annotated[bool, typer.Option("--local", help="Do not ask the state store for its copy.")] = False,
) -> None:
    """Check the journal's chain, its copy, and the readings it names; say up to where a cut would be noticed."""
    settings: Settings = ctx.obj
    folder = seeing.find(run)
    found = _verified(folder, None if local else _store(settings, folder))
    settings.say.result(found, lambda: _show(settings, found))
    if found["problem"] is not None or found["readings_verified"] is False:
        raise typer.Exit(int(Exit.FAILED))


def _store(settings: Settings, folder: RunFolder) -> Objects:
    from drkit.cli.environment import with_state
    from drkit.providers.objects import open_objects

    return open_objects(with_state(folder.request().environment, settings.state))


def _verified(folder: RunFolder, objects: Objects | None) -> dict[str, Any]:
    from drkit.engine.decisions import compare
    from drkit.engine.evidence import Anchor
    from drkit.engine.evidence import verify as check
    from drkit.measure.findings import findings, instants, journaled

    ended = folder.ended() or {}
    kept = (
        [Anchor(ended["events"], ended["head"], "exit.json beside it, on this machine")] if ended.get("events") else []
    )
    chain = check(folder.journal, run=folder.id, objects=objects, anchors=kept)
    told: dict[str, Any] = {
        "schema": "drkit.evidence-verify/1", "run": folder.id, "events": chain.events, "journal_head": chain.head,
        "problem": chain.problem, "first_bad": chain.first_bad, "anchored_upto": chain.anchored_upto,
        "anchors": [anchor.where for anchor in chain.anchors], "silent": list(chain.silent), "replayed_otherwise": [],
        "readings": [], "readings_verified": None, "reasons": [],
    }  # fmt: skip
    if not chain.sound:
        return told  # what rests on a journal that was changed proves nothing
    look = seeing.read(folder)
    readings = findings(journaled(look.rows), instants(look.rows, look.state.plan), folders=[folder.path])
    return told | {
        "replayed_otherwise": [difference.row.seq for difference in compare(look.rows)],
        "readings": [ref.path for ref in readings.readings], "readings_verified": readings.verified,
        "reasons": list(readings.reasons),
    }  # fmt: skip


def _show(settings: Settings, found: dict[str, Any]) -> None:
    say = settings.say
    if found["problem"] is not None:
        say.line(f"FAIL  journal of {found['run']}: {found['problem']}")
        say.line(
            f"      events before {found['first_bad']} are as they were written; nothing behind them proves anything"
        )
        return
    say.line(f"OK    journal of {found['run']}: {found['events']} events, each continues the one before")
    say.line(f"      head {found['journal_head']}")
    if found["replayed_otherwise"]:
        say.line(f"WARN  this version would decide otherwise at events {found['replayed_otherwise']}")
        say.line(f"      drkit replay {found['run']} --differences")
    marks = {True: "OK  ", False: "FAIL", None: "-   "}
    count = len(found["readings"])
    say.line(
        f"{marks[found['readings_verified']]}  readings: {count} files" + "".join(f"; {r}" for r in found["reasons"])
    )
    by = ", ".join(found["anchors"]) or "nobody"
    say.line(f"      a cut before event {found['anchored_upto']} would be noticed, by {by}")
    for why in found["silent"]:
        say.line(f"?     {why}")
