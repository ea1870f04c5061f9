"""The state store: one bucket, reached by each process through a door that is shut at times and loses answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from drkit.engine.simulated import Chance
from drkit.errors import JournalError
from simulation.machines import Process

TROUBLE = {"down": 0.02, "lost answer": 0.02, "sent twice": 0.02}
_ROWS = re.compile(r"/(\d+)-(\d+)\.jsonl$")


@dataclass
class Bucket:
    """What is in the state store."""

    down: Sequence[tuple[float, float]] = ()
    """When nobody reaches it: from, to."""
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    writes: int = 0

    def copied(self) -> int:
        """The last row that is there."""
        return max((int(found[2]) for key in self.objects if (found := _ROWS.search(key))), default=0)

    def put(self, key: str, data: bytes, if_absent: bool, if_tag: str | None) -> str | None:
        """A conditional write."""
        found = self.objects.get(key)
        if (if_absent and found is not None) or (if_tag is not None and (found is None or found[1] != if_tag)):
            return None
        self.writes += 1
        self.objects[key] = data, str(self.writes)
        return str(self.writes)


class Door:
    """One process's way to the bucket; implements the port `Objects`."""

    def __init__(self, bucket: Bucket, process: Process, chance: Chance) -> None:
        self._bucket, self._process, self._chance = bucket, process, chance

    def get(self, key: str) -> tuple[bytes, str] | None:
        self._pass()
        return self._bucket.objects.get(key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        self._pass()
        trouble = self._chance.mishap()
        if trouble == "down":
            raise JournalError("the state store does not answer")
        tag = self._bucket.put(key, data, if_absent, if_tag)
        if trouble == "sent twice":
            tag = self._bucket.put(key, data, if_absent, if_tag)
        if trouble == "lost answer":
            raise JournalError("the state store does not answer")
        return tag

    def keys(self, prefix: str) -> list[str]:
        self._pass()
        return sorted(key for key in self._bucket.objects if key.startswith(prefix))

    def describe(self) -> str:
        return "the bucket"

    def _pass(self) -> None:
        self._process.must_live()
        now = anyio.current_time()
        if any(start <= now < end for start, end in self._bucket.down):
            raise JournalError("the state store does not answer")
