"""`drkit chaos` with Chaos Toolkit's files: run, validate, import; exit codes, output, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toolkit_lab import experiment, process, python, written

from drkit.chaos.lever import Lever, move
from drkit.chaos.toolkit.abort import Abort
from drkit.chaos.toolkit.locks import EnvironmentLock
from drkit.chaos.toolkit.opening import kept_in
from drkit.cli import door
from drkit.cli.main import main
from drkit.cli.settings import Settings
from drkit.engine import runs
from drkit.engine.clock import SystemClock
from drkit.engine.identity import this_process
from drkit.engine.journal import read_rows
from drkit.engine.lease import LeaseProtocol
from drkit.model.environment import Environment
from drkit.model.events import LeaseChanged
from drkit.model.ports import Objects
from drkit.plan.project import load_project
from drkit.providers.objects import open_objects

PROJECT = """
[environments.lab]
kind = "{kind}"
account = "nobody (..0000)"
state_store = "file://{folder}/store"
sites = [{{name = "us-east-1", kind = "region"}}, {{name = "us-west-2", kind = "region"}}]
"""

FINE = experiment(method=[process("act", "true")], rollbacks=[process("undo", "true")])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own to type in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DRKIT_ENV", raising=False)
    return tmp_path


def project(here: Path, kind: str = "staging") -> None:
    (here / "drkit.toml").write_text(PROJECT.format(folder=here, kind=kind))


def test_a_run_tells_how_it_ended_and_where_it_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(here, FINE)
    assert main(["chaos", "run", "experiment.json", "-o", "json", "--journal-path", "copy.json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["deviated"], told["rolled_back"]) == ("completed", False, True)
    assert json.loads(Path(told["journal"]).read_text()) == json.loads((here / "copy.json").read_text())
    assert main(["status", told["run"], "-o", "json"]) == 0
    assert main(["evidence", "verify", told["run"]]) == 0
    for command in ("replay", "shrink"):
        assert main(["chaos", command, told["run"]]) == 2
        assert f"drkit chaos run {here}/experiment.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"probes": [process("no", "exit 1", "probe", tolerance=0)]}, 4),
        ({"probes": [process("whole", "test ! -e broken", "probe", tolerance=0)],
          "method": [process("break", "touch broken")], "rollbacks": [process("mend", "rm broken")]}, 4),
        ({"method": [process("a", "true")], "rollbacks": [process("undo", "exit 1")]}, 1),
        ({"probes": [python("raises", "json", "loads", tolerance=True, arguments={"s": "{"})]}, 1),
    ],
)  # fmt: skip
def test_exit_codes_are_the_contract(parts: dict[str, Any], code: int, here: Path) -> None:
    written(here, experiment(**parts))
    assert main(["chaos", "run", "experiment.json"]) == code


def test_validate_gives_every_mistake_and_touches_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(here, experiment(rolbacks=[], method=[process("a", "touch touched"), {"type": "probe", "name": "x"}]))
    assert main(["chaos", "validate", "experiment.json"]) == 2
    said = capsys.readouterr().err
    assert 'unknown key "rolbacks"' in said and "did you mean rollbacks?" in said
    assert 'an activity needs a "provider"' in said and "Nothing was changed." in said
    assert main(["chaos", "run", "experiment.json"]) == 2
    assert not (here / "touched").exists() and runs.all_runs() == []
    written(here, FINE)
    assert main(["chaos", "validate", "experiment.json"]) == 0


def test_a_scenario_is_validated_as_one_and_takes_no_options_of_experiments(here: Path) -> None:
    scenario = here / "scenario.yaml"
    scenario.write_text("apiVersion: drkit/v1\nkind: Scenario\nmetadata: {name: x, owner: y}\nhypothesis: z\n")
    assert main(["chaos", "validate", "scenario.yaml"]) == 2, "it has no method"
    assert main(["chaos", "run", "scenario.yaml", "--rollback-strategy", "never"]) == 2


def test_values_come_from_the_command_line_and_from_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = experiment(
        configuration={"code": 1, "word": {"type": "env", "key": "NOT_SET_HERE"}},
        secrets={"app": {"token": {"type": "env", "key": "NOT_SET_EITHER"}}},
        method=[{**process("told", "", "probe"), "provider": {"type": "process", "path": "sh", "arguments": [
            "-c", 'echo "$0 $1 $2" > told', "${code}", "${word}", "${token}"]}}],
    )  # fmt: skip
    written(here, said)
    assert main(["chaos", "run", "experiment.json", "--var", "code:int=7", "--var", "word=w"]) == 2
    (here / "vars.json").write_text(json.dumps({"secrets": {"app": {"token": "hidden-token"}}}))
    words = ["--var", "code:int=7", "--var", "word=w", "--var-file", "vars.json"]
    assert main(["chaos", "run", "experiment.json", *words]) == 0
    assert (here / "told").read_text() == "7 w hidden-token\n"
    (folder,) = runs.all_runs()
    kept = kept_in(folder)
    assert kept is not None and kept.configuration == {"code": 7, "word": "w"}
    assert b"hidden-token" not in b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    assert main(["chaos", "run", "experiment.json", "--var", "code:date=7"]) == 2


def test_a_dry_run_shows_what_would_be_called_and_calls_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(here, experiment(method=[process("act", "touch touched")]))
    assert main(["chaos", "run", "experiment.json", "--dry-run"]) == 0
    assert "act" in capsys.readouterr().out and not (here / "touched").exists()
    assert runs.all_runs() == []


def test_in_an_environment_its_lease_is_held_and_given_back(here: Path) -> None:
    project(here)
    written(here, FINE)
    assert main(["chaos", "run", "experiment.json", "--env", "lab", "--no-input"]) == 2, "say which environment"
    assert main(["chaos", "run", "experiment.json", "--env", "lab", "--confirm", "lab"]) == 0
    (folder,) = runs.all_runs()
    held = [row.fact for row in read_rows(folder.journal) if isinstance(row.fact, LeaseChanged)]
    assert [(fact.state, fact.token) for fact in held] == [("held", 1)]
    found = load_project(here)
    assert found is not None
    environment = found.environment("lab")
    hold = EnvironmentLock(environment, open_objects(environment), "other")
    assert main(["chaos", "run", "experiment.json", "--env", "lab", "--confirm", "lab"]) == 7
    hold.release()
    assert main(["chaos", "run", "experiment.json", "--env", "lab", "--confirm", "lab"]) == 0
    move(open_objects(environment), "lab", Lever(True, "dana", "now", "an incident"))
    assert main(["chaos", "run", "experiment.json", "--env", "lab", "--confirm", "lab"]) == 3
    assert len(runs.all_runs()) == 2, "what was refused left no run"


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        ("chaos run e.json", True), ("chaos run e.yaml", False), ("chaos run", False), ("chaos run -h", False),
        ("chaos run e.json -q", False), ("chaos stop e.json", False), ("-q chaos run e.json", False),
    ],
)  # fmt: skip
def test_only_the_plain_call_needs_no_parser(words: str, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert door.is_plain(words.split()) is plain
    monkeypatch.setenv("DRKIT_OUTPUT", "json")
    assert not door.is_plain(words.split()), "a variable stands for an option"


def test_the_plain_call_does_what_the_parser_would_do_and_loads_none(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(here, experiment(probes=[process("no", "exit 1", "probe", tolerance=0)]))
    said: list[str] = []
    for run in (door.main, main):
        assert run(["chaos", "run", "experiment.json"]) == 4
        out = capsys.readouterr().out
        said.append(re.sub(r"(?m)^\d\d:\d\d:\d\d|/runs/\w+/", "", out))
    assert said[0] == said[1]
    assert door.main(["chaos", "run", "missing.json"]) == main(["chaos", "run", "missing.json"]) == 2
    code = "import sys; from drkit.cli.door import main; main(['chaos', 'run', 'experiment.json']); " + (
        "sys.exit(' '.join({'typer', 'pydantic', 'rich', 'anyio'} & set(sys.modules)) or 0)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize("who", ["the lever", "a real run"])
def test_while_it_runs_the_lever_and_a_real_run_end_it(who: str, here: Path) -> None:
    project(here)
    found = load_project(here)
    assert found is not None
    environment = found.environment("lab")
    objects, abort = open_objects(environment), Abort()
    hold = EnvironmentLock(environment, objects, "mine")
    hold._term_s = 0.2  # how often it looks
    hold.keep(abort)
    assert not abort.wait(0.3)
    if who == "the lever":
        move(objects, "lab", Lever(True, "dana", "now", "an incident"))
    else:
        assert _rival(environment, objects).attempt("real", drill=False) is None, "it claims, and waits"
    assert abort.wait(10)
    hold.release()


def _rival(environment: Environment, objects: Objects) -> LeaseProtocol:
    return LeaseProtocol(
        objects, environment.name, SystemClock(), who="dana", host="bastion", process=this_process(), term_s=20.0,
        drill_term_s=8.0, longest_call_s=15.0,
    )  # fmt: skip


def test_production_is_never_broken_unasked(here: Path) -> None:
    project(here, "production")
    written(here, FINE)
    assert main(["chaos", "run", "experiment.json", "--env", "lab", "--confirm", "lab"]) == 3
    assert runs.all_runs() == []
    words = ["--env", "lab", "--confirm", "lab", "--allow-production"]
    assert main(["chaos", "run", "experiment.json", *words]) == 0


@pytest.mark.parametrize("command", [main, door.main])
def test_the_environment_of_a_project_counts_as_if_it_had_been_typed(
    command: Callable[[list[str]], int], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(here, "production")
    (here / "drkit.toml").write_text('environment = "lab"\n' + (here / "drkit.toml").read_text())
    deeper = here / "experiments"
    deeper.mkdir()
    written(deeper, FINE)
    monkeypatch.chdir(deeper)
    assert command(["chaos", "run", "experiment.json"]) == 3, "it is production"
    assert runs.all_runs() == []


def test_without_an_environment_whoever_sits_at_a_terminal_is_asked_and_a_pipeline_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(here, experiment(method=[process("act", "touch touched")]))
    plain = ["chaos", "run", "experiment.json"]
    asked: list[str] = []

    def answering(answer: str) -> None:
        def ask(question: str) -> str:
            asked.append(question)
            return answer

        monkeypatch.setattr("drkit.cli.asking.ask", ask)

    monkeypatch.setattr(Settings, "can_ask", property(lambda settings: True))
    answering("yes")
    assert door.main(plain) == main(plain) == 2
    assert "THIS MACHINE" in asked[0] and "Type this-machine" in asked[0] and len(asked) == 2
    assert main([*plain, "--confirm", "lab"]) == 2
    assert not (here / "touched").exists() and runs.all_runs() == []
    answering("this-machine")
    assert door.main(plain) == 0 and (here / "touched").exists()
    assert main([*plain, "--confirm", "this-machine"]) == 0 and len(asked) == 3

    monkeypatch.setattr(Settings, "can_ask", property(lambda settings: False))
    capsys.readouterr()
    assert main(plain) == 0 and len(asked) == 3
    assert "No environment is named" in capsys.readouterr().err


IMPORTED = """
title: Pausing the web is nobody's loss
description: d
tags: [a]
steady-state-hypothesis:
  title: the web answers
  probes:
  - {type: probe, name: web, tolerance: 200, provider: {type: http, url: "http://web.example/"}}
  - {type: probe, name: any, tolerance: [200, 301], provider: {type: http, url: "http://web.example/"}}
  - {type: probe, name: there, tolerance: 0, provider: {type: process, path: test, arguments: "-d /tmp"}}
  - {type: probe, name: gone, tolerance: false,
     provider: {type: python, module: os.path, func: exists, arguments: {path: /nope}}}
  - {type: probe, name: text, tolerance: ok, provider: {type: process, path: echo}}
method:
- {type: action, name: hang, pauses: {after: 30}, provider: {type: process, path: pkill, arguments: "-STOP web"}}
- {type: action, name: odd, provider: {type: process, path: sh, arguments: "-c 'echo hi'"}}
rollbacks:
- {type: action, name: wake, provider: {type: process, path: pkill, arguments: [-CONT, web]}}
"""


def test_an_import_is_a_valid_scenario_and_lists_what_was_not_carried_over(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(here, IMPORTED, "e.yaml")
    assert main(["chaos", "import", "e.yaml", "--on", "app", "--out", "scenarios/web.yaml"]) == 0
    said = capsys.readouterr().err
    for part in ("e.yaml:13:5  not carried over: probe text", "action odd", "rollback wake", "tags"):
        assert part in said
    assert main(["validate", "scenarios/web.yaml"]) == 0
    text = (here / "scenarios" / "web.yaml").read_text()
    assert "inject: host.process-pause" in text and "duration: 30s" in text
    assert "probes.steady_2.status in [200, 301]" in text
    assert main(["chaos", "import", "e.yaml", "--on", "app", "--strict"]) == 2
    written(here, experiment(method=[process("act", "true")]))
    assert main(["chaos", "import", "experiment.json", "--on", "app"]) == 2, "nothing in it is a fault"
