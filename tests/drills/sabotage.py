"""The sabotage table: each step of reliabletech made to do nothing, or robbed of what it needs; none may end done.

    python -m tests.drills.sabotage --list       the table, as Markdown
    python -m tests.drills.sabotage --run        carried out in a world of its own (some ten minutes), with its results

`make soak` carries out all of it (`test_sabotage.py`), `make test` some rows. Rows stand by subject in `sabotage_*.py`
(`stopping`, `region`, `data`, `service`, `users`); `sabotage_hands.py` is what they break things with, and
`sabotage_walk.py` what carries them out.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parent)]  # as in tests: helpers are found by their own names

    from sabotage_table import main

    sys.exit(main())
