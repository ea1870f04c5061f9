"""What the sandbox's AWS API does to calls of a drill that is struck: denies them, shows what was, loses an answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cloud_parts import EAST, WEST, Cloud, until

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ExitStack() as stack:
        yield Cloud(stack, tmp_path_factory.mktemp("cloud"), ("ec2", "s3", "iam", "ssm", "sqs"))


def begin(cloud: Cloud, service: str, *, lease_s: float = 600.0, **what: Any) -> Callable[[], int]:
    """A trouble at the western gateway; how many calls it has met since."""
    key = f"trouble-{next(NUMBERS)}"
    found = cloud.admin(
        f"/regions/{WEST}/troubles", {"service": service, "lease_s": lease_s, "meta": {"key": key}} | what
    )
    assert key in [one["meta"]["key"] for one in found["troubles"]], found
    return lambda: next(one["met"] for one in cloud.admin("/troubles")["troubles"] if one["meta"]["key"] == key)


@pytest.fixture
def quiet(cloud: Cloud) -> Iterator[Cloud]:
    yield cloud
    end_all(cloud)


def end_all(cloud: Cloud) -> None:
    for one in cloud.admin("/troubles")["troubles"]:
        cloud.admin(f"/troubles/{one['meta']['key']}/end", {})


def refused(call: Any, **given: Any) -> tuple[int, str] | None:
    """Status and code of a plain client's error; None: it was served."""
    from botocore.exceptions import ClientError

    try:
        call(**given)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return None


@pytest.mark.parametrize(
    ("service", "call", "said"),
    [
        ("ssm", "describe_parameters", (400, "AccessDeniedException")),
        ("ec2", "describe_vpcs", (403, "UnauthorizedOperation")),
        ("iam", "list_roles", (403, "AccessDenied")),
    ],
)
def test_what_is_denied_is_refused_in_the_words_of_its_service(
    quiet: Cloud, service: str, call: str, said: tuple[int, str]
) -> None:
    met = begin(quiet, service, deny=True)
    assert refused(getattr(quiet.client(service, WEST), call)) == said and met() == 1
    assert refused(getattr(quiet.client(service, EAST), call)) is None


def test_only_the_calls_that_are_named_are_denied(quiet: Cloud) -> None:
    met, ssm = begin(quiet, "ssm", operation="PutParameter", deny=True), quiet.client("ssm", WEST)
    assert refused(ssm.describe_parameters) is None and met() == 0
    assert refused(ssm.put_parameter, Name="/a", Value="1", Type="String") is not None and met() == 1


def test_a_stale_read_shows_what_was_and_counts_only_where_that_is_so_no_longer(quiet: Cloud) -> None:
    ssm = quiet.client("ssm", WEST)

    def value() -> str:
        return str(ssm.get_parameter(Name="/stale")["Parameter"]["Value"])

    ssm.put_parameter(Name="/stale", Value="old", Type="String")
    assert value() == "old"
    met = begin(quiet, "ssm", stale_s=60.0, lease_s=1.5)
    assert value() == "old" and met() == 0
    ssm.put_parameter(Name="/stale", Value="new", Type="String", Overwrite=True)
    assert value() == "old" and met() == 1
    assert "Names" not in ssm.describe_parameters(), "what nobody asked before is fresh"
    until(lambda: value() == "new")
    assert quiet.admin("/troubles")["troubles"] == []


def test_a_stale_list_does_not_differ_by_the_number_of_its_request(quiet: Cloud) -> None:
    ec2 = quiet.client("ec2", WEST)
    ec2.describe_vpcs()
    met = begin(quiet, "ec2", stale_s=60.0)
    ec2.describe_vpcs()
    assert met() == 0
    made = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    assert made not in [vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]] and met() == 1


def test_a_trouble_that_sleeps_loses_the_answer_of_what_it_waits_for_and_begins(quiet: Cloud) -> None:
    from botocore.exceptions import ConnectionClosedError

    ssm, after = quiet.client("ssm", WEST), [("ssm", "Put*")]
    met = begin(quiet, "ssm", throttle=True, after=after, loses=True, waits_s=600)
    assert refused(ssm.describe_parameters) is None and met() == 0
    with pytest.raises(ConnectionClosedError):
        ssm.put_parameter(Name="/lost", Value="there", Type="String")
    assert refused(ssm.get_parameter, Name="/lost") == (400, "ThrottlingException") and met() == 1
    end_all(quiet)
    assert ssm.get_parameter(Name="/lost")["Parameter"]["Value"] == "there"


def test_a_trouble_that_sleeps_begins_with_the_call_it_waits_for_and_lasts_for_its_lease(quiet: Cloud) -> None:
    ssm = quiet.client("ssm", WEST)
    begin(quiet, "ssm", throttle=True, after=[("ssm", "Put*")], waits_s=600, lease_s=0.5)
    assert refused(ssm.put_parameter, Name="/begins", Value="there", Type="String") is None
    assert refused(ssm.get_parameter, Name="/begins") is not None
    until(lambda: refused(ssm.get_parameter, Name="/begins") is None)
    assert quiet.admin("/troubles")["troubles"] == []


def test_what_sleeps_is_over_when_nothing_comes(quiet: Cloud) -> None:
    begin(quiet, "sqs", throttle=True, after=[("sqs", "CreateQueue")], waits_s=0.3)
    until(lambda: quiet.admin("/troubles")["troubles"] == [])
    assert refused(quiet.client("sqs", WEST).create_queue, QueueName="q") is None
