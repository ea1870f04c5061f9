"""An experiment as a scenario of drkit's own, and what of it could not be carried over. Pure.

Only what means the same is carried over: a command that pauses a service becomes the fault that pauses it and heals by
itself; a probe whose answer drkit's probes give, with its tolerance, becomes a check of the steady state. Everything
else is named with its line, because a scenario that quietly does less is worse than none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from drkit.chaos.toolkit.model import Activity, Experiment, Http, Process, Python
from drkit.chaos.toolkit.values import Values
from drkit.errors import Mistake
from drkit.plan.yaml import Document, Where

HELD: Final = "60s"
"""How long a fault is held where the experiment does not pause after its action."""
Fault = tuple[str, dict[str, Any]]


@dataclass
class Converted:
    """The scenario as its file says it; None if nothing that it would break is a fault of drkit's."""

    scenario: dict[str, Any] | None
    dropped: list[Mistake] = field(default_factory=list)


def converted(experiment: Experiment, document: Document, role: str, known: Callable[[str], bool]) -> Converted:
    """Convert it. `role`: of the hosts that are to be hit; `known`: whether drkit has a fault of this name."""
    work = _Conversion(experiment, document, known)
    probes, steady = work.steady_state()
    method = work.method()
    work.rest()
    if not method:
        return Converted(None, work.dropped)
    scenario: dict[str, Any] = {
        "apiVersion": "drkit/v1",
        "kind": "Scenario",
        "metadata": {
            "name": slug(experiment.title), "owner": "unknown", "description": experiment.description,
        },
        "hypothesis": experiment.hypothesis.title if experiment.hypothesis else experiment.title,
    }  # fmt: skip
    if probes:
        scenario["probes"] = probes
    scenario["targets"] = {"hosts": {"uses": "host.inventory", "where": {"role": role}, "max": "1"}}
    if steady:
        scenario["steady_state"] = steady
    scenario |= {"method": method, "rollback": "always"}
    return Converted(scenario, work.dropped)


def slug(text: str) -> str:
    """A name: small letters, digits and dashes, beginning with a letter."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")
    return name if name[:1].isalpha() else f"e-{name}".strip("-")


class _Conversion:
    def __init__(self, experiment: Experiment, document: Document, known: Callable[[str], bool]) -> None:
        self.experiment, self.document, self.known = experiment, document, known
        self.dropped: list[Mistake] = []
        plain = {key: said for key, said in experiment.configuration.items() if not isinstance(said, dict)}
        self._values = Values(plain, {})

    def drop(self, where: Where, why: str) -> None:
        self.dropped.append(self.document.mistake(where, f"not carried over: {why}"))

    def steady_state(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        probes: dict[str, Any] = {}
        checks: list[dict[str, Any]] = []
        for number, activity in enumerate(self.experiment.probes, start=1):
            name = f"steady_{number}"
            found = _check(activity, name, self._values)
            if isinstance(found, str):
                self.drop(activity.where, f"probe {activity.name}: {found}")
                continue
            uses, given, expect = found
            probes[name] = {"uses": uses, "with": given}
            checks.append({"expect": expect, "timeout": "60s"})
        return probes, checks

    def method(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        for number, activity in enumerate(self.experiment.method, start=1):
            if activity.kind == "probe":
                self.drop(activity.where, f"probe {activity.name}: a method only breaks things; look in steady_state")
                continue
            found = _fault(activity, self._values)
            if found is None:
                self.drop(activity.where, f"action {activity.name}: drkit has no fault that is known to do this")
            elif not self.known(found[0]):
                self.drop(activity.where, f"action {activity.name}: there is no fault {found[0]} here")
            else:
                steps.append(self._step(f"{slug(activity.name)}-{number}", activity, found))
        return steps

    def _step(self, id: str, activity: Activity, fault: Fault) -> dict[str, Any]:
        held = activity.after
        if activity.before:
            self.drop((*activity.where, "pauses"), f"the pause before {activity.name}")
        if activity.background:
            self.drop((*activity.where, "background"), f"{activity.name} is injected, and the next one after it")
        duration = f"{held}s" if isinstance(held, int | float) and held > 0 else HELD
        return {"id": id, "inject": fault[0], "on": "hosts", "with": fault[1], "duration": duration}

    def rest(self) -> None:
        """What has no place in a scenario."""
        raw = self.experiment.raw
        for activity in self.experiment.rollbacks:
            self.drop(activity.where, f"rollback {activity.name}: a fault of drkit heals by itself")
        for key, why in (
            ("configuration", "its values are filled in where they are plain"), ("secrets", "a scenario holds none"),
            ("controls", "drkit has stop_when, approvals and the lever"), ("extensions", "nobody here knows them"),
            ("tags", "scenarios have none yet"), ("contributions", "scenarios have none"),
            ("runtime", "a scenario rolls back always and checks before, while and after"),
        ):  # fmt: skip
            if raw.get(key):
                self.drop((key,), f"{key}: {why}")


def _check(activity: Activity, name: str, values: Values) -> tuple[str, dict[str, Any], str] | str:
    """A probe of drkit's that answers the same, and the check on it; or why there is none."""
    provider, tolerance = activity.provider, activity.tolerance
    if isinstance(provider, Http):
        if provider.method != "GET" or provider.headers or provider.arguments:
            return "drkit asks for health with a plain GET"
        expected = _status(tolerance, f"probes.{name}.status")
        url = values.fill(provider.url)
        return _told("http.health", {"url": url}, expected)
    if isinstance(provider, Process):
        expected = _status(tolerance, f"probes.{name}.exit_code")
        return _told("process.proof", {"proof": _argv(provider, values)}, expected)
    there = (provider.module, provider.func) == ("os.path", "exists")
    if isinstance(provider, Python) and there and isinstance(tolerance, bool):
        path = values.fill(provider.arguments.get("path"))
        return _told("process.exists", {"creates": path}, f"{'' if tolerance else '!'}probes.{name}.exists")
    return f"nothing here answers {provider.module}.{provider.func}"


def _told(uses: str, given: dict[str, Any], expected: str | None) -> tuple[str, dict[str, Any], str] | str:
    if expected is None:
        return "its tolerance is not about the status"
    return "it reads a value that is known only when it runs" if "${" in str(given) else (uses, given, expected)


def _status(tolerance: Any, what: str) -> str | None:
    """The tolerance as an expression on a number."""
    if isinstance(tolerance, int) and not isinstance(tolerance, bool):
        return f"{what} == {tolerance}"
    if isinstance(tolerance, list) and tolerance and all(type(each) is int for each in tolerance):
        return f"{what} in {tolerance}"  # on a status, also a list of two says which, and is no range
    return None


def _fault(activity: Activity, values: Values) -> Fault | None:
    """The fault that does what this action does."""
    if not isinstance(activity.provider, Process):
        return None
    words = _argv(activity.provider, values)
    found = next((fault for rule in _RULES if (fault := rule(words)) is not None), None)
    return None if found is None or "${" in str(found) else found


def _argv(provider: Process, values: Values) -> list[str]:
    """The words of a command, as a shell would see them where one is asked."""
    arguments = values.fill(provider.arguments)
    if isinstance(arguments, str):
        try:
            words = shlex.split(arguments)
        except ValueError:
            return ["sh", "-c", f"{provider.path} {arguments}"]
        plain = not re.search(r"[|&;<>$`*?]", arguments)
        return [provider.path, *words] if plain else ["sh", "-c", f"{provider.path} {arguments}"]
    return [provider.path, *_words(arguments)]


def _words(arguments: Any) -> Iterator[str]:
    for each in arguments.items() if isinstance(arguments, dict) else ((each,) for each in arguments or ()):
        yield from (str(word) for word in each if word not in (None, ""))


_SIGNALS = {"-STOP": "host.process-pause", "-SIGSTOP": "host.process-pause", "-19": "host.process-pause"}
_KILLS = frozenset({"-9", "-KILL", "-SIGKILL", "-TERM", "-15", "-SIGTERM"})


def _signalled(words: list[str]) -> Fault | None:
    """`pkill -STOP web`, `killall -9 web`: a service that hangs, or dies."""
    if words[0].rpartition("/")[2] not in ("pkill", "killall") or not words[1:]:
        return None
    *options, name = words[1:]
    if not re.fullmatch(r"[\w.@-]+", name) or name.startswith("-"):
        return None
    options = [each for each in options if each not in ("-f", "-x", "-e")]
    if len(options) == 1 and options[0] in _SIGNALS:
        return _SIGNALS[options[0]], {"service": name}
    kills = not options or (len(options) == 1 and options[0] in _KILLS)
    return ("host.process-kill", {"service": name}) if kills else None


def _stopped(words: list[str]) -> Fault | None:
    """`systemctl stop web`, `service web stop`."""
    program = words[0].rpartition("/")[2]
    if program == "systemctl" and len(words) == 3 and words[1] == "stop":
        return "host.service-stop", {"service": words[2].removesuffix(".service")}
    if program == "service" and len(words) == 3 and words[2] == "stop":
        return "host.service-stop", {"service": words[1]}
    return None


_RULES: tuple[Callable[[list[str]], Fault | None], ...] = (_signalled, _stopped)
