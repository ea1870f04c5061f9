"""What the gateway understands of a request, and how it words a refusal."""

from __future__ import annotations

import json

import pytest

from drkit.sandbox.parts._calls import error_body, read_call


def scope(region: str, service: str) -> dict[str, str]:
    return {"authorization": f"AWS4-HMAC-SHA256 Credential=AK/20261123/{region}/{service}/aws4_request, Signature=0"}


def form(action: str) -> tuple[dict[str, str], bytes]:
    return {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}, f"Action={action}&Version=1".encode()


def test_region_service_and_operation_come_from_the_request_in_every_protocol() -> None:
    headers, body = form("DescribeVpcs")
    query = read_call("POST", "/", "", {**scope("us-west-2", "ec2"), **headers}, body)
    assert (query.region, query.service, query.operation, query.protocol) == ("us-west-2", "ec2", "DescribeVpcs", "ec2")
    target = {"x-amz-target": "DynamoDB_20120810.PutItem"}
    assert read_call("POST", "/", "", {**scope("us-east-1", "dynamodb"), **target}, b"{}").operation == "PutItem"
    rest = read_call("PUT", "/bucket/key", "partNumber=1&uploadId=x", scope("us-west-2", "s3"), b"")
    assert (rest.operation, rest.bucket) == ("PUT /bucket/key?partNumber&uploadId", "bucket")


def test_a_presigned_request_carries_its_region_in_the_query() -> None:
    query = "X-Amz-Credential=AK%2F20261123%2Fus-west-2%2Fs3%2Faws4_request&X-Amz-Signature=0"
    call = read_call("GET", "/bucket/key", query, {}, b"")
    assert (call.region, call.service, call.operation) == ("us-west-2", "s3", "GET /bucket/key")


@pytest.mark.parametrize(
    ("method", "path", "query", "service", "action", "is_write"),
    [
        ("POST", "/2013-04-01/hostedzone/Z/rrset", "", "route53", None, True),
        ("GET", "/2013-04-01/hostedzone/Z/rrset", "", "route53", None, False),
        ("DELETE", "/2013-04-01/healthcheck/H", "", "route53", None, True),
        ("POST", "/", "", "iam", "CreateRole", True),
        ("POST", "/", "", "iam", "AttachRolePolicy", True),
        ("POST", "/", "", "iam", "GetRole", False),
        ("POST", "/", "", "iam", "ListRoles", False),
        ("POST", "/", "", "iam", "SimulatePrincipalPolicy", False),
        ("PUT", "/bucket", "", "s3", None, True),
        ("PUT", "/bucket/key", "", "s3", None, False),
        ("PUT", "/bucket", "versioning=", "s3", None, False),
        ("POST", "/", "", "sqs", "CreateQueue", False),
        ("POST", "/", "", "ec2", "CreateVpc", False),
    ],
)
def test_writes_of_global_services_are_told_from_their_reads_and_from_regional_writes(
    method: str, path: str, query: str, service: str, action: str | None, is_write: bool
) -> None:
    headers, body = form(action) if action else ({}, b"")
    call = read_call(method, path, query, {**scope("us-east-1", service), **headers}, body)
    assert call.global_write is is_write


def test_the_caller_is_the_clients_application_id() -> None:
    agent = {"user-agent": "Boto3/1.44 md/Botocore#1 ua/2.1 app/sandbox-dns"}
    assert read_call("GET", "/", "", {**scope("us-east-1", "s3"), **agent}, b"").caller == "sandbox-dns"
    assert read_call("GET", "/", "", scope("us-east-1", "s3"), b"").caller is None


def test_an_unsigned_request_is_unknown_and_not_an_exception() -> None:
    call = read_call("POST", "/", "", {}, b"\xff\xfe")
    assert (call.region, call.service) == (None, "unknown")


def test_errors_are_worded_in_the_protocol_of_the_request() -> None:
    target = {"x-amz-target": "secretsmanager.GetSecretValue"}
    as_json = read_call("POST", "/", "", {**scope("us-east-1", "secretsmanager"), **target}, b"{}")
    assert json.loads(error_body(as_json, "NotImplemented", "no")[1])["__type"] == "NotImplemented"
    headers, body = form("DescribeVpcs")
    as_ec2 = read_call("POST", "/", "", {**scope("us-east-1", "ec2"), **headers}, body)
    assert b"<Errors><Error><Code>NotImplemented</Code>" in error_body(as_ec2, "NotImplemented", "a < b")[1]
    assert b"a &lt; b" in error_body(as_ec2, "NotImplemented", "a < b")[1]
    as_s3 = read_call("GET", "/bucket", "", scope("us-east-1", "s3"), b"")
    assert error_body(as_s3, "NotImplemented", "no")[1].startswith(b"<Error><Code>")
