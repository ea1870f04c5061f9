"""Read and check the activities and controls of an experiment: what each needs, and that what it names is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from drkit.chaos.toolkit import tolerance
from drkit.chaos.toolkit.model import Activity, Control, Http, Process, Provider, Python
from drkit.chaos.toolkit.noticing import Noticing
from drkit.plan.yaml import Where

if TYPE_CHECKING:
    from drkit.chaos.toolkit.functions import Answer

ACTIVITY = (
    "type", "name", "provider", "pauses", "background", "tolerance", "controls", "ref", "dry", "timeout",
    "description",
)  # fmt: skip
PROVIDERS: dict[str, tuple[str, ...]] = {
    "python": ("type", "module", "func", "arguments", "secrets", "timeout"),
    "process": ("type", "path", "arguments", "timeout", "secrets"),
    "http": ("type", "url", "method", "headers", "arguments", "timeout", "verify_tls", "max_retries", "secrets"),
}
CONTROL = ("name", "provider", "scope", "automatic", "ref", "description")
TOLERANCE = {
    "regex": ("type", "pattern", "target"),
    "jsonpath": ("type", "path", "target", "count", "expect"),
    "range": ("type", "range", "target"),
}
DRY = ("probes", "actions", "activities", "pause")


def named(data: dict[str, Any]) -> dict[str, tuple[dict[str, Any], Where]]:
    """What may be referred to: activities of the method, then probes of the hypothesis; of one name the last counts."""
    hypothesis = data.get("steady-state-hypothesis")
    lists: tuple[tuple[Where, Any], ...] = (
        (("method",), data.get("method")),
        (("steady-state-hypothesis", "probes"), hypothesis.get("probes") if isinstance(hypothesis, dict) else None),
    )
    return {
        str(each["name"]): (each, (*where, index))
        for where, said in lists
        for index, each in enumerate(said if isinstance(said, list) else ())
        if isinstance(each, dict) and each.get("name") and each.get("ref") is None
    }


class Activities:
    """The activities of one file; references among them are settled once all are known."""

    def __init__(self, notes: Noticing, named: Mapping[str, tuple[dict[str, Any], Where]] | None = None) -> None:
        """`named`: what may be referred to, as the file has it and where; see `named`."""
        self.notes, self._named = notes, named or {}
        self._controls: set[str] = set()
        self._control_refs: list[tuple[str, Where]] = []

    def many(
        self, data: dict[str, Any], key: str, where: Where = (), *, required: bool = False, tolerances: bool = False
    ) -> tuple[Activity, ...]:
        """The activities in the list at `key`."""
        said = data.get(key)
        if said is None:
            if required:
                self.notes.wrong(where, f'"{key}" is missing: it may be empty, and then only the hypothesis is checked')
            return ()
        if not isinstance(said, list):
            self.notes.wrong((*where, key), f"{key} must be a list of activities")
            return ()
        found = [self.one(each, (*where, key, index), tolerances=tolerances) for index, each in enumerate(said)]
        return tuple(each for each in found if each is not None)

    def one(self, data: Any, where: Where, *, tolerances: bool = False) -> Activity | None:
        """One activity, or None with its mistakes noted."""
        notes = self.notes
        if not isinstance(data, dict) or not data:
            notes.wrong(where, "an activity is a mapping with type, name and provider")
            return None
        notes.keys(data, ACTIVITY, where)
        if tolerances:
            self._tolerance(data, where)
        if data.get("ref") is not None:
            return self._ref(data, where)
        kind = data.get("type")
        if kind not in ("probe", "action"):
            notes.wrong((*where, "type"), f"type {kind!r} is neither probe nor action" if kind else '"type" is missing')
        name = notes.text(data, "name", where, what="an activity")
        pauses = notes.mapping(data, "pauses", where)
        notes.keys(pauses, ("before", "after"), (*where, "pauses"))
        for key in pauses:
            self._pause(pauses[key], (*where, "pauses", key))
        background = data.get("background", False)
        if not isinstance(background, bool):
            notes.wrong((*where, "background"), "background must be true or false")
        timeout = self._seconds(data, where)
        if data.get("dry") not in (None, *DRY):
            notes.wrong((*where, "dry"), f"dry is none of {', '.join(DRY)}")
        provider = self._provider(data, where)
        controls = self.controls(data, where)
        if provider is None or kind not in ("probe", "action"):
            return None
        tolerance_said = data.get("tolerance")
        asked = None
        if tolerances and isinstance(tolerance_said, dict) and tolerance_said.get("type") == "probe":
            asked = self._asked(tolerance_said, (*where, "tolerance"))
        return Activity(
            name, kind, provider, where, data, pauses.get("before"), pauses.get("after"), bool(background),
            data.get("dry"), tolerance_said, asked, controls, timeout,
        )  # fmt: skip

    def controls(self, data: dict[str, Any], where: Where) -> tuple[Control, ...]:
        """The controls declared in this mapping."""
        said = data.get("controls")
        if said is None:
            return ()
        if not isinstance(said, list):
            self.notes.wrong((*where, "controls"), "controls must be a list")
            return ()
        return tuple(
            control
            for index, each in enumerate(said)
            if (control := self._control(each, (*where, "controls", index))) is not None
        )

    def check_control_refs(self) -> None:
        """Every control that is referred to must be there."""
        for name, where in self._control_refs:
            if name not in self._controls:
                self.notes.wrong((*where, "ref"), f'there is no control "{name}"')

    def _ref(self, data: dict[str, Any], where: Where) -> Activity | None:
        """The activity that is referred to, in this place. Its own mistakes are noted where it stands."""
        name = data["ref"]
        if not isinstance(name, str) or name not in self._named:
            self.notes.wrong((*where, "ref"), f'there is no activity "{name}" in hypothesis or method')
            return None
        said, at = self._named[name]
        found = Activities(Noticing(self.notes.document, [], [])).one(said, at, tolerances="tolerance" in data)
        if found is None:
            return None
        return replace(found, where=where, background=data.get("background") is True, tolerance=data.get("tolerance"))

    def _asked(self, data: dict[str, Any], where: Where) -> Activity | None:
        """A tolerance that is a probe: it is given the value as the argument `value`."""
        given = dict(data)
        provider = dict(given.get("provider") or {})
        if provider.get("type") == "python":
            provider["arguments"] = {**(provider.get("arguments") or {})}
        given["provider"] = provider
        return self.one(given, where)

    def _tolerance(self, data: dict[str, Any], where: Where) -> None:
        if "tolerance" not in data:
            self.notes.wrong(where, 'a probe of the hypothesis needs a "tolerance"')
            return
        said = data["tolerance"]
        why = tolerance.why_not_valid(said)
        if why is not None:
            self.notes.wrong((*where, "tolerance"), why)
        elif isinstance(said, dict) and said.get("type") in TOLERANCE:
            self.notes.keys(said, TOLERANCE[str(said["type"])], (*where, "tolerance"))

    def _pause(self, said: Any, where: Where) -> None:
        number = isinstance(said, int | float) and not isinstance(said, bool)
        pattern = isinstance(said, str) and said.startswith("${") and said.endswith("}")
        if said is not None and not number and not pattern:
            self.notes.wrong(where, "a pause is seconds, or a pattern like ${name}")
        elif number and said < 0:
            self.notes.wrong(where, "a pause cannot be negative")

    def _seconds(self, data: dict[str, Any], where: Where) -> float | None:
        said = data.get("timeout")
        if said is None:
            return None
        if isinstance(said, bool) or not isinstance(said, int | float) or said <= 0:
            self.notes.wrong((*where, "timeout"), "timeout must be seconds")
            return None
        return float(said)

    def _provider(self, data: dict[str, Any], where: Where) -> Provider | None:
        said = data.get("provider")
        if not isinstance(said, dict) or not said:
            self.notes.wrong(where, 'an activity needs a "provider"')
            return None
        at = (*where, "provider")
        kind = said.get("type")
        if kind not in PROVIDERS:
            self.notes.wrong((*at, "type") if kind else at, "a provider's type is python, process or http")
            return None
        self.notes.keys(said, PROVIDERS[kind], at)
        if kind == "process":
            return self._process(said, at)
        return self._http(said, at) if kind == "http" else self._python(said, at)

    def _process(self, said: dict[str, Any], where: Where) -> Process | None:
        path = self.notes.text(said, "path", where, what="a process")
        arguments = said.get("arguments")
        if not isinstance(arguments, str | list | dict | None):
            self.notes.wrong((*where, "arguments"), "arguments must be a list or text")
        elif isinstance(arguments, dict):
            self.notes.warn((*where, "arguments"), "arguments of a process as a mapping are out of use", "write a list")
        timeout = self._seconds(said, where)
        if not path:
            return None
        found = shutil.which(Path(path).expanduser())
        if found is None:
            reason = "is not executable" if os.path.exists(path) else "cannot be found"  # noqa: PTH110 (as it is typed)
            self.notes.wrong((*where, "path"), f'the command "{path}" {reason}', f"command -v {path}")
        return Process(path, arguments, timeout)

    def _http(self, said: dict[str, Any], where: Where) -> Http | None:
        url = self.notes.text(said, "url", where, what="a request")
        headers = said.get("headers")
        if headers is not None and not isinstance(headers, dict):
            self.notes.wrong((*where, "headers"), "headers must be a mapping")
            headers = None
        method = said.get("method", "GET")
        if not isinstance(method, str) or not method:
            self.notes.wrong((*where, "method"), "method must be a word like GET")
        retries, verify = said.get("max_retries", 0), said.get("verify_tls", True)
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            self.notes.wrong((*where, "max_retries"), "max_retries must be a whole number")
        if not isinstance(verify, bool):
            self.notes.wrong((*where, "verify_tls"), "verify_tls must be true or false")
        timeout = said.get("timeout")
        fine = timeout is None or (isinstance(timeout, int | float) and not isinstance(timeout, bool))
        fine = (
            fine or (isinstance(timeout, list) and len(timeout) == 2) or (isinstance(timeout, str) and "$" in timeout)
        )
        if not fine:
            self.notes.wrong((*where, "timeout"), "timeout must be seconds, [connect, read] or a pattern like ${name}")
        if not url:
            return None
        return Http(url, str(method).upper(), headers, said.get("arguments"), timeout, bool(verify), int(retries or 0))

    def _python(self, said: dict[str, Any], where: Where) -> Python | None:
        notes = self.notes
        module = notes.text(said, "module", where, what="a Python function")
        func = notes.text(said, "func", where, what="a Python function")
        arguments = notes.mapping(said, "arguments", where)
        secrets = said.get("secrets")
        if secrets is not None and not (isinstance(secrets, list) and all(isinstance(s, str) for s in secrets)):
            notes.wrong((*where, "secrets"), "secrets must be a list of targets")
            secrets = None
        timeout = self._seconds(said, where)
        if not module or not func:
            return None
        from drkit.chaos.toolkit import functions  # a parser, which most files do not need

        answer = functions.look(module, func, arguments)
        if where[-2:-1] == ("tolerance",):
            answer = self._told_the_value(answer, functions.look(module, func, [*arguments, "value"]), where)
        part = {"no module": "module", "no function": "func", "arguments": "arguments"}.get(answer.verdict)
        if part is not None:
            at = (*where, part) if part in said else where
            notes.wrong(at, answer.why, f"pip install the package of {module}" if part == "module" else None)
        elif answer.verdict == "unknown":
            notes.warn((*where, "func"), answer.why)
        return Python(module, func, arguments, None if secrets is None else tuple(secrets), timeout)

    def _told_the_value(self, without: Answer, told: Answer, where: Where) -> Answer:
        """A tolerance's function is called with the value."""
        if told.verdict == "arguments" and without.verdict == "ok":
            self.notes.warn((*where, "func"), f"{told.why}: this tolerance is never met")
            return without
        return told

    def _control(self, data: Any, where: Where) -> Control | None:
        notes = self.notes
        if not isinstance(data, dict):
            notes.wrong(where, "a control is a mapping with name and provider")
            return None
        notes.keys(data, CONTROL, where)
        ref = data.get("ref")
        if ref is not None:
            self._control_refs.append((str(ref), where))
        name = notes.text(data, "name", where, what="a control")
        if ref is None and name:
            self._controls.add(name)
        if "provider" not in data:
            notes.wrong(where, 'a control needs a "provider"')
            return None
        scope = data.get("scope")
        if scope not in (None, "before", "after"):
            notes.wrong((*where, "scope"), "scope is before or after")
        provider = notes.mapping(data, "provider", where)
        notes.keys(provider, ("type", "module", "arguments", "secrets"), (*where, "provider"))
        module = self._control_module(provider, (*where, "provider"))
        scoped: Literal["before", "after"] | None = scope if scope in ("before", "after") else None
        arguments = notes.mapping(provider, "arguments", (*where, "provider"))
        return Control(name, module, arguments, scoped, data.get("automatic", True) is True, ref, data)

    def _control_module(self, provider: dict[str, Any], where: Where) -> str | None:
        if provider.get("type") != "python":
            self.notes.warn(where, "only controls in Python have an effect")
            return None
        from drkit.chaos.toolkit import functions

        module = self.notes.text(provider, "module", where, what="a control")
        if module and not functions.is_there(module):
            self.notes.warn((*where, "module"), f'there is no Python module "{module}": this control does nothing')
            return None
        return module or None
