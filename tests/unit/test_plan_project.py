"""`drkit.toml` and environment files."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_fakes import environment

from drkit.errors import FileError, UsageError
from drkit.plan.project import Project, load_environment_file, load_project

TOML = """\
environment = "staging"
state_store = "file:///srv/state"

[[people]]
name = "dana"
uid = 1000
roles = ["incident-commander"]

[environments.staging]
file = "environments/staging.yaml"
rto = "10m"

[environments.production]
kind = "production"
account = "payments (..4807)"
sites = [{name = "us-east-1", kind = "region"}, {name = "us-west-2", kind = "region"}]
"""
STAGING = """\
kind: staging
account: lab
rto: 15m
sites:
  - {name: us-east-1, kind: region}
  - {name: us-west-2, kind: region}
"""


def project(folder: Path, toml: str = TOML, staging: str = STAGING) -> Project:
    (folder / "drkit.toml").write_text(toml)
    (folder / "environments").mkdir(exist_ok=True)
    (folder / "environments" / "staging.yaml").write_text(staging)
    found = load_project(folder)
    assert found is not None
    return found


def told(error: pytest.ExceptionInfo[FileError]) -> list[str]:
    return [f"{Path(m.file).name}:{m.line}:{m.column} {m.message} | {m.hint}" for m in error.value.mistakes]


def test_environments_come_from_files_and_from_the_project(tmp_path: Path) -> None:
    found = project(tmp_path)
    assert (found.default, sorted(found.environments)) == ("staging", ["production", "staging"])
    staging, production = found.environment("staging"), found.environment("production")
    assert (staging.name, staging.rto, staging.regions) == ("staging", 600.0, ("us-east-1", "us-west-2"))
    assert (production.kind, production.state_store) == ("production", "file:///srv/state")
    assert [person.uid for person in staging.people] == [1000]


def test_the_project_is_found_from_below_and_may_be_absent(tmp_path: Path) -> None:
    project(tmp_path)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = load_project(below)
    assert found is not None
    assert found.folder == tmp_path


def test_no_project_is_none(tmp_path: Path) -> None:
    assert load_project(tmp_path) is None


def test_an_unknown_environment_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        project(tmp_path).environment("stagin")
    assert error.value.hint == "did you mean staging?"


def test_every_mistake_of_an_environment_has_its_place(tmp_path: Path) -> None:
    toml = TOML.replace('account = "payments (..4807)"', 'acount = "x"\nrpo = 30').replace('region"}]', 'regin"}]')
    found = project(tmp_path, toml, STAGING.replace("15m", "15 m"))
    with pytest.raises(FileError) as error:
        found.environment("production")
    assert told(error) == [
        'drkit.toml:13:2 "account" is missing | None',
        'drkit.toml:15:1 unknown key "acount" | did you mean account?',
        "drkit.toml:16:7 rpo 30 has no unit | write 90s, 5m or 1h",
        "drkit.toml:17:9 kind \"regin\" is not one of 'region', 'on-prem' or 'outside' | did you mean region?",
    ]
    assert found.environment("staging").rto == 600.0  # the key beside `file` wins over what is wrong in the file


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("environment = \n", "drkit.toml:1:15 this is not TOML: Invalid value | None"),
        ('environment = "nope"\n', 'drkit.toml:1:15 there is no environment "nope" below | None'),
        ("runbook = 'x'\n", 'drkit.toml:1:1 unknown key "runbook" | did you mean runbooks?'),
        ("[[people]]\nname = 3\n", 'drkit.toml:2:8 name must be text, not 3 | write "3"'),
    ],
)
def test_mistakes_of_the_project_file(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(FileError) as error:
        project(tmp_path, toml)
    assert told(error) == [message]


def test_a_missing_environment_file_is_a_mistake_of_the_project(tmp_path: Path) -> None:
    found = project(tmp_path, TOML.replace("staging.yaml", "stagin.yaml"))
    with pytest.raises(FileError, match=r"there is no file .*stagin.yaml"):
        found.environment("staging")


def test_an_environment_written_by_a_machine_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    path.write_text(environment(rto="60s").model_dump_json(indent=1))
    assert load_environment_file(path) == environment(rto="60s")
    path.write_text('{"name": }')
    with pytest.raises(FileError, match=r"environment.json:1:10  this is not JSON"):
        load_environment_file(path)
    path.write_text('{"name": "x"}')
    with pytest.raises(FileError, match=r'"kind" is missing(.|\n)*"account" is missing'):
        load_environment_file(path)


def test_runbooks_are_found_by_name_or_by_path(tmp_path: Path) -> None:
    found = project(tmp_path)
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "checkout.yaml").write_text("x")
    assert found.runbook("checkout") == folder / "checkout.yaml"
    assert found.runbook(str(folder / "checkout.yaml")) == folder / "checkout.yaml"
    with pytest.raises(UsageError) as error:
        found.runbook("chekout")
    assert error.value.hint == "did you mean checkout?"
    with pytest.raises(UsageError, match="there is no file"):
        found.runbook("nope/checkout.yaml")
    with pytest.raises(UsageError, match='there is no scenario "x"'):
        found.scenario("x")
