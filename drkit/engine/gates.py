"""Steps that wait for people: their parameters, and the rules of who may answer. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Gt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from drkit.catalog import Gate
from drkit.model.faults import CONSENT_ROLE
from drkit.model.params import Params
from drkit.model.values import Duration, Json, digest, parse_duration

POLICY = "drill policy"


class Escalation(BaseModel):
    """Who is asked too when nobody has answered for a while."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    after: Annotated[Duration, Gt(0)]
    """How long after the question was put."""
    role: str
    """Role of `drkit.toml` in which one may answer from then on, beside those asked before."""


class Approve(Params):
    """Wait until people in a role have approved, bound to the plan and to what they were shown."""

    role: str
    """Role of `drkit.toml` in which one must answer."""
    approvals: Literal[1, 2] = 1
    """How many different persons must approve; the same Unix user is one person."""
    timeout: Duration = 600.0
    """An approval must come within this time; then the question has to be put again."""
    escalate: list[Escalation] = Field(default_factory=list)
    """Who is asked too, and when, if the answer has not come; the timeout stays."""
    question: str = ""
    """What is asked, in one sentence."""
    show: dict[str, Json] = Field(default_factory=dict)
    """Values that whoever answers is shown, usually references to earlier steps; an answer binds to them."""
    loss: float | None = None
    """Seconds of writes that would be lost, usually a reference; shown, and bound to."""

    @model_validator(mode="after")
    def _in_time(self) -> Approve:
        late = next((each for each in self.escalate if each.after >= self.timeout), None)
        if late is not None:
            raise ValueError(
                f"{late.role} would be asked after {late.after:g} s: the timeout is {self.timeout:g} s; "
                "ask sooner, or make the timeout longer"
            )
        return self


approve = Gate("gate.approve", Approve, doc=Approve.__doc__ or "", module=__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a gate asks."""

    role: str | None
    approvals: int
    timeout_s: float | None
    shown: dict[str, Json]
    escalation: tuple[tuple[float, str], ...]
    """Seconds after the question was put, and the role that may answer from then on."""


def terms(params: Mapping[str, Any]) -> Terms:
    """The terms in a gate's rendered parameters."""
    shown: dict[str, Json] = dict(params.get("show") or {})
    if params.get("question"):
        shown["question"] = params["question"]
    if params.get("loss") is not None:
        shown["loss_s"] = params["loss"]
    timeout = params.get("timeout", 600.0)
    return Terms(
        params.get("role"),
        int(params.get("approvals", 1)),
        None if timeout is None else parse_duration(timeout),
        shown,
        tuple((parse_duration(each["after"]), str(each["role"])) for each in params.get("escalate") or ()),
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


def in_role(by: Mapping[str, Json], claimed: str, asked: Collection[str]) -> bool:
    """Whether an answer given in the role `claimed` counts, if these are asked (none: anybody is).

    `by.roles` (drkit.toml) has the last word.
    """
    if not asked:
        return True
    roles = by.get("roles")
    return claimed in asked and (not isinstance(roles, list) or claimed in roles)


def answering(by: Mapping[str, Json], asked: Sequence[str]) -> str:
    """The role in which this person answers: the first of those asked that they have, else the first asked."""
    roles = by.get("roles")
    own = [role for role in asked if isinstance(roles, list) and role in roles]
    return next(iter([*own, *asked]), "")


def policy_answer(policy: Mapping[str, Json] | None, role: str | None) -> tuple[str, str, str] | None:
    """A drill's recorded answer for a role: `approve` or `reject`, the policy's name, the reason. None: ask people."""
    if policy is None or role is None or role == CONSENT_ROLE:
        return None
    recorded = policy.get(role, policy.get("*"))
    if isinstance(recorded, dict):
        answer, reason = recorded.get("answer"), str(recorded.get("reason", "recorded for drills"))
    else:
        answer, reason = recorded, "recorded for drills"
    return (str(answer), str(policy.get("name", "drill")), reason) if answer in ("approve", "reject") else None
