"""Do the credentials live as long as the run? Their ends are asked for here; what is to be said of them is pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from drkit.errors import DrkitError

if TYPE_CHECKING:
    from drkit.context import Context
    from drkit.model.credentials import Life
    from drkit.model.environment import Environment
    from drkit.model.plan import Plan, PlanStep

Verdict = Literal["OK", "WARN", "FAIL", "?"]
#: One look at one credential; one that cannot be asked for is unknown.
LOOK_S = 6.0
_VALID_UNTIL = "select extract(epoch from rolvaliduntil)::float8 as ends from pg_roles where rolname = current_user"


def judged(life: Life, now: float, *, likely_s: float | None, longest_s: float | None) -> tuple[Verdict, str]:
    """What its end means for a run of this environment. Pure.

    `likely_s`: what the last good drill took; `longest_s`: the longest chain of its steps' limits; None: not known.
    """
    from drkit.model.values import show_duration

    again = {"by itself": ", refreshed by itself", "never": ", not refreshable"}.get(
        life.renews, ", read again at its source"
    )
    if not life.known:
        return "?", f"{life.what}: life unknown{again}"
    if life.ends is None:
        return "OK", f"{life.what}: does not expire"
    left_s = life.ends - now
    if left_s <= 0:
        return "FAIL" if life.renews != "by itself" else "WARN", f"{life.what}: has expired{again}"
    told = f"{life.what}: {show_duration(left_s)} left{again}"
    if life.renews == "by itself":
        return "OK", told
    if likely_s is not None and left_s < likely_s:
        verdict: Verdict = "FAIL" if life.renews == "never" else "WARN"
        return verdict, f"{told}; the last good drill took {show_duration(likely_s)}"
    if longest_s is not None and left_s < longest_s:
        return "WARN", f"{told}; the run may take up to {show_duration(longest_s)}"
    return "OK", told


def longest_s(plan: Plan) -> float:
    """The longest chain of limits: of steps that are known now, each tried as often as it may be. Pure."""
    from drkit.plan.graph import longest

    return longest({step.id: step.needs for step in plan.steps}, {step.id: _limit_s(step) for step in plan.steps})


def uses_aws(environment: Environment, plan: Plan | None) -> bool:
    """Something that every run needs is kept there, or a step of this plan goes there."""
    refs = [d.password.ref for d in environment.databases] + [h.key.ref for h in environment.hosts]
    kept = environment.state_store.startswith("s3:") or any(ref.startswith("secret://aws-sm/") for ref in refs)
    return kept or (plan is not None and any(step.uses.startswith("aws.") for step in plan.steps))


async def lives(context: Context, plan: Plan | None) -> list[Life]:
    """How long the credentials last that a run away from the source needs. Reads only; what fails is unknown."""
    import anyio

    from drkit.model.credentials import Life

    environment = context.environment
    found: dict[str, Life] = {}

    async def look(what: str, ask: object) -> None:
        found[what] = Life(what, known=False, renews="by whoever writes it")
        try:
            with anyio.fail_after(LOOK_S):
                life = await ask()  # type: ignore[operator]
                if life is not None:
                    found[what] = life
        except (DrkitError, TimeoutError):
            pass  # stays unknown: why it cannot be asked for is what other checks find

    async with anyio.create_task_group() as group:
        if uses_aws(environment, plan):
            from drkit.providers.aws import Aws

            group.start_soon(look, "AWS credentials", lambda: context.use(Aws).life(context.target))
        for database in environment.databases:
            if database.site != context.source:
                what = f"password of {database.name} in {database.site}"
                group.start_soon(look, what, lambda d=database, w=what: _of_password(context, d.name, d.site, w))
    keys = sum(host.site != context.source for host in environment.hosts)
    if keys:
        found["keys"] = Life(f"SSH keys of {keys} hosts", known=False, renews="by whoever writes it")
    return list(found.values())


async def _of_password(context: Context, name: str, site: str, what: str) -> Life:
    from drkit.model.credentials import Life
    from drkit.providers.postgres import Postgres

    rows = await context.use(Postgres).query(name, site, _VALID_UNTIL)
    ends = rows[0]["ends"] if rows else None
    ends = None if ends is None or math.isinf(float(ends)) else float(ends)
    return Life(what, known=bool(rows), ends=ends, renews="by whoever writes it")


def _limit_s(step: PlanStep) -> float:
    from drkit.model.values import parse_duration

    if step.kind in ("join", "when"):
        return 0.0
    if step.kind == "gate":
        wait = step.params.get("timeout", 600.0)
        return parse_duration(wait) if isinstance(wait, str | int | float) and "${" not in str(wait) else 0.0
    return step.timeout_s * (1 + (step.retry.times if step.retry is not None else 0))
