"""How an endpoint of the sandbox misbehaves on demand: pass, refuse, hang, 503, lose the answer, be slow.

One gate stands before each endpoint. It holds a setting for the endpoint as a whole and, if wanted, for single
services behind it. A request asks `admit` and gets a verdict; while the setting is `hang` the call blocks until the
setting changes or `HANG_MAX_S` have passed. Threads only; no I/O.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Mode = Literal["ok", "refuse", "hang", "503", "lost"]
"""`refuse`: the connection is reset unanswered. `lost`: the request is carried out and its answer never sent."""

Verdict = Literal["pass", "reset", "503", "lost"]

HANG_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What an endpoint does with requests: its mode, and a delay before it does so."""

    mode: Mode = "ok"
    latency_s: float = 0.0

    @classmethod
    def parse(cls, body: Any) -> Setting:
        """From `{"mode": ..., "latency_s": ...}`; both optional. Raises ValueError saying what is wrong."""
        if not isinstance(body, dict):
            raise ValueError("expected a JSON object")
        mode, latency_s = body.get("mode", "ok"), body.get("latency_s", 0.0)
        if mode not in get_args(Mode):
            raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
        if not isinstance(latency_s, int | float) or isinstance(latency_s, bool) or latency_s < 0:
            raise ValueError(f"latency_s is a number of seconds, not {latency_s!r}")
        return cls(mode, float(latency_s))


class Gate:
    """The settings of one endpoint, and the waiting that some of them mean."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._whole = Setting()
        self._services: dict[str, Setting] = {}

    def set(self, setting: Setting, service: str | None = None) -> None:
        """Take effect now, also for requests that hang; a setting for the whole endpoint clears the services' own."""
        with self._changed:
            if service is None:
                self._whole = setting
                self._services.clear()
            else:
                self._services[service] = setting
            self._changed.notify_all()

    def setting(self, service: str | None = None) -> Setting:
        """What holds for this service: an endpoint that is down is down for all of them."""
        with self._changed:
            return self._effective(service)

    def shown(self) -> dict[str, Any]:
        """All settings as JSON: `{"mode", "latency_s", "services": {NAME: {...}}}`."""
        with self._changed:
            services = {name: asdict(setting) for name, setting in sorted(self._services.items())}
            return {**asdict(self._whole), "services": services}

    def admit(self, service: str | None = None) -> Verdict:
        """Wait as long as the setting says; then what becomes of the request."""
        deadline = time.monotonic() + HANG_MAX_S
        delayed = False
        with self._changed:
            while True:
                setting = self._effective(service)
                if setting.latency_s and not delayed:
                    delayed = True
                    self._changed.wait(setting.latency_s)
                elif setting.mode != "hang":
                    return _VERDICTS[setting.mode]
                elif not self._changed.wait(deadline - time.monotonic()):
                    return "reset"

    def _effective(self, service: str | None) -> Setting:
        if service is None or self._whole.mode != "ok":
            return self._whole
        return self._services.get(service, self._whole)


_VERDICTS: dict[Mode, Verdict] = {"ok": "pass", "refuse": "reset", "503": "503", "lost": "lost"}
