"""The step's own permission is gone until a person grants it again: its calls to AWS, or its logins on servers."""

from __future__ import annotations

from typing import Final

from drkit.sandbox.layout import ONPREM
from drkit.sandbox.strikes import Drilled, Strike
from drkit.sandbox.strikes.gateway import Gateway
from drkit.sandbox.strikes.shut import Shut

LEASE_S: Final = 900.0
"""As long as a drill may take: somebody grants it before."""


def denied(drilled: Drilled) -> Strike:
    """By AWS if the step calls it, else by the servers."""
    if drilled.permissions:
        calls = [(one.service, one.pattern) for one in drilled.permissions]
        return Gateway(drilled, calls, LEASE_S, deny=True)
    return Shut(drilled, "logins", (drilled.region, ONPREM), LEASE_S)
