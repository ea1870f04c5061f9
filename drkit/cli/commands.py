"""Which commands there are: one import per group, in the order `drkit --help` lists them."""

from __future__ import annotations

import typer

from drkit.cli import author, help, sandbox


def register(app: typer.Typer) -> None:
    """Put every command on `app`."""
    for group in (sandbox, author, help):
        group.register(app)
