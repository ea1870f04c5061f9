"""What a step is given: who it acts for, its idempotency token, and the providers it reaches the world through."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar, cast

from drkit.model.environment import Environment, SecretRef, Site
from drkit.model.events import Fact
from drkit.model.permit import Lasting, Permit
from drkit.model.ports import Clock
from drkit.model.values import Json


class Secrets(Protocol):
    """Resolves references to secrets; everything it ever answered is redacted from logs and errors."""

    def get(self, ref: SecretRef | str) -> str:
        """The secret. PreflightFailed if it cannot be had."""

    def redact(self, text: str) -> str:
        """`text` with every secret that was handed out replaced by `[redacted]`."""


class Provider(Protocol):
    """How something is reached: one instance per run, opened on first use, closed when the run ends."""

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        """A provider for this environment. Opens nothing yet: connections are made by the first call."""

    async def aclose(self) -> None:
        """Close what was opened. Never raises."""


P = TypeVar("P", bound=Provider)


class Providers:
    """The providers of one run. `fakes` enter here: an instance given for a class is used instead of connecting."""

    def __init__(
        self, environment: Environment, secrets: Secrets, fakes: Mapping[type[Provider], Provider] | None = None
    ) -> None:
        self._environment = environment
        self._secrets = secrets
        self._open: dict[type[Provider], Provider] = dict(fakes or {})

    @property
    def environment(self) -> Environment:
        """What these providers reach."""
        return self._environment

    def use(self, provider: type[P]) -> P:
        """The run's instance of `provider`."""
        if provider not in self._open:
            self._open[provider] = provider.connect(self._environment, self._secrets)
        return cast(P, self._open[provider])

    async def aclose(self) -> None:
        """Close every provider that was opened, in reverse order of opening."""
        for provider in reversed(list(self._open.values())):
            await provider.aclose()
        self._open.clear()


def step_token(run: str, step: str) -> str:
    """Idempotency token of a step in a run; see `Context.token`."""
    plain = re.sub(r"[^a-z0-9-]+", "-", step.lower())
    # `a/b` and `a-b` are two steps: what one of them created must not pass for the other's.
    apart = "" if plain == step else f"-{zlib.crc32(step.encode()):08x}"
    return re.sub(r"[^a-z0-9-]+", "-", f"drkit-{run}".lower()) + f"-{plain}{apart}"


@dataclass(frozen=True, slots=True)
class Override:
    """A fence that people passed although it was not observed, and what for: what it was to fence, the stated loss."""

    step: str
    params: Mapping[str, Json]
    by: tuple[str, ...]
    """Names of the persons, all different."""
    loss_s: float


@dataclass(frozen=True)
class Context:
    """Given to every action and probe.

    `token` (run and step) names what is created and goes into every idempotency field an API has. `permit` goes to
    every target that can refuse a stale holder.
    """

    environment: Environment
    providers: Providers
    secrets: Secrets
    clock: Clock
    run: str
    step: str
    source: str
    target: str
    mode: str = "ungraceful"
    drill: bool = False
    attempt: int = 1
    fencing_token: int = 0
    lease: Lasting | None = None
    """The environment's, as it stands whenever it is asked; None: there is no state store."""
    overrides: tuple[Override, ...] = ()
    """For a step that promotes: the fences before it that were overridden."""
    scratch: dict[str, str] = field(default_factory=dict)
    """What the action found out and wants in the run's log; redacted before it is written."""
    tell: Callable[[Fact], None] = lambda fact: None
    """Reports a fact beside the step's outcome: what became of a fault."""

    @property
    def token(self) -> str:
        """Idempotency token: the same for every attempt of this step in this run. Safe in names (`[a-z0-9-]`)."""
        return step_token(self.run, self.step)

    @property
    def permit(self) -> Permit:
        """What a change carries to its target."""
        return Permit(self.fencing_token, self.lease)

    @property
    def not_after(self) -> float | None:
        """Until when effects may be started, in seconds on `clock.monotonic()`; None: no end; -inf: not any more."""
        if self.lease is None:
            return None
        left_s = self.lease.remaining_s()
        return self.clock.monotonic() + left_s if left_s > 0 else -math.inf

    def use(self, provider: type[P]) -> P:
        """The run's instance of `provider`."""
        return self.providers.use(provider)

    def site(self, name: str) -> Site:
        """The site called `name`, or the one in the role `source` or `target`."""
        return self.environment.site({"source": self.source, "target": self.target}.get(name, name))
