"""The state store's contract, on a folder and on a bucket: conditions hold, also between processes and threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_fakes import rows

from drkit.engine.copy import put_rows, restore
from drkit.errors import JournalError, Tampered, UsageError
from drkit.model.environment import Environment, Site
from drkit.model.ports import Objects
from drkit.providers.objects import FileObjects, open_objects, open_url


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 that answers conditional writes."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "file":
        return open_url((tmp_path / "a folder").as_uri())
    url = request.getfixturevalue("endpoint")
    bucket = f"state-{abs(hash(str(tmp_path)))}"
    env = bucket_environment(url, bucket)
    client(url).create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    return open_objects(env)


def bucket_environment(endpoint: str, bucket: str) -> Environment:
    return Environment(
        name="test", kind="sandbox", account="none", state_store_site="us-west-2",
        sites=(Site(name="us-west-2", kind="region", aws_endpoint=endpoint),),
        state_store=f"s3://{bucket}/drkit/state",
    )  # fmt: skip


def client(endpoint: str) -> Any:
    from drkit.providers.credentials import build_client, build_session

    return build_client(build_session(), "us-west-2", "s3", endpoint)


def test_what_is_put_is_got_and_nothing_is_none(objects: Objects) -> None:
    assert objects.get("runs/a/1.jsonl") is None
    tag = objects.put("runs/a/1.jsonl", b"one")
    assert objects.get("runs/a/1.jsonl") == (b"one", tag)
    tag = objects.put("runs/a/1.jsonl", b"two")
    assert objects.get("runs/a/1.jsonl") == (b"two", tag)


def test_only_the_first_creates(objects: Objects) -> None:
    assert objects.put("lock", b"mine", if_absent=True) is not None
    assert objects.put("lock", b"yours", if_absent=True) is None
    assert objects.get("lock") is not None and objects.get("lock")[0] == b"mine"  # type: ignore[index]


def test_only_who_saw_the_present_replaces_it(objects: Objects) -> None:
    assert objects.put("lock", b"x", if_tag="never seen") is None
    assert objects.get("lock") is None
    first = objects.put("lock", b"one")
    second = objects.put("lock", b"two", if_tag=first)
    assert second is not None
    assert objects.put("lock", b"three", if_tag=first) is None
    assert objects.get("lock") == (b"two", second)


def test_keys_are_listed_by_prefix_and_sorted(objects: Objects) -> None:
    for key in ("runs/b/2", "runs/a/1", "runs/a/10", "runs/ab/3", "locks/x"):
        objects.put(key, b"")
    assert objects.keys("runs/a/") == ["runs/a/1", "runs/a/10"]
    assert objects.keys("runs/a") == ["runs/a/1", "runs/a/10", "runs/ab/3"]
    assert objects.keys("nothing/") == []
    assert len(objects.keys("")) == 5


def test_of_many_at_once_one_wins(objects: Objects) -> None:
    tag = objects.put("lock", b"start")
    won: list[int] = []

    def compete(n: int) -> None:
        if objects.put("lock", f"{n}".encode(), if_tag=tag) is not None:
            won.append(n)

    threads = [threading.Thread(target=compete, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = objects.get("lock")
    assert found is not None and [int(found[0])] == won


def test_a_folder_says_that_it_protects_one_machine_only(tmp_path: Path) -> None:
    assert "protects this machine only" in open_url(tmp_path.as_uri()).describe()


def test_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    for key in ("../x", "/etc/passwd", "a//b", "a/../../b", ".lock"):
        with pytest.raises(ValueError, match="not the name of an object"):
            FileObjects(tmp_path).put(key, b"")


def test_whoever_froze_with_the_lock_in_hand_does_not_freeze_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drkit.providers.objects._LOCK_WAIT_S", 0.1)
    objects = FileObjects(tmp_path)
    objects.put("x", b"1")
    with objects._locked(), pytest.raises(JournalError, match="somebody holds its lock"):
        objects.put("x", b"2")
    assert objects.get("x") is not None and objects.get("x")[0] == b"1"  # type: ignore[index]


def test_a_store_that_does_not_answer_is_named_with_its_place() -> None:
    env = bucket_environment("http://127.0.0.1:9", "bucket")
    with pytest.raises(
        JournalError, match=r"s3://bucket/drkit/state in us-west-2 does not answer \(reading x\)"
    ) as down:
        open_objects(env).get("x")
    assert down.value.hint == "aws s3 ls s3://bucket/drkit/state/"


def test_a_bucket_that_is_not_there_is_no_empty_store(endpoint: str) -> None:
    with pytest.raises(JournalError, match="NoSuchBucket"):
        open_objects(bucket_environment(endpoint, "no-such-bucket")).put("x", b"1", if_absent=True)
    with pytest.raises(JournalError, match="NoSuchBucket"):
        open_objects(bucket_environment(endpoint, "no-such-bucket")).get("x")


@pytest.mark.parametrize("url", ["", "bucket/prefix", "http://x/y", "file://relative/path", "s3:///nothing"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a state store"):
        open_url(url)


def test_a_holder_that_was_frozen_cannot_fork_the_copy_of_its_journal(objects: Objects) -> None:
    known = rows(3)
    put_rows(objects, "k7qd", 1, known)
    ours = rows(2, prev=known[-1].hash, first=4, text="I took over")
    put_rows(objects, "k7qd", 2, ours)
    put_rows(objects, "k7qd", 1, rows(2, prev=known[-1].hash, first=4, text="I was frozen"))
    assert restore(objects, "k7qd") == known + ours
    put_rows(objects, "k7qd", 2, ours)  # as after a lost answer
    with pytest.raises(Tampered, match="holds other events"):
        put_rows(objects, "k7qd", 2, rows(2, prev=known[-1].hash, first=4, text="I was frozen"))
