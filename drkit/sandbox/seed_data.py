"""What the service keeps and reads: buckets, tables, queues, keys, secrets, parameters.

In the target the parameters still point at the source, the secrets are marked as replicas, the key has no grant for the
application, and the order queue has no redrive.
"""

from __future__ import annotations

import json
from typing import Any

from drkit.sandbox.seed_base import (
    AMI_NAME,
    PREFIX,
    PRODUCTION_SIZE,
    RELEASE_TAG,
    TAGS,
    Clients,
    World,
    sha256,
    stable_uuid,
)
from drkit.sandbox.seed_compute import manifest
from drkit.sandbox.seed_network import NETWORK_TEMPLATE

APP_ROLE_ARN = f"arn:aws:iam::123456789012:role/{PREFIX}-app"
TABLE = f"{PREFIX}-sessions"


def buckets(clients: Clients, world: World, region: str) -> dict[str, str]:
    """Uploads and artifacts in both regions, drkit's state store in the target; versioned. Name by purpose."""
    s3 = clients(region, "s3")
    made = {"uploads": f"{PREFIX}-uploads-{region}", "artifacts": f"{PREFIX}-artifacts-{region}"}
    if region == world.target:
        made["state"] = world.state_bucket
    # us-east-1 is the one region that must not be named.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    for bucket in made.values():
        s3.create_bucket(Bucket=bucket, **where)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    digest = sha256(world.release)
    s3.put_object(Bucket=made["artifacts"], Key=artifact_key(), Body=world.release, Metadata={"sha256": digest})
    s3.put_object(Bucket=made["artifacts"], Key="cloudformation/network.json", Body=NETWORK_TEMPLATE.encode())
    if region == world.source:
        for number in range(3):
            s3.put_object(
                Bucket=made["uploads"], Key=f"invoices/seed-{number}.txt", Body=f"invoice {number}\n".encode()
            )
    return made


def artifact_key() -> str:
    """Key of the live release in the artifacts buckets."""
    return f"releases/{RELEASE_TAG}/order_app.py"


def tables(clients: Clients, world: World, region: str) -> dict[str, str]:
    """The sessions table, with a few sessions in the source (they replicate)."""
    dynamodb = clients(region, "dynamodb")
    dynamodb.create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=TAGS,
    )
    if region == world.source:
        for number in range(5):
            dynamodb.put_item(TableName=TABLE, Item={"id": {"S": f"session-{number}"}, "basket": {"N": str(number)}})
    return {"sessions": TABLE}


def queues(clients: Clients, world: World, region: str) -> dict[str, str]:
    """Orders and mails with their dead-letter queues, some messages waiting. Redrive is set in the source only."""
    sqs = clients(region, "sqs")
    urls = {
        name: sqs.create_queue(QueueName=f"{PREFIX}-{name}", tags={"service": PREFIX})["QueueUrl"]
        for name in ("orders", "orders-dlq", "emails", "emails-dlq")
    }
    for name in ("orders", "emails"):
        if region == world.source or name == "emails":
            dead = f"arn:aws:sqs:{region}:123456789012:{PREFIX}-{name}-dlq"
            policy = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": 5})
            sqs.set_queue_attributes(QueueUrl=urls[name], Attributes={"RedrivePolicy": policy})
    waiting = {"orders": 4, "orders-dlq": 2, "emails": 3}
    for name, count in waiting.items():
        entries = [{"Id": str(n), "MessageBody": json.dumps({"seed": f"{name}-{n}"})} for n in range(count)]
        sqs.send_message_batch(QueueUrl=urls[name], Entries=entries)
    return urls


def keys(clients: Clients, world: World, region: str) -> dict[str, str]:
    """The data key under one alias, a key per region (a multi-region key cannot decrypt here); grant in the source."""
    kms = clients(region, "kms")
    key = kms.create_key(Description=f"{PREFIX} data", Tags=[{"TagKey": "service", "TagValue": PREFIX}])
    key_id = str(key["KeyMetadata"]["KeyId"])
    kms.create_alias(AliasName=f"alias/{PREFIX}-data", TargetKeyId=key_id)
    if region == world.source:
        kms.create_grant(
            KeyId=key_id, GranteePrincipal=APP_ROLE_ARN, Operations=["Encrypt", "Decrypt"], Name=f"{PREFIX}-app"
        )
    return {"data": key_id}


def secrets(clients: Clients, world: World, region: str) -> dict[str, str]:
    """Secrets of the application; equal values have equal version ids in both regions. Version id by name."""
    manager = clients(region, "secretsmanager")
    host, port = world.databases[region]
    login = {"username": world.db_user, "password": world.db_password, "dbname": world.db_name}
    payments = {"api_key": sha256(f"payments of {PREFIX}".encode())}
    values = {f"{PREFIX}/orders/db": (login, {"host": host, "port": port}), f"{PREFIX}/payments": (payments, {})}
    versions: dict[str, str] = {}
    for name, (shared, local) in values.items():
        # The version is that of what must be equal on both sides; where the database is differs by nature.
        digest = sha256(json.dumps(shared, sort_keys=True).encode())
        role = "primary" if region == world.source else "replica"
        made = manager.create_secret(
            Name=name,
            SecretString=json.dumps({**shared, **local}),
            ClientRequestToken=stable_uuid(digest),
            Tags=[*TAGS, {"Key": "drkit:role", "Value": role}, {"Key": "drkit:value-digest", "Value": digest}],
        )
        versions[name] = made["VersionId"]
    return versions


def parameters(clients: Clients, world: World, region: str, images: dict[str, str]) -> dict[str, str]:
    """SSM parameters: what the application reads, the live release, quotas that the quota service does not know."""
    ssm = clients(region, "ssm")
    host, port = world.databases[world.source]
    live = {
        "tag": RELEASE_TAG,
        "artifact": artifact_key(),
        "sha256": sha256(world.release),
        "images": {
            f"{PREFIX}/{part}": sha256(manifest(world.release, part).encode()) for part in ("order-app", "worker")
        },
    }
    values = {
        "app/active-region": world.source,
        "app/bucket": f"{PREFIX}-uploads-{world.source}",
        "app/db-endpoint": f"{host}:{port}",
        "release/live": json.dumps(live, sort_keys=True),
        "ami/web": json.dumps({"name": AMI_NAME, "image": images[AMI_NAME]}),
        "workers/enabled": "true" if region == world.source else "false",
        "vpn/preferred": world.source,
        **{f"quotas/{code}": json.dumps(quota) for code, quota in QUOTAS.items()},
    }
    for name, value in values.items():
        ssm.put_parameter(Name=f"/{PREFIX}/{name}", Value=value, Type="String", Tags=TAGS)
    return values


QUOTAS: dict[str, dict[str, Any]] = {
    "ec2/L-1216C47A": {
        "name": "Running On-Demand Standard instances (vCPU)",
        "value": 256,
        "needed": 4 * PRODUCTION_SIZE,
    },
    "elasticloadbalancing/L-53DA6B97": {"name": "Application Load Balancers per Region", "value": 50, "needed": 1},
    "rds/L-7B6409FD": {"name": "DB instances", "value": 40, "needed": 1},
    "sqs/L-06F64396": {"name": "In-flight messages per queue", "value": 120000, "needed": 2000},
}
"""Quotas beyond those of `vpc`, which alone moto answers: code → value in force and what a failover needs."""
