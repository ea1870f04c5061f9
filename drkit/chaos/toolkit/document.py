"""An experiment file with the place of every key and value: JSON as JSON, YAML as Chaos Toolkit's parser reads it.

JSON is parsed by Python's own parser; places are looked for only when there is something to say of one. YAML is read by
`plan.yaml` (1.2); where 1.1, which Chaos Toolkit's parser speaks, reads a plain word as something else, the file means
that, and a warning says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from drkit.errors import FileError, Mistake, UsageError
from drkit.plan.yaml import Document, Place, Where, raw_of, shown, text_of

_TRUE = frozenset({"yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"no", "No", "NO", "off", "Off", "OFF"})
_OCTAL = re.compile(r"[-+]?0[0-7_]+(?=[\s,\]}#]|$)")
_BASE_60 = re.compile(r"[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ].*)?")
_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[^,\]}\s]+")


@dataclass
class Source:
    """A file's data, where it stands, and what was noticed while reading it."""

    document: Document
    warnings: list[Mistake] = field(default_factory=list)

    @property
    def data(self) -> Any:
        """Plain data."""
        return self.document.data


def read(path: Path) -> Source:
    """The file at `path`. UsageError if there is none of JSON or YAML there, FileError if it cannot be parsed."""
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise UsageError(f"{shown(path)} is no experiment: its name must end in .json, .yaml or .yml")
    if path.suffix == ".json":
        return Source(_json(path))
    from drkit.plan.yaml import read as read_yaml

    source = Source(read_yaml(path))
    source.document.data = _as_yaml_1_1(source, source.document.data, ())
    return source


class JsonDocument(Document):
    """A JSON file; its places are found on the first question."""

    def place(self, where: Where, *, key: bool = False) -> Place:
        """Where the value (or its key) at `where` stands; of its nearest ancestor if it does not exist."""
        if not self.values:
            _Places(self).value(0, ())
        return super().place(where, key=key)


def _json(path: Path) -> JsonDocument:
    raw, name = raw_of(path), shown(path)
    text = text_of(raw, name, encoding="utf-8-sig")
    document = JsonDocument(name, "sha256:" + hashlib.sha256(raw).hexdigest(), tuple(text.split("\n")))
    odd: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            odd.append("a key stands twice")
        return found

    def infinite(word: str) -> None:
        odd.append(word)

    try:
        document.data = json.loads(text, object_pairs_hook=once, parse_constant=infinite)
    except JSONDecodeError as error:
        wrong = "the file is empty" if not text.strip() else f"this is not JSON: {error.msg}"
        raise FileError([Mistake(name, error.lineno, error.colno, wrong)]) from error
    except RecursionError as error:
        raise FileError([Mistake(name, 1, 1, "the file is nested too deeply")]) from error
    if odd:
        _Places(document).value(0, ())  # which finds them again, with their places
    return document


class _Places:
    """Walks a JSON text that is known to parse."""

    def __init__(self, document: JsonDocument) -> None:
        self.document = document
        self.text = "\n".join(document.lines)
        self.starts = [0]
        for line in document.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.line = 0

    def value(self, at: int, where: Where) -> int:
        """Note the value at or after this offset; the offset behind it."""
        at = self._space(at)
        self.document.values[where] = self._place(at)
        char = self.text[at]
        if char == "{":
            return self._object(at + 1, where)
        if char == "[":
            return self._array(at + 1, where)
        if char == '"':
            return int(scanstring(self.text, at + 1)[1])
        match = _SCALAR.match(self.text, at)
        assert match is not None  # it parsed
        if match.group() in ("NaN", "Infinity", "-Infinity"):
            self._wrong(at, f"{match.group()}: a number must be finite")
        return match.end()

    def _object(self, at: int, where: Where) -> int:
        at = self._space(at)
        while self.text[at] != "}":
            key, end = scanstring(self.text, at + 1)
            if (*where, key) in self.document.keys:
                first = self.document.keys[(*where, key)]
                self._wrong(at, f'"{key}" stands twice: in line {first.line} and in line {self._place(at).line}')
            self.document.keys[(*where, key)] = self._place(at)
            at = self._space(self.value(self._space(end) + 1, (*where, key)))
            if self.text[at] == ",":
                at = self._space(at + 1)
        return at + 1

    def _array(self, at: int, where: Where) -> int:
        at, index = self._space(at), 0
        while self.text[at] != "]":
            at = self._space(self.value(at, (*where, index)))
            index += 1
            if self.text[at] == ",":
                at = self._space(at + 1)
        return at + 1

    def _space(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        assert match is not None  # it matches nothing, too
        return match.end()

    def _place(self, at: int) -> Place:
        while self.starts[self.line + 1] <= at:
            self.line += 1
        return Place(self.line + 1, at - self.starts[self.line] + 1, quoted=self.text[at] == '"')

    def _wrong(self, at: int, message: str) -> None:
        place = self._place(at)
        self.document.mistakes.append(Mistake(self.document.path, place.line, place.column, message))


def _as_yaml_1_1(source: Source, data: Any, where: Where) -> Any:
    """The same data with plain words as Chaos Toolkit's parser reads them; a warning for each."""
    if isinstance(data, dict):
        return {key: _as_yaml_1_1(source, value, (*where, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [_as_yaml_1_1(source, value, (*where, index)) for index, value in enumerate(data)]
    if isinstance(data, bool) or not isinstance(data, str | int):
        return data
    document = source.document
    place = document.values.get(where)
    if place is None or place.quoted or place.block:
        return data
    meant: Any = data
    if isinstance(data, int):
        octal = _OCTAL.match(document.lines[place.line - 1], place.column - 1)
        if octal is not None:
            meant = int(octal.group().replace("_", ""), 8)
    elif data in _TRUE or data in _FALSE:
        meant = data in _TRUE
    elif _BASE_60.fullmatch(data):
        sign, digits = (-1 if data[0] == "-" else 1), data.lstrip("+-").replace("_", "")
        meant = 0
        for digit in digits.split(":"):
            meant = meant * 60 + int(digit)
        meant *= sign
    elif _DATE.fullmatch(data):
        source.warnings.append(
            document.mistake(where, f"{data} is read as text; Chaos Toolkit reads a date", f'write "{data}"')
        )
    if meant is not data:
        shown_value = json.dumps(meant)
        source.warnings.append(
            document.mistake(
                where, f"{data} is read as {shown_value}, as Chaos Toolkit reads it", f'write {shown_value} or "{data}"'
            )
        )
    return meant
