"""The questions before the first change: at most two, never in the middle of a run, never answered by a `--yes`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from drkit.cli.settings import Settings
from drkit.errors import Refused, UsageError

if TYPE_CHECKING:
    from drkit.cli.evidence import Evidence
    from drkit.model.plan import Plan


def confirmed(settings: Settings, what: str, name: str, flag: str, given: str | None) -> str:
    """Have `name` typed, here or after `flag`; what was typed. UsageError if there is nobody to ask or it differs."""
    if given is None:
        if not settings.can_ask:
            raise UsageError(
                f"this must be confirmed, and there is no terminal to ask on\n{what}",
                hint=f"add {flag} {name}", code="E0222",
            )  # fmt: skip
        given = ask(f"{what}\nType {name} to go on: ")
    if given != name:
        raise UsageError(f'"{given}" is not {name}: nothing was confirmed', hint=f"add {flag} {name}", code="E0221")
    return given


def despite(settings: Settings, plan: Plan, evidence: Evidence, given: str | None) -> str | None:
    """The second question, if the evidence does not say go: the name of the region that is left. None: not needed.

    A graceful move leaves a healthy source on purpose and is not asked. Refused without an answer.
    """
    if evidence.go or plan.mode == "graceful":
        return None
    told = "looks healthy" if evidence.verdict == "NO-GO" else "cannot be judged"
    why = f"{plan.source} {told}: {evidence.reason}"
    if given is None and not settings.can_ask:
        raise Refused(
            f"the evidence does not say go\n{why}",
            hint=f"look again: drkit assess --region {plan.target}      "
            f"or go despite it: --despite-evidence {plan.source}",
            code="E0313",
        )
    if given is None:
        given = ask(f"STOP  {why}\nUsers of {plan.source} will be moved. Type the region you take out of service: ")
    if given != plan.source:
        raise Refused(f'"{given}" is not {plan.source}: the region that is left was not named', code="E0313")
    return given


def ask(question: str) -> str:
    """One line from the person at the terminal; the question goes to stderr."""
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise UsageError("nobody answered")
    return line.strip()
