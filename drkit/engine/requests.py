"""What a runner is asked to do: a run's request, and how the next runner is to begin. Written into the run's folder."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drkit.errors import JournalError
from drkit.model.environment import Environment
from drkit.model.plan import Plan
from drkit.model.values import Json


class Request(BaseModel):
    """What a runner is asked to carry out. `by` is an identity as journaled; `wall` is when it was asked (UTC)."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    run: str
    kind: str
    """failover | failback | drill | run | heal"""
    plan: Plan
    environment: Environment
    by: dict[str, Json]
    wall: float
    drill: bool = False
    parent: str | None = None
    policy: dict[str, Json] | None = None
    """A drill's recorded answers to gates."""
    confirmed: str | None = None
    """What was typed to confirm; None: nothing was asked."""
    accepted_loss_s: float | None = None
    incident: str | None = None
    project: str | None = None
    """Folder of drkit.toml, for reports and hints."""
    options: dict[str, Json] = Field(default_factory=dict)
    """Further wishes of the command line (`until`, `step`)."""

    def to_bytes(self) -> bytes:
        """What `request.json` holds."""
        return self.model_dump_json(by_alias=True, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Request:
        """The request that `to_bytes` gave. JournalError if it is not one."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise JournalError(
                f"{where} is not a request: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                state="Nothing was changed.",
            ) from error


class Start(BaseModel):
    """How the next runner is to begin, beside the request: what `resume` was told."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    by: dict[str, Json]
    """Who resumes."""
    take_over: bool = False
    """Take the lease from a holder that no longer renews it."""
    from_copy: bool = False
    """The journal was read back from the state store: its tail may be missing."""
    orders: tuple[dict[str, Json], ...] = ()
    """Events (`operator.ordered`, as JSON) to take first: `resume`, `skip`, ..."""
