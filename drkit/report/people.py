"""Who answered what, and how it is known who that was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drkit.model.events import Answered, Asked, Ordered, Row
from drkit.model.values import Json, utc
from drkit.report.folded import RunLike
from drkit.report.story import Approval
from drkit.report.wording import shown


def named(by: Mapping[str, Json]) -> str:
    """A person's name, or `uid 1000` where there is none."""
    if by.get("name"):
        return str(by["name"])
    return f"uid {by['uid']}" if by.get("uid") is not None else "somebody unknown"


def identified(by: Mapping[str, Json]) -> str:
    """How it is known who this is: `unix socket peer, uid 1000`."""
    how = str(by.get("how") or "not recorded")
    return f"{how}, uid {by['uid']}" if by.get("uid") is not None else how


def approvals(rows: Sequence[Row], run: RunLike) -> Iterable[Approval]:
    """Every answer, in order. One counts if a question with exactly that content was open for that plan.

    Who overrides a fence answers before anything was asked; what is refused never gets into the journal as an order.
    """
    asked: dict[tuple[str, str], Asked] = {}
    plan_hash = run.plan_hash
    for row in rows:
        fact = row.fact
        if isinstance(fact, Asked):
            asked[fact.step, fact.shown_hash] = fact
        elif isinstance(fact, Ordered) and fact.verb == "override-fence":
            yield Approval(
                at=utc(run.wall(fact.t)),
                step=str(fact.step),
                purpose=fact.verb,
                answer="override",
                name=named(fact.by),
                role="",
                identity=identified(fact.by),
                reason=fact.reason or "",
                shown=shown(fact.args),
                counted=True,
            )
        elif isinstance(fact, Answered):
            question = asked.get((fact.step, fact.shown_hash))
            yield Approval(
                at=utc(run.wall(fact.t)),
                step=fact.step,
                purpose=question.purpose if question is not None else "gate",
                answer=fact.answer,
                name=named(fact.by),
                role=fact.role or "",
                identity=identified(fact.by),
                reason=fact.reason,
                shown=shown(question.shown) if question is not None else (),
                counted=question is not None and fact.plan_hash == plan_hash,
            )
