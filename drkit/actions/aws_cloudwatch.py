"""Monitoring of the side entered: alarms that may act, and a test page that was really received."""

from __future__ import annotations

from typing import Any

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.observation import Observation, State
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws
from drkit.providers.http import Http


class Alarms(Params):
    """Alarms and the topic they page through."""

    site: SiteName = "target"
    """Region of the alarms."""
    alarms: list[str]
    """Names of the alarms."""
    topic: str
    """Name of the SNS topic that pages people."""


class AlarmsState(Observation):
    """Alarms as they are, and whether this step's test page has arrived."""

    enabled: list[str]
    """Alarms that exist, may act, and act on the topic of this region."""
    dead: list[str]
    """The others."""
    topic: str | None
    subscribers: int
    page_received: bool


@probe("aws.cloudwatch.alarms", plane="control")
async def alarms(ctx: Context, p: Alarms) -> AlarmsState:
    """Read every alarm, the topic's subscriptions, and what the receivers have got."""
    aws = ctx.use(Aws)
    topics = await aws.pages(p.site, "sns", "list_topics", "Topics")
    topic = next((each["TopicArn"] for each in topics if each["TopicArn"].endswith(f":{p.topic}")), None)
    found = (await aws.call(p.site, "cloudwatch", "describe_alarms", {"AlarmNames": p.alarms}))["MetricAlarms"]
    good = sorted(each["AlarmName"] for each in found if each["ActionsEnabled"] and topic in each["AlarmActions"])
    subscriptions: list[Any] = []
    if topic is not None:
        request = {"TopicArn": topic}
        subscriptions = await aws.pages(p.site, "sns", "list_subscriptions_by_topic", "Subscriptions", request)
    return AlarmsState(
        enabled=good,
        dead=sorted(set(p.alarms) - set(good)),
        topic=topic,
        subscribers=len(subscriptions),
        page_received=await arrived(ctx, ctx.token),
    )


async def arrived(ctx: Context, text: str) -> bool:
    """Whether a message with this text has arrived anywhere that lists what arrives."""
    places = sorted({sink.receipts for sink in ctx.environment.sinks if sink.receipts})
    if not places:
        raise Unobservable("No sink of this environment lists what arrived.")
    for place in places:
        answer = await ctx.use(Http).request("GET", place)
        if any(text in str(message["body"]) for message in answer.json()["messages"]):
            return True
    return False


@action("aws.cloudwatch.arm", observe=alarms, repeat="safe", plane="control", timeout_s=60, skippable=False)
async def arm(ctx: Context, p: Alarms, before: AlarmsState) -> None:
    """Let the alarms act, and send a test page through the topic they act on."""
    if before.topic is None:
        raise StepFailed(f"There is no topic {p.topic} in {p.site}.", world="untouched")
    aws = ctx.use(Aws)
    await aws.call(p.site, "cloudwatch", "enable_alarm_actions", {"AlarmNames": p.alarms})
    if not before.page_received:
        drill = "[DRILL] " if ctx.drill else ""
        message = {"TopicArn": before.topic, "Subject": f"{drill}test page", "Message": f"{drill}test page {ctx.token}"}
        await aws.call(p.site, "sns", "publish", message)


@arm.check
def armed(p: Alarms, now: AlarmsState) -> State:
    """Every alarm may act on this region's topic, and the test page has arrived."""
    return State.HOLDS if not now.dead and now.page_received else State.ABSENT


@arm.undo
def stays_armed(p: Alarms, before: AlarmsState, after: AlarmsState | None) -> Use | None:
    """Left: an alarm too many wakes somebody, one too few wakes nobody."""
    return None
