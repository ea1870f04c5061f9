"""Collect what is wrong and what is odd about a file, each with its place; small checks that every part needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from drkit.errors import Mistake
from drkit.plan.yaml import Document, Where

CLOSE = 0.75
"""So alike are a word and its misspelling (`rolbacks`: 0.94); `dry_run` and `dry` (0.6) are two words."""


@dataclass
class Noticing:
    """Mistakes and warnings of one file."""

    document: Document
    mistakes: list[Mistake]
    warnings: list[Mistake]

    def wrong(self, where: Where, message: str, hint: str | None = None, *, key: bool = False) -> None:
        """The file cannot be honoured, because of this."""
        self.mistakes.append(self.document.mistake(where, message, hint, key=key))

    def warn(self, where: Where, message: str, hint: str | None = None, *, key: bool = False) -> None:
        """Its author should know this."""
        self.warnings.append(self.document.mistake(where, message, hint, key=key))

    def keys(self, data: dict[str, Any], known: Iterable[str], where: Where) -> None:
        """Say of every unknown key that it is one."""
        names = list(known)
        for key in data:
            if key in names:
                continue
            plain = str(key).lower().replace("_", "-")
            close = get_close_matches(plain, names, 1, CLOSE) or get_close_matches(str(key), names, 1, CLOSE)
            if close and close[0] not in data:
                self.wrong((*where, key), f'unknown key "{key}"', f"did you mean {close[0]}?", key=True)
            else:
                self.warn((*where, key), f'unknown key "{key}": it has no effect', key=True)

    def text(self, data: dict[str, Any], key: str, where: Where, *, what: str = "") -> str:
        """The text that must be there; empty if it is not."""
        value = data.get(key)
        if isinstance(value, str) and value:
            return value
        if key in data and value:
            self.wrong((*where, key), f"{key} must be text")
        elif key in data:
            self.wrong((*where, key), f"{key} must not be empty")
        else:
            self.wrong(where, f'{what or "it"} needs "{key}"' if where else f'"{key}" is missing')
        return ""

    def mapping(self, data: dict[str, Any], key: str, where: Where) -> dict[str, Any]:
        """The mapping that may be there; empty if it is not."""
        value = data.get(key)
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self.wrong((*where, key), f"{key} must be a mapping")
        return {}
