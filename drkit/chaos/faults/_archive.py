"""An archive of write-ahead log, and which of its segments a fault hits."""

from __future__ import annotations

import shlex
from typing import Annotated

from pydantic import Field

from drkit.chaos.faults._copies import DataFault


class Archived(DataFault):
    """A segment in an archive: `path` is the archive's folder, or a copy's `pg_wal`."""

    segment: Annotated[str, Field(pattern="^[0-9A-F]{24}$")] | None = None
    """Its name; none: the middle one of those that are there, so that later ones exist and cannot be reached."""


def segment(p: Archived) -> str:
    """Shell: `$file` is the segment, compressed or not."""
    wanted = p.segment or "[0-9A-F]{24}"
    archive = shlex.quote(p.path)
    return f"""archive=$(readlink -f -- {archive}) || exit 1
found=$(ls -- "$archive" | grep -E '^{wanted}(\\.(gz|lz4|zst|xz|bz2))?$')
[ -n "$found" ] || {{ echo "$archive has no such segment"; exit 1; }}
file=$archive/$(echo "$found" | sed -n "$((($(echo "$found" | wc -l) + 1) / 2))p")
"""
