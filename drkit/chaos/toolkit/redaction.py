"""Keep secrets out of whatever is written down: known values are replaced, declarations lose theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

REDACTED: Final = "[redacted]"
Redact = Callable[[str], str]


def redactor(secrets: dict[str, Any]) -> Redact | None:
    """What takes these secrets out of a text, also URL-encoded, in base64 and in JSON; None if there is none."""
    found = list(_leaves(secrets))
    if not found:
        return None
    from drkit.providers.secrets import Secrets

    hiding = Secrets()
    for value in found:
        hiding.hide(value)
    return hiding.redact


def clean(value: Any, redact: Redact | None) -> Any:
    """A JSON value without secrets. A number that is one becomes text."""
    if redact is None or value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): clean(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, redact) for item in value]
    text = str(value)
    return value if redact(text) == text else redact(text)


def undeclared(data: dict[str, Any]) -> dict[str, Any]:
    """An experiment whose declared secrets say where they come from, and never what they are."""
    secrets = data.get("secrets")
    return data if not isinstance(secrets, dict) else {**data, "secrets": _hidden(secrets)}


def is_whole(data: dict[str, Any]) -> bool:
    """Nothing would be hidden of this experiment: it holds no secret itself."""
    return undeclared(data) == data


def _hidden(secrets: dict[str, Any]) -> dict[str, Any]:
    hidden: dict[str, Any] = {}
    for key, said in secrets.items():
        if isinstance(said, dict):
            hidden[key] = said if said.get("type") in ("env", "vault") else _hidden(said)
        else:
            hidden[key] = REDACTED if said not in (None, "") else said
    return hidden


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool) and str(value):
        yield value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
