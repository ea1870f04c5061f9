"""One step as people read it: what was asked for, what was seen before and after, and why it ended as it did. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drkit.model.outline import Place, outline, progress
from drkit.model.plan import Join, PlanStep
from drkit.model.values import Json
from drkit.report.folded import RunLike, StepLike
from drkit.report.people import named
from drkit.report.story import Seen, StepStory, Tone
from drkit.report.wording import shown, value

_TONES: dict[str, Tone] = {
    "done": "good", "skipped": "plain", "failed": "bad", "uncertain": "bad", "cancelled": "doubtful",
    "compensated": "doubtful", "waiting": "doubtful", "running": "doubtful", "pending": "plain",
}  # fmt: skip


def in_order(run: RunLike) -> list[Place]:
    """Every step, each below what stands for it."""
    return outline(run.steps)


def numbers(run: RunLike) -> dict[str, int]:
    """Place of each of the runbook's own steps, from 1, as its plan has them; those that came later have none."""
    own = [
        step.plan
        for step in run.steps.values()
        if step.plan.part == "runbook" and step.plan.number and not _undoes(step.plan.id)
    ]
    return {plan.id: number for number, plan in enumerate(sorted(own, key=lambda plan: plan.number), start=1)}


def _undoes(id: str) -> bool:
    return id.startswith("undo:")


def step_story(
    run: RunLike, step: StepLike, number: int | None, critical: Sequence[str], below: Sequence[str] = ()
) -> StepStory:
    """Everything the journal has on one step. `below`: how the steps right below it stand, if it stands for any."""
    if step.plan.join is not None:
        return _heading(step, step.plan.join, number, below)
    plan, status = step.plan, str(step.status)
    last = step.after if step.after is not None else step.seen
    overridden = any(override.get("step") == plan.id for override in run.overrides)
    whole = step.started_t is not None and step.finished_t is not None
    return StepStory(
        id=plan.id,
        number=number,
        title=_title(plan),
        owner=plan.owner or "",
        status=status,
        tone="bad" if overridden else _TONES.get(status, "plain"),
        uses=plan.uses,
        region=plan.site,
        part=plan.part,
        started_s=None if step.started_t is None else run.wall(step.started_t),
        finished_s=None if step.finished_t is None else run.wall(step.finished_t),
        seconds=(step.finished_t or 0) - (step.started_t or 0) if whole else None,
        attempts=step.attempt,
        critical=plan.id in critical,
        irreversible=plan.irreversible,
        fences=plan.fences,
        simulated=plan.simulated,
        params=shown(step.params if step.params is not None else plan.params),
        seen=_seen(step.before, last),
        seen_by=_seen_by(last),
        remark=_remark(step, overridden),
    )


def _heading(step: StepLike, join: Join, number: int | None, below: Sequence[str]) -> StepStory:
    """A step that stands for others: it took no time and saw nothing; how far they came is what there is to say."""
    plan, status = step.plan, str(step.status)
    said = [progress(join, below) if status in ("pending", "done") else None, _remark(step, False)]
    return StepStory(
        id=plan.id, number=number, title=_title(plan), owner=plan.owner or "", status=status,
        tone=_TONES.get(status, "plain"), uses=plan.uses, region=None, part=plan.part, started_s=None, finished_s=None,
        seconds=None, attempts=0, critical=False, irreversible=None, fences=plan.fences, simulated=None,
        params=(), seen=(), seen_by=None, remark="; ".join(filter(None, said)) or None,
    )  # fmt: skip


def _title(plan: PlanStep) -> str:
    """Its id stands beside it: without a title of its own, the last part of it will do."""
    return plan.title or plan.id.rpartition("/")[2]


def _value_of(look: Mapping[str, Json] | None) -> dict[str, Json]:
    found = (look or {}).get("value")
    return found if isinstance(found, dict) else {}


def _seen(before: Mapping[str, Json] | None, after: Mapping[str, Json] | None) -> tuple[Seen, ...]:
    """Field by field, what moved first; who answered is said elsewhere."""
    old, new = _value_of(before), _value_of(after)
    fields = [
        Seen(
            name=name,
            before=value(old[name]) if name in old else None,
            after=value(new[name]) if name in new else "not seen",
            changed=name in old and old[name] != new.get(name),
        )
        for name in dict.fromkeys((*new, *old))
        if name != "answered_by"
    ]
    return tuple(sorted(fields, key=lambda field: not field.changed))


def _seen_by(look: Mapping[str, Json] | None) -> str | None:
    if look is None:
        return None
    answered = _value_of(look).get("answered_by")
    who = f"{answered} answered" if answered else "seen"
    return f"{who} at {look.get('at')}, asked from {look.get('origin')}"


def _remark(step: StepLike, overridden: bool) -> str | None:
    said: list[str] = []
    if overridden:
        said.append("not observed: counts as done on the word of two persons")
    if step.error:
        said.append(step.error)
    if step.reason:
        said.append(step.reason)
    if step.adopted:
        said.append("found done on resume: not known to be done by this run")
    if step.by_hand is not None:
        said.append(f"declared done by hand by {named(step.by_hand)}")
    return "; ".join(said) or None
