"""Call an experiment's controls around its parts. They run in the worker; what they change comes back with the answer.

A control that raises is as if it were not there, as in Chaos Toolkit; one that interrupts ends the experiment. What is
different: it is said, because silence hides that a safeguard did not work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Literal

from drkit.chaos.toolkit.abort import Abort, Reason
from drkit.chaos.toolkit.calling import Calls
from drkit.chaos.toolkit.model import Control, Experiment
from drkit.chaos.toolkit.redaction import Redaction
from drkit.chaos.toolkit.values import Values

Level = Literal["experiment", "hypothesis", "method", "rollback", "activity"]
_LIMIT_S = 60.0


class Controls:
    """All controls of one run. `raw` is the experiment as controls see and change it."""

    def __init__(
        self, experiment: Experiment, values: Values, calls: Calls, abort: Abort, calm: Abort,
        warn: Callable[[str], None], redaction: Redaction,
    ) -> None:  # fmt: skip
        """`calm`: never calls for the end, because controls are called then too."""
        self._top, self._all = experiment.controls, experiment.all_controls
        self._values, self._calls, self._abort, self._warn = values, calls, abort, warn
        self._calm, self._redaction = calm, redaction
        self.raw = deepcopy(experiment.raw) if self._all else experiment.raw

    @property
    def any(self) -> bool:
        """There are controls at all."""
        return bool(self._all)

    def begin(self) -> None:
        """`configure_control`, once for each name."""
        for control in self._once():
            self._call(control, "configure_control", {"experiment": self.raw})

    def end(self) -> None:
        """`cleanup_control`, once for each name."""
        for control in self._once():
            self._call(control, "cleanup_control", {})

    def why_not_valid(self) -> list[str]:
        """What `validate_control` of each control has against it."""
        found = (self._call(control, "validate_control", {"control": control.raw}, quiet=True) for control in self._all)
        return [why for why in found if why]

    def around(
        self, level: Level, scope: Literal["before", "after"], context: dict[str, Any], own: Sequence[Control],
        state: Any = None,
    ) -> Any:  # fmt: skip
        """Call what applies here; the state as controls left it. `context` is changed as they change it."""
        if not self._all:
            return state
        for control in _applying(level, self._top, own):
            if control.scope in (None, scope) and control.module is not None:
                given = {"context": context, "state": state, "experiment": self.raw}
                self._call(control, f"{scope}_{level}_control", given)
                state = given["state"]
                if context is not given["context"]:
                    context.clear()
                    context.update(given["context"])
        return state

    def _once(self) -> list[Control]:
        return list({control.name: control for control in reversed(self._all) if control.ref is None}.values())[::-1]

    def _call(self, control: Control, func: str, given: dict[str, Any], *, quiet: bool = False) -> str | None:
        """One function of a control, if it has it; why it failed."""
        if control.module is None:
            return None
        values = self._values
        told = {
            **given, "configuration": values.configuration, "secrets": values.secrets, "settings": None,
            "extensions": self.raw.get("extensions"), "event_registry": None,
        }  # fmt: skip
        call = {
            "verb": "control", "module": control.module, "func": func, "given": told,
            "arguments": values.fill(control.arguments) if func != "cleanup_control" else {},
        }  # fmt: skip
        outcome, frame = self._calls.child.ask(call, timeout_s=_LIMIT_S, abort=self._calm)
        if outcome.status == "exit":
            self._abort.call(Reason(f"interrupted by the control {control.name}: {outcome.error}"))
        elif outcome.status != "succeeded":
            if not quiet:
                self._warn(f"control {control.name}: {func} failed: {outcome.error}")
            return outcome.error
        else:
            changed = frame["given"]
            values.configuration, values.secrets = changed["configuration"] or {}, changed["secrets"] or {}
            self._redaction.hide(values.secrets)
            given.update({key: changed[key] for key in given})
        return None


def _applying(level: Level, top: Sequence[Control], own: Sequence[Control]) -> list[Control]:
    """The controls of one place: its own, and those of the experiment that apply everywhere. Chaos Toolkit's rules."""
    everywhere = [control for control in top if control.automatic]
    if level in ("method", "rollback") or not own:
        return everywhere
    found = list(own)
    for control in own:
        if control.ref is not None:
            found += [each for each in top if each.name == control.ref][:1]
        elif level != "experiment":
            found = [each for each in everywhere if each.name != control.name] + found
    return found
