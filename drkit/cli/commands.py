"""Which commands there are: one import per group, in the order `drkit --help` lists them."""

from __future__ import annotations

import typer

from drkit.cli import author, doctor, help, plan, sandbox, steer, watch


def register(app: typer.Typer) -> None:
    """Put every command on `app`."""
    for group in (plan, doctor, watch, steer, sandbox, author, help):
        group.register(app)
