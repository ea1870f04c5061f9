"""`python -m drkit.cli`: the same as `drkit`, also where the console script is not on the path."""

from __future__ import annotations

import sys

from drkit.cli.door import main

if __name__ == "__main__":
    sys.exit(main())
