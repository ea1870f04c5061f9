"""What a step acts in and what its expressions read: contexts, validated parameters, fresh observations."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from drkit.catalog import Action, Catalog, Probe
from drkit.context import Context, Override, Providers, Secrets
from drkit.engine.watching import Seen, observe_once
from drkit.model.events import Fact
from drkit.model.observation import Verdict
from drkit.model.params import Params
from drkit.model.plan import Plan, PlanProbe
from drkit.model.ports import Clock, Lease
from drkit.model.values import Json
from drkit.plan.surroundings import run_scope

#: How long a probe that only an expression reads may take.
PROBE_S = 15.0


class CannotStart(Exception):
    """The command cannot be carried out as it stands; nothing was touched."""


class Answer(Protocol):
    """What an expression came out as."""

    @property
    def verdict(self) -> Verdict:
        """PASS, FAIL or UNKNOWN."""

    @property
    def reason(self) -> str:
        """Why."""


Evaluate = Callable[[str, Mapping[str, Any]], Answer]


def evaluate_expression(text: str, scope: Mapping[str, Any]) -> Answer:
    """CEL, with three outcomes."""
    from drkit.plan.expressions import evaluate  # costs a parser: only for plans that have expressions

    return evaluate(text, scope)


@dataclass(frozen=True)
class Scene:
    """One run's surroundings."""

    plan: Plan
    catalog: Catalog
    providers: Providers
    secrets: Secrets
    clock: Clock
    run: str
    drill: bool = False
    lease: Lease | None = None
    fencing_token: int = 0
    evaluate: Evaluate = evaluate_expression
    origin: str = field(default_factory=socket.gethostname)
    """Who looks."""

    def context(
        self, step: str, attempt: int, overrides: Json = None, *, tell: Callable[[Fact], None] = lambda fact: None
    ) -> Context:
        """What an action or probe is given; `overrides` as in the command."""
        return Context(
            environment=self.providers.environment, providers=self.providers, secrets=self.secrets, clock=self.clock,
            run=self.run, step=step, source=self.plan.source, target=self.plan.target, mode=self.plan.mode,
            drill=self.drill, attempt=attempt, fencing_token=self.fencing_token,
            lease=self.lease,
            overrides=tuple(_override(told) for told in overrides) if isinstance(overrides, list) else (), tell=tell,
        )  # fmt: skip

    async def answer(
        self,
        text: str,
        ctx: Context,
        *,
        args: Mapping[str, Json],
        now: Json = None,
        before: Json = None,
    ) -> Answer:
        """Evaluate an expression; the probes it names are observed now, and what cannot be is left out (unknown).

        `args` are the command's: they hold the results it reads, and what it reads instead of the run's own.
        """
        steps, own, probes = args.get("steps"), args.get("scope"), args.get("probes")
        known = self.plan.probes
        if isinstance(probes, dict):
            known = {name: PlanProbe.model_validate(each) for name, each in probes.items()}
        scope = run_scope(
            self.plan,
            steps=steps if isinstance(steps, dict) else {},
            probes=await self._probes(text, ctx, known),
            now=now,
            before=before,
        )
        return self.evaluate(text, scope | own if isinstance(own, dict) else scope)

    async def _probes(self, text: str, ctx: Context, known: Mapping[str, PlanProbe]) -> dict[str, Json]:
        seen: dict[str, Json] = {}
        for name, probe in known.items():
            if f"probes.{name}" in text or f"probes['{name}']" in text or f'probes["{name}"]' in text:
                entry = self.catalog.entry(probe.uses)
                assert isinstance(entry, Probe)  # the plan was checked
                found = await self.see(entry, ctx, validated(entry, probe.params), PROBE_S)
                if found.now is not None:
                    seen[name] = found.now.model_dump(mode="json")
        return seen

    async def see(self, probe: Probe[Any, Any], ctx: Context, params: Params, within_s: float) -> Seen:
        """What is seen now."""
        return await observe_once(
            lambda: probe(ctx, narrowed(probe, params)), self.clock, self.origin, within_s=within_s
        )


def _override(told: Any) -> Override:
    return Override(told["step"], told["params"], tuple(told["by"]), float(told["loss_s"]))


def validated(entry: Probe[Any, Any] | Action[Any, Any], params: Json) -> Params:
    """Parameters as the action knows them; rendered references are values that nobody has looked at yet."""
    try:
        model: Params = entry.params.model_validate_json(json.dumps(params))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        raise CannotStart(f"its parameters do not fit {entry.name}: {wrong}") from error
    return model


def narrowed(probe: Probe[Any, Any], params: Params) -> Params:
    """An action's parameters as its probe knows them."""
    wanted: type[Params] = probe.params
    if isinstance(params, wanted):
        return params
    return wanted.model_validate({key: getattr(params, key) for key in wanted.model_fields})
