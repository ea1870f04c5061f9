"""aws.replication-pause: S3 stops copying new objects to the other region, by a rule that is disabled."""

from __future__ import annotations

from typing import Any

from drkit.catalog import probe
from drkit.chaos.awslease import Call
from drkit.chaos.onaws import AwsFault, Change, OnAws, Seen, Standing, aws_fault
from drkit.context import Context
from drkit.errors import Refused, Unobservable
from drkit.model.observation import State
from drkit.model.paper import Paper, lines
from drkit.model.values import Json
from drkit.providers.aws import Aws, AwsError


class ReplicationRule(OnAws):
    """A rule by which S3 copies a bucket's objects elsewhere."""

    bucket: str
    """The bucket that is copied from."""
    rule: str
    """Id of the rule."""


class Replication(Seen):
    """How a bucket is replicated."""

    configuration: dict[str, Json]
    """All of it, as S3 words it; empty: it is not."""

    def standing(self, call: Call) -> Standing | None:
        """The inverse puts back the whole: only over what differs from it by our one status."""
        stored, now = call.input["ReplicationConfiguration"], {rule["ID"]: rule for rule in _rules(self.configuration)}
        closed = [r["ID"] for r in _rules(stored) if r["Status"] != now.get(r["ID"], r)["Status"] == "Disabled"]
        if not closed:
            return "gone" if self.configuration == stored else "theirs"
        return "ours" if self.configuration == _with(stored, closed[0], "Disabled") else "changed"


@probe("aws.replication", plane="control")
async def replication(ctx: Context, p: ReplicationRule) -> Replication:
    """How a bucket is replicated."""
    try:
        answer = await ctx.use(Aws).call(p.site, "s3", "get_bucket_replication", {"Bucket": p.bucket})
    except AwsError as error:
        if error.aws_code == "ReplicationConfigurationNotFoundError":
            return Replication(configuration={})
        raise Unobservable(error.message) from error
    return Replication(configuration=answer["ReplicationConfiguration"])


class Pause(ReplicationRule, AwsFault):
    """Which rule is to be disabled."""


@aws_fault("aws.replication-pause", observe=replication)
def pause(p: Pause, before: Replication) -> Change:
    """Disable one rule of a bucket's replication. What is written meanwhile is not copied afterwards either."""
    if not any(rule["ID"] == p.rule for rule in _rules(before.configuration)):
        raise Refused(f"aws.replication-pause: {p.bucket} has no replication rule {p.rule}.")

    def put(configuration: Json) -> Call:
        return Call("s3", "PutBucketReplication", {"Bucket": p.bucket, "ReplicationConfiguration": configuration})

    return Change((put(_with(before.configuration, p.rule, "Disabled")),), (put(before.configuration),))


@pause.check
def paused(p: Pause, now: Replication) -> State:
    """The rule is there and disabled; a rule that is gone copies nothing either, and is not ours to say."""
    status = [rule["Status"] for rule in _rules(now.configuration) if rule["ID"] == p.rule]
    known = {"Disabled": State.HOLDS, "Enabled": State.ABSENT}
    return known.get(status[0], State.UNKNOWN) if status else State.UNKNOWN


@pause.by_hand
def pause_by_hand(p: Pause, paper: Paper) -> str:
    """The configuration is kept in a file: it is what has to come back."""
    got = paper.aws(p.site, "s3api get-bucket-replication", bucket=p.bucket)
    put = paper.aws(p.site, "s3api put-bucket-replication", bucket=p.bucket)
    choose = f'(.Rules[] | select(.ID == "{p.rule}") | .Status) = "Disabled"'
    return lines(
        f"{got} --query ReplicationConfiguration --output json > replication.json",
        f"jq '{choose}' replication.json > paused.json",
        f"{put} --replication-configuration file://paused.json",
    )


def _rules(configuration: Any) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = configuration.get("Rules", [])
    return rules


def _with(configuration: Any, rule: str, status: str) -> dict[str, Json]:
    """The same configuration, in which one rule has this status."""
    rules = [{**one, "Status": status} if one["ID"] == rule else one for one in _rules(configuration)]
    return {**configuration, "Rules": rules}
