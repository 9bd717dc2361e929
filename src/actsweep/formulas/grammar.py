"""Activations typed as formulas of x: their grammar, their normal form, and where one is wrong.

A formula is read by Python's own parser and then by an allow-list; nothing is ever evaluated as
Python. The normal form is the formula that is computed and that a run's id counts: two formulas
with the same one give the same bits. It changes nothing that floating point would round otherwise:
spaces and brackets; the order of the two sides of +, *, max and min; a - b, which is a + (-b);
1 * a, -1 * a, a / 1, a ** 1, a - 0; constants, which are computed in double precision; and names
that mean the same. No jax, no NumPy.
"""

import ast
import difflib
import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from actsweep.formulas.rescaling import TRANSFORM_KEYS
from actsweep.utils.errors import UserError, bad_value

OPTION = "formula"
"""The option of `act` whose config file holds what every formula has."""
FUNCTIONS: dict[str, int] = {
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "sqrt", "abs", "sign", "erf", "erfc"), 1),
    **dict.fromkeys(("sin", "cos", "atan", "sinh", "cosh", "asinh", "tanh"), 1),
    **dict.fromkeys(("sigmoid", "softplus", "gelu", "silu", "mish"), 1),
    **dict.fromkeys(("max", "min"), 2),
    "where": 3,
}
"""Functions of the normal form, and of how many arguments."""
ALIASES = {"swish": "silu", "logistic": "sigmoid", "arctan": "atan", "arcsinh": "asinh"}
ALIASES |= {"maximum": "max", "minimum": "min", "ln": "log"}
SHORT = {
    "relu": ("z",),
    "softsign": ("z",),
    "log_sigmoid": ("z",),
    "square": ("z",),
    "clip": ("z", "low", "high"),
}
"""Functions that stand for others, and their arguments."""
RESERVED = ("name", OPTION, "learnable", "per_channel", "by_layer", "pieces", "z")
CONSTANTS = {"pi": math.pi}
COMPARED = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<="}
LONGEST, DEEPEST = 300, 40
_SYMBOLS = re.compile(r"[()*^<>+]|\s[-/]\s")
_OF_X_ALONE = re.compile(r"(?=.*x)[\dx.\s/-]*[-/][\dx.\s/-]*")
_HYDRA = re.compile(r"(choice|glob|range|interval|sort|shuffle|tag|extend_list)\(|[\[{$]")


@dataclass(frozen=True)
class Node:
    """A part of a formula.

    Attributes:
        kind: `number`, `x`, `parameter`, an operator (`+`, `*`, `/`, `**`, `neg`), a comparison, or
            the name of a function.
        args: its parts.
        value: of a number.
        name: of a parameter.
        place: where it was typed: an index into the text.
    """

    kind: str
    args: tuple["Node", ...] = ()
    value: float = 0.0
    name: str = ""
    place: int = field(default=0, compare=False)


def is_formula(text: object) -> bool:
    """Return whether a value of `act` is a formula, rather than an option's name."""
    if not isinstance(text, str) or _HYDRA.match(text):
        return False
    if re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text, re.I):
        return False
    return bool(_SYMBOLS.search(text) or _OF_X_ALONE.fullmatch(text))


def split_list(text: str) -> list[str]:
    """Return the elements of a list of values; a comma in brackets or quotes is part of one."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        else:
            depth += (char in "([{") - (char in ")]}")
            if char == "," and depth <= 0:
                parts.append("")
                continue
        parts[-1] += char
    return [_unquoted(part.strip()) for part in parts]


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in inner
    return inner if quoted else text


def wrong(text: str, place: int, why: str, path: str = "act") -> UserError:
    """Return the error for a formula: one line, and the formula with a caret under the place."""
    return UserError(f"{path}={text}: {why}\n  {text}\n  {' ' * place}^")


@functools.cache
def parse(text: str, path: str = "act") -> Node:
    """Return the normal form of a formula, as a tree.

    Args:
        text: as typed, such as `x*tanh(softplus(x))`.
        path: the config path, for the message of an error.

    Raises:
        UserError: it can't be read; the caret shows where.
    """
    if len(text) > LONGEST:
        shown = text[:20] + "…"
        raise UserError(
            f"{path}={shown}: must be of at most {LONGEST} characters; write it in a file "
            "of your own, and type act._target_=my_module.my_function"
        )
    if strange := re.search(r"[^\x20-\x7e]|[\"'$\\{}\[\]@:;#]", text):
        raise wrong(text, strange.start(), f"{strange[0]!r} has no meaning in a formula", path)
    python, places = "", []
    for place, char in enumerate(text):  # ^ is a power, and binds as one
        python += "**" if char == "^" else char
        places += [place] * (2 if char == "^" else 1)
    try:
        tree = ast.parse(python.lstrip(), mode="eval").body
    except SyntaxError as error:
        offset = (error.offset or 1) - 1 + len(python) - len(python.lstrip())
        place = places[offset] if offset < len(places) else len(text)
        why = (error.msg or "can't be read").partition(". ")[0]
        raise wrong(text, place, f"{why}; type for example act='x*tanh(x)'", path) from None
    except (RecursionError, MemoryError):
        raise wrong(text, 0, "has too many brackets; type a shorter one", path) from None
    skipped = len(python) - len(python.lstrip())
    reader = _Reader(text, [*places[skipped:], len(text)], path, python.lstrip())
    made = reader.read(tree, 0)
    if not any(node.kind == "x" for node in walk(made)):
        raise wrong(text, 0, "doesn't depend on x, the pre-activation", path)
    return made


def normal_form(text: str, path: str = "act") -> str:
    """Return the normal form of a formula, as text that `parse` reads as the same.

    Raises:
        UserError: as `parse`.

    >>> normal_form("softplus(x)^2 * 1.0 + x")
    'softplus(x)**2.0+x'
    """
    return show(parse(text, path))


def walk(node: Node) -> Iterator[Node]:
    """Yield a part and all of its own parts."""
    yield node
    for arg in node.args:
        yield from walk(arg)


def parameters(node: Node) -> tuple[str, ...]:
    """Return the names of a formula's parameters, sorted."""
    return tuple(sorted({part.name for part in walk(node) if part.kind == "parameter"}))


def show(node: Node) -> str:
    """Return a tree as text."""
    return _show(node, 0)


_BINDS = {"+": 1, "*": 3, "/": 3, "neg": 4, "**": 5, **dict.fromkeys(COMPARED.values(), 0)}


def _show(node: Node, outer: int) -> str:
    if node.kind == "number":
        text = repr(node.value)
        return f"({text})" if node.value < 0 and outer > 1 else text
    if node.kind in ("x", "parameter"):
        return node.name or "x"
    if node.kind not in _BINDS:
        return f"{node.kind}({','.join(_show(arg, 0) for arg in node.args)})"
    binds = _BINDS[node.kind]
    if node.kind == "neg":
        text = "-" + _show(node.args[0], binds)
    else:
        left, right = node.args
        # What binds alike is in brackets on the right; of a power on the left.
        first = _show(left, binds + (node.kind == "**"))
        second = _show(right, binds + (node.kind != "**"))
        minus = node.kind == "+" and second.startswith("-")
        text = first + second if minus else first + node.kind + second
    return f"({text})" if binds < outer else text


class _Reader:
    """The allow-list: from Python's tree of one formula to ours."""

    def __init__(self, text: str, places: list[int], path: str, python: str) -> None:
        self.text, self.places, self.path, self.python = text, places, path, python

    def wrong(self, place: int, why: str) -> UserError:
        return wrong(self.text, place, why, self.path)

    def read(self, tree: ast.expr, depth: int) -> Node:
        """Return the normal form of one part."""
        place = self.places[tree.col_offset]
        if depth > DEEPEST:
            raise self.wrong(place, "has too many brackets; type a shorter one")
        read = functools.partial(self.read, depth=depth + 1)
        match tree:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return self.number(number, place)
            case ast.Name(id=name):
                return self.name(name, place)
            case ast.UnaryOp(op=ast.UAdd()):
                return read(tree.operand)
            case ast.UnaryOp(op=ast.USub()):
                return self.made("neg", (read(tree.operand),), place)
            case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow()):
                return self.operation(tree, read(tree.left), read(tree.right))
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                return self.call(name, tree.args, place, depth)
            case ast.Compare():
                raise self.wrong(place, "a comparison is where()'s first argument: where(x>0,x,0)")
        raise self.wrong(place, "isn't part of a formula; type + - * / ^, numbers and functions")

    def number(self, value: int | float, place: int) -> Node:
        if not abs(value) < 3.4e38:
            raise self.wrong(place, "must be a number that float32 holds")
        return Node("number", value=float(value), place=place)

    def name(self, name: str, place: int) -> Node:
        if name == "x":
            return Node("x", place=place)
        if name in CONSTANTS:
            return self.number(CONSTANTS[name], place)
        if name in {*FUNCTIONS, *ALIASES, *SHORT}:
            raise self.wrong(place, f"{name} is a function; type {name}(x)")
        if name in RESERVED:
            raise self.wrong(place, f"{name} can't be a parameter's name; the input is x")
        return Node("parameter", name=name, place=place)

    def operation(self, tree: ast.BinOp, left: Node, right: Node) -> Node:
        sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
        kind = sign[type(tree.op)]
        assert tree.left.end_col_offset is not None
        place = self.places[self.python.index(kind, tree.left.end_col_offset)]
        if kind == "-":
            return self.made("+", (left, self.made("neg", (right,), place)), place)
        return self.made(kind, (left, right), place)

    def call(self, name: str, args: list[ast.expr], place: int, depth: int) -> Node:
        kind = ALIASES.get(name, name)
        known = {*FUNCTIONS, *ALIASES, *SHORT}
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise self.wrong(
                place, f"unknown function {name}; {hint}Known: {', '.join(sorted(known))}"
            )
        if kind == "where":
            return self.where(args, place, depth)
        read = [self.read(arg, depth + 1) for arg in args]
        if kind in SHORT and len(read) == len(SHORT[kind]):
            return self.short(kind, read, place)
        if kind in ("max", "min") and len(read) > 2:
            return functools.reduce(lambda a, b: self.made(kind, (a, b), place), read)
        wanted = len(SHORT[kind]) if kind in SHORT else FUNCTIONS[kind]
        if len(read) != wanted:
            raise self.wrong(place, f"{name} takes {wanted} argument{'s' * (wanted > 1)}")
        return self.made(kind, tuple(read), place)

    def short(self, kind: str, args: list[Node], place: int) -> Node:
        """Return what a function of `SHORT` stands for."""
        zero, one, two = (Node("number", value=float(n), place=place) for n in range(3))
        made = functools.partial(self.made, place=place)
        z = args[0]
        if kind == "relu":
            return made("max", (z, zero))
        if kind == "square":
            return made("**", (z, two))
        if kind == "softsign":
            return made("/", (z, made("+", (one, made("abs", (z,))))))
        if kind == "log_sigmoid":
            return made("neg", (made("softplus", (made("neg", (z,)),)),))
        return made("min", (made("max", (z, args[1])), args[2]))

    def where(self, args: list[ast.expr], place: int, depth: int) -> Node:
        if len(args) != 3 or not isinstance(args[0], ast.Compare) or len(args[0].ops) != 1:
            raise self.wrong(place, "where takes a comparison and two values: where(x>0,x,0)")
        compared, values = args[0], args[1:]
        if type(compared.ops[0]) not in COMPARED:
            raise self.wrong(self.places[compared.col_offset], "compare with > >= < or <=")
        read = [self.read(arg, depth + 1) for arg in (compared.left, *compared.comparators)]
        at = self.places[compared.col_offset]
        condition = Node(COMPARED[type(compared.ops[0])], tuple(read), place=at)
        branches = tuple(self.read(arg, depth + 1) for arg in values)
        return Node("where", (condition, *branches), place=place)

    def made(self, kind: str, args: tuple[Node, ...], place: int) -> Node:
        """Return an operation's normal form."""
        if all(arg.kind == "number" for arg in args):
            return self.number(self.folded(kind, [arg.value for arg in args], place), place)
        if kind in ("+", "*", "max", "min"):
            args = tuple(sorted(args, key=_order))
        first, last = args[0], args[-1]
        number = last.value if last.kind == "number" else None
        if kind == "neg" and first.kind == "neg":
            return first.args[0]
        if number == 1 and kind in ("*", "/", "**"):
            return replace(first, place=place)
        if number == -1 and kind in ("*", "/"):
            return self.made("neg", (first,), place)
        if number == 0 and kind == "+" and math.copysign(1, number) < 0:  # x - 0
            return replace(first, place=place)
        return Node(kind, args, place=place)

    def folded(self, kind: str, values: list[float], place: int) -> float:
        """Return a constant's value in double precision."""
        try:
            value = _CONSTANT[kind](*values)
        except (ZeroDivisionError, OverflowError, ValueError):
            value = math.nan
        if not isinstance(value, float) or not math.isfinite(value):
            why = "divides by 0" if kind == "/" else "isn't a finite number"
            raise self.wrong(place, why)
        return value


def _order(node: Node) -> tuple[bool, int, str]:
    """Return a key that sorts the two sides of an operation: a number last, x before the rest."""
    text = show(node)
    return node.kind == "number", len(text), text


def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))


_CONSTANT: Mapping[str, Any] = {
    **{name: getattr(math, name) for name in FUNCTIONS if hasattr(math, name)},
    "abs": abs,
    "max": max,
    "min": min,
    "neg": lambda a: -a,
    "+": lambda a, b: a + b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
    "sign": lambda a: math.copysign(1.0, a) if a else 0.0,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "gelu": lambda a: a * math.erfc(-a / math.sqrt(2)) / 2,
    "silu": lambda a: a * _sigmoid(a),
    "mish": lambda a: a * math.tanh(_softplus(a)),
}


def complete(act: dict[str, Any], path: str = "act") -> None:
    """Check the formula that `act` has for a name, and write down its normal form.

    Adds `formula`, the normal form; writes `learnable` as a list of parameters, or false.

    Args:
        act: a run's, or an entry of `act.by_layer`; changed.
        path: its config path.

    Raises:
        UserError: it can't be read, isn't finite near 0, or a parameter is unknown or missing.
    """
    text = str(act["name"])
    tree = parse(text, path)
    names = parameters(tree)
    act["formula"] = show(tree)
    act.setdefault("learnable", False)
    act.setdefault("per_channel", False)
    allowed = (*names, *RESERVED, *(TRANSFORM_KEYS if act.get("transform") else ()))
    for key, value in act.items():
        if key not in allowed:
            known = ", ".join(f"{path}.{name}" for name in names) or "none"
            raise UserError(
                f"{path}.{key}={value}: act={text} has no such parameter; leave it out. "
                f"Known here: {known}"
            )
    for name in names:
        value = act.get(name)
        if value is None:
            place = next(part.place for part in walk(tree) if part.name == name)
            why = f"{name} has no value; type {path}.{name}=1.0 (the input is x)"
            raise wrong(text, place, why, path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise bad_value(f"{path}.{name}", value, "a number", f"{path}.{name}=1.0")
        act[name] = float(value)
    act["learnable"] = _learnable(act["learnable"], names, path)
    if not isinstance(act["per_channel"], bool):
        key = f"{path}.per_channel"
        raise bad_value(key, act["per_channel"], "true or false", f"{key}=true")


def _learnable(given: Any, names: tuple[str, ...], path: str) -> Any:
    """Return the parameters that are trained, sorted; false for none."""
    if given in (False, None) or given == []:
        return False
    wanted = [*names] if given is True else [given] if isinstance(given, str) else given
    if not isinstance(wanted, list | tuple) or not wanted or not {*wanted} <= {*names}:
        allowed = (
            f"true, false or a list of {', '.join(names) or 'parameters, of which it has none'}"
        )
        raise bad_value(f"{path}.learnable", given, allowed, f"{path}.learnable=false")
    return sorted(wanted)


def slug(normal: str) -> str:
    """Return a formula's normal form as part of a folder's name: `x_tanh_softplus_x`."""
    words = re.findall(r"[A-Za-z]\w*|\d+(?:\.\d+)?", normal.replace(".0", ""))
    return "_".join(words)[:32].rstrip("_.") or OPTION


def parameter_words(value: str) -> list[str] | None:
    """Return what may be typed as `act.<key>` beside a formula; None if it is none.

    Raises:
        UserError: as `parse`.
    """
    (text, *more) = split_list(value)
    if more or not is_formula(text):
        return None
    names = parameters(parse(text))
    return [*names, "learnable", "per_channel"] if names else []
