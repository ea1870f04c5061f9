"""A place where backups are, and the newest of them."""

from __future__ import annotations

import shlex

from drkit.chaos.faults._copies import DataFault


class BackupPlace(DataFault):
    """A folder with a backup a file or folder in it; the newest one is hit."""


def newest(p: BackupPlace) -> str:
    """Shell: `nth N` is the Nth newest backup, as the files' times have it; a link to one is none."""
    return f"""place=$(readlink -f -- {shlex.quote(p.path)}) || exit 1
nth() {{
  found=$(ls -t -- "$place" | while read -r one; do [ -L "$place/$one" ] || echo "$one"; done | sed -n "$1p")
  [ -n "$found" ] || {{ echo "$place has fewer than $1 backups" >&2; return 1; }}
  echo "$place/$found"
}}
"""
