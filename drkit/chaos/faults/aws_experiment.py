"""aws.experiment: an experiment of AWS FIS, which ends itself: by its stop conditions, and by each action's duration.

Its tags say whose it is, so it is its own marker. FIS numbers experiments itself: no schedule could name one before it
runs. Therefore only templates are taken whose every action ends by a duration of its own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from drkit.catalog import fault, probe
from drkit.chaos.onaws import OnAws
from drkit.context import Context
from drkit.errors import DrkitError, NotSupported, Refused, Unobservable
from drkit.model.events import FaultChanged
from drkit.model.faults import Marker, Markers, fault_key
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, lines, var
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError

BY_FIS: Final = "FIS: stop conditions, and the duration of each action"
TAG: Final = "drkit:"
_UNDER_WAY: Final = ("pending", "initiating", "running", "stopping")
_DURATIONS: Final = ("duration", "startInstancesAfterDuration")
_ISO: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


class Template(OnAws):
    """An experiment template of FIS."""

    template: str
    """Its id, `EXT…`."""


class Experiment(BaseModel):
    """An experiment that drkit started."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    key: str
    step: str
    """Which step started it."""
    status: str


class TemplateState(Observation):
    """A template, and what runs of it."""

    stop_conditions: tuple[str, ...]
    """Alarms that stop it."""
    endless: tuple[str, ...]
    """Actions without a duration: FIS would not end what they do."""
    lasts_s: float
    """All durations one after the other: no experiment lasts longer."""
    experiments: tuple[Experiment, ...]
    """Those that drkit started and that are not over."""


@probe("aws.experiment-template", plane="control")
async def template(ctx: Context, p: Template) -> TemplateState:
    """What stops a template's experiments, how long they last, and which drkit has running."""
    aws = ctx.use(Aws)
    try:
        found = (await aws.call(p.site, "fis", "get_experiment_template", {"id": p.template}))["experimentTemplate"]
        running = await _running(ctx, p.site, {"experimentTemplateId": p.template})
    except AwsError as error:
        raise Unobservable(error.message) from error
    lasting = {name: _lasts(action) for name, action in found["actions"].items()}
    return TemplateState(
        stop_conditions=tuple(one["value"] for one in found["stopConditions"] if one["source"] != "none"),
        endless=tuple(sorted(name for name, lasts in lasting.items() if lasts is None)),
        lasts_s=sum(lasts.total_seconds() for lasts in lasting.values() if lasts is not None),
        experiments=tuple(
            Experiment(
                id=one["id"], key=one["tags"][f"{TAG}key"], step=one["tags"][f"{TAG}step"],
                status=one["state"]["status"],
            )
            for one in running
        ),
    )  # fmt: skip


@fault("aws.experiment", observe=template, lease=BY_FIS, repeat="token", plane="control", timeout_s=120.0)
async def experiment(ctx: Context, p: Template, before: TemplateState) -> None:
    """Start an experiment of AWS FIS. Refused without an alarm that stops it, or if an action has no end of its own."""
    if not before.stop_conditions or before.endless:
        why = f"no end of their own: {', '.join(before.endless)}" if before.endless else "no alarm stops it"
        raise Refused(f"aws.experiment: {p.template} is not safe to start: {why}.", hint="give it stopConditions")
    key = fault_key(experiment.name, p)
    if any(one.key == key for one in before.experiments):
        raise Refused(f"aws.experiment: {p.template} runs already in {p.site}.", hint="drkit chaos leftovers")
    detail: dict[str, Json] = {"key": key, "lease": "fis", "left_s": before.lasts_s}
    ctx.tell(FaultChanged(fault=experiment.name, id=ctx.step, state="armed", detail=dict(detail)))
    said = {**p.model_dump(), "key": key, "run": ctx.run, "step": ctx.step, "lasts": f"{before.lasts_s:g}"}
    tags = {f"{TAG}{name}": value for name, value in said.items()}
    asked = {"experimentTemplateId": p.template, "clientToken": ctx.token, "tags": tags}
    ctx.permit.until(0.0)
    await ctx.use(Aws).call(p.site, "fis", "start_experiment", asked)
    ctx.tell(FaultChanged(fault=experiment.name, id=ctx.step, state="injected", detail=dict(detail)))


@experiment.check
def runs(p: Template, now: TemplateState) -> State:
    """FIS runs it; absent when it is over, however it ended."""
    mine = [one.status for one in now.experiments if one.key == fault_key(experiment.name, p)]
    if not mine:
        return State.ABSENT
    return State.HOLDS if set(mine) == {"running"} else State.IN_PROGRESS


@experiment.healed_by
async def stopped(ctx: Context, p: Template, before: TemplateState) -> None:
    """Stop what drkit started of it; FIS then undoes what its actions did."""
    for one in (await template(ctx, p)).experiments:
        if one.key == fault_key(experiment.name, p) and one.status != "stopping":
            await ctx.use(Aws).call(p.site, "fis", "stop_experiment", {"id": one.id})
            detail: dict[str, Json] = {"key": one.key, "by": "drkit"}
            ctx.tell(FaultChanged(fault=experiment.name, id=one.step, state="healed", detail=detail))


@experiment.by_hand
def start_by_hand(p: Template, paper: Paper) -> str:
    """One call."""
    return paper.aws(p.site, "fis start-experiment", experiment_template_id=p.template)


def stop_by_hand(p: Template, paper: Paper) -> str:
    """Which of its experiments are drkit's, and a call for each."""
    mine = f"tags.\"{TAG}key\"=='{fault_key(experiment.name, p)}' && state.status=='running'"
    found = paper.aws(
        p.site, "fis list-experiments", experiment_template_id=p.template, query=f"experiments[?{mine}].id"
    )
    stop = paper.aws(p.site, "fis stop-experiment", id=var("ID"))
    return lines(f"for ID in $({found}); do", f"  {stop}", "done")


assert experiment.heal is not None  # just declared
experiment.heal.by_hand(stop_by_hand)


async def left_in(ctx: Context, site: str) -> Markers:
    """Experiments that drkit started and that FIS still runs in a region."""
    try:
        running = await _running(ctx, site, {})
        at = await _now(ctx, site) if running else datetime.now(UTC)
    except NotSupported:
        return Markers()
    except DrkitError as silent:
        if isinstance(silent, AwsError) and silent.aws_code.startswith("AccessDenied"):
            return Markers()  # who may not even list them has started none
        return Markers(silent=(f"FIS in {site}: {silent.message}",))
    return Markers(markers=tuple(_marker(site, one, at) for one in running))


def _marker(site: str, one: dict[str, Any], at: datetime) -> Marker:
    said = {name.removeprefix(TAG): value for name, value in one["tags"].items()}
    left_s = (one["creationTime"] + timedelta(seconds=float(said["lasts"])) - at).total_seconds()
    return Marker(
        key=said["key"], fault=experiment.name, params={"site": said["site"], "template": said["template"]},
        where=f"region {site}", run=said["run"], step=said["step"], state="injected" if left_s > 0 else "overdue",
        expires_in_s=left_s if left_s > 0 else None,
        why=None if left_s > 0 else f"FIS should have ended it, and calls it {one['state']['status']}",
    )  # fmt: skip


async def _running(ctx: Context, site: str, of: dict[str, str]) -> list[dict[str, Any]]:
    found = await ctx.use(Aws).pages(site, "fis", "list_experiments", "experiments", of)
    ours = [one for one in found if f"{TAG}key" in one.get("tags", {})]
    return [one for one in ours if one["state"]["status"] in _UNDER_WAY]


async def _now(ctx: Context, site: str) -> datetime:
    answer = await ctx.use(Aws).call(site, "fis", "list_experiments", {"maxResults": 1})
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _lasts(action: dict[str, Any]) -> timedelta | None:
    given = [action.get("parameters", {}).get(name) for name in _DURATIONS]
    found = [match for text in given if text and (match := _ISO.fullmatch(text))]
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found[0].groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
