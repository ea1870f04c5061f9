"""Find a Python function and its parameters without importing anything: what an experiment names is read, never run.

The source is found as the import system would find it and parsed. What only running could tell (a function that is made
at run time, a compiled module) is `unknown`, and whoever asked says so.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from typing import Literal

_ALIASES = {"os.path": "posixpath"}
_DEPTH = 5
GIVEN = ("secrets", "configuration")
"""Parameters that whoever calls fills in, if the function has them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found: `ok`; `no module`, `no function`, `arguments`: why it cannot be called; `unknown`: why not."""

    verdict: Literal["ok", "no module", "no function", "arguments", "unknown"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function may be called with by name."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    unnameable: tuple[str, ...]
    """Required, and cannot be given by name."""
    anything: bool


def look(module: str, func: str, arguments: Iterable[str], roots: Sequence[str] | None = None) -> Answer:
    """Whether `module.func` can be called with these arguments by name."""
    found = signature(module, func, tuple(roots if roots is not None else [str(Path.cwd()), *sys.path]))
    if isinstance(found, Answer):
        return found
    given = set(arguments) | {name for name in GIVEN if name in found.names}
    missing = [name for name in (*found.unnameable, *found.required) if name not in given or name in found.unnameable]
    if missing:
        return Answer("arguments", f'required argument "{missing[0]}" is missing')
    unexpected = sorted(given - set(found.names))
    if unexpected and not found.anything:
        return Answer("arguments", f'argument "{unexpected[0]}" is none of {func}({", ".join(found.names)})')
    return Answer("ok")


def is_there(module: str, roots: Sequence[str] | None = None) -> bool:
    """Whether this module could be imported, as far as looking tells."""
    return source(module, tuple(roots if roots is not None else [str(Path.cwd()), *sys.path])) is not None


@lru_cache(maxsize=512)
def signature(module: str, func: str, roots: tuple[str, ...], depth: int = 0) -> Signature | Answer:
    """The parameters of `module.func`; an Answer where there are none to be had."""
    where = source(module, roots)
    if where is None:
        return Answer("no module", f'there is no Python module "{module}"')
    if where == "builtin":
        return _builtin(module, func)
    if not isinstance(where, Path) or where.suffix != ".py":
        return Answer("unknown", f"{module} is compiled: {func} cannot be checked without importing it")
    try:
        body = ast.parse(where.read_bytes()).body
    except (SyntaxError, ValueError, OSError) as error:
        return Answer("no module", f"{module} cannot be read: {error}")
    return _defined(module, func, body, roots, depth, package=where.name == "__init__.py")


def source(module: str, roots: tuple[str, ...]) -> Path | Literal["builtin", "package"] | None:
    """The file of a module; `builtin` for what the interpreter is made of, `package` for one without code; or None."""
    if module in sys.builtin_module_names:
        return "builtin"
    search: Sequence[str] | None = roots
    spec: ModuleSpec | None = None
    for number, part in enumerate(_ALIASES.get(module, module).split(".")):
        # A name without dots is looked for in the folders that are given: no parent is imported.
        spec = PathFinder.find_spec(part, list(search or ()))
        if spec is None and number == 0:
            spec = _by_other_finders(part)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or ())
    assert spec is not None  # a name has at least one part
    return Path(spec.origin) if spec.origin not in (None, "namespace") and spec.origin else "package"


def _by_other_finders(name: str) -> ModuleSpec | None:
    """What editable installs put in the way of imports, for instance."""
    for finder in sys.meta_path:
        if finder not in (BuiltinImporter, FrozenImporter, PathFinder) and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, None)
            if spec is not None:
                return spec
    return None


def _builtin(module: str, func: str) -> Signature | Answer:
    """Of the interpreter itself: importing it runs nobody's code."""
    function = getattr(__import__(module), func, None)
    if not (inspect.isbuiltin(function) or inspect.isfunction(function)):
        return Answer("no function", f"{module} has no function {func}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return Answer("arguments", f"{module}.{func} does not say what it takes: it cannot be called by name")
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Signature(
        tuple(p.name for p in plain),
        tuple(p.name for p in plain if p.default is p.empty),
        tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def _defined(
    module: str, func: str, body: list[ast.stmt], roots: tuple[str, ...], depth: int, *, package: bool
) -> Signature | Answer:
    found = _among(module, func, list(_top_level(body)), roots, depth, package)
    if isinstance(found, Answer) and found.verdict == "no function":  # what is there if an import fails
        return _among(module, func, list(_top_level(body, handlers=True)), roots, depth, package)
    return found


def _among(
    module: str, func: str, body: list[ast.stmt], roots: tuple[str, ...], depth: int, package: bool
) -> Signature | Answer:
    answer: Signature | Answer = Answer("no function", f"{module} has no function {func}")
    for statement in body:  # the last one counts, as it does when the module is run
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if statement.name == func:
                answer = _signature(statement.args)
            elif statement.name == "__getattr__" and isinstance(answer, Answer):
                answer = Answer("unknown", f"{module} makes its names when asked")
        elif isinstance(statement, ast.ClassDef) and statement.name == func:
            answer = Answer("no function", f"{module}.{func} is a class")
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if alias.name == "*" or (alias.asname or alias.name) == func:
                    wanted = func if alias.name == "*" else alias.name
                    found = _elsewhere(module, statement, wanted, roots, depth, package)
                    nothing = isinstance(found, Answer) and found.verdict in ("no function", "no module")
                    if alias.name != "*" or not nothing:
                        answer = found
        elif func in _assigned(statement):
            answer = Answer("unknown", f"{module}.{func} is made when the module is imported")
            if isinstance(statement, ast.Assign) and _is_method(statement.value, body):
                answer = Answer("no function", f"{module}.{func} is a method of an object, not a function")
    return answer


def _elsewhere(
    module: str, statement: ast.ImportFrom, func: str, roots: tuple[str, ...], depth: int, package: bool
) -> Signature | Answer:
    if depth >= _DEPTH:
        return Answer("unknown", f"{module} takes {func} from elsewhere")
    parts = module.split(".") if package else module.split(".")[:-1]
    base = parts[: len(parts) - statement.level + 1] if statement.level else []
    name = ".".join([*base, *(statement.module or "").split(".")]).strip(".")
    return signature(name, func, roots, depth + 1)


def _top_level(body: list[ast.stmt], *, handlers: bool = False) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, those inside of `if`, `try` and `with` too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for inner in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, inner, []), handlers=handlers)
        if isinstance(statement, ast.Try) and handlers:
            for handler in statement.handlers:
                yield from _top_level(handler.body, handlers=True)


def _is_method(value: ast.expr, body: list[ast.stmt]) -> bool:
    """`name = thing.method`, where `thing = Class()` stands in the same module."""
    if not isinstance(value, ast.Attribute) or not isinstance(value.value, ast.Name):
        return False
    made = (each for each in body if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call))
    return any(value.value.id in _assigned(each) for each in made)


def _assigned(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _signature(args: ast.arguments) -> Signature:
    positional = [*args.posonlyargs, *args.args]
    without = len(positional) - len(args.defaults)
    required = {each.arg for each in positional[:without]}
    only = {each.arg for each in args.posonlyargs}
    keyword = [each.arg for each in args.kwonlyargs]
    needed = [name.arg for name, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default is None]
    return Signature(
        (*(each.arg for each in args.args), *keyword),
        (*(each.arg for each in args.args if each.arg in required), *needed),
        tuple(name for name in only if name in required),
        args.kwarg is not None,
    )
