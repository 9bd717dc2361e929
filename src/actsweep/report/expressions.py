"""What filters understand: `act == elu and test_accuracy > 86`. Its twin is filter.js. No jax.

    any        = all {"or" all}
    all        = one {["and"] one}
    one        = "not" one | "(" any ")" | column operator value | word
    operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "~"

A column is called by its name or its title. `==` compares numbers as numbers and words without
regard to case, and finds a number by the digits that are shown, too; `~` is: contains. A bare word
is a whole word of a column that is shown, so that `elu` isn't `relu`. What has spaces, or would be
an operator, stands in quotes. Numbers are those that the table shows: shares are in percent.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np

from actsweep.report.run_columns import RunColumn
from actsweep.utils.errors import UserError

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "~")
TOKEN = re.compile(r"""\s*(?:("[^"]*"|'[^']*')|(==|!=|<=|>=|[<>~()])|([^\s()"'=!<>~]+)|(\S))""")
WORD = re.compile(r"[^\s,;=]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
MISSING = "–"
Test = Callable[[int], bool]
"""Returns whether the row of this place is kept."""


@dataclass(frozen=True)
class Token:
    """A word, or an operator or bracket. What was quoted is never a keyword."""

    text: str
    quoted: bool = False
    operator: bool = False

    def is_word(self, *words: str) -> bool:
        """Return whether it is one of these keywords or brackets."""
        return not self.quoted and self.text.lower() in words


def parse(text: str, columns: Sequence[RunColumn]) -> Test:
    """Return the test that an expression stands for; an empty one keeps every row.

    Raises:
        UserError: it can't be read, or names an unknown column, or a column without comparing it.
    """
    parser = _Parser(_tokens(text), columns)
    return parser.whole() if parser.left else lambda _: True


def _tokens(text: str) -> list[Token]:
    found = []
    for quoted, operator, word, other in TOKEN.findall(text.rstrip()):
        if other in ('"', "'"):
            raise UserError(f"{other}: isn't closed")
        if other:
            raise UserError(f"{other}: not understood; {' '.join(OPERATORS)} compare")
        found.append(Token(quoted[1:-1] or operator or word, bool(quoted), bool(operator)))
    return found


@dataclass
class _Parser:
    left: list[Token]
    columns: Sequence[RunColumn]

    def whole(self) -> Test:
        test = self.any()
        if self.left:
            raise UserError("): nothing to close")
        return test

    def any(self) -> Test:
        tests = [self.all()]
        while self.left and self.left[0].is_word("or"):
            self.left.pop(0)
            tests.append(self.all())
        return lambda row: any(test(row) for test in tests)

    def all(self) -> Test:
        tests = [self.one()]
        while self.left and not self.left[0].is_word("or", ")"):
            if self.left[0].is_word("and"):
                self.left.pop(0)
            tests.append(self.one())
        return lambda row: all(test(row) for test in tests)

    def one(self) -> Test:
        if not self.left:
            raise UserError("something is missing at the end")
        token = self.left.pop(0)
        if token.is_word("not"):
            test = self.one()
            return lambda row: not test(row)
        if token.is_word("("):
            test = self.any()
            if not (self.left and self.left.pop(0).is_word(")")):
                raise UserError("(: isn't closed")
            return test
        if token.is_word("and", "or"):
            raise UserError(f"{token.text}: needs something before it")
        if token.is_word(")"):
            raise UserError("): nothing to close")
        if token.operator:
            raise UserError(f"{token.text}: needs a column before it")
        if self.left and self.left[0].operator and self.left[0].text in OPERATORS:
            return self.comparison(token)
        if not token.quoted:
            _check_bare(token.text, self.columns)
        return _bare_word([column for column in self.columns if column.shown], token.text)

    def comparison(self, name: Token) -> Test:
        column, operator = _find(self.columns, name.text), self.left.pop(0).text
        value = self.left.pop(0) if self.left else None
        if value is None or value.operator or value.is_word("and", "or"):
            raise UserError(f"{name.text} {operator}: needs a value")
        return _comparison(column, operator, value.text)


def _find(columns: Sequence[RunColumn], name: str) -> RunColumn:
    for key in ("name", "title"):
        for column in columns:
            if getattr(column, key).lower() == name.lower():
                return column
    known = ", ".join(c.name if " " in c.title else c.title for c in columns if c.shown)
    raise UserError(f"{name}: no such column; there are {known}, and those under Columns")


def _comparison(column: RunColumn, operator: str, typed: str) -> Test:
    values = column.values
    if operator == "==":
        return lambda row: _equal(values[row], typed, column.digits)
    if operator == "!=":
        return lambda row: not _equal(values[row], typed, column.digits)
    if operator == "~":
        return lambda row: typed.lower() in text_of(values[row]).lower()
    limit = _number(typed)
    if limit is None:
        raise UserError(f"{column.name} {operator} {typed}: {typed} isn't a number")
    orders: dict[str, Callable[[float, float], bool]] = {
        "<": lambda x, y: x < y,
        "<=": lambda x, y: x <= y,
        ">": lambda x, y: x > y,
        ">=": lambda x, y: x >= y,
    }
    order = orders[operator]
    return lambda row: (x := _number(values[row])) is not None and order(x, limit)


def _check_bare(word: str, columns: Sequence[RunColumn]) -> None:
    """Refuse a word that was meant as part of a comparison: as a word it would keep no row."""
    if word.lower() == "in":
        raise UserError("in: compare with each value, (act == relu or act == tanh)")
    for column in columns:
        if word.lower() in (column.name.lower(), column.title.lower()):
            raise UserError(
                f'{word}: is a column; compare it, {word} == value, or quote the word: "{word}"'
            )


def _bare_word(columns: Sequence[RunColumn], typed: str) -> Test:
    word = typed.lower()

    def test(row: int) -> bool:
        texts = [text_of(column.values[row]).lower() for column in columns]
        return any(text == word or word in WORD.findall(text) for text in texts)

    return test


def _equal(value: Any, typed: str, digits: str) -> bool:
    """Return whether a value is what was typed, or a number is shown as that."""
    x, y = _number(value), _number(typed)
    if x is not None and y is not None:
        return any(abs(z - y) <= 1e-9 * max(abs(z), abs(y)) for z in (x, _rounded(x, digits)))
    return text_of(value).lower() == typed.lower()


def _rounded(value: float, digits: str) -> float:
    """Return a number as the page shows it; halves are rounded away from 0, as browsers do."""
    if not digits or not math.isfinite(value):
        return value
    exact, count = Decimal(value), int(digits[:-1])
    places = -count if digits.endswith("f") else exact.adjusted() + 1 - count
    context = Context(prec=400, rounding=ROUND_HALF_UP)
    return float(exact.quantize(Decimal(1).scaleb(places), context=context))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip()
    return float(text) if NUMBER.fullmatch(text) else None


def text_of(value: Any) -> str:
    """Return a value as it is compared with text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        return _as_javascript(value)
    return MISSING if value is None else str(value)


def _as_javascript(value: float) -> str:
    """Return a number as `String(value)` writes it in a browser."""
    if value == 0:
        return "0"
    if 1e-6 <= abs(value) < 1e21:
        return np.format_float_positional(value, trim="-")
    mantissa, _, exponent = repr(value).partition("e")
    return f"{mantissa}e{int(exponent):+d}"
