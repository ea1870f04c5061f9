"""Who may, and who watches: IAM roles, alarms and pages, audit trail, threat detection, cron rules.

In the target alarms are silenced and the nightly job is disabled until the region is in use.
"""

from __future__ import annotations

import json
from typing import Any

from drkit.sandbox.seed_base import PREFIX, TAGS, Clients, World

ROLES = ("app", "worker", "break-glass", "deploy")
ALARMS = {"5xx": "HTTPCode_Target_5XX_Count", "latency": "TargetResponseTime", "unhealthy": "UnHealthyHostCount"}


def roles(clients: Clients, world: World) -> dict[str, str]:
    """Roles and the OIDC provider of workloads: global, made long before any disaster. ARN by name."""
    iam = clients(world.source, "iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = {
        f"{PREFIX}-{name}": iam.create_role(
            RoleName=f"{PREFIX}-{name}", AssumeRolePolicyDocument=document, MaxSessionDuration=3600, Tags=TAGS
        )["Role"]["Arn"]
        for name in ROLES
    }
    provider = iam.create_open_id_connect_provider(
        Url=f"https://oidc.{world.zone}", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40]
    )
    return {**made, "oidc": provider["OpenIDConnectProviderArn"]}


def watch(clients: Clients, world: World, region: str) -> dict[str, Any]:
    """Alarms, the topic that pages, the audit trail, the detector, the nightly rule."""
    active = region == world.source
    topic = _pages(clients, world, region)
    alarms = _alarms(clients(region, "cloudwatch"), topic, active=active)
    trail = clients(region, "cloudtrail")
    trail.create_trail(Name=PREFIX, S3BucketName=f"{PREFIX}-artifacts-{region}", TagsList=TAGS)
    trail.start_logging(Name=PREFIX)
    detector = clients(region, "guardduty").create_detector(Enable=True)["DetectorId"]
    clients(region, "events").put_rule(
        Name=f"{PREFIX}-nightly-settlement",
        ScheduleExpression="cron(0 2 * * ? *)",
        State="ENABLED" if active else "DISABLED",
        Tags=TAGS,
    )
    return {"topic": topic, "alarms": alarms, "trail": PREFIX, "detector": detector}


def _pages(clients: Clients, world: World, region: str) -> str:
    sns = clients(region, "sns")
    topic = str(sns.create_topic(Name=f"{PREFIX}-pages", Tags=TAGS)["TopicArn"])
    if world.sinks_url is not None:
        # moto really posts to HTTP subscribers: a message published here arrives at the sinks.
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"{world.sinks_url}/webhook/sns-{region}")
    return topic


def _alarms(cloudwatch: Any, topic: str, *, active: bool) -> list[str]:
    names = []
    for name, metric in ALARMS.items():
        names.append(f"{PREFIX}-{name}")
        cloudwatch.put_metric_alarm(
            AlarmName=names[-1],
            Namespace="AWS/ApplicationELB",
            MetricName=metric,
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=10.0,
            ComparisonOperator="GreaterThanThreshold",
            AlarmActions=[topic],
            ActionsEnabled=active,
        )
    return names
