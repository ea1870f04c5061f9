"""Read one YAML document with the place of every key and value. The only module that knows the YAML library.

YAML 1.2 (`NO` and `12:30` are text). A key that stands twice is a mistake that names both lines. Dates stay text. Tags
and merge keys are refused; an alias stands for its anchor in the same file.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from drkit.errors import FileError, Mistake, UsageError

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

    from drkit.model.values import Json

Where = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_DEPTH_MAX = 40
_NODES_MAX = 100_000  # aliases of aliases grow without bound


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, from 1. `block`: the text is a literal block whose first line is the next one."""

    line: int
    column: int
    quoted: bool = False
    block: bool = False


@dataclass
class Document:
    """What a file says and where it says it. `mistakes` are those of the YAML itself."""

    path: str
    digest: str
    lines: tuple[str, ...]
    data: Json = None
    values: dict[Where, Place] = field(default_factory=dict)
    keys: dict[Where, Place] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def place(self, where: Where, *, key: bool = False) -> Place:
        """Where the value (or its key) at `where` stands; of its nearest ancestor if it does not exist."""
        for length in range(len(where), -1, -1):
            known = (self.keys if key and length == len(where) else self.values).get(where[:length])
            if known is not None:
                return known
        return Place(1, 1)

    def mistake(
        self, where: Where, message: str, hint: str | None = None, *, key: bool = False, offset: int | None = None
    ) -> Mistake:
        """A mistake at `where`; `offset` counts characters into the text that stands there."""
        place = self.place(where, key=key)
        line, column = self._inside(place, where, offset) if offset is not None else (place.line, place.column)
        return Mistake(self.path, line, column, message, hint)

    def _inside(self, place: Place, where: Where, offset: int) -> tuple[int, int]:
        text = _get(self.data, where)
        if not isinstance(text, str):
            return place.line, place.column
        if place.block:
            before = text[:offset].split("\n")
            first = next((each for each in self.lines[place.line :] if each.strip()), "")
            return place.line + len(before), len(first) - len(first.lstrip()) + len(before[-1]) + 1
        start = place.column - 1 + place.quoted
        # Escapes and folded lines move the characters: then the text's beginning is the honest answer.
        verbatim = self.lines[place.line - 1][start : start + len(text)] == text
        return (place.line, start + offset + 1) if verbatim else (place.line, place.column)


def shown(path: Path) -> str:
    """The path as messages show it: relative when it is below the working directory."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def read(path: Path) -> Document:
    """The document in the file at `path`. UsageError if there is no such file, FileError if it is not YAML."""
    return parse(raw_of(path), shown(path))


def raw_of(path: Path) -> bytes:
    """What the file holds. UsageError if there is none, or it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no file {shown(path)}", hint=f"ls {shown(path.parent)}") from None
    except OSError as error:
        raise UsageError(f"{shown(path)} cannot be read: {error.strerror}") from error


def text_of(raw: bytes, name: str, *, encoding: str = "utf-8") -> str:
    """`raw` as text. FileError with the line, if it is none."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FileError([Mistake(name, line, 1, "the file is not UTF-8 text")]) from error


def parse(raw: bytes, name: str) -> Document:
    """The document in `raw`. FileError if it is not YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    text = text_of(raw, name)
    document = Document(name, "sha256:" + hashlib.sha256(raw).hexdigest(), tuple(text.split("\n")))
    try:
        root = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise FileError([Mistake(name, line, column, _problem(error), _advice(error))]) from error
    except YAMLError as error:
        raise FileError([Mistake(name, 1, 1, f"this is not YAML: {str(error).splitlines()[0]}")]) from error
    except RecursionError as error:
        raise FileError([Mistake(name, 1, 1, "the file is nested too deeply")]) from error
    if root is None:
        raise FileError([Mistake(name, 1, 1, "the file is empty")])
    _Reader(document).read(root)
    return document


def written(data: Json) -> str:
    """Plain data as a YAML document, in the order in which it stands."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    page = StringIO()
    yaml.dump(data, page)
    return page.getvalue()


def _problem(error: Any) -> str:
    if "another document" in str(error.problem):
        return "a file holds one document, here a second one begins"
    return f"this is not YAML: {error.problem}"


def _advice(error: Any) -> str | None:
    problem = str(error.problem)
    if "mapping values are not allowed" in problem:
        return "quote a value that contains a colon followed by a space"
    if "'\\t'" in problem:
        return "indent with spaces"
    if "cannot start any token" in problem:
        return "quote the value"
    return None


class _Reader:
    """Turns nodes into plain data and notes where each stood."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.left = _NODES_MAX

    def read(self, root: Node) -> None:
        self.document.data = self._value(root, ())

    def _wrong(self, node: Node, message: str, hint: str | None = None) -> None:
        mark = node.start_mark
        self.document.mistakes.append(Mistake(self.document.path, mark.line + 1, mark.column + 1, message, hint))

    def _value(self, node: Node, where: Where) -> Json:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        self.left -= 1
        if self.left < 0 or len(where) > _DEPTH_MAX:
            # Not to be continued in any way: an alias may contain itself.
            mark = node.start_mark
            message = "the file is too large or nested too deeply once its aliases are written out"
            raise FileError([Mistake(self.document.path, mark.line + 1, mark.column + 1, message)])
        mark = node.start_mark
        style = getattr(node, "style", None)
        self.document.values[where] = Place(mark.line + 1, mark.column + 1, style in ("'", '"'), style == "|")
        if isinstance(node, MappingNode):
            return self._mapping(node, where)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*where, index)) for index, item in enumerate(node.value)]
        return self._scalar(cast("ScalarNode", node))

    def _mapping(self, node: MappingNode, where: Where) -> Json:
        result: dict[str, Json] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key is None:
                continue
            place = Place(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key in result:
                first = self.document.keys[(*where, key)]
                self._wrong(key_node, f'"{key}" stands twice: in line {first.line} and in line {place.line}')
                continue
            self.document.keys[(*where, key)] = place
            result[key] = self._value(value_node, (*where, key))
        return result

    def _key(self, node: Node) -> str | None:
        if not isinstance(node.value, str):
            self._wrong(node, "a key must be a word")
        elif str(node.tag) == _TAG + "merge":
            self._wrong(node, "merge keys (<<) are not supported", "write the values out")
        else:
            return node.value
        return None

    def _scalar(self, node: ScalarNode) -> Json:
        tag = str(node.tag)
        convert = _CONVERT.get(tag.removeprefix(_TAG)) if tag.startswith(_TAG) else None
        if convert is None:
            self._wrong(node, f"the tag {tag.replace(_TAG, '!!')} is not supported", "leave the tag out")
            return str(node.value)
        try:
            return convert(node.value)
        except ValueError as error:
            self._wrong(node, f"{node.value}: {error}")
            return None


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    prefix = re.match(r"[-+]?0[xo]", digits)
    return int(digits, 16 if prefix.group().endswith("x") else 8) if prefix else int(digits)


def _real(text: str) -> float:
    number = float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
    if not math.isfinite(number):
        raise ValueError("a number must be finite")
    return number


_CONVERT: dict[str, Callable[[str], Json]] = {
    "str": str,
    "timestamp": str,
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": _integer,
    "float": _real,
}


def _get(data: Json, where: Iterable[str | int]) -> Json:
    """The value at `where`; None if there is none."""
    current: Any = data
    for part in where:
        try:
            current = current[part]
        except (KeyError, IndexError, TypeError):
            return None
    return current  # type: ignore[no-any-return]


get = _get
