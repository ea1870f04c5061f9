"""Two seeded regions: the target lacks what the runbook must bring, and can be given it without the source.

One world for all tests of this file, in order: seeded, replicated, then recovered with us-east-1 refusing.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cloud_parts import EAST, EDGES, WEST, Cloud, ask, part, until

P = "reliabletech"
RELEASE = b"print('the release')\n"


class Seeded(Cloud):
    """A cloud after seeding."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        super().__init__(stack, folder)
        (folder / "release.py").write_bytes(RELEASE)
        place = {region: {"host": address, "port": 8080} for region, address in EDGES.items()}
        config = {
            "gateways": {region: self.url(region) for region in (EAST, WEST)},
            "source": EAST,
            "target": WEST,
            "edges": place,
            "databases": place,
            "database": {"name": "orders", "user": "app", "password": "not-a-secret"},
            "release": str(folder / "release.py"),
            "sinks_url": self.sinks["http"]["url"],
        }
        (folder / "seed.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "drkit.sandbox.seed", str(folder / "seed.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        self.made = json.loads(done.stdout)
        self.west = self.made["regions"][WEST]

    def parameter(self, region: str, name: str) -> str:
        found = self.client("ssm", region).get_parameter(Name=f"/{P}/{name}")
        return str(found["Parameter"]["Value"])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    with ExitStack() as stack:
        yield Seeded(stack, tmp_path_factory.mktemp("seed"))


def group_of(cloud: Cloud, region: str) -> dict[str, Any]:
    found = cloud.client("autoscaling", region).describe_auto_scaling_groups(AutoScalingGroupNames=[f"{P}-web"])
    group: dict[str, Any] = found["AutoScalingGroups"][0]
    return group


def ingress(cloud: Seeded, region: str) -> list[Any]:
    group = cloud.made["regions"][region]["compute"]["security_groups"]["app"]
    found = cloud.client("ec2", region).describe_security_groups(GroupIds=[group])
    return list(found["SecurityGroups"][0]["IpPermissions"])


def private_routes(cloud: Seeded, region: str) -> list[str]:
    table = cloud.made["regions"][region]["compute"]["route_tables"]["private"]
    found = cloud.client("ec2", region).describe_route_tables(RouteTableIds=[table])
    return [route["DestinationCidrBlock"] for route in found["RouteTables"][0]["Routes"]]


def default_action(cloud: Seeded, region: str) -> str:
    alb = cloud.made["regions"][region]["compute"]["alb"]
    found = cloud.client("elbv2", region).describe_listeners(LoadBalancerArn=alb)
    return str(found["Listeners"][0]["DefaultActions"][0]["Type"])


def test_the_source_is_in_production(cloud: Seeded) -> None:
    group = group_of(cloud, EAST)
    assert (group["DesiredCapacity"], len(group["Instances"])) == (6, 6)
    assert ingress(cloud, EAST) and "0.0.0.0/0" in private_routes(cloud, EAST)
    assert default_action(cloud, EAST) == "forward"
    targets = cloud.made["regions"][EAST]["compute"]["target_group"]
    health = cloud.client("elbv2", EAST).describe_target_health(TargetGroupArn=targets)["TargetHealthDescriptions"]
    assert [each["TargetHealth"]["State"] for each in health] == ["healthy"] * 6


def test_the_target_lacks_what_the_steps_must_bring(cloud: Seeded) -> None:
    group = group_of(cloud, WEST)
    assert (group["DesiredCapacity"], group["Instances"]) == (0, [])
    assert ingress(cloud, WEST) == [] and "0.0.0.0/0" not in private_routes(cloud, WEST)
    assert default_action(cloud, WEST) == "fixed-response"
    ec2 = cloud.client("ec2", WEST)
    assert ec2.describe_launch_templates()["LaunchTemplates"][0]["DefaultVersionNumber"] == 1
    named = [{"Name": "tag:Name", "Values": [f"{P}-files"]}]
    assert ec2.describe_volumes(Filters=named)["Volumes"] == []
    assert len(ec2.describe_snapshots(Filters=named)["Snapshots"]) == 1
    assert cloud.client("elasticache", WEST).describe_replication_groups()["ReplicationGroups"] == []
    assert cloud.client("kms", WEST).list_grants(KeyId=cloud.west["keys"]["data"])["Grants"] == []
    queue = cloud.client("sqs", WEST).get_queue_attributes(
        QueueUrl=cloud.west["queues"]["orders"], AttributeNames=["All"]
    )
    assert "RedrivePolicy" not in queue["Attributes"]
    assert queue["Attributes"]["ApproximateNumberOfMessages"] == "4"
    acl = cloud.client("wafv2", WEST).get_web_acl_for_resource(ResourceArn=cloud.west["compute"]["alb"])
    assert "WebACL" not in acl
    alarms = cloud.client("cloudwatch", WEST).describe_alarms()["MetricAlarms"]
    assert [alarm["ActionsEnabled"] for alarm in alarms] == [False] * 3
    assert cloud.client("events", WEST).describe_rule(Name=f"{P}-nightly-settlement")["State"] == "DISABLED"
    assert cloud.parameter(WEST, "app/bucket") == f"{P}-uploads-{EAST}"
    assert cloud.parameter(WEST, "workers/enabled") == "false"
    tags = cloud.client("secretsmanager", WEST).describe_secret(SecretId=f"{P}/orders/db")["Tags"]
    assert {"Key": "drkit:role", "Value": "replica"} in tags


def test_the_release_is_the_real_file_and_its_digest_is_the_same_everywhere(cloud: Seeded) -> None:
    live = json.loads(cloud.parameter(WEST, "release/live"))
    assert live["sha256"] == "sha256:" + hashlib.sha256(RELEASE).hexdigest()
    for region in (EAST, WEST):
        stored = cloud.client("s3", region).get_object(Bucket=f"{P}-artifacts-{region}", Key=live["artifact"])
        assert (stored["Body"].read(), stored["Metadata"]["sha256"]) == (RELEASE, live["sha256"])
        for repository, digest in live["images"].items():
            wanted = [{"imageDigest": digest}]
            found = cloud.client("ecr", region).batch_get_image(repositoryName=repository, imageIds=wanted)
            manifest = found["images"][0]["imageManifest"]
            assert digest == "sha256:" + hashlib.sha256(manifest.encode()).hexdigest()
            assert json.loads(manifest)["layers"][0]["digest"] == live["sha256"]


def test_secrets_that_are_equal_have_equal_versions_in_both_regions(cloud: Seeded) -> None:
    for name in (f"{P}/orders/db", f"{P}/payments"):
        found = [cloud.client("secretsmanager", region).get_secret_value(SecretId=name) for region in (EAST, WEST)]
        assert len({each["VersionId"] for each in found}) == 1
        assert len({json.loads(each["SecretString"]).get("password") for each in found}) == 1


def test_certificates_are_real_and_not_about_to_expire(cloud: Seeded) -> None:
    from cryptography import x509

    acm, arn = cloud.client("acm", WEST), cloud.west["compute"]["certificate"]
    described = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert described["Status"] == "ISSUED"
    assert described["NotAfter"] > datetime.now(UTC) + timedelta(days=300)
    certificate = x509.load_pem_x509_certificate(acm.get_certificate(CertificateArn=arn)["Certificate"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "*.reliabletech.example" in names.get_values_for_type(x509.DNSName)


def test_data_follows_to_the_target_and_stops_with_the_source(cloud: Seeded) -> None:
    sides = {
        name: {"region": region, "url": cloud.url(region)} for name, region in (("source", EAST), ("target", WEST))
    }
    config = {
        **sides,
        "buckets": {f"{P}-uploads-{EAST}": f"{P}-uploads-{WEST}"},
        "tables": {f"{P}-sessions": f"{P}-sessions"},
        "admin": {"address": "127.1.4.26", "port": 0},
        "lag_s": 0.1,
        "poll_s": 0.1,
    }
    s3, table = cloud.client("s3", EAST), f"{P}-sessions"
    target_bucket = f"{P}-uploads-{WEST}"

    def keys_there() -> set[str]:
        listed = cloud.client("s3", WEST).list_objects_v2(Bucket=target_bucket)
        return {each["Key"] for each in listed.get("Contents", [])}

    def items_there() -> int:
        return int(cloud.client("dynamodb", WEST).scan(TableName=table)["Count"])

    cloud.client("s3", WEST).put_object(Bucket=target_bucket, Key="only-here", Body=b"1")
    with part("replicator", config, cloud.folder) as (_, ready):

        def backlog() -> Any:
            return ask(ready["admin"]["url"] + "/backlog")

        until(lambda: keys_there() == {f"invoices/seed-{n}.txt" for n in range(3)} | {"only-here"})
        until(lambda: items_there() == 5 and backlog()["total"] == 0)
        s3.put_object(Bucket=f"{P}-uploads-{EAST}", Key="new", Body=b"new", Metadata={"by": "user"})
        s3.delete_object(Bucket=f"{P}-uploads-{EAST}", Key="invoices/seed-0.txt")
        until(lambda: "new" in (there := keys_there()) and "invoices/seed-0.txt" not in there)
        assert cloud.client("s3", WEST).get_object(Bucket=target_bucket, Key="new")["Metadata"] == {"by": "user"}

        ask(ready["admin"]["url"] + "/settings", {"lag_s": 60})
        s3.put_object(Bucket=f"{P}-uploads-{EAST}", Key="lost", Body=b"lost")
        until(lambda: backlog()["buckets"][f"{P}-uploads-{EAST}"]["keys"] == ["lost"])
        ask(ready["admin"]["url"] + "/settings", {"lag_s": 0})
        until(lambda: backlog()["total"] == 0)
        ask(ready["admin"]["url"] + "/settings", {"lag_s": 60})
        s3.put_object(Bucket=f"{P}-uploads-{EAST}", Key="lost-2", Body=b"lost")
        until(lambda: backlog()["total"] == 1)
        cloud.set(EAST, "refuse")
        until(lambda: backlog()["source_up"] is False)
        ask(ready["admin"]["url"] + "/settings", {"lag_s": 0})
        until(lambda: backlog()["seen_age_s"] > 1.2)  # another look was due, and failed
        assert backlog()["total"] == 1 and "lost-2" not in keys_there()
        assert "only-here" in keys_there()


def test_the_target_is_recovered_while_the_source_refuses_and_nothing_asks_it(cloud: Seeded) -> None:
    cloud.set(EAST, "refuse")
    since = cloud.calls_so_far()
    compute = cloud.west["compute"]

    def clients(service: str) -> Any:
        return cloud.client(service, WEST)

    role = cloud.made["roles"][f"{P}-break-glass"]
    assert clients("sts").assume_role(RoleArn=role, RoleSessionName="drkit")["Credentials"]
    assert clients("iam").get_role(RoleName=f"{P}-app")["Role"]["Arn"] == cloud.made["roles"][f"{P}-app"]

    stored = clients("s3").get_object(Bucket=f"{P}-artifacts-{WEST}", Key="cloudformation/network.json")
    values = {"PublicSubnet": compute["subnets"]["public-a"], "PrivateRouteTable": compute["route_tables"]["private"]}
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
    formation = clients("cloudformation")
    formation.create_stack(StackName=f"{P}-network", TemplateBody=stored["Body"].read().decode(), Parameters=parameters)
    assert formation.describe_stacks(StackName=f"{P}-network")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    assert "0.0.0.0/0" in private_routes(cloud, WEST)

    key = f"alias/{P}-data"
    clients("kms").create_grant(
        KeyId=cloud.west["keys"]["data"], GranteePrincipal=cloud.made["roles"][f"{P}-app"], Operations=["Decrypt"]
    )
    encrypted = clients("kms").encrypt(KeyId=key, Plaintext=b"canary")["CiphertextBlob"]
    assert clients("kms").decrypt(CiphertextBlob=encrypted)["Plaintext"] == b"canary"

    clients("ec2").modify_launch_template(LaunchTemplateName=f"{P}-web", DefaultVersion="2")
    clients("autoscaling").set_desired_capacity(AutoScalingGroupName=f"{P}-web", DesiredCapacity=6)
    instances = group_of(cloud, WEST)["Instances"]
    assert [each["LifecycleState"] for each in instances] == ["InService"] * 6
    image = json.loads(cloud.parameter(WEST, "ami/web"))["image"]
    reservations = clients("ec2").describe_instances(InstanceIds=[each["InstanceId"] for each in instances])
    assert {each["ImageId"] for found in reservations["Reservations"] for each in found["Instances"]} == {image}

    targets = [{"Id": each["InstanceId"]} for each in instances]
    clients("elbv2").register_targets(TargetGroupArn=compute["target_group"], Targets=targets)
    forward = [{"Type": "forward", "TargetGroupArn": compute["target_group"]}]
    clients("elbv2").modify_listener(ListenerArn=compute["listener"], DefaultActions=forward)
    assert default_action(cloud, WEST) == "forward"
    clients("wafv2").associate_web_acl(WebACLArn=compute["web_acl"], ResourceArn=compute["alb"])
    assert clients("wafv2").get_web_acl_for_resource(ResourceArn=compute["alb"])["WebACL"]["Name"] == f"{P}-web"

    clients("cloudwatch").enable_alarm_actions(AlarmNames=cloud.west["buckets"]["alarms"])
    assert all(each["ActionsEnabled"] for each in clients("cloudwatch").describe_alarms()["MetricAlarms"])
    clients("sns").publish(TopicArn=cloud.west["buckets"]["topic"], Message="[DRILL] test page")
    pages = until(lambda: ask(cloud.sinks["admin"]["url"] + "/messages?kind=webhook")["messages"])
    assert pages[-1]["body"]["Message"] == "[DRILL] test page"

    calls = cloud.calls(since)
    assert calls and {call["gateway"] for call in calls} == {WEST}
    assert not any(call["global_write"] or call["status"] in ("refused", "lost") for call in calls)
