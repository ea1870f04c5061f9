"""Where a command comes in: the plain `drkit chaos run FILE.json` goes straight to work, all else to the parser.

The parser and its models cost 0.15 s. An experiment is often one step of a pipeline that runs many; its plain call has
nothing to parse. Any option, any other command, any variable that stands for an option goes the usual way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from drkit.cli.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not is_plain(words):
        from drkit.cli.main import main as parsed

        return parsed(words)
    from drkit.cli import failing, toolkit
    from drkit.errors import DrkitError

    settings = Settings()
    try:
        wishes = toolkit.Wishes()
        return int(
            toolkit.run(
                settings, Path(words[2]), wishes, confirm=None, allow_production=False, dry_run=False, detach=False
            )
        )
    except DrkitError as error:
        return failing.show(error, settings)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort, as in the parser's `main`
        return failing.unexpected(error, settings)


def is_plain(words: Sequence[str]) -> bool:
    """`chaos run FILE.json`, and nothing that could mean more."""
    plain = len(words) == 3 and words[:2] == ["chaos", "run"] and words[2].endswith(".json") and words[2][0] != "-"
    return plain and not any(name.startswith("DRKIT_") for name in os.environ)
