"""Steps 21-29: the data, in the database and beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from sabotage_hands import PREFIX, SOURCE, TARGET, Hands, with_database
from sabotage_rows import Reply, Sabotaged, answered, broken, idle, unnoticed

DBA = "database-owner"
UPLOADS = f"{PREFIX}-uploads-{TARGET}"


@contextmanager
def another_database(w: Hands) -> Iterator[None]:
    with w.told(lambda environment: with_database(environment, TARGET, system_identifier="7000000000000000001")):
        yield


@contextmanager
def address_of_the_side_left(w: Hands) -> Iterator[None]:
    other = w.environment.database("orders", SOURCE).address
    with w.told(lambda environment: with_database(environment, TARGET, address=other)):
        yield


@contextmanager
def role_locked(w: Hands) -> Iterator[None]:
    w.sql("alter role batch nologin")
    try:
        yield
    finally:
        w.sql("alter role batch login")


@contextmanager
def newer_holder(w: Hands) -> Iterator[None]:
    before = w.sql("select token from fence_token where environment = 'sandbox'")[0][0]
    w.sql("update fence_token set token = 99 where environment = 'sandbox'")
    try:
        yield
    finally:
        w.sql("update fence_token set token = %s where environment = 'sandbox'", before)


@contextmanager
def sequence_behind(w: Hands) -> Iterator[None]:
    name = "public.orders_id_seq"
    before = w.sql(f"select last_value from {name}")[0][0]
    w.sql("select setval(%s, 1)", name)
    try:
        yield
    finally:
        w.sql("select setval(%s, greatest(%s, (select max(id) from orders)))", name, before)


@contextmanager
def table_truncated(w: Hands) -> Iterator[None]:
    # In one transaction: what the canary writes between copy and truncation would really be lost.
    w.sql("begin; lock canary; create table kept_canary as table canary; truncate canary; commit")
    try:
        yield
    finally:
        w.sql("insert into canary table kept_canary on conflict do nothing; drop table kept_canary")


@contextmanager
def order_without_customer(w: Hands) -> Iterator[None]:
    order = "00000000-0000-4000-8000-000000000001"
    with w.session() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "insert into orders (order_uuid, customer_id, amount, region) values (%s, -1, 1, 'nowhere')", (order,)
        )
    try:
        yield
    finally:
        w.sql("delete from orders where order_uuid = %s", order)


@contextmanager
def confirmed_write_missing(w: Hands) -> Iterator[None]:
    """One canary row from the middle is gone, although it was confirmed."""
    n, at, site = w.sql(
        "select n, written_at, site from canary order by n offset (select count(*) / 2 from canary) limit 1"
    )[0]
    w.sql("delete from canary where n = %s", n)
    try:
        yield
    finally:
        w.sql("insert into canary values (%s, %s, %s)", n, at, site)


@contextmanager
def replica_empty(w: Hands) -> Iterator[None]:
    dynamodb, table = w.aws("dynamodb"), f"{PREFIX}-sessions"
    items = dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
    for item in items:
        dynamodb.delete_item(TableName=table, Key={"id": item["id"]})
    try:
        yield
    finally:
        for item in items:
            dynamodb.put_item(TableName=table, Item=item)


@contextmanager
def nothing_came_over(w: Hands) -> Iterator[None]:
    s3 = w.aws("s3")
    used = w.parameter(f"/{PREFIX}/app/bucket")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=UPLOADS).get("Contents", [])]
    content = {key: s3.get_object(Bucket=UPLOADS, Key=key)["Body"].read() for key in keys}
    for key in keys:
        s3.delete_object(Bucket=UPLOADS, Key=key)
    try:
        yield
    finally:
        for key, body in content.items():
            s3.put_object(Bucket=UPLOADS, Key=key, Body=body)
        w.set_parameter(f"/{PREFIX}/app/bucket", used)


@contextmanager
def one_upload_missing(w: Hands) -> Iterator[None]:
    s3 = w.aws("s3")
    used = w.parameter(f"/{PREFIX}/app/bucket")
    key = s3.list_objects_v2(Bucket=UPLOADS)["Contents"][0]["Key"]
    body = s3.get_object(Bucket=UPLOADS, Key=key)["Body"].read()
    s3.delete_object(Bucket=UPLOADS, Key=key)
    try:
        yield
    finally:
        s3.put_object(Bucket=UPLOADS, Key=key, Body=body)
        w.set_parameter(f"/{PREFIX}/app/bucket", used)


@contextmanager
def cache_service_silent(w: Hands) -> Iterator[None]:
    with w.silent_service("elasticache"):
        yield


@contextmanager
def dead_letter_queue_missing(w: Hands) -> Iterator[None]:
    sqs, name = w.aws("sqs"), f"{PREFIX}-orders-dlq"
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    sqs.delete_queue(QueueUrl=url)
    try:
        yield
    finally:
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        entries = [{"Id": str(n), "MessageBody": json.dumps({"seed": f"orders-dlq-{n}"})} for n in range(2)]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)


@contextmanager
def snapshot_missing(w: Hands) -> Iterator[None]:
    ec2, name = w.aws("ec2"), f"{PREFIX}-files"
    tags = [{"Key": "Name", "Value": name}]
    found = ec2.describe_snapshots(Filters=[{"Name": "tag:Name", "Values": [name]}], OwnerIds=["self"])["Snapshots"]
    for each in found:
        ec2.delete_snapshot(SnapshotId=each["SnapshotId"])
    try:
        yield
    finally:
        volume = ec2.create_volume(Size=20, AvailabilityZone=f"{TARGET}a")["VolumeId"]
        ec2.create_snapshot(VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}])
        ec2.delete_volume(VolumeId=volume)


STEPS = (
    Sabotaged(
        "recovery-point",
        real="the gate: two different persons in the role, bound to the loss they were shown",
        users="orders they were promised are gone, and nobody had agreed to that",
        rows=(
            answered("nobody answers", r"approval by database-owner \(2 persons\)"),
            answered("the same person answers twice", r"approval by database-owner$", *[Reply("lee", DBA)] * 2),
            answered("one of two rejects", r"rejected by max", Reply("lee", DBA), Reply("max", DBA, "reject")),
        ),
    ),
    Sabotaged(
        "promote",
        real="PostgreSQL leaves recovery and takes the writer's lease",
        users="a shop that shows its goods and takes no order",
        rows=(
            idle(r"in_recovery=True"),
            broken("another database answers", another_database, r"7000000000000000001"),
            broken(
                "nobody answers at the standby's address",
                address_of_the_side_left,
                r"orders in us-west-2.*cannot be connected to",
            ),
        ),
    ),
    Sabotaged(
        "settle",
        real="sequences, roles, settings and the fencing token in the database",
        users="new orders fail, or take the numbers of orders that were lost",
        rows=(
            idle(r"orders_id_seq=[0-9]{1,2}\b"),
            idle(
                r"orders_id_seq=-[0-9]+",
                how=sequence_behind,
                what="a sequence is behind its table, and its effect is a no-op",
            ),
            broken("a role may not log in", role_locked, r"missing=\[batch\]"),
            broken("a newer holder has changed the database", newer_holder, r"newer holder than 1"),
        ),
    ),
    Sabotaged(
        "prove-data",
        real="rows, foreign keys, and both ledgers compared with the database",
        users="orders with a confirmation that nobody knows of any more",
        rows=(
            broken("a table is truncated", table_truncated, r"canary=0|short=\[canary\]|lost=[1-9]", within_s=5),
            broken("an order without a customer", order_without_customer, r"orphans=1", within_s=5),
            broken("one confirmed write is missing in the middle", confirmed_write_missing, r"holes=1", within_s=5),
        ),
    ),
    Sabotaged(
        "sessions",
        real="items, written and read back consistently",
        users="everybody is logged out and every basket is empty",
        rows=(
            idle(r"proof=False"),
            broken("the replica is empty", replica_empty, r"items=0"),
        ),
    ),
    Sabotaged(
        "uploads",
        real="objects in the bucket, and the parameter",
        users="invoices and pictures that are not there",
        rows=(
            idle(r"used=reliabletech-uploads-us-east-1"),
            broken("nothing came over", nothing_came_over, r"objects=0"),
            unnoticed(
                "one of the uploads never came over",
                one_upload_missing,
                "only the source knows what it had; while it is dark the backlog is unknown, and recorded so",
            ),
        ),
    ),
    Sabotaged(
        "cache",
        real="the replication group as the API keeps it",
        metadata="there is no cache server",
        users="slow pages: everything is asked of the database",
        rows=(
            idle(r"nodes=0"),
            broken(
                "the service that makes caches does not answer",
                cache_service_silent,
                r"elasticache:describe_replication_groups.*503",
            ),
        ),
    ),
    Sabotaged(
        "queues",
        real="queues and their redrive policies",
        users="one message that cannot be read holds up all others",
        rows=(
            idle(r"name=reliabletech-orders[^)]*redrives=False"),
            broken("a dead-letter queue is missing", dead_letter_queue_missing, r"dead-letter queue is not there"),
        ),
    ),
    Sabotaged(
        "volumes",
        real="snapshot, volume and file system as the API keeps them",
        metadata="a volume holds no bytes",
        users="files that customers have uploaded cannot be opened",
        rows=(
            idle(r"snapshot=snap-[^,]+, snapshot_age_h=[^,]+, file_system=available"),
            broken("there is no snapshot", snapshot_missing, r"no completed snapshot"),
        ),
    ),
)
