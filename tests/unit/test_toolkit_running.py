"""An experiment runs to its end: order, rollbacks, limits, secrets, locks, the wish to stop; with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from toolkit_lab import experiment, process, python, run, written

from drkit.chaos.toolkit import lease
from drkit.chaos.toolkit.abort import Abort, Reason
from drkit.chaos.toolkit.ending import Ended
from drkit.chaos.toolkit.leftover import left_in
from drkit.chaos.toolkit.locks import MachineLock
from drkit.chaos.toolkit.opening import kept_in
from drkit.chaos.toolkit.redaction import undeclared
from drkit.engine import orders, runs
from drkit.engine.evidence import verify
from drkit.errors import Exit, FileError, Locked, PreflightFailed
from drkit.model.events import FaultChanged, Ordered, Prepared
from drkit.model.plan import Plan

#: A function that hears of no exception.
STUBBORN = """
import time
def nap():
    try:
        time.sleep(30)
    except BaseException:
        pass
"""


def faults(ran: Any) -> list[str]:
    return [row.fact.state for row in ran.rows if isinstance(row.fact, FaultChanged)]


def test_parts_run_in_order_and_what_was_done_is_undone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said = experiment(
        probes=[process("steady", f"echo steady >> {log}", "probe", tolerance=0)],
        method=[process("break", f"echo break >> {log}"), process("look", f"echo look >> {log}", "probe")],
        rollbacks=[process("mend", f"echo mend >> {log}"), process("sweep", f"echo sweep >> {log}")],
    )
    ran = run(written(tmp_path, said))
    assert log.read_text().split() == ["steady", "break", "look", "steady", "mend", "sweep"]
    assert ran.ended.exit_code is Exit.DONE
    assert faults(ran) == ["intent", "armed", "injected", "healed"]
    assert verify(ran.folder.journal, run=ran.folder.id).problem is None
    assert left_in(ran.folder) is None


def test_an_action_is_sent_only_when_its_lease_is_armed_and_its_intent_durable(tmp_path: Path) -> None:
    ran = run(written(tmp_path, experiment(method=[process("a", "true")], rollbacks=[process("undo", "true")])))
    kinds = [row.fact.state if isinstance(row.fact, FaultChanged) else row.fact.kind for row in ran.rows]
    assert kinds.index("intent") < kinds.index("armed") < kinds.index("step.intent") < kinds.index("step.done")


def test_without_a_lease_nothing_is_injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(self: lease.Lease, term_s: float) -> None:
        raise PreflightFailed("the lease cannot be armed: its process does not answer")

    monkeypatch.setattr(lease.Lease, "arm", dead)
    there = tmp_path / "there"
    folder = runs.new()
    path = written(
        tmp_path,
        experiment(method=[process("a", f"touch {there}")], rollbacks=[process("undo", f"touch {there}.undone")]),
    )
    with pytest.raises(PreflightFailed, match="lease cannot be armed"):
        run(path, folder)
    assert not there.exists() and not Path(f"{there}.undone").exists()
    assert left_in(folder) is None


@pytest.mark.parametrize(
    ("strategy", "method", "undone"),
    [
        ("always", "exit 1", True), ("never", "true", False), ("deviated", "true", False),
        ("deviated", "touch BROKEN", True), ("default", "touch BROKEN", True),
    ],
)  # fmt: skip
def test_rollbacks_follow_the_strategy(strategy: str, method: str, undone: bool, tmp_path: Path) -> None:
    broken, mark = tmp_path / "broken", tmp_path / "undone"
    said = experiment(
        probes=[process("whole", f"test ! -e {broken}", "probe", tolerance=0)],
        method=[process("act", method.replace("BROKEN", str(broken)))],
        rollbacks=[process("undo", f"touch {mark}")],
    )
    ran = run(written(tmp_path, said), rollbacks=strategy)
    assert mark.exists() is undone
    assert (left_in(ran.folder) is None) is undone, "what is not undone is known to be left"


def test_a_rollback_that_ends_with_an_error_is_a_failed_run_and_the_others_still_run(tmp_path: Path) -> None:
    mark = tmp_path / "second"
    said = experiment(
        method=[process("a", "true")],
        rollbacks=[process("first", "echo no way >&2; exit 3"), process("second", f"touch {mark}")],
    )
    ran = run(written(tmp_path, said))
    assert ran.ended.exit_code is Exit.FAILED and ran.ended.failures == ["first: exit code 3: no way"]
    assert mark.exists()
    assert ran.statuses("rollbacks") == [("first", "failed"), ("second", "succeeded")]
    left = left_in(ran.folder)
    assert left is not None and left.rollbacks and left.done == {"rollback-2"}


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (Ended(), 0), (Ended(deviated=True), 4), (Ended(gate=False), 4), (Ended(status="failed", gate=False), 1),
        (Ended(status="interrupted"), 1), (Ended(status="interrupted", acted=True, rolled_back=True), 6),
        (Ended(deviated=True, failures=["x"], status="failed"), 1),
    ],
)  # fmt: skip
def test_exit_codes(ended: Ended, code: int) -> None:
    assert int(ended.exit_code) == code


def test_limits_kill_processes_with_their_children_and_functions(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef nap(secs): time.sleep(secs)\n")
    marked = f"sleep 30.{os.getpid()}"
    said = experiment(
        method=[
            {**process("slow", f"{marked} & {marked}"), "timeout": 0.3},
            {**python("nap", "slow", "nap", "action", arguments={"secs": 30}), "timeout": 0.5},
        ]
    )
    os.environ["PYTHONPATH"] = str(tmp_path)
    began = time.monotonic()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(tmp_path))
            ran = run(written(tmp_path, said))
    finally:
        del os.environ["PYTHONPATH"]
    assert time.monotonic() - began < 8
    assert ran.statuses() == [("slow", "failed"), ("nap", "failed")]
    assert marked not in subprocess.run(["ps", "axo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["process", "python", "pause"])
def test_a_signal_ends_it_within_the_activity_and_rolls_back(
    number: signal.Signals, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\ndef nap():\n    try:\n        time.sleep(30)\n    except BaseException:\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mark, began = tmp_path / "undone", time.monotonic()
    slow = {
        "process": process("slow", "sleep 30"), "python": python("slow", "slow", "nap", "action"),
        "pause": {**process("slow", "true"), "pauses": {"after": 30}},
    }[kind]  # fmt: skip
    said = experiment(
        method=[process("a", "true"), slow, process("never", "true")], rollbacks=[process("undo", f"touch {mark}")]
    )
    before = signal.signal(number, signal.default_int_handler)  # what is ignored when it begins stays ignored
    timer = threading.Timer(0.6, os.kill, (os.getpid(), number))
    timer.start()
    try:
        ran = run(written(tmp_path, said))
    finally:
        timer.cancel()
        signal.signal(number, before)
    assert time.monotonic() - began < 6
    assert (ran.ended.status, ran.ended.exit_code) == ("interrupted", Exit.ROLLED_BACK)
    assert mark.exists() and "never" not in dict(ran.statuses())


def test_drkit_abort_ends_it_and_other_orders_are_refused(tmp_path: Path) -> None:
    folder = runs.new()
    replies: list[orders.Reply] = []

    def order() -> None:
        deadline = time.monotonic() + 5
        while not folder.socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for verb in ("pause", "abort"):
            replies.append(orders.send(folder, Ordered(verb=verb, by={"name": "somebody else"})))

    thread = threading.Thread(target=order)
    thread.start()
    said = experiment(method=[process("slow", "sleep 30")], rollbacks=[process("undo", "true")])
    ran = run(written(tmp_path, said), folder)
    thread.join()
    assert [reply.answer for reply in replies] == ["refused", "accepted"]
    assert ran.ended.status == "interrupted" and ran.ended.rolled_back
    (told,) = [row.fact for row in ran.rows if isinstance(row.fact, Ordered)]
    assert told.by["how"] == "unix socket peer" and told.by["uid"] == os.getuid(), "the kernel says who it was"


def test_a_secret_is_never_written_down(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret = "hunter2-and-more"
    said = experiment(
        title="with ${token}",
        secrets={"app": {"token": secret}},
        method=[
            process("told", 'echo "$0"; echo "$0" >&2; exit 1', "action"),
            python("parse", "json", "loads", arguments={"s": "${token}"}),
        ],
        rollbacks=[process("undo", "true")],
    )
    said["method"][0]["provider"]["arguments"].append("${token}")
    ran = run(written(tmp_path, said))
    assert ran.journal["run"][0]["output"]["stdout"] == "[redacted]\n"
    assert ran.journal["experiment"]["secrets"] == {"app": {"token": "[redacted]"}}
    for path in ran.folder.path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in "".join(capfd.readouterr())


def test_a_declared_secret_is_hidden_even_where_another_value_stands_in_for_it() -> None:
    env = {"type": "env", "key": "TOKEN"}
    said = {"title": "t", "secrets": {"app": {"token": "in the file", "other": env, "none": ""}, "flat": "x"}}
    hidden = {"app": {"token": "[redacted]", "other": env, "none": ""}, "flat": "[redacted]"}
    assert undeclared(said) == {"title": "t", "secrets": hidden}


def test_a_secret_is_hidden_wherever_the_file_repeats_it_and_in_why_it_failed(tmp_path: Path) -> None:
    secret = "hunter2-and-more"
    said = experiment(
        secrets={"app": {"token": secret}},
        method=[
            {"type": "action", "name": "call", "provider": {"type": "process", "path": "echo", "arguments": [secret]}}
        ],
        rollbacks=[process("undo", f"echo {secret} >&2; exit 1")],
    )
    ran = run(written(tmp_path, said))
    assert ran.ended.failures == ["undo: exit code 1: [redacted]"]
    for path in ran.folder.path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    kept = kept_in(ran.folder)
    assert kept is not None and not kept.whole, "the copy alone would not do to roll back"


def test_a_secret_that_a_control_finds_out_is_hidden_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finds = (
        "def before_experiment_control(context, secrets, **kwargs):\n    secrets['found'] = {'key': 'found-out-late'}\n"
    )
    (tmp_path / "finder.py").write_text(finds)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    control = {"name": "finder", "provider": {"type": "python", "module": "finder"}}
    probe = {**process("told", "", "probe")}
    probe["provider"] = {"type": "process", "path": "echo", "arguments": ["${key}"]}
    ran = run(written(tmp_path, experiment(controls=[control], method=[probe])))
    assert ran.journal["run"][0]["output"]["stdout"] == "[redacted]\n"


def test_a_control_that_refuses_its_own_declaration_is_asked_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = "def validate_control(control):\n    assert 'extra' not in control, 'no extras'\n"
    (tmp_path / "strict.py").write_text(refuses)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    control = {"name": "strict", "extra": 1, "provider": {"type": "python", "module": "strict"}}
    there = tmp_path / "there"
    path = written(tmp_path, experiment(controls=[control], method=[process("act", f"touch {there}")]))
    with pytest.raises(FileError, match="no extras"):
        run(path)
    assert not there.exists() and runs.all_runs() == []


def test_two_runs_of_one_experiment_never_overlap(tmp_path: Path) -> None:
    first = MachineLock(tmp_path / "locks", "a test", "aaaa")
    with pytest.raises(Locked, match="aaaa") as error:
        MachineLock(tmp_path / "locks", "a test", "bbbb")
    assert error.value.hint == "drkit status aaaa --watch"
    MachineLock(tmp_path / "locks", "another", "cccc").release()
    first.release()
    MachineLock(tmp_path / "locks", "a test", "bbbb").release()


def test_the_wish_to_end_wakes_every_wait_and_stays() -> None:
    abort = Abort()
    threading.Timer(0.05, abort.call, (Reason("enough"),)).start()
    began = time.monotonic()
    assert abort.wait(10) and abort.wait(10)
    assert time.monotonic() - began < 5
    abort.call(Reason("again"))
    assert abort.reason == Reason("enough")
    abort.close()


def test_the_plan_that_is_shown_is_one(tmp_path: Path) -> None:
    bg = {**process("bg", "true"), "background": True}
    said = experiment(
        probes=[process("p", "true", "probe", tolerance=0)],
        method=[bg, process("a", "true")],
        rollbacks=[process("u", "true")],
    )
    ran = run(written(tmp_path, said))
    request = ran.folder.request()
    assert isinstance(request.plan, Plan)
    needs = {step.id: step.needs for step in request.plan.steps}
    assert needs["method-2"] == ("before-1",) and set(needs["after-1"]) == {"method-1", "method-2"}
    assert [row.fact.step for row in ran.rows if isinstance(row.fact, Prepared)] != []


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("X-Said", said.decode())
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def test_http_activities_have_status_headers_and_body(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"

    def http(name: str, kind: str = "probe", **provider: Any) -> dict[str, Any]:
        return {"type": kind, "name": name, "provider": {"type": "http", "url": url, **provider}}

    look = {"type": "jsonpath", "path": "$.asked", "expect": "/?q=1", "target": "body"}
    said = experiment(
        probes=[{**http("get", arguments={"q": "1"}, timeout=5), "tolerance": look}],
        method=[
            http("post", "action", method="post", arguments={"a": "b"}, headers={"X-Up": 1}),
            http("gone", url="http://127.0.0.1:9/", timeout=[1, 1]),
        ],
        rollbacks=[http("undo", "action", method="POST", arguments={"x": "y"})],
    )
    try:
        ran = run(written(tmp_path, said))
    finally:
        server.shutdown()
        server.server_close()
    assert ran.journal["steady_states"]["after"]["steady_state_met"] is True
    post, gone = ran.journal["run"]
    assert post["output"]["status"] == 503 and post["output"]["headers"]["X-Said"] == "a=b"
    assert gone["status"] == "failed" and "failed to connect" in gone["exception"][0]
    assert ran.ended.failures == ["undo: HTTP status 503"]


def test_the_hypothesis_may_be_checked_while_the_method_runs_and_end_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    said = experiment(
        probes=[process("whole", f"test ! -e {broken}", "probe", tolerance=0)],
        method=[process("break", f"touch {broken}"), process("slow", "sleep 30")],
        rollbacks=[process("mend", f"rm {broken}")],
    )
    began = time.monotonic()
    ran = run(written(tmp_path, said), hypothesis="continuously", frequency_s=0.05, fail_fast=True)
    assert time.monotonic() - began < 10
    assert ran.ended.status == "failed" and ran.ended.deviated and ran.ended.exit_code is Exit.MISSED
    assert ran.journal["steady_states"]["during"][-1]["steady_state_met"] is False
    assert not broken.exists()
