"""`drkit validate`, `explain`, `actions`, `schema`: what authors of runbooks ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drkit.cli.closest import meant
from drkit.cli.settings import Settings
from drkit.errors import FileError, Mistake, UsageError

if TYPE_CHECKING:
    from drkit.catalog import Catalog, Entry
    from drkit.model.environment import Environment

PANEL = "Author and learn"


def register(app: typer.Typer) -> None:
    """Put the authors' commands on `app`."""
    for name, command in (
        ("validate", validate), ("explain", explain), ("actions", actions), ("schema", schema),
    ):  # fmt: skip
        app.command(name, rich_help_panel=PANEL)(command)


def actions(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Argument(help="Only this subject: postgres, ssh, http, ...")] = None,
) -> None:
    """What a runbook may use: every action, probe, gate and fault that is installed."""
    from drkit.catalog import Catalog
    from drkit.plan.explain import what

    settings: Settings = ctx.obj
    found = Catalog().load_all()
    subjects = {name.split(".")[0] for name in found}
    if subject is not None and subject not in subjects:
        raise UsageError(f'there is no subject "{subject}"{meant(subject, subjects)}', hint="drkit actions")
    entries = [entry for name, entry in found.items() if subject in (None, name.split(".")[0])]
    settings.say.result(
        [described(entry) for entry in entries],
        lambda: settings.say.table(
            ("name", "kind", "what it does"), [(e.name, what(e), first(e.doc)) for e in entries]
        ),
    )
    settings.say.next("drkit explain NAME")


def explain(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of an action, probe, gate or fault; or runbook/NAME.")],
) -> None:
    """One action: what it does, its parameters, whether it can be undone, what it needs."""
    from drkit.catalog import Catalog
    from drkit.model.runbook import RUNBOOK
    from drkit.plan.explain import explain as page

    settings: Settings = ctx.obj
    if name.startswith(RUNBOOK):
        _explain_runbook(settings, name.removeprefix(RUNBOOK))
        return
    catalog = Catalog()
    entry = catalog.find(name)
    if entry is None:
        known = catalog.load_all()
        raise UsageError(f'there is no action, probe or gate "{name}"{meant(name, known)}', hint="drkit actions")
    settings.say.result(described(entry), lambda: settings.say.line(page(entry)))


def _explain_runbook(settings: Settings, name: str) -> None:
    from drkit.cli.environment import find_file
    from drkit.plan.explain import explain_runbook
    from drkit.plan.files import load_runbook

    loaded = load_runbook(find_file("runbook", name))
    told = {
        "name": name, "kind": "runbook", "owner": loaded.runbook.metadata.owner,
        "parameters": {key: each.model_dump(mode="json") for key, each in loaded.runbook.parameters.items()},
        "steps": [{"id": step.id, "uses": step.uses} for step in loaded.runbook.steps],
    }  # fmt: skip
    settings.say.result(told, lambda: settings.say.line(explain_runbook(loaded)))
    settings.say.next(f"drkit graph {name}")


def schema(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(help="runbook or scenario.")],
    out: Annotated[Path | None, typer.Option(help="Write it here instead of printing it.")] = None,
) -> None:
    """JSON Schema of a kind of file, for editors."""
    from drkit.plan import schema as schemas

    settings: Settings = ctx.obj
    text = json.dumps(schemas.schema(kind), indent=2)
    if out is None:
        from drkit.cli.say import write

        write(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n", encoding="utf-8")
    settings.say.note(f"Wrote {out}")
    settings.say.next(f"put  # yaml-language-server: $schema={out}  on the first line of your file")


def first(doc: str) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "." if paragraph else ""


def described(entry: Entry) -> dict[str, Any]:
    """An entry of the catalog as plain JSON."""
    from drkit.catalog import Action
    from drkit.plan.explain import what

    facts: dict[str, Any] = {
        "name": entry.name, "kind": what(entry), "doc": entry.doc, "params": entry.params.model_json_schema(),
    }  # fmt: skip
    if isinstance(entry, Action):
        facts |= {
            "observed_by": entry.observe.name, "repeat": entry.repeat, "side": entry.side, "plane": entry.plane,
            "irreversible": entry.irreversible, "consent": entry.consent, "undo": entry.undoer is not None,
            "unfenced": entry.unfenced,
            "fences": entry.fences, "promotes": entry.promotes, "timeout_s": entry.timeout_s,
        }  # fmt: skip
    return facts


def validate(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
) -> None:
    """Check runbooks and scenarios: every mistake at once, as file:line:column. Touches nothing.

    With --env also against that environment: its sites, hosts, roles and parameters.
    """
    from drkit.catalog import Catalog
    from drkit.cli import environment as environments

    settings: Settings = ctx.obj
    environment = environments.load(settings) if settings.env else None
    catalog = Catalog()
    files = [file for path in paths for file in _files(path)]
    mistakes: list[Mistake] = []
    rows: list[dict[str, Any]] = []
    for file in files:
        found = _check(file, environment, catalog)
        mistakes += found
        rows.append({"file": str(file), "ok": not found, "mistakes": [str(mistake) for mistake in found]})
    if mistakes:
        raise FileError(mistakes)
    settings.say.result(rows, lambda: settings.say.line(f"Validation completed ({len(files)} ok, 0 problem)"))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for pattern in ("*.yaml", "*.yml") for file in path.rglob(pattern))
        if not found:
            raise UsageError(f"there are no YAML files in {path}")
        return found
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    return [path]


def _check(file: Path, environment: Environment | None, catalog: Catalog) -> tuple[Mistake, ...]:
    from drkit.plan import files

    try:
        files.check(file, environment, catalog)
    except FileError as error:
        return error.mistakes
    return ()
