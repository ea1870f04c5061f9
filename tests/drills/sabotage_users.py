"""Steps 41-47: the users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sabotage_hands import PREFIX, SOURCE, TARGET, Hands
from sabotage_rows import Reply, Sabotaged, answered, broken, idle
from sabotage_service import bucket_service_silent

IC, DBA = "incident-commander", "database-owner"


@contextmanager
def entry_cut_off(w: Hands) -> Iterator[None]:
    with w.cut(f"users-{TARGET}"):
        yield


@contextmanager
def nobody_switches(w: Hands) -> Iterator[None]:
    with w.frozen("routing"):
        yield


@contextmanager
def one_cell_left_behind(w: Hands) -> Iterator[None]:
    w.move({f"cell-10/{SOURCE}": True, f"cell-10/{TARGET}": False})
    try:
        yield
    finally:
        w.move({f"cell-10/{TARGET}": True, f"cell-10/{SOURCE}": False})


@contextmanager
def somebody_holds_the_lock(w: Hands) -> Iterator[None]:
    try:
        with w.session() as connection:
            connection.execute("select pg_advisory_lock(hashtext('worker'))")
            yield
    finally:
        for host in ("app-west-1", "app-west-2"):
            w.on(host, "svc", "stop", "worker")
        w.set_parameter(f"/{PREFIX}/workers/enabled", "false")


@contextmanager
def somebody_holds_a_message(w: Hands) -> Iterator[None]:
    sqs = w.aws("sqs")
    url = sqs.get_queue_url(QueueName=f"{PREFIX}-emails")["QueueUrl"]
    taken = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=900)["Messages"][0]
    try:
        yield
    finally:
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=taken["ReceiptHandle"], VisibilityTimeout=0)
        w.aws("events").disable_rule(Name=f"{PREFIX}-nightly-settlement")


@contextmanager
def schedule_gone(w: Hands) -> Iterator[None]:
    events, name = w.aws("events"), f"{PREFIX}-nightly-settlement"
    events.delete_rule(Name=name)
    try:
        yield
    finally:
        events.put_rule(Name=name, ScheduleExpression="cron(0 2 * * ? *)", State="DISABLED")


@contextmanager
def status_page_down(w: Hands) -> Iterator[None]:
    with w.sinks_down("statuspage"):
        yield


@contextmanager
def regulator_not_reached(w: Hands) -> Iterator[None]:
    with w.sinks_down("webhook"):
        yield


STEPS = (
    Sabotaged(
        "go",
        real="the gate, bound to the loss that was measured",
        users="they are let into a side that nobody has vouched for",
        rows=(
            answered("nobody answers", r"waits for approval by incident-commander"),
            answered("no-go", r"rejected by dana", Reply("dana", IC, "reject")),
            answered("approved in another role", r"waits for approval by incident-commander", Reply("lee", DBA)),
        ),
    ),
    Sabotaged(
        "shift",
        real="routing controls, and the names that follow them",
        users="they go on being sent to the dark side",
        rows=(
            idle(r"left=\[cell-10, cell-40, cell-50\]"),
            broken("the side entered does not answer at its entry", entry_cut_off, r"Traffic stays"),
            broken(
                "no endpoint of the routing controls answers",
                nobody_switches,
                r"routing|no answer|nothing was observed",
            ),
        ),
    ),
    Sabotaged(
        "converge",
        real="what the prober's users see, and what every DNS server answers",
        users="one in ten is still sent to the dark side",
        rows=(
            broken(
                "a tenth of the traffic was left behind",
                one_cell_left_behind,
                r"dns=mixed|success_rate=0\.",
                within_s=8,
            ),
            broken("the entry does not answer users", entry_cut_off, r"success_rate=0\.", within_s=4),
        ),
    ),
    Sabotaged(
        "workers",
        real="worker processes, the lock in the database, and the rows that they write",
        users="confirmation mails that never come",
        rows=(
            idle(r"switch=false"),
            broken(
                "somebody else holds the lock",
                somebody_holds_the_lock,
                r"state=waiting.*state=waiting.*runners=0",
                within_s=4,
            ),
        ),
    ),
    Sabotaged(
        "drain",
        real="messages, each recorded and deleted; the schedule's state",
        metadata="no schedule fires here",
        users="orders from before the outage that are never delivered",
        rows=(
            idle(r"unprocessed=9"),
            broken("another consumer holds a message", somebody_holds_a_message, r"in_flight=1", within_s=5),
            broken("the schedule is not there", schedule_gone, r"no scheduled rule"),
        ),
    ),
    Sabotaged(
        "recovered",
        real="status page, mail, webhook and chat are sent and looked for where they arrive",
        metadata="whoever receives them is a recorder",
        users="the status page says that the shop is down, and it is not",
        rows=(
            idle(r"statuspage.*received=False"),
            broken(
                "the status page takes nothing", status_page_down, r"statuspage, audience=customers, received=False"
            ),
            broken(
                "the regulator is not reached",
                regulator_not_reached,
                r"sink=regulator, audience=regulator, received=False",
            ),
        ),
    ),
    Sabotaged(
        "handover",
        real="the slot that keeps the log, the signed statement in the state store",
        users="nothing now; the way back takes a day longer, and what was lost is anybody's word",
        rows=(
            idle(r"slot=False"),
            broken("the state store does not answer", bucket_service_silent, r"s3://"),
        ),
    ),
)
