"""Read a CEL expression into a small tree of our own. Pure; the only module that knows the CEL parser.

cel-python parses and nothing else is left to it: its evaluator lets an unknown name pass (`ready == 'x' || nope` can
come out true), raises on an int beside a double, and recurses without bound. The tree here keeps offsets, is at most
DEPTH_MAX deep, and has no form for what drkit does not support.

One addition to CEL: after `steps.`, `probes.` and `params.` a name may hold dashes and begin with a digit, as the ids
in files do (`steps.01-assess.ok`). A minus sign after such a name therefore needs spaces around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

DEPTH_MAX = 40
LENGTH_MAX = 4000
MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})

_NAMED = re.compile(
    r"""(?P<skip>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|//[^\n]*)"""
    r"""|(?<![\w.])(?:steps|probes|params)\s*\.\s*(?P<name>\w+(?:-\w+)*)"""
)
_IDENT = re.compile(r"[_a-zA-Z]\w*")
_RESERVED = frozenset({
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
    "namespace", "return", "var", "void", "while", "in", "true", "false", "null",
})  # fmt: skip


class Unreadable(ValueError):
    """The text is not an expression that drkit supports; `offset` is where it stops being one."""

    def __init__(self, message: str, offset: int = 0, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.offset, self.hint = message, offset, hint


@dataclass(frozen=True, slots=True)
class Node:
    """Base: `at` is the offset into the text."""

    at: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A literal: None, bool, int, float or str."""

    value: Any


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A name of the scope or of a macro's variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Field(Node):
    """`of.name`."""

    of: Tree
    name: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`of[key]`."""

    of: Tree
    key: Tree


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`function(args)`; for `x.f(y)` x is the first argument and `method` is set."""

    function: str
    args: tuple[Tree, ...]
    method: bool


@dataclass(frozen=True, slots=True)
class Macro(Node):
    """`of.all(name, body)` and its like."""

    macro: str
    of: Tree
    name: str
    body: Tree


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`!of`, `-of`."""

    op: str
    of: Tree


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """A comparison, `in` or arithmetic."""

    op: str
    left: Tree
    right: Tree


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """All (`&&`) or any (`||`) of the terms."""

    op: str
    terms: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`when ? yes : no`."""

    when: Tree
    yes: Tree
    no: Tree


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """`[a, b]`."""

    items: tuple[Tree, ...]


Tree = Literal | Name | Field | Index | Call | Macro | Unary | Binary | Logic | Choice | ListOf


@lru_cache(maxsize=1024)
def read(text: str) -> Tree:
    """The expression's tree. Unreadable says where and why not."""
    if not text.strip():
        raise Unreadable("the expression is empty")
    if len(text) > LENGTH_MAX:
        raise Unreadable(f"the expression is longer than {LENGTH_MAX} characters")
    _not_too_deep(text)
    plain, names = _plain(text)
    return _Builder(text, names).build(_parsed(plain), 0)


def _not_too_deep(text: str) -> None:
    """Count brackets before anything recurses over them."""
    depth = 0
    for offset, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth > DEPTH_MAX:
            raise Unreadable(f"the expression is nested more than {DEPTH_MAX} deep", offset)


def _plain(text: str) -> tuple[str, dict[int, str]]:
    """The text with names that CEL could not read replaced by others of the same length, and the real ones."""
    names: dict[int, str] = {}
    result = list(text)
    for match in _NAMED.finditer(text):
        name = match["name"]
        if name is not None and (not _IDENT.fullmatch(name) or name in _RESERVED):
            start = match.start("name")
            names[start] = name
            result[start : start + len(name)] = "_" * len(name)
    return "".join(result), names


def _parsed(text: str) -> Any:
    from celpy.celparser import CELParseError, CELParser

    try:
        return CELParser().parse(text)
    except CELParseError as error:
        offset = _offset(text, error.line, error.column)
        raise Unreadable("this is not an expression from here on", offset, "drkit help expressions") from error


def _offset(text: str, line: int | None, column: int | None) -> int:
    lines = text.split("\n")
    return sum(len(each) + 1 for each in lines[: (line or 1) - 1]) + max((column or 1) - 1, 0)


_WRAPPERS = frozenset({
    "expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary", "member", "primary",
    "paren_expr",
})  # fmt: skip
_OPS = {
    "relation_lt": "<", "relation_le": "<=", "relation_gt": ">", "relation_ge": ">=", "relation_eq": "==",
    "relation_ne": "!=", "relation_in": "in", "addition_add": "+", "addition_sub": "-", "multiplication_mul": "*",
    "multiplication_div": "/", "multiplication_mod": "%",
}  # fmt: skip


class _Builder:
    def __init__(self, text: str, names: dict[int, str]) -> None:
        self.text, self.names = text, names

    def build(self, tree: Any, depth: int) -> Tree:
        while tree.data in _WRAPPERS and len(tree.children) == 1:
            tree = tree.children[0]
        if depth > DEPTH_MAX:
            raise Unreadable(f"the expression is nested more than {DEPTH_MAX} deep", _start(tree))
        build = getattr(self, f"_{tree.data}", None)
        if build is None:
            raise Unreadable("this is not supported in expressions", _start(tree), "drkit help expressions")
        result: Tree = build(tree, depth + 1)
        return result

    def _expr(self, tree: Any, depth: int) -> Tree:
        return Choice(_start(tree), *(self.build(child, depth) for child in tree.children))

    def _conditionalor(self, tree: Any, depth: int) -> Tree:
        return self._logic(tree, depth, "||")

    def _conditionaland(self, tree: Any, depth: int) -> Tree:
        return self._logic(tree, depth, "&&")

    def _logic(self, tree: Any, depth: int, op: str) -> Tree:
        terms: list[Any] = []
        left = tree
        while left.data == tree.data and len(left.children) == 2:
            left, right = left.children
            terms.append(right)
        terms.append(left)
        return Logic(_start(tree), op, tuple(self.build(term, depth) for term in reversed(terms)))

    def _relation(self, tree: Any, depth: int) -> Tree:
        return self._chain(tree, depth)

    def _addition(self, tree: Any, depth: int) -> Tree:
        return self._chain(tree, depth)

    def _multiplication(self, tree: Any, depth: int) -> Tree:
        return self._chain(tree, depth)

    def _chain(self, tree: Any, depth: int) -> Tree:
        """Operators of one rank, from the left: read with a loop, since each wraps what stands to its left."""
        rights: list[tuple[str, Any]] = []
        left = tree
        while left.data == tree.data and len(left.children) == 2:
            operator, right = left.children
            rights.append((_OPS[operator.data], right))
            left = operator.children[0]
        if depth + len(rights) > DEPTH_MAX:
            raise Unreadable(f"the expression is nested more than {DEPTH_MAX} deep", _start(tree))
        result = self.build(left, depth)
        for op, right in reversed(rights):
            result = Binary(result.at, op, result, self.build(right, depth))
        return result

    def _unary(self, tree: Any, depth: int) -> Tree:
        operator, of = tree.children
        return Unary(_start(tree), "!" if operator.data == "unary_not" else "-", self.build(of, depth))

    def _member_dot(self, tree: Any, depth: int) -> Tree:
        of, name = tree.children
        return Field(name.start_pos, self.build(of, depth), self.names.get(name.start_pos, str(name)))

    def _member_dot_arg(self, tree: Any, depth: int) -> Tree:
        of, name = self.build(tree.children[0], depth), tree.children[1]
        args = self._args(tree.children[2:], depth)
        if str(name) not in MACROS:
            return Call(name.start_pos, str(name), (of, *args), method=True)
        if len(args) != 2 or not isinstance(args[0], Name):
            raise Unreadable(
                f"{name} takes a name and an expression", name.start_pos, f"items.{name}(item, item.ready)"
            )
        return Macro(name.start_pos, str(name), of, args[0].name, args[1])

    def _member_index(self, tree: Any, depth: int) -> Tree:
        of, key = tree.children
        return Index(_start(key), self.build(of, depth), self.build(key, depth))

    def _ident(self, tree: Any, _depth: int) -> Tree:
        return Name(tree.children[0].start_pos, str(tree.children[0]))

    def _ident_arg(self, tree: Any, depth: int) -> Tree:
        name = tree.children[0]
        return Call(name.start_pos, str(name), self._args(tree.children[1:], depth), method=False)

    def _list_lit(self, tree: Any, depth: int) -> Tree:
        return ListOf(_start(tree), self._args(tree.children, depth))

    def _args(self, children: list[Any], depth: int) -> tuple[Tree, ...]:
        return tuple(self.build(arg, depth) for child in children if child is not None for arg in child.children)

    def _literal(self, tree: Any, _depth: int) -> Tree:
        token = tree.children[0]
        return Literal(_start(tree), _literal(token))


def _literal(token: Any) -> Any:
    if token.type == "INT_LIT":
        return int(token, 0) if "x" in token.lower() else int(token)
    if token.type == "FLOAT_LIT":
        return float(token)
    if token.type == "BOOL_LIT":
        return token == "true"
    if token.type == "NULL_LIT":
        return None
    if token.type in ("STRING_LIT", "MLSTRING_LIT"):
        from celpy.evaluation import celstr

        return str(celstr(token))
    what = "unsigned numbers" if token.type == "UINT_LIT" else "bytes"
    raise Unreadable(f"{what} are not supported", token.start_pos)


def _start(tree: Any) -> int:
    """Offset of a tree's first token. The parser gives none for `true` and `false`: then that of the next."""
    return next((token.start_pos for token in tree.scan_values(lambda each: each.start_pos is not None)), 0)


def below(tree: Tree) -> Iterator[Tree]:
    """The tree itself and all its parts."""
    stack: list[Tree] = [tree]
    while stack:
        node = stack.pop()
        yield node
        match node:
            case Field(of=of) | Unary(of=of):
                stack.append(of)
            case Index(of=of, key=key):
                stack += [of, key]
            case Call(args=parts) | Logic(terms=parts) | ListOf(items=parts):
                stack += parts
            case Macro(of=of, body=body):
                stack += [of, body]
            case Binary(left=left, right=right):
                stack += [left, right]
            case Choice(when=when, yes=yes, no=no):
                stack += [when, yes, no]
            case Literal() | Name():
                pass


def source(tree: Tree) -> str:
    """The expression as text again, for messages about its parts."""
    match tree:
        case Literal(value=value):
            return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
        case Name(name=name):
            return name
        case Field(of=of, name=name):
            return f"{source(of)}.{name}"
        case Index(of=of, key=key):
            return f"{source(of)}[{source(key)}]"
        case Call(function=function, args=args, method=True):
            return f"{source(args[0])}.{function}({', '.join(map(source, args[1:]))})"
        case Call(function=function, args=args):
            return f"{function}({', '.join(map(source, args))})"
        case Macro(macro=macro, of=of, name=name, body=body):
            return f"{source(of)}.{macro}({name}, {source(body)})"
        case Unary(op=op, of=of):
            return f"{op}{source(of)}"
        case Binary(op=op, left=left, right=right):
            return f"({source(left)} {op} {source(right)})"
        case Logic(op=op, terms=terms):
            return f"({f' {op} '.join(map(source, terms))})"
        case Choice(when=when, yes=yes, no=no):
            return f"({source(when)} ? {source(yes)} : {source(no)})"
        case ListOf(items=items):
            return f"[{', '.join(map(source, items))}]"
