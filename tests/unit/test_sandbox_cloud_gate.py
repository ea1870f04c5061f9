"""Gates before endpoints: what each mode means for a request, and when it takes effect."""

from __future__ import annotations

import threading

import pytest

from drkit.sandbox.parts import _gate
from drkit.sandbox.parts._gate import Gate, Setting, Verdict


def test_each_mode_has_its_verdict() -> None:
    gate = Gate()
    expected: dict[_gate.Mode, Verdict] = {"ok": "pass", "refuse": "reset", "503": "503", "lost": "lost"}
    for mode, verdict in expected.items():
        gate.set(Setting(mode))
        assert gate.admit("s3") == verdict


def test_a_request_hangs_until_the_mode_changes_and_then_follows_the_new_one() -> None:
    gate = Gate()
    gate.set(Setting("hang"))
    verdicts: list[Verdict] = []
    waiting = threading.Thread(target=lambda: verdicts.append(gate.admit()))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    gate.set(Setting("503"))
    waiting.join(5)
    assert verdicts == ["503"]


def test_a_hanging_request_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gate, "HANG_MAX_S", 0.02)
    gate = Gate()
    gate.set(Setting("hang"))
    assert gate.admit() == "reset"


def test_one_service_can_be_down_alone_and_a_whole_endpoint_takes_all_with_it() -> None:
    gate = Gate()
    gate.set(Setting("refuse"), "sqs")
    assert (gate.admit("sqs"), gate.admit("s3")) == ("reset", "pass")
    gate.set(Setting("503"))
    assert (gate.admit("sqs"), gate.admit("s3")) == ("503", "503")
    gate.set(Setting("ok"))
    assert gate.admit("sqs") == "pass"


@pytest.mark.parametrize("body", [[], {"mode": "broken"}, {"latency_s": -1}, {"latency_s": "1"}, {"latency_s": True}])
def test_a_setting_that_means_nothing_is_refused(body: object) -> None:
    with pytest.raises(ValueError, match=r"mode|latency_s|object"):
        Setting.parse(body)
