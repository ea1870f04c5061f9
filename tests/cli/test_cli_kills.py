"""The runner killed with SIGKILL at random moments, from its first import to its last word: no run ends otherwise.

Real processes, real files. A step writes its name into a ledger and then makes its file, so that whoever reads the
ledger sees how often it was really carried out. Which moments are tried follows a seed, printed with every failure;
`KILLS_SEED=N` tries others.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Lab, end_runners

SEED = int(os.environ.get("KILLS_SEED", "47"))
GO = ("failover", "--region", "us-west-2", "--confirm", "us-west-2", "--detach")
#: Two branches that meet, and a tail.
NEEDS = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"], "e": ["d"], "f": ["c", "e"], "g": ["f"], "h": ["g"]}
#: A runner that is left alone for this long ends, on the slowest machine.
ENDS_WITHIN_S = 60.0
#: How long a runner takes from its start to its end, about.
USUAL_S = 1.8
KILLS_A_RUN = 5


@pytest.fixture
def walk(lab: Lab, private_state_home: Path) -> Iterator[Lab]:
    """The lab with eight steps; what a test leaves running is ended."""
    ledger = lab.folder / "ledger"
    steps = [
        {
            "id": id, "needs": needs, "uses": "process.run",
            "with": {
                "creates": f"{lab.folder}/made/{id}",
                "argv": ["sh", "-c", f"sleep 0.03; echo {id} >>{ledger}; sleep 0.03; touch {lab.folder}/made/{id}"],
            },
        }
        for id, needs in NEEDS.items()
    ]  # fmt: skip
    book = {
        "apiVersion": "drkit/v1", "kind": "Runbook", "metadata": {"name": "walk", "owner": "nobody"},
        "probes": {"start": {"uses": "process.exists", "with": {"creates": f"{lab.folder}/go"}}},
        "decide": "probes.start.exists", "steps": steps,
    }  # fmt: skip
    (lab.folder / "runbooks" / "walk.yaml").write_text(json.dumps(book))
    yield lab
    end_runners(private_state_home)


def runner(lab: Lab, folder: Path) -> subprocess.Popen[bytes]:
    """What `drkit resume` starts, as a child of ours."""
    with (folder / "runner.log").open("ab") as log:
        return subprocess.Popen(
            lab.command("_runner", str(folder)), env=lab.environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip


def lives_for(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill it after this long; False: it had ended by itself."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return True
    return False


def begun(lab: Lab, private_state_home: Path) -> Path:
    """The folder of a run that was started by the command; its first runner is killed as soon as it has begun."""
    for made in (lab.folder / "made").iterdir():
        made.unlink()
    (lab.folder / "ledger").write_text("")
    result = lab.drkit(*GO)
    assert result.returncode == 0, result.stderr
    folder = private_state_home / "drkit" / "runs" / result.stdout.strip()
    end_runners(private_state_home)
    return folder


def finish(lab: Lab, folder: Path) -> None:
    """One more runner, left alone."""
    child = runner(lab, folder)
    assert child.wait(ENDS_WITHIN_S) in (0, 3, 4), (folder / "runner.log").read_text()


def check(lab: Lab, folder: Path, moments: list[float]) -> None:
    """The end is the undisturbed one, in the world and in the journal, and no completed step was begun again."""
    told = f"seed {SEED}, killed after {moments}"
    assert lab.made == sorted(NEEDS), told
    result = lab.drkit("events", folder.name)
    rows: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()][1:]
    assert rows[-1]["fact"] | {"t": 0} == {
        "kind": "run.finished",
        "t": 0,
        "outcome": "done",
        "why": rows[-1]["fact"]["why"],
    }
    done, sent, absent = set[str](), Counter[str](), Counter[str]()
    for row in rows:
        fact = row["fact"]
        absent[fact.get("step", "")] += fact["kind"] == "step.absent"
        if fact["kind"] in ("step.done", "step.already"):
            done.add(fact["step"])
        for command in row["commands"]:
            if command["verb"] in ("prepare", "apply", "recover"):
                assert command["step"] not in done and done >= set(NEEDS[command["step"]]), (told, row["seq"])
            sent[command["step"]] += command["verb"] == "apply"
    carried_out = Counter((lab.folder / "ledger").read_text().split())
    for id in NEEDS:
        assert sent[id] <= 1 + absent[id], (told, id)
        assert carried_out[id] <= max(sent[id], 1), (told, id)
    verified = lab.drkit("evidence", "verify", folder.name)
    assert verified.returncode == 0, (told, verified.stdout)
    assert lab.drkit("replay", folder.name, "--differences").returncode == 0, told
    assert not json.loads((lab.folder / "store" / "locks" / "lab.json").read_bytes())["holder"], told


def killed_runs(lab: Lab, private_state_home: Path, kills: int, lasts_s: float) -> None:
    """As many runs as it takes to kill so many runners before they end, which takes them `lasts_s`."""
    chance = random.Random(SEED)
    hit = 0
    while hit < kills:
        folder, moments = begun(lab, private_state_home), list[float]()
        for _ in range(min(KILLS_A_RUN, kills - hit)):
            moment = chance.uniform(0.0, lasts_s)
            if not lives_for(runner(lab, folder), moment):
                break
            moments.append(round(moment, 3))
        hit += len(moments)
        finish(lab, folder)
        check(lab, folder, moments)
    print(f"seed {SEED}: {hit} runners killed within {lasts_s:.2f} s each; every run ended as the undisturbed one")


def test_killed_at_random_a_run_ends_as_undisturbed(walk: Lab, private_state_home: Path) -> None:
    killed_runs(walk, private_state_home, 5, USUAL_S)


@pytest.mark.soak
def test_killed_fifty_times_at_random_every_run_ends_as_undisturbed(walk: Lab, private_state_home: Path) -> None:
    folder = begun(walk, private_state_home)
    since = time.monotonic()
    finish(walk, folder)
    lasts_s = time.monotonic() - since
    check(walk, folder, [])
    killed_runs(walk, private_state_home, 50, lasts_s)
