"""Carry out what an activity calls: a process, a request, a function; each can be killed and has a limit.

`AT_ONCE` are functions of the standard library that ask and change nothing and return at once: killing them is never
needed, and a worker would cost more than they do. (`os.path.exists` on a file system whose server is gone hangs in the
kernel, where nothing can be killed in a worker either; the lease then acts.)
"""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from drkit.chaos.toolkit import processes
from drkit.chaos.toolkit.abort import Abort
from drkit.chaos.toolkit.child import Child
from drkit.chaos.toolkit.model import Activity, Http, Process, Provider, Python
from drkit.chaos.toolkit.outcome import Outcome
from drkit.chaos.toolkit.values import Values

MARK: Final = "DRKIT_CHAOS"
"""Environment variable that whatever an activity starts carries: `RUN:STEP`, or `RUN:worker`."""
DEADLINE_S: Final = 3600.0
"""Limit of a call whose activity has none."""
AT_ONCE: Final = frozenset(
    [("os.path", name) for name in ("exists", "isfile", "isdir", "islink", "basename", "dirname", "getsize")]
    + [("builtins", name) for name in ("sum", "len", "abs", "min", "max")]
    + [("pprint", "pformat"), ("platform", "node")]
)


class Calls:
    """What one thread of an experiment calls with: a worker of its own, started when it is first needed."""

    def __init__(self, run: str, values: Values, deadline_s: float = DEADLINE_S) -> None:
        self._run, self._values, self._deadline_s = run, values, deadline_s
        self.child = Child({**os.environ, MARK: f"{run}:worker"})

    def call(self, activity: Activity, step: str, abort: Abort) -> Outcome:
        """Carry it out once."""
        provider = activity.provider
        if isinstance(provider, Python):
            return self._python(provider, activity, abort)
        if isinstance(provider, Process):
            arguments = self._values.fill(provider.arguments)
            return processes.run(
                processes.command(provider.path, arguments), env={**os.environ, MARK: f"{self._run}:{step}"},
                timeout_s=self._limit(provider.timeout_s, activity), abort=abort,
            )  # fmt: skip
        return self._http(provider, activity, abort)

    def at_once(self, activity: Activity) -> bool:
        """It changes nothing and is over at once: nothing needs to be settled before."""
        return _is_at_once(activity.provider)

    def close(self) -> None:
        """Leave no process behind."""
        self.child.kill()

    def another(self) -> Calls:
        """The same for another thread."""
        return Calls(self._run, self._values, self._deadline_s)

    def _python(self, provider: Python, activity: Activity, abort: Abort) -> Outcome:
        values = self._values
        arguments = values.fill(provider.arguments)
        if _is_at_once(provider):
            return _at_once(provider, arguments)
        secrets: dict[str, Any] | None = None
        if provider.secrets is not None:
            secrets = {}
            for target in provider.secrets:
                secrets.update(values.secrets.get(target) or {})
        call = {
            "verb": "call", "module": provider.module, "func": provider.func, "arguments": arguments,
            "secrets": secrets, "configuration": values.configuration,
        }  # fmt: skip
        return self.child.ask(call, timeout_s=self._limit(provider.timeout_s, activity), abort=abort)[0]

    def _http(self, provider: Http, activity: Activity, abort: Abort) -> Outcome:
        fill = self._values.fill
        call = {
            "verb": "http", "method": provider.method, "url": fill(provider.url), "headers": fill(provider.headers),
            "arguments": fill(provider.arguments), "timeout": fill(provider.timeout),
            "verify_tls": provider.verify_tls, "max_retries": provider.max_retries,
        }  # fmt: skip
        return self.child.ask(call, timeout_s=self._limit(None, activity), abort=abort)[0]

    def _limit(self, own_s: float | None, activity: Activity) -> float:
        return min(each for each in (own_s, activity.timeout_s, self._deadline_s) if each is not None)


def _is_at_once(provider: Provider) -> bool:
    return isinstance(provider, Python) and (provider.module, provider.func) in AT_ONCE


def _at_once(provider: Python, arguments: Mapping[str, Any]) -> Outcome:
    try:
        return Outcome("succeeded", _function(provider.module, provider.func)(**arguments))
    except Exception as error:  # noqa: BLE001 - an activity may raise anything: it has failed
        line = traceback.format_exception_only(error)[-1].strip()
        return Outcome("failed", error=line, trace=tuple(traceback.format_exception(error)))


@lru_cache(maxsize=64)
def _function(module: str, func: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(module), func)
    return found
