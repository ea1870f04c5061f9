"""SQS: queues ready for work, and their backlog worked off once and only once."""

from __future__ import annotations

import json

from drkit.actions.aws_events import rule_state, switch_rule
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import StepFailed, Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, keep, lines, quoted, var
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Queues(Params):
    """Queues, each with its dead-letter queue called NAME-dlq."""

    site: SiteName = "target"
    """Region of the queues."""
    queues: list[str]
    """Names of the queues, without their dead-letter queues."""


class QueueState(Observation):
    """One queue."""

    name: str
    exists: bool
    waiting: int = 0
    in_flight: int = 0
    dead: int | None = None
    """Messages in its dead-letter queue; null: it has none."""
    redrives: bool = False
    """Messages that fail too often go to its dead-letter queue."""


class QueuesState(Observation):
    """All of them."""

    queues: list[QueueState]
    unprocessed: int
    """Messages that wait, are in flight or lie in dead-letter queues."""


@probe("aws.sqs.state")
async def state(ctx: Context, p: Queues) -> QueuesState:
    """Count what waits in each queue and its dead-letter queue, and read the redrive policy."""
    found = [await _look(ctx.use(Aws), p.site, name) for name in p.queues]
    return QueuesState(queues=found, unprocessed=sum(q.waiting + q.in_flight + (q.dead or 0) for q in found))


async def _look(aws: Aws, site: str, name: str) -> QueueState:
    attributes = await _attributes(aws, site, name)
    if attributes is None:
        return QueueState(name=name, exists=False)
    dead = await _attributes(aws, site, f"{name}-dlq")
    policy = json.loads(attributes.get("RedrivePolicy", "{}"))
    return QueueState(
        name=name,
        exists=True,
        waiting=int(attributes["ApproximateNumberOfMessages"]),
        in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        dead=int(dead["ApproximateNumberOfMessages"]) if dead else None,
        redrives=bool(dead) and policy.get("deadLetterTargetArn") == (dead or {}).get("QueueArn"),
        answered_by=attributes["QueueArn"],
    )


async def _attributes(aws: Aws, site: str, name: str) -> dict[str, str] | None:
    url = await queue_url(aws, site, name)
    if url is None:
        return None
    answer = await aws.call(site, "sqs", "get_queue_attributes", {"QueueUrl": url, "AttributeNames": ["All"]})
    attributes: dict[str, str] = answer["Attributes"]
    return attributes


async def queue_url(aws: Aws, site: str, name: str) -> str | None:
    """URL of a queue; None if there is none."""
    try:
        return str((await aws.call(site, "sqs", "get_queue_url", {"QueueName": name}))["QueueUrl"])
    except AwsError as error:
        if "NonExistentQueue" not in error.aws_code and "QueueDoesNotExist" not in error.aws_code:
            raise
        return None


class Redrive(Queues):
    """Make failing messages go to dead-letter queues."""

    max_receives: int = 5
    """How often a message may fail."""


@action("aws.sqs.redrive", observe=state, repeat="safe", plane="control", timeout_s=60)
async def redrive(ctx: Context, p: Redrive, before: QueuesState) -> None:
    """Set the redrive policy of every queue that has none."""
    aws = ctx.use(Aws)
    for queue in before.queues:
        dead = await _attributes(aws, p.site, f"{queue.name}-dlq")
        url = await queue_url(aws, p.site, queue.name)
        if dead is None or url is None:
            raise StepFailed(f"{queue.name} or its dead-letter queue is not there in {p.site}.", world="untouched")
        policy = json.dumps({"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": p.max_receives})
        request = {"QueueUrl": url, "Attributes": {"RedrivePolicy": policy}}
        await aws.call(p.site, "sqs", "set_queue_attributes", request)


@redrive.check
def redrives(p: Redrive, now: QueuesState) -> State:
    """Every queue is there, and so is its dead-letter queue, and one leads to the other."""
    if any(not queue.exists or queue.dead is None for queue in now.queues):
        return State.UNKNOWN
    return State.HOLDS if all(queue.redrives for queue in now.queues) else State.ABSENT


@redrive.undo
def left_redriving(p: Redrive, before: QueuesState, after: QueuesState | None) -> Use | None:
    """Left: it is what the queue should have had before."""
    return None


class Drain(Queues):
    """Work off what waits, dead letters included, then let the schedule run again."""

    processed: str
    """DynamoDB table in which each processed message is recorded under its id, so that none is processed twice."""
    rule: str
    """Scheduled rule that may run once the queues are empty."""


class Drained(QueuesState):
    """The queues, what was recorded as processed by this step, and the schedule."""

    recorded: int
    """Messages that this step has recorded as processed."""
    schedule: str | None
    """State of the scheduled rule; null: there is none."""


@probe("aws.sqs.drained")
async def drained(ctx: Context, p: Drain) -> Drained:
    """Count what is left, what is recorded as processed by this step, and read the rule's state."""
    left = await state(ctx, p)
    request = {
        "TableName": p.processed,
        "FilterExpression": "drained_by = :token",
        "ExpressionAttributeValues": {":token": {"S": ctx.token}},
        "ConsistentRead": True,
    }
    items = await ctx.use(Aws).pages(p.site, "dynamodb", "scan", "Items", request)
    return Drained(
        queues=left.queues,
        unprocessed=left.unprocessed,
        recorded=len(items),
        schedule=await rule_state(ctx, p.site, p.rule),
    )


@action("aws.sqs.drain", observe=drained, repeat="safe", timeout_s=300, poll_s=0.3)
async def drain(ctx: Context, p: Drain, before: Drained) -> None:
    """Process every waiting message, record it, delete it; dead letters too; then enable the schedule."""
    aws = ctx.use(Aws)
    if before.schedule is None:
        raise Unobservable(f"There is no scheduled rule {p.rule} in {p.site}.")
    for name in p.queues:
        for queue in (name, f"{name}-dlq"):
            url = await queue_url(aws, p.site, queue)
            if url is None:
                raise Unobservable(f"There is no queue {queue} in {p.site}.")
            while await _work_off(ctx, p, queue, url):
                pass
    await switch_rule(ctx, p.site, p.rule, on=True)


async def _work_off(ctx: Context, p: Drain, queue: str, url: str) -> int:
    """Process up to ten messages; how many there were."""
    aws = ctx.use(Aws)
    request = {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0, "VisibilityTimeout": 30}
    messages = (await aws.call(p.site, "sqs", "receive_message", request)).get("Messages", [])
    for message in messages:
        # Recorded before it is deleted: a message that comes again is found to be processed, never lost in between.
        item = {
            "id": {"S": f"message-{message['MessageId']}"},
            "queue": {"S": queue},
            "body": {"S": message["Body"]},
            "drained_by": {"S": ctx.token},
        }
        record = {"TableName": p.processed, "Item": item, "ConditionExpression": "attribute_not_exists(id)"}
        try:
            await aws.call(p.site, "dynamodb", "put_item", record)
        except AwsError as error:
            if error.aws_code != "ConditionalCheckFailedException":
                raise
        done = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
        await aws.call(p.site, "sqs", "delete_message", done)
    return len(messages)


@drain.check
def empty(p: Drain, now: Drained) -> State:
    """Nothing waits, nothing is dead, and the schedule runs."""
    if any(not queue.exists for queue in now.queues) or now.schedule is None:
        return State.UNKNOWN
    return State.HOLDS if now.unprocessed == 0 and now.schedule == "ENABLED" else State.ABSENT


@drain.undo
def stays_drained(p: Drain, before: Drained, after: Drained | None) -> Use | None:
    """Messages that were processed stay processed."""
    return None


def _url(paper: Paper, site: str, name: str, variable: str = "URL") -> str:
    return keep(variable, paper.aws(site, "sqs get-queue-url", queue_name=name, query="QueueUrl"))


@state.by_hand
def look_at_queues(p: Queues, paper: Paper) -> str:
    """What waits, is in flight and is dead, and where failing messages go."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "RedrivePolicy"]
    shown = paper.aws(
        p.site, "sqs get-queue-attributes", queue_url=var("URL"), attribute_names=names, query="Attributes"
    )
    return lines(
        line for name in p.queues for each in (name, f"{name}-dlq") for line in (_url(paper, p.site, each), shown)
    )


@redrive.by_hand
def redrive_by_hand(p: Redrive, paper: Paper) -> str:
    """The policy names the dead-letter queue by its ARN, which is read from it."""
    arn = paper.aws(
        p.site, "sqs get-queue-attributes", queue_url=var("DEAD"), attribute_names=["QueueArn"],
        query="Attributes.QueueArn",
    )  # fmt: skip
    policy = f"{{deadLetterTargetArn: $arn, maxReceiveCount: {p.max_receives}}} | {{RedrivePolicy: tostring}}"
    made = f'jq -nc --arg arn "$ARN" {quoted(policy)}'
    change = paper.aws(p.site, "sqs set-queue-attributes", queue_url=var("URL"), attributes=var("POLICY"))
    return lines(
        line
        for name in p.queues
        for line in (
            _url(paper, p.site, name),
            _url(paper, p.site, f"{name}-dlq", "DEAD"),
            keep("ARN", arn),
            keep("POLICY", made),
            change,
        )
    )


@drained.by_hand
def look_at_drained(p: Drain, paper: Paper) -> str:
    """The queues must be empty, and the schedule enabled."""
    return lines(look_at_queues(p, paper), paper.aws(p.site, "events describe-rule", name=p.rule, query="State"))


@drain.by_hand
def drain_by_hand(p: Drain, paper: Paper) -> str:
    """No one command processes messages once and only once: the workers do it, then the schedule runs."""
    return lines(
        "# No one command processes a message once and only once. The workers (started before) take what waits:",
        "# watch the check until nothing does. What is dead, look at first; this puts it back into its queue:",
        (line for name in p.queues for line in _redriven(paper, p.site, name)),
        "# only when the queues are empty:",
        paper.aws(p.site, "events enable-rule", name=p.rule),
    )


def _redriven(paper: Paper, site: str, name: str) -> tuple[str, str, str]:
    call = "sqs get-queue-attributes"
    arn = paper.aws(site, call, queue_url=var("DEAD"), attribute_names=["QueueArn"], query="Attributes.QueueArn")
    move = paper.aws(site, "sqs start-message-move-task", source_arn=var("ARN"))
    return _url(paper, site, f"{name}-dlq", "DEAD"), keep("ARN", arn), move
