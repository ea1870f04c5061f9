"""What a report says of what was broken on purpose: faults, what the hypothesis came to, how fast a stop was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

from drkit.model.events import Deviated, Failed, FaultChanged, Ordered, Row
from drkit.model.values import utc
from drkit.report.contract import Abort, Hypothesis, ReportFault
from drkit.report.folded import RunLike, StepLike
from drkit.report.people import named


def faults(run: RunLike, rows: Sequence[Row]) -> Iterable[ReportFault]:
    """From the steps that inject and heal; who reverted is what the target said, or follows from its lease."""
    heals = _heals(run)
    told = {(f.id, f.state): (f, row.at) for row in rows if isinstance(f := row.fact, FaultChanged)}
    never = never_injected(run, rows)
    for step in run.steps.values():
        if step.plan.part != "inject":
            continue
        heal = heals.get(step.plan.id)
        healed = heal is not None and str(heal.status) == "done" and step.plan.id not in never
        fact, at = told.get((step.plan.id, "healed"), (None, None))
        armed, _ = told.get((step.plan.id, "armed"), (None, None))
        injected = str(step.status) == "done"
        yield ReportFault(
            id=step.plan.id,
            fault=step.plan.uses,
            injected_at=_at(run, step.started_t) if injected else None,  # before it can have had an effect
            reverted_at=_at(run, heal.finished_t) if heal is not None and healed else at,
            reverted_by=_reverted_by(fact, armed, heal) if healed or fact is not None else None,
            verified_clean=_clean(step, healed or (step.plan.id, "clean") in told) if injected else None,
            simulated=step.plan.simulated,
        )


def _reverted_by(
    told: FaultChanged | None, armed: FaultChanged | None, heal: StepLike | None
) -> Literal["drkit", "lease", "sweep"] | None:
    """What the target said; where it said nothing, drkit if it was through before the lease was over; else unknown."""
    by = told.detail.get("by") if told is not None else None
    if by in ("drkit", "lease", "sweep"):
        return cast(Literal["drkit", "lease", "sweep"], by)
    left_s = armed.detail.get("left_s") if armed is not None else None
    ended = _healed_t(heal)
    if armed is None or ended is None or not isinstance(left_s, int | float):
        return None
    return "drkit" if ended < armed.t + left_s else None


def never_injected(run: RunLike, rows: Sequence[Row]) -> frozenset[str]:
    """Steps that were to break something and certainly did not: there was nothing to heal, though healing was tried.

    Their target says so, or the only attempt was turned away before it changed anything.
    """
    told = {(f.id, f.state) for row in rows if isinstance(f := row.fact, FaultChanged)}
    failed = [fact for row in rows if isinstance(fact := row.fact, Failed)]
    refused = {fact.step for fact in failed if fact.world == "untouched" and fact.attempt == 1}
    return frozenset(
        id for id, step in run.steps.items()
        if step.plan.part == "inject" and str(step.status) != "done" and (id, "injected") not in told
        and ((id, "never-injected") in told or (id in refused and step.attempt == 1 and (id, "healed") not in told))
    )  # fmt: skip


def _clean(step: StepLike, clean: bool) -> bool | None:
    """Where nothing real was broken, nothing was measured; what was not even taken back is left all the same."""
    return None if clean and step.plan.simulated is not None else clean


def hypothesis(run: RunLike, rows: Sequence[Row]) -> Hypothesis | None:
    """What the scenario claimed and whether it held; None without a scenario. Not held: at least one deviation.

    `held` is None where nothing was looked at to the end: the run did not end done, or names no steady state.
    """
    claim = run.plan.hypothesis
    if claim is None:
        return None
    during = [f"{fact.expect}: {fact.reason}" for row in rows if isinstance(fact := row.fact, Deviated)]
    after = [step for step in run.steps.values() if step.plan.part == "after"]
    missed = [f"{step.plan.verify}: {step.error}" for step in after if str(step.status) == "failed"]
    deviations = tuple(during + missed)
    whole = run.outcome == "done" and all(str(step.status) == "done" for step in after) and (after or run.plan.steady)
    return Hypothesis(claim=claim, held=False if deviations else True if whole else None, deviations=deviations)


def broken(run: RunLike, rows: Sequence[Row]) -> tuple[str, ...]:
    """What the scenario expects and did not hold, each once: of its steady state, and what made it stop."""
    during = [fact.expect for row in rows if isinstance(fact := row.fact, Deviated)]
    after = [
        step.plan.verify for step in run.steps.values() if step.plan.part == "after" and str(step.status) == "failed"
    ]
    stopped = [f.reason or "" for row in rows if isinstance(f := row.fact, Ordered) and f.by.get("how") == "stop_when"]
    stops = [f"stop_when: {text}" for text in run.plan.stop_when]
    made = [stop for stop in stops for why in stopped if why.startswith((f"{stop}: ", f"{stop} cannot be told: "))]
    return tuple(dict.fromkeys([*(f"steady_state: {text}" for text in [*during, *after]), *made]))


def abort(run: RunLike, rows: Sequence[Row]) -> Abort | None:
    """Who or what stopped the run, and how long it took until everything broken was seen to be healed."""
    order = next((f for row in rows if isinstance(f := row.fact, Ordered) and f.verb == "abort"), None)
    if order is None:
        return None
    heals = _heals(run)
    never = never_injected(run, rows)
    broken = [
        step for id, step in run.steps.items()
        if step.plan.part == "inject" and step.started_t is not None and id not in never
    ]  # fmt: skip
    ends = [_healed_t(heals.get(step.plan.id)) for step in broken if str(step.status) != "cancelled"]
    known = [end for end in ends if end is not None]
    whole = bool(ends) and len(known) == len(ends)
    return Abort(
        at=utc(run.wall(order.t)),
        by=named(order.by),
        how=str(order.by.get("how", "")),
        reason=order.reason,
        broken=len(ends),
        healed_at=_at(run, max(known)) if whole else None,
        latency_seconds=max(max(known) - order.t, 0.0) if whole else None,
    )


def _healed_t(heal: StepLike | None) -> float | None:
    return heal.finished_t if heal is not None and str(heal.status) == "done" else None


def _heals(run: RunLike) -> Mapping[str, StepLike]:
    return {step.plan.heals: step for step in run.steps.values() if step.plan.heals is not None}


def _at(run: RunLike, t: float | None) -> str | None:
    return None if t is None else utc(run.wall(t))
