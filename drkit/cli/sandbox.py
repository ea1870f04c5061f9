"""`drkit sandbox up|status|down`: the embedded two-region world."""

from __future__ import annotations

import typer

from drkit.cli.settings import Settings
from drkit.errors import Exit

group = typer.Typer(no_args_is_help=True, help="The embedded two-region world.")


def register(app: typer.Typer) -> None:
    """Put `sandbox` on `app`."""
    app.add_typer(group, name="sandbox", rich_help_panel="Rehearse")
