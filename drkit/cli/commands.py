"""Which commands there are: one import per group, in the order `drkit --help` lists them."""

from __future__ import annotations

import typer

from drkit.cli import (
    author,
    chaos,
    doctor,
    drill,
    failover,
    graph,
    healing,
    help,
    look,
    matrix,
    plan,
    replay,
    report,
    resume,
    runner,
    sandbox,
    schedule,
    shrink,
    steer,
    watch,
)


def register(app: typer.Typer) -> None:
    """Put every command on `app`."""
    for group in (
        failover,
        resume,
        plan,
        doctor,
        watch,
        look,
        steer,
        report,
        replay,
        drill,
        matrix,
        chaos,
        healing,
        shrink,
        schedule,
        sandbox,
        author,
        graph,
        help,
        runner,
    ):
        group.register(app)
