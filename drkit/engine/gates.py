"""Steps that wait for people: their parameters, and the rules of who may answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from drkit.catalog import Gate
from drkit.model.params import Params
from drkit.model.values import Duration, Json, digest, parse_duration

POLICY = "drill policy"


class Approve(Params):
    """Wait until people in a role have approved, bound to the plan and to what they were shown."""

    role: str
    """Role of `drkit.toml` in which one must answer."""
    approvals: Literal[1, 2] = 1
    """How many different persons must approve; the same Unix user is one person."""
    timeout: Duration = 600.0
    """An approval must come within this time; then the question has to be put again."""
    question: str = ""
    """What is asked, in one sentence."""
    show: dict[str, Json] = Field(default_factory=dict)
    """Values that whoever answers is shown, usually references to earlier steps; an answer binds to them."""
    loss: float | None = None
    """Seconds of writes that would be lost, usually a reference; shown, and bound to."""


approve = Gate("gate.approve", Approve, doc=Approve.__doc__ or "", module=__name__)


def terms(params: Mapping[str, Any]) -> tuple[str | None, int, float | None, dict[str, Json]]:
    """Role, number of persons, timeout in seconds and what is shown, from a gate's rendered parameters."""
    shown: dict[str, Json] = dict(params.get("show") or {})
    if params.get("question"):
        shown["question"] = params["question"]
    if params.get("loss") is not None:
        shown["loss_s"] = params["loss"]
    timeout = params.get("timeout", 600.0)
    return (
        params.get("role"),
        int(params.get("approvals", 1)),
        None if timeout is None else parse_duration(timeout),
        shown,
    )


def shown_hash(plan_hash: str, step: str, purpose: str, shown: Mapping[str, Json]) -> str:
    """What an answer binds to, beside the plan: void as soon as any of it changes."""
    return digest({"plan": plan_hash, "step": step, "purpose": purpose, "shown": dict(shown)})


def is_policy(by: Mapping[str, Json]) -> bool:
    """Whether a drill's recorded policy speaks here, not a person."""
    return str(by.get("how", "")).startswith(POLICY)


def is_stranger(by: Mapping[str, Json]) -> bool:
    """Whether the environment knows this Unix user in no role. (Where nobody has looked yet, that is not known.)"""
    return by.get("roles") == []


def same_person(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """The same Unix user is one person, whatever name is given; so is the same name."""
    if one.get("uid") is not None and one.get("uid") == other.get("uid"):
        return True
    return one.get("name") == other.get("name")


def said_before(by: Mapping[str, Json], others: Iterable[Mapping[str, Json]]) -> bool:
    """Whether this person is among the others."""
    return any(same_person(by, other) for other in others)


def in_role(by: Mapping[str, Json], claimed: str, role: str | None) -> bool:
    """Whether an answer given in the role `claimed` counts for `role`; `by.roles` (drkit.toml) has the last word."""
    if role is None:
        return True
    roles = by.get("roles")
    return claimed == role and (not isinstance(roles, list) or role in roles)


def policy_answer(policy: Mapping[str, Json] | None, role: str | None) -> tuple[str, str, str] | None:
    """A drill's recorded answer for a role: `approve` or `reject`, the policy's name, the reason. None: ask people."""
    if policy is None or role is None:
        return None
    recorded = policy.get(role, policy.get("*"))
    if isinstance(recorded, dict):
        answer, reason = recorded.get("answer"), str(recorded.get("reason", "recorded for drills"))
    else:
        answer, reason = recorded, "recorded for drills"
    return (str(answer), str(policy.get("name", "drill")), reason) if answer in ("approve", "reject") else None
