"""Whether a lease's role may undo a fault: what is asked of IAM, and what its answers amount to."""

from __future__ import annotations

from typing import Any

import pytest

from drkit.chaos.awslease import Call
from drkit.chaos.awsrights import MAY, arns, judged, permission
from drkit.errors import Refused


def answer(decision: str, *missing: str) -> dict[str, Any]:
    named = {"EvalActionName": "ec2:StartInstances", "EvalResourceName": "arn:aws:ec2:r:1:instance/i-1"}
    return {**named, "EvalDecision": decision, "MissingContextValues": list(missing)}


def test_each_call_is_asked_about_by_the_right_it_needs_and_what_it_changes() -> None:
    start = Call("ec2", "StartInstances", {"InstanceIds": ["i-1", "i-2"]})
    copies = Call("s3", "PutBucketReplication", {"Bucket": "orders", "ReplicationConfiguration": {}})
    enable = Call("kms", "EnableKey", {"KeyId": "mrk-1"})
    assert [permission(call) for call in (start, copies)] == ["ec2:StartInstances", "s3:PutReplicationConfiguration"]
    assert arns([start, copies, enable], "us-west-2", "1") == [
        "arn:aws:ec2:us-west-2:1:instance/i-1", "arn:aws:ec2:us-west-2:1:instance/i-2", "arn:aws:s3:::orders",
        "arn:aws:kms:us-west-2:1:key/mrk-1",
    ]  # fmt: skip


def test_a_role_that_is_allowed_all_of_it_may() -> None:
    assert judged([answer("allowed"), answer("allowed")], "r") == MAY


@pytest.mark.parametrize("decision", ["implicitDeny", "explicitDeny"])
def test_a_role_that_is_denied_any_of_it_is_no_lease(decision: str) -> None:
    with pytest.raises(Refused, match=f"may not ec2:StartInstances on .*{decision}.* Nothing was injected"):
        judged([answer("allowed"), answer(decision)], "r")


def test_what_depends_on_the_real_request_is_unchecked() -> None:
    said = judged([answer("allowed"), answer("implicitDeny", "aws:SourceIp")], "r")
    assert said == "unchecked: it depends on aws:SourceIp"
