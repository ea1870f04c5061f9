"""Nobody answers on any server, database or agent of the region entered and on premises: connections are reset."""

from __future__ import annotations

from typing import Final

from drkit.sandbox.layout import ONPREM
from drkit.sandbox.strikes import Drilled
from drkit.sandbox.strikes.shut import Shut

LEASE_S: Final = 12.0


class Hosts(Shut):
    """The way by which drkit reaches them is taken; users are served."""

    def __init__(self, drilled: Drilled) -> None:
        super().__init__(drilled, "silence", (drilled.region, ONPREM), LEASE_S)
