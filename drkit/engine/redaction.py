"""Take secrets out of a fact before anybody folds or journals it: journals are copied, shown and kept. Pure."""

from __future__ import annotations

from typing import Any

from drkit.context import Secrets
from drkit.model.events import Fact

_NAMES = ("kind", "step")


def redacted(fact: Fact, secrets: Secrets) -> Fact:
    """The fact without secrets, in whatever it holds but the name of its step, which is in the plan already.

    A number inside of parameters or observations that is a secret becomes text.
    """
    plain = fact.to_json()
    held = {name: value for name, value in plain.items() if isinstance(value, str | dict | list) and name not in _NAMES}
    texts: list[str] = []
    _collect(held, texts)
    text = "\n".join(texts)  # most facts hold none: one look at all of it says so
    if secrets.redact(text) == text:
        return fact
    return Fact.from_json(plain | {name: _clean(value, secrets) for name, value in held.items()})


def _collect(value: Any, texts: list[str]) -> None:
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        texts.extend(value)
        for item in value.values():
            _collect(item, texts)
    elif isinstance(value, list):
        for item in value:
            _collect(item, texts)
    elif value is not None and not isinstance(value, bool):
        texts.append(str(value))


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
