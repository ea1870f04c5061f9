"""Take secrets out of a fact before anybody folds or journals it: journals are copied, shown and kept. Pure."""

from __future__ import annotations

from typing import Any

from drkit.context import Secrets
from drkit.model.events import Fact, Opened

_NAMES = ("kind", "step")


def redacted(fact: Fact, text: str, secrets: Secrets) -> Fact:
    """The fact without secrets, in whatever it holds but the name of its step, which is in the plan already.

    `text` is the fact's: most hold no secret, and one look at all of it says so. A number inside of parameters or
    observations that is a secret becomes text. A plan is left alone: it has references only, and people agreed to it.
    """
    if secrets.redact(text) == text or isinstance(fact, Opened):
        return fact
    plain = fact.to_json()
    held = {name: value for name, value in plain.items() if isinstance(value, str | dict | list) and name not in _NAMES}
    return Fact.from_json(plain | {name: _clean(value, secrets) for name, value in held.items()})


def _clean(value: Any, secrets: Secrets) -> Any:
    if isinstance(value, str):
        return secrets.redact(value)
    if isinstance(value, dict):
        return {secrets.redact(key): _clean(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, secrets) for item in value]
    if value is None or isinstance(value, bool):
        return value
    clean = secrets.redact(str(value))
    return value if clean == str(value) else clean
