"""How long a credential lives. Frozen data; the credential itself is nowhere in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Renewal = Literal["by itself", "by whoever writes it", "never"]


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a credential's end. `ends` is seconds since the epoch; None: see `known`."""

    what: str
    """`AWS credentials from assume-role`, `password of orders in us-west-2`."""
    known: bool
    """False: nothing says when it ends, which is not the same as never."""
    ends: float | None = None
    """With `known`, None: it does not end."""
    renews: Renewal = "never"
    """`by whoever writes it`: it is read again at its source when it nears its end, or is refused as expired."""
