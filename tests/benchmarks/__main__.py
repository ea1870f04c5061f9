"""Measure drkit on this machine and print a table: `make bench`, or `python -m tests.benchmarks` with

    --engine    the engine beside the floor of its contract (some minutes)
    --drill     the command line, and a region's loss in the sandbox
    --chaos     how soon a breach is reverted; experiments beside Chaos Toolkit itself (a minute)
    --leases    how late leases heal what a killed injector left (a minute or two)
    --clone     a fresh clone of this repository to the end of `make demo` (some minutes)
    --json      figures as JSON

Without any of these: engine, drill and chaos. Reports, never judges: figures of a busy machine are upper bounds, so
its load is part of the table.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from table import Row

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # here, and where the tests' worlds are


def main() -> int:
    """Measure and print. Exit code 1 only if nothing could be measured."""
    import of_abort
    import of_chaos
    import of_clone  # all of these are found where the line above says
    import of_command_line
    import of_drill
    import of_engine
    import of_first_step
    import of_leases
    import of_orders
    from table import lines

    options = _options()
    all_of_them = not (options.engine or options.drill or options.chaos or options.leases or options.clone)
    rows = machine()
    if options.engine or all_of_them:
        rows += [*of_first_step.rows(), *of_orders.rows(), *of_engine.rows()]
    if options.drill or all_of_them:
        rows += [*of_command_line.starting_up(), *of_drill.a_drill()]
    if options.chaos or all_of_them:
        rows += [*of_abort.rows(), *of_chaos.rows()]
    if options.leases:
        rows += of_leases.rows()
    if options.clone:
        rows += of_clone.clone_to_demo()
    rows.append(("load average after", f"{os.getloadavg()[0]:.1f}", ""))
    if options.json:
        print(json.dumps({name: value for name, value, _ in rows}, indent=1))
    else:
        print("\n".join(lines(rows)))
    return 0


def machine() -> list[Row]:
    """What the figures are of."""
    return [
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", ""),
        ("load average before", f"{os.getloadavg()[0]:.1f}", "processes that want a core"),
    ]


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks", description="Measure drkit on this machine.")
    parser.add_argument("--engine", action="store_true", help="the engine beside the floor of its contract")
    parser.add_argument("--drill", action="store_true", help="the command line, and a region's loss in the sandbox")
    parser.add_argument("--chaos", action="store_true", help="how soon a breach is reverted; Chaos Toolkit")
    parser.add_argument("--leases", action="store_true", help="how late leases heal what a killed injector left")
    parser.add_argument("--clone", action="store_true", help="from a fresh clone to the end of the demo")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
