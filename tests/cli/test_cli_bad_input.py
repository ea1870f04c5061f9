"""Every bad input: one clear message, the right exit code, nothing touched, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_lab import Lab, Result

HEAVY = ("boto3", "botocore", "asyncssh", "psycopg", "celpy", "altair", "moto", "pydantic", "rich", "httpx2")


def refused(result: Result, code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    for word in words:
        assert word in result.stderr, result.stderr


def test_help_loads_no_sdk_and_nothing_of_drkit_but_its_errors(lab: Lab) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom drkit.cli.main import main\nassert main(['--help']) == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
        "print([m for m in sys.modules if m.startswith('drkit.') and not m.startswith('drkit.cli')], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=lab.environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == ["[]", "['drkit.errors']"]
    assert "drkit failover --region" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["failovr"], 2, ["failover"]),
        (["plan"], 2, ["--region", "drkit plan --help"]),
        (["plan", "--region", "us-west2"], 2, ["us-west2", "did you mean us-west-2"]),
        (["plan", "--region", "us-west-2", "--from", "us-west-2"], 2, ["both us-west-2", "activate"]),
        (["plan", "--region", "us-west-2", "-r", "wlak"], 2, ["wlak", "walk"]),
        (["plan", "--region", "us-west-2", "--env", "lap"], 2, ["lap", "lab"]),
        (["plan", "--region", "us-west-2", "--set", "secnd=x"], 2, ["secnd", "second"]),
        (["plan", "--region", "us-west-2", "--timeout", "5 minuts"], 2, ["--timeout", "5m"]),
        (["plan", "--region", "us-west-2", "--env", "sandbox"], 3, ["sandbox is not running", "drkit sandbox up"]),
        (["failover", "--region", "us-west-2", "--rehearse", "--confirm", "us-west-2"], 3, ["not a sandbox", "people"]),
        (["status", "k7qd"], 2, ["k7qd"]),
        (["status"], 2, ["no run on this machine"]),
        (["explain", "process.rum"], 2, ["process.rum", "process.run"]),
        (["schema", "runbok"], 2, ["runbook"]),
        (["help", "fencng"], 2, ["fencing"]),
        (["validate", "nowhere.yaml"], 2, ["nowhere.yaml"]),
        (["-C", "nowhere", "runs"], 2, ["nowhere"]),
        (["runs", "--query", "[["], 2, ["--query"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
def test_a_mistake_on_the_line(lab: Lab, words: list[str], code: int, says: list[str]) -> None:
    refused(lab.drkit(*words), code, f"(exit {code})", *says)


def test_no_environment_is_ever_guessed(lab: Lab, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(lab.process("plan", "--region", "us-west-2", cwd=empty), 2, "never guesses", "--env")


def test_five_mistakes_in_a_runbook_are_five_lines_with_their_source(lab: Lab) -> None:
    bad = lab.folder / "runbooks" / "bad.yaml"
    bad.write_text(
        "apiVersion: drkit/v1\nkind: Runbook\nmetadata: {name: bad, owner: x}\nsteps:\n"
        "  - {id: a, uses: process.rum, with: {creates: x}}\n"
        "  - {id: b, uses: process.run, with: {creates: 5, argv: [true_]}, timeout: 5 minuts}\n"
        "  - {id: c, uses: process.exists, with: {creates: x}, needs: [z], verify: 'now.exsts'}\n"
    )
    result = lab.drkit("validate", "runbooks/bad.yaml")
    refused(result, 2, "bad.yaml:5:", "bad.yaml:6:", "bad.yaml:7:", "5 minuts", "process.run", "5 mistakes (exit 2)")
    told = json.loads(lab.drkit("validate", "runbooks/bad.yaml", "-o", "json").stderr)
    assert len(told["mistakes"]) == 5 and told["exit_code"] == 2


def test_an_unexpected_error_is_one_message_and_its_traceback_a_file(
    lab: Lab, private_state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("drkit.engine.runs.all_runs", broken)
    log = private_state_home / "drkit" / "log" / "unexpected.log"
    refused(lab.drkit("runs"), 1, "E0999", "boom", str(log))
    assert "RuntimeError: boom" in log.read_text() and "Traceback" in log.read_text()
    assert "Traceback" in lab.drkit("runs", "-vv").stderr


def test_json_errors_are_one_object_on_stderr_and_nothing_on_stdout(lab: Lab) -> None:
    result = lab.process("plan", "--region", "nowhere", "-o", "json")
    told = json.loads(result.stderr)
    assert (told["exit_code"], told["code"], result.stdout) == (2, "E0212", "")
