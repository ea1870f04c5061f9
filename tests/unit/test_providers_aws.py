"""AWS: what an error means for the caller, where credentials come from, and that calls are bounded and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from drkit.errors import NotSupported, OutcomeUnknown, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model import written
from drkit.model.environment import Environment, Site
from drkit.model.paper import on_loopback
from drkit.providers.aws import Aws, AwsError, translated
from drkit.providers.credentials import build_client, build_session
from drkit.providers.routing import Routing, endpoints


def said(status: int, code: str) -> aws.ClientError:
    """What AWS answered."""
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.ClientError(answer, "DescribeThings")


@pytest.mark.parametrize(
    ("error", "read", "write"),
    [
        (said(400, "ValidationError"), AwsError, AwsError),
        (said(404, "ResourceNotFoundException"), AwsError, AwsError),
        (said(501, "NotImplemented"), NotSupported, NotSupported),
        (ResponseParserError("<html>"), NotSupported, NotSupported),
        (said(503, "ServiceUnavailable"), Unobservable, OutcomeUnknown),
        (said(500, "InternalFailure"), Unobservable, OutcomeUnknown),
        (said(503, "SlowDown"), AwsError, AwsError),
        (aws.EndpointConnectionError(endpoint_url="x"), Unreachable, Unreachable),
        (aws.ConnectTimeoutError(endpoint_url="x"), Unreachable, Unreachable),
        (aws.ReadTimeoutError(endpoint_url="x"), Unobservable, OutcomeUnknown),
        (aws.ConnectionClosedError(endpoint_url="x"), Unobservable, OutcomeUnknown),
        (aws.NoCredentialsError(), ShutOut, ShutOut),
        (aws.PartialCredentialsError(provider="env", cred_var="x"), ShutOut, ShutOut),
        (aws.CredentialRetrievalError(provider="process", error_msg="x"), Unreachable, Unreachable),
        (said(403, "InvalidClientTokenId"), ShutOut, ShutOut),
        (said(401, "AuthFailure"), ShutOut, ShutOut),
        (said(403, "AccessDenied"), AwsError, AwsError),
        (aws.ParamValidationError(report="wrong"), StepFailed, StepFailed),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_an_error_means_something_else_for_a_read_and_for_a_write(error: Any, read: type, write: type) -> None:
    assert type(translated(error, "x", False)) is read
    assert type(translated(error, "x", True)) is write


def test_a_refusal_keeps_its_code_and_says_that_nothing_was_touched() -> None:
    refused = translated(said(409, "Conflict"), "ec2:make in west", True)
    assert isinstance(refused, AwsError)
    assert (refused.aws_code, refused.status, refused.world) == ("Conflict", 409, "untouched")


def test_a_refusal_after_calls_that_went_through_says_that_the_world_was_changed() -> None:
    with written.attempt():
        with written.writing("ec2:create_vpc in west"):
            pass
        refused = translated(said(403, "UnauthorizedOperation"), "ec2:create_subnet in west", True)
        wrong = translated(aws.ParamValidationError(report="wrong"), "ec2:create_subnet in west", True)
        throttled = translated(said(400, "Throttling"), "ec2:create_subnet in west", True)
    assert [each.world for each in (refused, wrong, throttled)] == ["changed", "changed", "turned-away"]  # type: ignore[attr-defined]
    assert translated(said(403, "UnauthorizedOperation"), "x", True).world == "untouched"  # type: ignore[attr-defined]


@pytest.mark.parametrize("said_so", [said(400, "ThrottlingException"), said(503, "RequestLimitExceeded")])
def test_a_call_too_many_is_turned_away_for_now(said_so: aws.ClientError) -> None:
    refused = translated(said_so, "ec2:make in west", True)
    assert isinstance(refused, AwsError) and refused.world == "turned-away"


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.1.2.3:80", True), ("http://[::1]:80", True), ("http://localhost:1", True), (None, False),
        ("https://sts.us-west-2.amazonaws.com", False), ("http://127.0.0.1.example.com", False),
    ],
)  # fmt: skip
def test_dummy_credentials_are_for_loopback_only(
    url: str | None, loopback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert on_loopback(url) is loopback
    client = build_client(build_session(), "us-west-2", "sts", url)
    assert (client._request_signer._credentials is not None) is loopback
    assert client.meta.region_name == "us-west-2"


def test_sts_is_the_regional_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert build_client(build_session(), "us-west-2", "sts", None).meta.endpoint_url == (
        "https://sts.us-west-2.amazonaws.com"
    )


@pytest.fixture
async def gone() -> AsyncIterator[str]:
    """An endpoint that hangs up on everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    listening.close()


def environment(**regions: dict[str, str]) -> Environment:
    """Regions with these endpoints."""
    sites = tuple(Site(name=name, kind="region", **settings) for name, settings in regions.items())
    return Environment(name="t", kind="sandbox", account="0", sites=sites, state_store="file:///x")


async def test_calls_are_counted_by_site_service_and_operation(gone: str) -> None:
    provider = Aws(environment(west={"aws_endpoint": gone}))
    for _ in range(2):
        with pytest.raises(Unobservable):
            await provider.call("west", "sqs", "list_queues")
    with pytest.raises(OutcomeUnknown):
        await provider.call("west", "sqs", "create_queue", {"QueueName": "q"})
    assert provider.calls == {("west", "sqs", "list_queues"): 2, ("west", "sqs", "create_queue"): 1}
    await provider.aclose()


async def test_a_dead_endpoint_is_unreachable() -> None:
    provider = Aws(environment(west={"aws_endpoint": "http://127.0.0.1:1"}))
    with pytest.raises(Unreachable):
        await provider.call("west", "sqs", "create_queue", {"QueueName": "q"})


async def test_the_site_being_left_is_asked_for_routing_last_and_silence_of_all_is_no_answer() -> None:
    made = environment(east={"routing_endpoint": "http://127.0.0.1:1"}, west={"routing_endpoint": "http://127.0.0.1:2"})
    assert [site.name for site in endpoints(made, "east")] == ["west", "east"]
    routing = Routing(made)
    with pytest.raises(Unreachable) as failure:
        await routing.states(last="east")
    assert failure.value.message.index("in west") < failure.value.message.index("in east")
    await routing.aclose()
