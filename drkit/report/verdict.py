"""The verdict and its line: objectives against measurement, simulated steps counted, nothing claimed. Pure."""

from __future__ import annotations

from drkit.report.contract import Report
from drkit.report.story import Tone, Verdict
from drkit.report.wording import count, seconds

_TONES: dict[str, Tone] = {
    "failed": "bad", "aborted": "bad", "rolled_back": "doubtful", "paused": "doubtful", "running": "doubtful",
    "met": "good", "missed": "bad", "unproven": "doubtful",
}  # fmt: skip
_WORDS = {"met": "objectives met", "missed": "objectives missed", "unproven": "recovery unproven"}


def verdict(report: Report, why: str | None) -> Verdict:
    """`met` only if the run is done and both objectives were measured and met; not measured is `unproven`."""
    code = _judged(report) if report.outcome == "done" else report.outcome
    tone = _TONES[code]
    parts = [_recovery(report), _loss(report), _steps(report)]
    if report.fence_overrides:
        names = " and ".join(dict.fromkeys(name for override in report.fence_overrides for name in override.by))
        parts.insert(0, f"the fence was overridden by {names}")
        tone = "bad"
    if report.leaks:
        parts.append(f"{count(len(report.leaks), 'fault')} left behind: {', '.join(report.leaks)}")
        tone = "bad"
    if not report.evidence.verified or report.evidence.readings_verified is False:
        parts.append("the evidence does not verify")
        tone = "bad"
    if report.outcome not in ("done", "running", "paused") and why:
        parts.insert(0, why)
    line = "; ".join(parts)
    word = _WORDS.get(code, code.replace("_", " ")).upper()
    return Verdict(code, word, f"{line[:1].upper()}{line[1:]}.", tone)


def _judged(report: Report) -> str:
    wanted = [part.met for part in (report.recovery_time, report.data_loss) if part.objective_seconds is not None]
    if False in wanted:
        return "missed"
    return "unproven" if None in wanted or not wanted else "met"


def _recovery(report: Report) -> str:
    found = report.recovery_time
    if found.seconds is None:
        if found.outage_started_at is not None and found.recovered_at is None:
            return "users were not served again"
        return "recovery time was not measured"
    return f"users were served again after {seconds(found.seconds)}{_against(found.objective_seconds)}"


def _loss(report: Report) -> str:
    found = report.data_loss
    if found.lost is None:
        return "data loss was not measured"
    lost = f"{found.lost:,} of {count(found.acknowledged or 0, 'acknowledged write')} lost"
    if found.window_seconds is None:
        return f"{lost}, the data-loss window was not measured"
    return f"{lost}, a window of {seconds(found.window_seconds)}{_against(found.objective_seconds)}"


def _against(objective: float | None) -> str:
    return " (no objective set)" if objective is None else f" (objective {seconds(objective)})"


def _steps(report: Report) -> str:
    own = [step for step in report.steps if step.part == "runbook"]
    done = sum(step.status in ("done", "skipped") for step in own)
    simulated = sum(step.simulated is not None for step in own)
    said = f"{done} of {count(len(own), 'step')} done"
    return f"{said}, {simulated} of them simulated" if simulated else f"{said}, none simulated"
