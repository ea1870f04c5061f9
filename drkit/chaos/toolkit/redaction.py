"""Keep secrets out of whatever is written down: known values are replaced, declarations lose theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from drkit.providers.secrets import Secrets

REDACTED: Final = "[redacted]"
Redact = Callable[[str], str]


class Redaction:
    """Every secret of a run so far. Text is cleaned of them, also URL-encoded, in base64 and in JSON."""

    def __init__(self, secrets: dict[str, Any] | None = None) -> None:
        self._hiding: Secrets | None = None
        self.hide(secrets or {})

    def hide(self, secrets: dict[str, Any]) -> None:
        """From here on these too."""
        for value in _leaves(secrets):
            if self._hiding is None:
                from drkit.providers.secrets import Secrets

                self._hiding = Secrets()
            self._hiding.hide(value)

    def clean(self, value: Any) -> Any:
        """A JSON value without secrets. A number that is one becomes text."""
        return value if self._hiding is None else _clean(value, self._hiding.redact)


def _clean(value: Any, redact: Redact) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): _clean(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, redact) for item in value]
    text = str(value)
    return value if redact(text) == text else redact(text)


def undeclared(data: dict[str, Any]) -> dict[str, Any]:
    """An experiment whose declared secrets say where they come from, and never what they are."""
    secrets = data.get("secrets")
    return data if not isinstance(secrets, dict) else {**data, "secrets": _hidden(secrets)}


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
