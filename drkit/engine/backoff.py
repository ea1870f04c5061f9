"""When a failed attempt is followed by another one without a person: as `retry:` says, or as its refusal permits. Pure.

What was turned away for a reason that passes by itself (throttled, nobody answered the door) was not done: to send it
then is not to repeat it. Earlier calls of the same attempt may have been taken, so it is looked first, and only an
action that is declared safe to repeat goes on by itself.
"""

from __future__ import annotations

import zlib

from drkit.engine.board import Board
from drkit.engine.state import Phase, StepState
from drkit.model.runbook import Retry

#: Between attempts that were turned away: pauses as of a `retry:` without settings, but not longer than this.
LONGEST_S = 15.0


def waits(run: Board, step: StepState) -> bool:
    """Whether it is tried again by itself; if so, when is settled."""
    plan = step.plan
    if step.world == "turned-away" and _may_knock_again(run, step):
        wait_s = min(_wait_s(run, step, Retry(), min(step.knocks, 8)), LONGEST_S)
        step.knocks += 1
        _later(run, step, wait_s, f"attempt {step.attempt} was turned away; its time is not over")
        return True
    retry = plan.retry or (Retry() if plan.on_failure == "retry" and not plan.fences else None)
    repeatable = step.world == "untouched" or plan.kind != "action" or plan.repeat in ("safe", "token")
    if retry is None or not repeatable or plan.kind == "gate" or step.retries >= retry.times:
        return False
    wait_s = _wait_s(run, step, retry, step.retries)
    step.retries += 1
    left = retry.times - step.retries + 1
    _later(run, step, wait_s, f"attempt {step.attempt} failed; {left} of {retry.times} retries left")
    return True


def _may_knock_again(run: Board, step: StepState) -> bool:
    """For as long as the step may take, counted from the first time."""
    if step.plan.kind != "action" or step.plan.repeat == "ask":
        return False
    if step.turned_away_t is None:
        step.turned_away_t = run.state.t
    return run.state.t < step.turned_away_t + step.plan.timeout_s


def _wait_s(run: Board, step: StepState, retry: Retry, times: int) -> float:
    # The variation must come out the same in a replay: it is taken from the names, not from a generator.
    spread = zlib.crc32(f"{run.state.run}/{step.id}/{step.attempt}".encode()) / 2**32
    return float(retry.backoff * 2**times * (1 + retry.jitter * (2 * spread - 1)))


def _later(run: Board, step: StepState, wait_s: float, why: str) -> None:
    run.move(step, Phase.BACKOFF)
    run.arm(step, f"retry {step.id} {step.attempt}", run.state.t + wait_s, why)
