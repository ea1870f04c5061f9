"""What a fault may hit: the members of an environment, and what each is to its service. Frozen data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from drkit.model.observation import Observation

#: Parameter of a fault that `on:` fills with the name of its target.
FILLED = "host"


class Member(BaseModel):
    """One thing that a fault can hit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    group: str
    """Those that do the same work for each other: if all of a group are hit, the work is not done."""
    votes: bool = False
    """The group needs a majority."""
    standby: bool = False
    """It is what a failover would need."""
    tags: tuple[str, ...] = ()
    fills: str = FILLED
    """Parameter of a fault that its name is for."""


class Inventory(Observation):
    """What is there to be hit; a probe that answers this can be named under a scenario's `targets`."""

    members: tuple[Member, ...]
    """Those asked for."""
    others: tuple[Member, ...] = ()
    """The rest of their groups: what is left if those are hit."""
