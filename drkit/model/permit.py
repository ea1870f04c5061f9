"""What a change carries to its target, so that the target can refuse whoever holds the environment no longer.

Wall clocks are never compared, nor ours with the target's. The target is asked what time it is on a clock of its own;
what is left of the lease *once the answer is here* is added. The answer was older by then, so that instant comes at
the target before the lease ends, however slow the question was. Whoever is frozen before sending sends an instant that
has passed. (Assumed: while a lease lasts, both clocks run equally fast.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from drkit.errors import Refused


class Lasting(Protocol):
    """What is asked of a lease."""

    def remaining_s(self) -> float:
        """Seconds for which effects may still be started; 0 or less: none."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Our fencing token and the lease that it stands for. `lease` None: nothing runs out (there is no state store)."""

    token: int
    lease: Lasting | None = None

    def until(self, there_s: float) -> float | None:
        """The instant from which a target must refuse us, on the clock that has just said `there_s`; None: never.

        Refused if the lease is over: then nothing is to be sent.
        """
        if self.lease is None:
            return None
        left_s = self.lease.remaining_s()
        if left_s <= 0:
            raise Refused("Not sent: this run's lease of the environment is over.")
        return there_s + left_s
