"""Credentials that end in the middle of a run: calls go on with new ones, once each; without new ones the run waits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from expiring_aws import ExpiringAws, expiring_aws
from runner_fakes import asked, environment, kinds, started, state, step, stop, until

from drkit.cli.compose import reach
from drkit.cli.credentials import lives
from drkit.engine import orders
from drkit.engine.runs import RunFolder
from drkit.engine.spawning import Spawned
from drkit.engine.state import Status
from drkit.errors import JournalError, OutcomeUnknown, ShutOut
from drkit.model.environment import Environment, SecretRef, Site
from drkit.model.events import Ordered
from drkit.providers import credentials
from drkit.providers.aws import Aws
from drkit.providers.credentials import CredentialsExpired
from drkit.providers.objects import open_objects
from drkit.providers.secrets import REDACTED, Secrets

WEST = "us-west-2"
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def everywhere() -> Iterator[ExpiringAws]:
    with expiring_aws() as door:
        yield door


@pytest.fixture
def door(everywhere: ExpiringAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ExpiringAws:
    """It, and nothing else that could sign a call."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(credentials, "AGAIN_S", 0.0)
    everywhere.over.clear()
    everywhere.refused.clear()
    everywhere.served.clear()
    return everywhere


def said(key: str, *, left_s: float | None = HOUR_S) -> str:
    """What `credential_process` prints."""
    ends = {} if left_s is None else {"Expiration": datetime.fromtimestamp(time.time() + left_s, UTC).isoformat()}
    told = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": f"secret-{key}", "SessionToken": f"token-{key}"}
    return json.dumps(told | ends)


def written_down(path: Path, key: str, *, left_s: float | None = HOUR_S) -> None:
    path.write_text(said(key, left_s=left_s))


def world(door: ExpiringAws, source: Path | None) -> Environment:
    """One region. `source`: the file with the credentials; None: the usual chain, which loopback would not ask."""
    endpoint = door.url if source is not None else "http://aws.test"
    return Environment(
        name="test", kind="staging", account="none", sites=(Site(name=WEST, kind="region", aws_endpoint=endpoint),),
        aws_credentials=None if source is None else SecretRef(ref=f"secret://file{source}"),
        state_store=f"s3://state-{int(time.time() * 1e6)}/x", state_store_site=WEST,
    )  # fmt: skip


def provider(env: Environment) -> tuple[Aws, Secrets]:
    secrets = Secrets(env)
    return Aws(env, secrets), secrets


async def put(aws: Aws, value: str) -> int:
    """A write whose repetition would show: the parameter's version."""
    request = {"Name": f"/{id(aws)}", "Value": value, "Type": "String", "Overwrite": True}
    return int((await aws.call(WEST, "ssm", "put_parameter", request))["Version"])


async def test_a_call_refused_as_expired_goes_on_with_what_is_written_down_now_and_is_done_once(
    door: ExpiringAws, tmp_path: Path
) -> None:
    source = tmp_path / "keys"
    written_down(source, "ONE")
    aws, secrets = provider(world(door, source))
    assert await put(aws, "a") == 1
    door.over.add("ONE")
    written_down(source, "TWO")
    assert await put(aws, "b") == 2
    assert (door.refused, door.served) == ({"ONE": 1}, {"ONE": 1, "TWO": 1})
    assert secrets.redact("token-TWO and secret-ONE") == f"{REDACTED} and {REDACTED}"
    await aws.aclose()


async def test_what_nears_its_end_is_read_again_before_anything_is_refused(door: ExpiringAws, tmp_path: Path) -> None:
    source = tmp_path / "keys"
    written_down(source, "ONE", left_s=credentials.SOON_S / 2)
    aws, _ = provider(world(door, source))
    assert await put(aws, "a") == 1
    assert await put(aws, "b") == 2, "while there are no others these serve on"
    source.write_text("# renewed\nexport AWS_ACCESS_KEY_ID=TWO AWS_SECRET_ACCESS_KEY='s'\nAWS_SESSION_TOKEN=t\n")
    assert await put(aws, "c") == 3
    assert (door.refused, door.served) == ({}, {"ONE": 2, "TWO": 1})
    await aws.aclose()


async def test_without_new_ones_it_says_so_and_that_nothing_was_done(door: ExpiringAws, tmp_path: Path) -> None:
    source = tmp_path / "keys"
    written_down(source, "ONE")
    door.over.add("ONE")
    aws, _ = provider(world(door, source))
    with pytest.raises(CredentialsExpired) as failure:
        await put(aws, "a")
    told = f"{failure.value} {failure.value.hint}"
    assert isinstance(failure.value, ShutOut) and f"secret://file{source}" in told and "aws sts" in told
    assert "token-ONE" not in told and "secret-ONE" not in told
    await aws.aclose()


async def test_a_write_whose_first_attempt_had_no_answer_is_not_repeated(door: ExpiringAws, tmp_path: Path) -> None:
    source = tmp_path / "keys"
    written_down(source, "ONE")
    aws, _ = provider(world(door, source))
    assert await put(aws, "a") == 1
    door.over.add("ONE")
    written_down(source, "TWO")
    door.blips = 1
    with pytest.raises(OutcomeUnknown, match="expired between two attempts"):
        await put(aws, "b")
    assert door.served == {"ONE": 1}
    door.blips = 1
    await aws.call(WEST, "ssm", "describe_parameters")  # a read may be repeated
    assert door.served == {"ONE": 1, "TWO": 1}
    await aws.aclose()


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"AccessKeyId": "x"}', "AWS_ACCESS_KEY_ID=x", "'"])
async def test_what_is_not_credentials_is_refused_without_being_shown(
    door: ExpiringAws, tmp_path: Path, text: str
) -> None:
    source = tmp_path / "keys"
    source.write_text(text + "\n# hunter2")
    aws, _ = provider(world(door, source))
    with pytest.raises(Exception, match=r"(holds no AWS credentials|is empty)") as failure:
        await put(aws, "a")
    assert "hunter2" not in str(failure.value) and failure.value.__cause__ is None


def through_the_door(door: ExpiringAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual chain is not asked for loopback: the door is a proxy for names that nobody has."""
    monkeypatch.setenv("http_proxy", door.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.test")


async def test_a_process_is_asked_again(door: ExpiringAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    through_the_door(door, monkeypatch)
    source = tmp_path / "keys"
    written_down(source, "ONE")
    program = f"{sys.executable} -c 'print(open(\"{source}\").read())'"
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    aws, _ = provider(world(door, None))
    assert await put(aws, "a") == 1
    life = await aws.life(WEST)
    assert life is not None and life.renews == "by itself" and life.ends is not None
    door.over.add("ONE")
    written_down(source, "TWO")
    assert await put(aws, "b") == 2
    assert (door.refused, door.served) == ({"ONE": 1}, {"ONE": 1, "TWO": 1})
    await aws.aclose()


async def test_a_role_is_assumed_again(door: ExpiringAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    through_the_door(door, monkeypatch)
    (tmp_path / "credentials").write_text("[base]\naws_access_key_id = BASE\naws_secret_access_key = s\n")
    (tmp_path / "config").write_text(
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/dr\nsource_profile = base\nregion = us-west-2\n"
    )
    aws, _ = provider(world(door, None))
    assert await put(aws, "a") == 1
    (first,) = door.served.keys() - {"BASE"}
    door.over.add(first)
    assert await put(aws, "b") == 2
    assert door.refused == {first: 1} and door.served["BASE"] == 2, "assumed twice"
    life = await aws.life(WEST)
    assert life is not None and (life.renews, life.known) == ("by itself", True)
    await aws.aclose()


async def test_a_shared_file_is_read_again_and_variables_cannot_be(
    door: ExpiringAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_the_door(door, monkeypatch)
    shared = "[default]\naws_access_key_id = {0}\naws_secret_access_key = s\naws_session_token = t\n"
    (tmp_path / "credentials").write_text(shared.format("ONE"))
    aws, _ = provider(world(door, None))
    assert await put(aws, "a") == 1
    life = await aws.life(WEST)
    assert life is not None and (life.known, life.renews) == (False, "by whoever writes it")
    door.over.add("ONE")
    (tmp_path / "credentials").write_text(shared.format("TWO"))
    assert await put(aws, "b") == 2
    await aws.aclose()

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    aws, _ = provider(world(door, None))
    with pytest.raises(CredentialsExpired, match="the environment of this process gives no new ones"):
        await put(aws, "c")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", datetime.fromtimestamp(time.time() - 1, UTC).isoformat())
    aws, _ = provider(world(door, None))
    with pytest.raises(ShutOut):  # nothing was sent
        await put(aws, "d")
    assert door.refused == {"ONE": 2}
    await aws.aclose()


def test_the_state_store_lives_on(door: ExpiringAws, tmp_path: Path) -> None:
    source = tmp_path / "keys"
    written_down(source, "ONE")
    env = world(door, source)
    bucket = env.state_store.split("/")[2]
    make = credentials.Clients(env.aws_credentials, Secrets(env))
    make.ask(
        lambda client: client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": WEST}),
        region=WEST, service="s3", endpoint=door.url, writes=True,
    )  # fmt: skip
    objects = open_objects(env)
    tag = objects.put("lock", b"mine", if_absent=True)
    door.over.add("ONE")
    with pytest.raises(JournalError, match="the AWS credentials have expired"):
        objects.put("lock", b"renewed", if_tag=tag)
    written_down(source, "TWO")
    assert objects.put("lock", b"renewed", if_tag=tag) is not None


@pytest.fixture
def runners() -> Iterator[list[Spawned]]:
    made: list[Spawned] = []
    yield made
    for runner in made:
        stop(runner)


def a_run(door: ExpiringAws, tmp_path: Path) -> tuple[RunFolder, Path]:
    """It waits for a sign, then sets a parameter; where its credentials are written down."""
    source = tmp_path / "keys"
    written_down(source, "ONE")
    env = environment(tmp_path)
    site = Site(name=WEST, kind="region", aws_endpoint=door.url)
    env = env.model_copy(
        update={"sites": (*env.sites, site), "aws_credentials": SecretRef(ref=f"secret://file{source}")}
    )
    sets = step("c", "b", uses="aws.ssm.set").model_copy(
        update={"params": {"site": WEST, "values": {f"/{tmp_path.name}": "new"}}, "timeout_s": 2.0}
    )
    first = sets.model_copy(
        update={"id": "a", "needs": (), "params": {"site": WEST, "values": {f"/{tmp_path.name}": "old"}}}
    )
    return asked(tmp_path, [first, step("b", "a", after="sign"), sets], env=env), source


def test_a_run_whose_credentials_end_in_the_middle_goes_on(
    door: ExpiringAws, tmp_path: Path, runners: list[Spawned]
) -> None:
    folder, source = a_run(door, tmp_path)
    runners.append(started(folder))
    until(lambda: kinds(folder).count("step.intent") == 2)
    door.over.add("ONE")
    written_down(source, "TWO")
    (tmp_path / "world" / "sign").write_text("")
    until(runners[0].gone)
    assert state(folder).outcome == "done" and "step.failed" not in kinds(folder)
    assert door.refused == {"ONE": 1}


def test_a_run_without_new_credentials_pauses_says_what_to_do_and_goes_on_when_it_was_done(
    door: ExpiringAws, tmp_path: Path, runners: list[Spawned]
) -> None:
    folder, source = a_run(door, tmp_path)
    runners.append(started(folder))
    until(lambda: kinds(folder).count("step.intent") == 2)
    door.over.add("ONE")
    (tmp_path / "world" / "sign").write_text("")
    until(lambda: "step.failed" in kinds(folder))
    seen = state(folder)
    (block,) = seen.blocks()
    assert seen.phase == "paused" and seen.steps["c"].world == "untouched"
    assert "the AWS credentials have expired" in block.reason and str(source) in block.reason
    assert block.command == f"drkit retry {folder.id} c"
    written_down(source, "TWO")
    assert orders.send(folder, Ordered(verb="retry", step="c", by={}, reason="renewed")).answer == "accepted"
    until(runners[0].gone)
    assert state(folder).outcome == "done" and state(folder).steps["c"].status is Status.DONE
    for path in folder.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"token-" not in data and b"secret-ONE" not in data, path


async def test_what_a_run_needs_is_asked_for_how_long_it_lives(door: ExpiringAws, tmp_path: Path) -> None:
    source = tmp_path / "keys"
    written_down(source, "ONE")
    env = world(door, source)
    async with reach(env, "east", WEST, mode="ungraceful") as context:
        (life,) = await lives(context, None)
    assert life.known and life.ends is not None and HOUR_S - 60 < life.ends - time.time() <= HOUR_S
    source.unlink()
    async with reach(env, "east", WEST, mode="ungraceful") as context:
        (life,) = await lives(context, None)
    assert not life.known, "what cannot be asked for is unknown"
