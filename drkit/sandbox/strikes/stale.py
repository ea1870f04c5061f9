"""What the step reads from AWS is what was so a while ago: the gateway repeats an older answer to the same question.

It counts where the answer is so no longer.
"""

from __future__ import annotations

from typing import Final

from drkit.sandbox.strikes import Drilled
from drkit.sandbox.strikes.gateway import Gateway

LEASE_S: Final = 10.0
OLD_S: Final = 5.0


class Stale(Gateway):
    """The reads among the step's calls."""

    def __init__(self, drilled: Drilled) -> None:
        reads = [(one.service, one.pattern) for one in drilled.permissions if not one.writes]
        super().__init__(drilled, reads, LEASE_S, stale_s=OLD_S)
