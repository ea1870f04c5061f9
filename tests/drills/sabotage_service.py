"""Steps 30-40: the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from sabotage_hands import PREFIX, TARGET, Hands, closed_port, until
from sabotage_region import artifact_changed
from sabotage_rows import Sabotaged, broken, idle
from sabotage_stopping import another_server

WEB = f"{PREFIX}-web"


@contextmanager
def database_address_wrong(w: Hands) -> Iterator[None]:
    port = closed_port(w.environment.site(TARGET)).port

    def moved(text: str) -> str:
        content = json.loads(text)
        content["database"]["port"] = port
        return json.dumps(content)

    with w.kept("app-west-2", "etc/order-app.json"), w.file("app-west-1", "etc/order-app.json", moved):
        yield


@contextmanager
def configuration_broken(w: Hands) -> Iterator[None]:
    try:
        with w.file("app-west-1", "etc/order-app.json", lambda text: text[: len(text) // 2]):
            yield
    finally:
        for host in ("app-west-1", "app-west-2"):
            w.on(host, "svc", "stop", "order-app")


@contextmanager
def template_of_last_month(w: Hands) -> Iterator[None]:
    ec2 = w.aws("ec2")
    ec2.modify_launch_template(LaunchTemplateName=WEB, DefaultVersion="1")
    try:
        yield
    finally:
        ec2.modify_launch_template(LaunchTemplateName=WEB, DefaultVersion="2")
        nobody_serves(w)


@contextmanager
def launches_suspended(w: Hands) -> Iterator[None]:
    scaling = w.aws("autoscaling")
    scaling.suspend_processes(AutoScalingGroupName=WEB, ScalingProcesses=["Launch"])
    try:
        yield
    finally:
        scaling.resume_processes(AutoScalingGroupName=WEB, ScalingProcesses=["Launch"])
        nobody_serves(w)


def nobody_serves(w: Hands) -> None:
    """The group is at zero again."""
    scaling = w.aws("autoscaling")
    scaling.set_desired_capacity(AutoScalingGroupName=WEB, DesiredCapacity=0)

    def empty() -> bool:
        return not scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[WEB])["AutoScalingGroups"][0][
            "Instances"
        ]

    until(empty, "the group is empty")


@contextmanager
def no_web_acl(w: Hands) -> Iterator[None]:
    waf = w.aws("wafv2")
    found = next(acl for acl in waf.list_web_acls(Scope="REGIONAL")["WebACLs"] if acl["Name"] == WEB)
    named = {"Name": WEB, "Scope": "REGIONAL"}
    rules = waf.get_web_acl(**named, Id=found["Id"])["WebACL"]
    waf.delete_web_acl(**named, Id=found["Id"], LockToken=found["LockToken"])
    try:
        yield
    finally:
        waf.create_web_acl(
            **named, DefaultAction=rules["DefaultAction"], Rules=[], VisibilityConfig=rules["VisibilityConfig"]
        )


@contextmanager
def batch_as_it_was(w: Hands) -> Iterator[None]:
    """What a switch leaves on on-prem servers is taken back: configuration as before, nothing runs."""
    hosts = ("onprem-1", "onprem-2")
    before = {host: (w.root(host) / "etc/batch.json").read_text() for host in hosts}
    try:
        yield
    finally:
        for host in hosts:
            w.on(host, "svc", "stop", "batch")
            (w.root(host) / "etc/batch.json").write_text(before[host])


@contextmanager
def password_stale(w: Hands) -> Iterator[None]:
    with batch_as_it_was(w), w.file("onprem-1", "etc/batch-password", lambda text: "of last year\n"):
        yield


@contextmanager
def onprem_cut_off(w: Hands) -> Iterator[None]:
    with batch_as_it_was(w), w.cut(f"onprem-{TARGET}"):
        yield


@contextmanager
def batch_stopped(w: Hands) -> Iterator[None]:
    w.on("onprem-2", "svc", "stop", "batch")
    try:
        yield
    finally:
        w.on("onprem-2", "svc", "start", "batch")


@contextmanager
def another_onprem_server(w: Hands) -> Iterator[None]:
    with w.stranger("onprem-1"):
        yield


@contextmanager
def server_stopped(w: Hands) -> Iterator[None]:
    w.on("app-west-2", "svc", "stop", "order-app")
    until(lambda: w.serving() == 1, "one server serves")
    try:
        yield
    finally:
        w.on("app-west-2", "svc", "start", "order-app")
        until(lambda: w.serving() == 2, "two servers serve")


@contextmanager
def instance_terminated(w: Hands) -> Iterator[None]:
    scaling = w.aws("autoscaling")
    scaling.set_desired_capacity(AutoScalingGroupName=WEB, DesiredCapacity=5)
    try:
        yield
    finally:
        scaling.set_desired_capacity(AutoScalingGroupName=WEB, DesiredCapacity=6)


@contextmanager
def writes_turned_away(w: Hands) -> Iterator[None]:
    with w.in_maintenance():
        yield


@contextmanager
def payments_not_writable(w: Hands) -> Iterator[None]:
    w.sql("revoke insert on payments from app")
    try:
        yield
    finally:
        w.sql("grant insert on payments to app")


@contextmanager
def bucket_service_silent(w: Hands) -> Iterator[None]:
    with w.silent_service("s3"):
        yield


@contextmanager
def trail_stopped(w: Hands) -> Iterator[None]:
    w.aws("cloudtrail").stop_logging(Name=PREFIX)
    try:
        yield
    finally:
        w.aws("cloudtrail").start_logging(Name=PREFIX)


@contextmanager
def detector_off(w: Hands) -> Iterator[None]:
    guard = w.aws("guardduty")
    detector = guard.list_detectors()["DetectorIds"][0]
    guard.update_detector(DetectorId=detector, Enable=False)
    try:
        yield
    finally:
        guard.update_detector(DetectorId=detector, Enable=True)


@contextmanager
def nobody_is_paged(w: Hands) -> Iterator[None]:
    sns = w.aws("sns")
    topic = next(t["TopicArn"] for t in sns.list_topics()["Topics"] if t["TopicArn"].endswith(f":{PREFIX}-pages"))
    found = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"][0]
    sns.unsubscribe(SubscriptionArn=found["SubscriptionArn"])
    try:
        yield
    finally:
        sns.subscribe(TopicArn=topic, Protocol=found["Protocol"], Endpoint=found["Endpoint"])
        w.aws("cloudwatch").disable_alarm_actions(AlarmNames=[f"{PREFIX}-{n}" for n in ("5xx", "latency", "unhealthy")])


STEPS = (
    Sabotaged(
        "nodes",
        real="servers over SSH: who they are, their disk, memory and clock, the installed service",
        users="errors from a server that was never fit to serve",
        rows=(
            idle(r"host=app-west-1, reached=True, itself=True.*admitted=\?"),
            broken("another machine answers for a server", another_server, r"Not fit to serve: app-west-1"),
        ),
    ),
    Sabotaged(
        "add-ons",
        real="the configuration on the servers, and the way from there to the database it names",
        users="the shop starts and answers 503",
        rows=(
            idle(r"host=app-west-1, known=True"),
            broken(
                "a server's configuration names a port where no database is",
                database_address_wrong,
                r"reached=\[app-west-2\]",
            ),
        ),
    ),
    Sabotaged(
        "deploy",
        real="the artifact's bytes, on every server, and the process started from them",
        users="503: nothing runs; or last month's shop",
        rows=(
            idle(r"host=app-west-1, reached=True, known=True, running=False"),
            broken("the artifact has other bytes", artifact_changed, r"is sha256:[0-9a-f]+, not sha256:"),
            broken(
                "the release cannot start on a server: its configuration is torn",
                configuration_broken,
                r"app-west-1",
                within_s=5,
            ),
        ),
    ),
    Sabotaged(
        "web-tier",
        real="the group's numbers and the images its instances name",
        metadata="instances are counted, none boots",
        users="a slow shop, then none: one sixth of the servers",
        rows=(
            idle(r"desired=0"),
            broken("the launch template starts last month's image", template_of_last_month, r"in_service=6"),
            broken("the group may not launch", launches_suspended, r"suspended=\[Launch\]"),
        ),
    ),
    Sabotaged(
        "balancer",
        real="listener, target group and web ACL as the API keeps them",
        metadata="users go through the region's edge",
        users="503 from the load balancer, or no protection in front of the shop",
        rows=(
            idle(r"forwards=False"),
            broken("the web ACL is not there", no_web_acl, r"no web ACL reliabletech-web"),
        ),
    ),
    Sabotaged(
        "onprem-switch",
        real="configuration and processes on the servers, and what they say that they work with",
        users="deliveries stop: the batch writes to a database that is gone",
        rows=(
            idle(r"host=onprem-1, known=True.*running=False"),
            broken("a server's password is stale", password_stale, r"state=failing", within_s=4),
            broken("the way to the database is cut", onprem_cut_off, r"reached=\[\]", within_s=4),
        ),
    ),
    Sabotaged(
        "onprem-check",
        real="who the servers are, whether their work arrives, whether they get through",
        metadata="licences: the machine they are bound to stands for them",
        users="deliveries stop a day later, when a licence or a login is refused",
        rows=(
            broken(
                "a server's batch does not run", batch_stopped, r"host=onprem-2, licensed=True, authenticated=False"
            ),
            broken("another machine answers for a server", another_onprem_server, r"host=onprem-1, licensed=False"),
        ),
    ),
    Sabotaged(
        "health",
        real="servers and their releases as the entry sees them, requests through the entry",
        metadata="the instances behind the load balancer",
        users="errors for every second request as soon as they are let in",
        rows=(
            broken("one of the servers does not serve", server_stopped, r"1 of 2 servers are healthy"),
            broken("an instance is missing", instance_terminated, r"5 of 6 instances are healthy"),
            broken("the entry is still in maintenance", writes_turned_away, r"the entry is in maintenance"),
        ),
    ),
    Sabotaged(
        "journeys",
        real="login, order, payment and upload through the entry of the side entered",
        users="baskets that can be filled and not paid",
        rows=(
            broken("payments cannot be written", payments_not_writable, r"failed_at=pay"),
            broken("uploads are not taken", bucket_service_silent, r"failed_at=upload"),
        ),
    ),
    Sabotaged(
        "security",
        real="the certificate",
        metadata="web ACL, audit trail and threat detection watch nothing",
        users="nothing; but what is done in these hours cannot be shown later",
        rows=(
            broken("the audit trail does not log", trail_stopped, r"the trail reliabletech does not log"),
            broken("threat detection is off", detector_off, r"no detector is enabled"),
        ),
    ),
    Sabotaged(
        "monitoring",
        real="the test page, from the topic to whoever receives it",
        metadata="alarms are not evaluated",
        users="the next outage, which nobody is told of",
        rows=(
            idle(r"dead=\[reliabletech-5xx"),
            broken("nobody is subscribed to the pages", nobody_is_paged, r"subscribers=0, page_received=False"),
        ),
    ),
)
