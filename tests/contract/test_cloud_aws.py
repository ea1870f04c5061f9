"""The AWS gateways as clients see them: two regions, each of which can fail alone, and an honest count of calls."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from cloud_parts import EAST, WEST, Cloud, ask


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ExitStack() as stack:
        found = Cloud(stack, tmp_path_factory.mktemp("cloud"))
        found.client("s3", EAST).create_bucket(Bucket="bucket-east")
        where = {"LocationConstraint": WEST}
        found.client("s3", WEST).create_bucket(Bucket="bucket-west", CreateBucketConfiguration=where)
        yield found


@pytest.fixture(autouse=True)
def healed(cloud: Cloud) -> Iterator[None]:
    yield
    for region in (EAST, WEST):
        cloud.set(region)


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_conditional_writes_are_kept_so_that_a_lease_can_be_held_in_s3(cloud: Cloud) -> None:
    s3 = cloud.client("s3", WEST)
    first = s3.put_object(Bucket="bucket-west", Key="lease", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="bucket-west", Key="lease", Body=b"2", IfNoneMatch="*")
    assert code_of(refused) == "PreconditionFailed"
    second = s3.put_object(Bucket="bucket-west", Key="lease", Body=b"2", IfMatch=first)["ETag"]
    with pytest.raises(ClientError) as stale:
        s3.put_object(Bucket="bucket-west", Key="lease", Body=b"3", IfMatch=first)
    assert code_of(stale) == "PreconditionFailed"
    with pytest.raises(ClientError):
        s3.delete_object(Bucket="bucket-west", Key="lease", IfMatch=first)
    assert s3.get_object(Bucket="bucket-west", Key="lease")["Body"].read() == b"2"
    s3.delete_object(Bucket="bucket-west", Key="lease", IfMatch=second)


def test_of_many_who_create_at_once_exactly_one_wins(cloud: Cloud) -> None:
    s3 = cloud.client("s3", WEST)

    def create(key: str) -> bool:
        try:
            s3.put_object(Bucket="bucket-west", Key=key, Body=b"mine", IfNoneMatch="*")
        except ClientError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for number in range(60):
            assert sum(pool.map(create, [f"lock-{number}"] * 8)) == 1


def test_bodies_and_metadata_pass_the_gateway_unchanged(cloud: Cloud) -> None:
    s3, body = cloud.client("s3", WEST), bytes(range(256)) * 4096
    s3.put_object(Bucket="bucket-west", Key="a/b c+ü", Body=body, Metadata={"sha_256": "x"})
    found = s3.get_object(Bucket="bucket-west", Key="a/b c+ü")
    assert (found["Body"].read(), found["Metadata"]) == (body, {"sha_256": "x"})
    assert s3.head_object(Bucket="bucket-west", Key="a/b c+ü")["ContentLength"] == len(body)


def test_a_region_answers_only_what_is_signed_for_it(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as refused:
        cloud.client("sqs", EAST, at=WEST).list_queues()
    assert code_of(refused) == "SignatureDoesNotMatch"


def test_a_bucket_is_reached_in_its_own_region_only(cloud: Cloud) -> None:
    with pytest.raises(ClientError):
        cloud.client("s3", WEST).list_objects_v2(Bucket="bucket-east")
    cloud.client("s3", EAST).list_objects_v2(Bucket="bucket-east")


def test_regions_keep_what_they_have_apart(cloud: Cloud) -> None:
    cloud.client("sqs", EAST).create_queue(QueueName="only-east")
    assert "QueueUrls" not in cloud.client("sqs", WEST).list_queues(QueueNamePrefix="only-east")


def test_a_refusing_region_fails_fast_and_its_neighbour_does_not_notice(cloud: Cloud) -> None:
    cloud.set(EAST, "refuse")
    began = time.monotonic()
    with pytest.raises(ConnectionClosedError):
        cloud.client("s3", EAST).list_objects_v2(Bucket="bucket-east")
    assert time.monotonic() - began < 5  # as opposed to the client's patience
    cloud.client("s3", WEST).list_objects_v2(Bucket="bucket-west")


def test_a_region_that_is_unavailable_says_so(cloud: Cloud) -> None:
    cloud.set(EAST, "503")
    with pytest.raises(ClientError) as refused:
        cloud.client("sqs", EAST).list_queues()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert code_of(refused) == "ServiceUnavailable"


def test_what_hung_until_its_client_gave_up_is_not_carried_out_later(cloud: Cloud) -> None:
    cloud.set(EAST, "hang")
    with pytest.raises(ReadTimeoutError):
        cloud.client("s3", EAST, patience_s=0.5).put_object(Bucket="bucket-east", Key="late", Body=b"1")
    cloud.set(EAST)
    with pytest.raises(ClientError) as absent:
        cloud.client("s3", EAST).head_object(Bucket="bucket-east", Key="late")
    assert code_of(absent) == "404"


def test_a_lost_answer_leaves_the_effect_behind(cloud: Cloud) -> None:
    cloud.set(EAST, "lost")
    with pytest.raises(ConnectionClosedError):
        cloud.client("s3", EAST).put_object(Bucket="bucket-east", Key="done", Body=b"1")
    cloud.set(EAST)
    cloud.client("s3", EAST).head_object(Bucket="bucket-east", Key="done")


def test_one_service_can_be_slow_or_down_alone(cloud: Cloud) -> None:
    cloud.set(WEST, "ok", service="s3", latency_s=0.2)
    began = time.monotonic()
    cloud.client("s3", WEST).list_objects_v2(Bucket="bucket-west")
    assert time.monotonic() - began >= 0.2
    cloud.set(WEST, "503", service="sqs")
    with pytest.raises(ClientError):
        cloud.client("sqs", WEST).list_queues()
    cloud.client("sns", WEST).list_topics()


@pytest.mark.parametrize("mode", ["refuse", "503"])
def test_global_writes_go_down_with_their_home_region_and_global_reads_do_not(cloud: Cloud, mode: str) -> None:
    route53, iam, s3 = (cloud.client(name, WEST) for name in ("route53", "iam", "s3"))
    cloud.set(EAST, mode)
    assert "HostedZones" in route53.list_hosted_zones()
    assert "Roles" in iam.list_roles()
    failures = (ConnectionClosedError, ClientError)
    with pytest.raises(failures):
        route53.create_hosted_zone(Name="x.example", CallerReference=mode)
    with pytest.raises(failures):
        iam.create_user(UserName="nobody")
    with pytest.raises(failures):
        s3.create_bucket(Bucket="bucket-new", CreateBucketConfiguration={"LocationConstraint": WEST})
    cloud.set(EAST)
    assert iam.list_users()["Users"] == []
    assert route53.list_hosted_zones()["HostedZones"] == []


def test_the_targets_own_sts_answers_without_the_source(cloud: Cloud) -> None:
    cloud.set(EAST, "refuse")
    assert cloud.client("sts", WEST).get_caller_identity()["Account"] == "123456789012"
    with pytest.raises(ConnectionClosedError):  # the legacy global endpoint, wherever it is asked
        cloud.client("sts", EAST, at=WEST).get_caller_identity()


def test_what_is_not_implemented_is_a_clean_error_in_every_protocol(cloud: Cloud) -> None:
    missing: list[Any] = [
        lambda: cloud.client("cloudwatch", WEST).put_composite_alarm(AlarmName="x", AlarmRule="TRUE"),
        lambda: cloud.client("sqs", WEST).start_message_move_task(SourceArn="x"),
        lambda: cloud.client("backup", WEST).list_backup_jobs(),
        lambda: cloud.client("arc-region-switch", WEST).list_plans(),
    ]
    for call in missing:
        with pytest.raises(ClientError) as refused:
            call()
        assert code_of(refused) == "NotImplemented"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_every_call_is_counted_also_those_that_were_refused(cloud: Cloud) -> None:
    start = cloud.calls_so_far()
    cloud.client("sqs", WEST).list_queues()
    cloud.set(EAST, "refuse")
    for _ in range(3):
        with pytest.raises(ConnectionClosedError):
            cloud.client("sqs", EAST).list_queues()
    with pytest.raises(ConnectionClosedError):
        cloud.client("route53", WEST).create_hosted_zone(Name="y.example", CallerReference="y")
    seen = [(call["gateway"], call["service"], call["global_write"], call["status"]) for call in cloud.calls(start)]
    refused = (EAST, "sqs", False, "refused")
    assert seen == [(WEST, "sqs", False, 200), refused, refused, refused, (WEST, "route53", True, "refused")]
    on_disk = [json.loads(line) for line in cloud.calls_file.read_text().splitlines()]
    assert [call for call in on_disk if call["n"] >= start and call["caller"] == "drkit-test"] == cloud.calls(start)


def test_a_wrong_setting_is_refused_and_changes_nothing(cloud: Cloud) -> None:
    assert cloud.admin(f"/regions/{EAST}", {"mode": "sideways"})[0] == 400
    assert cloud.admin("/regions/mars-1", {"mode": "ok"})[0] == 404
    assert cloud.admin("/regions")[EAST]["mode"] == "ok"


def test_clients_cannot_reset_the_world(cloud: Cloud) -> None:
    assert ask(cloud.url(WEST) + "/moto-api/reset", {}, "POST")[0] == 404
    cloud.client("s3", WEST).head_bucket(Bucket="bucket-west")
