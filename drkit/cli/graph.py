"""`drkit graph`: the steps of a runbook, or of a run as it stands, as a Mermaid graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drkit.cli.settings import Settings
from drkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drkit.model.plan import PlanStep


def register(app: typer.Typer) -> None:
    """Put `graph` on `app`."""
    app.command("graph", rich_help_panel="Author and learn")(graph)


def graph(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="RUNBOOK|RUN", help="Name or file of a runbook; or a run's id.")],
) -> None:
    """Every step as a Mermaid graph: nested runbooks and lists unfolded; of a run also how each step stands.

    With --env lists and parameters are those of that environment. A list that only the run will know is one node.
    """
    settings: Settings = ctx.obj
    try:
        steps, statuses = _of_runbook(settings, what), dict[str, str]()
    except UsageError as no_runbook:
        found = _of_run(what)
        if found is None:
            raise no_runbook from None
        steps, statuses = found
    _show(settings, steps, statuses)


def _of_runbook(settings: Settings, name: str) -> list[PlanStep]:
    """UsageError if there is no such runbook."""
    from drkit.catalog import Catalog
    from drkit.cli import environment as environments
    from drkit.plan.files import expanded, load_runbook

    loaded = load_runbook(environments.find_file("runbook", name))
    return expanded(loaded, environments.load(settings) if settings.env else None, Catalog())


def _of_run(name: str) -> tuple[list[PlanStep], dict[str, str]] | None:
    """The run's steps by now, and how they stand; None if there is no such run."""
    from drkit.cli import seen as seeing

    try:
        folder = seeing.find(name)
    except UsageError:
        return None
    steps = seeing.read(folder).state.steps.values()
    return [step.plan for step in steps if step.undoes is None], {step.id: step.status.value for step in steps}


def _show(settings: Settings, steps: Sequence[PlanStep], statuses: dict[str, str]) -> None:
    from drkit.cli.mermaid import edges, label, mermaid

    told = {
        "steps": [
            {
                "id": step.id, "title": step.title or step.uses, "uses": step.uses, "label": label(step),
                "status": statuses.get(step.id),
                "for_each": step.join.over if step.join is not None else None,
            }
            for step in steps
        ],
        "edges": [{"from": edge.need, "to": edge.step} for edge in edges(steps)],
    }  # fmt: skip
    settings.say.result(told, lambda: settings.say.line("\n".join(mermaid(steps, statuses))))
