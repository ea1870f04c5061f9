"""`python -m tests.simulation --histories N --seed S [--mutant NAME] [--list-mutants]`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as in tests: helpers are found by their own names

    from simulation.command import main

    sys.exit(main())
