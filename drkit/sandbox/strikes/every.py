"""Every fault by the word that the matrix has for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from drkit.sandbox.strikes import Drilled, Strike
from drkit.sandbox.strikes.denied import denied
from drkit.sandbox.strikes.disk import Disk
from drkit.sandbox.strikes.hosts import Hosts
from drkit.sandbox.strikes.kill import Kill
from drkit.sandbox.strikes.stale import Stale
from drkit.sandbox.strikes.throttle import Throttle

STRIKES: Final[Mapping[str, Callable[[Drilled], Strike]]] = {
    "kill": Kill, "ssh": Hosts, "throttle": Throttle, "stale": Stale, "denied": denied, "disk": Disk,
}  # fmt: skip
