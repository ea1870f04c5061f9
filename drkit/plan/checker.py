"""Check an expression before it is ever evaluated: names, fields, kinds of operands, literal durations. Pure.

What passes here evaluates without a kind error on any data that fits the models; what is left is missing data, which
is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from drkit.model.values import parse_duration
from drkit.plan import cel
from drkit.plan.functions import FUNCTIONS
from drkit.plan.hints import meant
from drkit.plan.kinds import ANY, BOOL, DURATION, FLOAT, INT, NUMBERS, STRING, TIMES, TIMESTAMP, Kind, kind_of_value

#: Kind of what a step will have seen, or why it cannot be read here.
StepKind = Callable[[str], Kind | str]
_ORDERED = NUMBERS | {"duration", "string", "timestamp"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake in an expression; `offset` counts characters from its beginning."""

    offset: int
    message: str
    hint: str | None = None


class Checker:
    """Checks one expression; `problems` is what was found."""

    def __init__(self, kinds: Mapping[str, Kind], steps: StepKind | None = None) -> None:
        self._steps = steps
        self.problems: list[Problem] = []
        self._kinds = dict(kinds)
        self._sure: frozenset[str] = frozenset()

    def kind(self, tree: cel.Tree) -> Kind:
        """The kind of what the expression gives."""
        found: Kind = getattr(self, f"_{type(tree).__name__.lower()}")(tree)
        # Where `has(x)` is known to hold, x is there.
        return found.surely() if found.optional and cel.source(tree) in self._sure else found

    def _wrong(self, tree: cel.Tree, message: str, hint: str | None = None) -> Kind:
        self.problems.append(Problem(tree.at, message, hint))
        return ANY

    def _literal(self, tree: cel.Literal) -> Kind:
        kind = kind_of_value(tree.value)
        return replace(kind, words=(tree.value,)) if kind == STRING else kind

    def _name(self, tree: cel.Name) -> Kind:
        if tree.name in self._kinds:
            return self._kinds[tree.name]
        if tree.name == "steps" and self._steps is not None:
            return self._wrong(tree, "steps must be followed by a step and a field", "steps.promote.position")
        names = [*self._kinds, *(["steps"] if self._steps is not None else [])]
        return self._wrong(tree, f'unknown name "{tree.name}"', meant(tree.name, names))

    def _field(self, tree: cel.Field) -> Kind:
        if isinstance(tree.of, cel.Name) and tree.of.name == "steps" and self._steps is not None:
            return self._step(tree, tree.name)
        return self._member(tree, self.kind(tree.of), tree.of, tree.name)

    def _step(self, tree: cel.Tree, step: str) -> Kind:
        assert self._steps is not None
        found = self._steps(step)
        return self._wrong(tree, *found.partition("; ")[::2]) if isinstance(found, str) else found

    def _member(self, tree: cel.Tree, of: Kind, holder: cel.Tree, name: str) -> Kind:
        if of.name == "any":
            return ANY.maybe()
        if of.name == "map":
            return (of.item or ANY).maybe()
        if of.name != "object":
            hint = f"write {cel.source(holder)}[0].{name} for its first entry" if of.name == "list" else None
            return self._wrong(tree, f"{cel.source(holder)} is {of} and has no {name}", hint)
        found = of.field(name)
        if found is None:
            known = of.known()
            hint = meant(name, known)
            base = name.split("-")[0]
            if "-" in name and base in known:
                hint = f"put spaces around the minus: {cel.source(holder)}.{name.replace('-', ' - ', 1)}"
            what = of.what or cel.source(holder)
            return self._wrong(tree, f'{what} has no "{name}"', hint)
        return found.maybe() if of.optional else found

    def _index(self, tree: cel.Index) -> Kind:
        if isinstance(tree.key, cel.Literal) and isinstance(tree.key.value, str):
            name = tree.key.value
            if isinstance(tree.of, cel.Name) and tree.of.name == "steps" and self._steps is not None:
                return self._step(tree, name)
            return self._member(tree, self.kind(tree.of), tree.of, name)
        of, key = self.kind(tree.of), self.kind(tree.key)
        if of.name == "list":
            if key.name not in ("int", "any"):
                self._wrong(tree.key, f"an entry of a list is named by a whole number, not by {key}")
            return (of.item or ANY).maybe()
        if of.name == "map":
            if key.name not in ("string", "any"):
                self._wrong(tree.key, f"an entry of a mapping is named by text, not by {key}")
            return (of.item or ANY).maybe()
        if of.name == "any":
            return ANY.maybe()
        message = "fields are named by a literal" if of.name == "object" else f"{of} has no entries"
        return self._wrong(tree.key, f"{cel.source(tree.of)}: {message}")

    def _truth(self, tree: cel.Tree) -> Kind:
        kind = self.kind(tree)
        if kind.name not in ("bool", "any"):
            self._wrong(tree, f"{cel.source(tree)} is {kind}, and true or false is needed")
        return kind

    def _logic(self, tree: cel.Logic) -> Kind:
        before = self._sure
        optional = False
        for term in tree.terms:
            optional |= self._truth(term).optional
            if tree.op == "&&":
                self._sure |= _assured(term)
        self._sure = before
        return replace(BOOL, optional=optional)

    def _choice(self, tree: cel.Choice) -> Kind:
        when = self._truth(tree.when)
        before = self._sure
        self._sure |= _assured(tree.when)
        yes = self.kind(tree.yes)
        self._sure = before
        no = self.kind(tree.no)
        optional = when.optional or yes.optional or no.optional
        if "null" in (yes.name, no.name):
            return (no if yes.name == "null" else yes).maybe()
        if yes.name == no.name:
            words = yes.words + no.words if yes.words and no.words else ()
            return replace(yes, optional=optional, words=words)
        if {yes.name, no.name} <= NUMBERS:
            return replace(FLOAT, optional=optional)
        if "any" not in (yes.name, no.name):
            self._wrong(tree.no, f"the two answers differ: {yes} and {no}")
        return replace(ANY, optional=optional)

    def _unary(self, tree: cel.Unary) -> Kind:
        if tree.op == "!":
            return replace(BOOL, optional=self._truth(tree.of).optional)
        kind = self.kind(tree.of)
        if kind.name not in NUMBERS | {"duration", "any"}:
            return self._wrong(tree, f"{cel.source(tree.of)} is {kind} and cannot be negated")
        return kind

    def _listof(self, tree: cel.ListOf) -> Kind:
        kinds = [self.kind(item) for item in tree.items]
        optional = any(kind.optional for kind in kinds)
        names = {kind.name for kind in kinds}
        if len(names) == 1:
            words = tuple(word for kind in kinds for word in kind.words) if all(kind.words for kind in kinds) else ()
            item = replace(kinds[0], words=words, optional=False)
        else:
            item = FLOAT if names and names <= NUMBERS else ANY
        return Kind("list", item=item, optional=optional)

    def _binary(self, tree: cel.Binary) -> Kind:
        left, right = self.kind(tree.left), self.kind(tree.right)
        optional = left.optional or right.optional
        if tree.op == "in":
            self._contained(tree, left, right)
            return replace(BOOL, optional=optional)
        if tree.op in ("==", "!="):
            self._comparable(tree, left, right)
            asks_null = any(isinstance(side, cel.Literal) and side.value is None for side in (tree.left, tree.right))
            return BOOL if asks_null else replace(BOOL, optional=optional)
        if tree.op in ("<", "<=", ">", ">="):
            if self._comparable(tree, left, right):
                for side, kind in ((tree.left, left), (tree.right, right)):
                    if kind.name not in _ORDERED | {"any"}:
                        self._wrong(side, f"{cel.source(side)} is {kind}, which has no order")
            return replace(BOOL, optional=optional)
        return replace(self._arithmetic(tree, left, right), optional=optional)

    def _comparable(self, tree: cel.Binary, left: Kind, right: Kind) -> bool:
        why = _why_not_comparable(left, right)
        if why is None:
            return True
        hint = None
        if "duration" in (left.name, right.name) and ({left.name, right.name} & {"int", "float", "string"}):
            hint = "write duration('5m')"
        message = f"cannot compare {cel.source(tree.left)} with {cel.source(tree.right)}: {why}"
        self._wrong(tree.right, message, hint or _word_hint(left, right))
        return False

    def _contained(self, tree: cel.Binary, left: Kind, right: Kind) -> None:
        if right.name == "list":
            why = _why_not_comparable(left, right.item or ANY)
            if why:
                self._wrong(tree.right, f"{cel.source(tree.left)} is never in {cel.source(tree.right)}: {why}")
        elif right.name in ("map", "object"):
            if left.name not in ("string", "any"):
                self._wrong(tree.left, f"the keys of a mapping are text, and {cel.source(tree.left)} is {left}")
        elif right.name != "any":
            self._wrong(tree.right, f"{cel.source(tree.right)} is {right}, not a list")

    def _arithmetic(self, tree: cel.Binary, left: Kind, right: Kind) -> Kind:
        names = {left.name, right.name}
        if "any" in names:
            return ANY
        if tree.op == "+" and names in ({"string"}, {"list"}):
            return Kind("string") if names == {"string"} else left
        if names == {"int"}:
            return INT
        if tree.op != "%":
            if names <= NUMBERS | {"duration"}:
                if "duration" not in names:
                    return FLOAT
                return FLOAT if tree.op == "/" and left.name in TIMES and right.name in TIMES else DURATION
            if tree.op == "-" and names == {"timestamp"}:
                return DURATION
            if tree.op in "+-" and left.name == "timestamp" and right.name == "duration":
                return TIMESTAMP
            if tree.op == "+" and left.name == "duration" and right.name == "timestamp":
                return TIMESTAMP
        return self._wrong(tree.right, f"cannot compute {left} {tree.op} {right}")

    def _macro(self, tree: cel.Macro) -> Kind:
        of = self.kind(tree.of)
        if of.name == "list":
            item = of.item or ANY
        elif of.name in ("map", "any"):
            item = STRING if of.name == "map" else ANY
        else:
            item = self._wrong(tree.of, f"{cel.source(tree.of)} is {of}, not a list")
        if tree.name in self._kinds or tree.name == "steps":
            self._wrong(tree, f'"{tree.name}" already means something here', "choose another name")
        outer, self._kinds = self._kinds, {**self._kinds, tree.name: item}
        body = self.kind(tree.body) if tree.macro == "map" else self._truth(tree.body)
        self._kinds = outer
        optional = of.optional or body.optional
        if tree.macro == "map":
            return Kind("list", item=body.surely(), optional=optional)
        if tree.macro == "filter":
            return Kind("list", item=item, optional=optional)
        return replace(BOOL, optional=optional)

    def _call(self, tree: cel.Call) -> Kind:
        signature = _SIGNATURES.get(tree.function)
        if signature is None:
            return self._wrong(
                tree, f'there is no function "{tree.function}"', meant(tree.function, [*_SIGNATURES, *cel.MACROS])
            )
        wanted, result, as_method = signature
        if len(tree.args) != len(wanted) or (tree.method and not as_method):
            return self._wrong(tree, f"{tree.function} is used as {_USAGE[tree.function]}")
        kinds = [self.kind(arg) for arg in tree.args]
        for arg, kind, names in zip(tree.args, kinds, wanted, strict=True):
            if names and kind.name not in names | {"any"}:
                self._wrong(arg, f"{cel.source(arg)} is {kind}: {tree.function} is used as {_USAGE[tree.function]}")
        self._literal_argument(tree)
        if tree.function == "has":
            if not isinstance(tree.args[0], cel.Field | cel.Index | cel.Name):
                self._wrong(tree.args[0], f"has is used as {_USAGE['has']}")
            return BOOL
        return replace(result, optional=any(kind.optional for kind in kinds))

    def _literal_argument(self, tree: cel.Call) -> None:
        """Literals can be judged now: a duration, an instant, a pattern."""
        argument = tree.args[-1]
        if not (isinstance(argument, cel.Literal) and isinstance(argument.value, str)):
            return
        try:
            if tree.function == "duration":
                parse_duration(argument.value)
            elif tree.function in ("timestamp", "int", "double"):
                FUNCTIONS[tree.function](argument.value)
            elif tree.function == "matches":
                FUNCTIONS["matches"]("", argument.value)
        except (ValueError, TypeError) as error:
            message, _, hint = str(error).partition("; ")
            self._wrong(argument, message, hint or None)


def _why_not_comparable(left: Kind, right: Kind) -> str | None:
    names = {left.name, right.name}
    if names & {"any", "null"}:
        return None
    if names <= NUMBERS or names <= TIMES or names <= {"object", "map"}:
        return None
    if left.name == right.name:
        if left.words and right.words and not set(left.words) & set(right.words):
            said, options = (left, right) if len(left.words) == 1 else (right, left)
            return f'"{said.words[0]}" is not one of {", ".join(options.words)}'
        if left.name == "list" and left.item and right.item:
            return _why_not_comparable(left.item, right.item)
        return None
    return f"{left} and {right}"


def _word_hint(left: Kind, right: Kind) -> str | None:
    if left.words and right.words:
        said, options = (left, right) if len(left.words) == 1 else (right, left)
        return meant(said.words[0], options.words)
    return None


def _assured(tree: cel.Tree) -> frozenset[str]:
    """What is certainly there when this is true."""
    match tree:
        case cel.Call(function="has", args=(argument,)):
            return frozenset({cel.source(argument)})
        case cel.Logic(op="&&", terms=terms):
            return frozenset().union(*(_assured(term) for term in terms))
        case cel.Binary(op="!=", left=left, right=cel.Literal(value=None)):
            return frozenset({cel.source(left)})
        case _:
            return frozenset()


_NUMERIC = frozenset({"int", "float", "seconds", "string"})
_TEXT = frozenset({"string"})
_SIZED = frozenset({"string", "list", "map", "object"})
#: Kinds of the arguments (empty: any), the result, and whether it may be written as a method.
_SIGNATURES: dict[str, tuple[tuple[frozenset[str], ...], Kind, bool]] = {
    "has": ((frozenset(),), BOOL, False),
    "size": ((_SIZED,), INT, True),
    "duration": ((frozenset({"string", "int", "float", "seconds", "duration"}),), DURATION, False),
    "timestamp": ((_TEXT | {"timestamp"},), TIMESTAMP, False),
    "string": ((_NUMERIC | {"bool", "timestamp", "duration"},), STRING, False),
    "int": ((_NUMERIC,), INT, False),
    "double": ((_NUMERIC,), FLOAT, False),
    "matches": ((_TEXT, _TEXT), BOOL, True),
    "startsWith": ((_TEXT, _TEXT), BOOL, True),
    "endsWith": ((_TEXT, _TEXT), BOOL, True),
    "contains": ((_TEXT, _TEXT), BOOL, True),
}
_USAGE = {
    "has": "has(now.field)", "size": "size(list)", "duration": "duration('5m')",
    "timestamp": "timestamp('2026-11-23T03:07:12Z')", "string": "string(number)", "int": "int(number)",
    "double": "double(number)", "matches": "text.matches('pattern')", "startsWith": "text.startsWith('x')",
    "endsWith": "text.endsWith('x')", "contains": "text.contains('x')",
}  # fmt: skip
