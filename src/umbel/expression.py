"""The closed list of SQL operators and functions that Polars and Spark evaluate alike, and the check against it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from umbel.errors import UserError, nearest

OPERATORS = frozenset({"+", "-", "*", "/", "=", "<>", "!=", "<", "<=", ">", ">=", "(", ")", ","})
WORDS = frozenset({"AND", "OR", "NOT", "IS", "NULL", "IN", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END", "AS", "TRUE", "FALSE"})
FUNCTIONS = frozenset({"ABS", "CAST", "CEIL", "COALESCE", "FLOOR", "GREATEST", "LEAST", "LOWER", "NULLIF", "SIGN", "TRIM", "UPPER"})
OUTERMOST = frozenset({"LOG1P", "SQRT"})
TYPES = frozenset({"BIGINT", "DOUBLE", "STRING"})

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<text>'(?:[^']|'')*')|(?P<quoted>`[^`]+`|"[^"]+")|(?P<number>\d+(?:\.\d+)?(?![\w.]))"""
    r"""|(?P<name>[^\W\d]\w*)|(?P<operator><>|!=|<=|>=|--|/\*|//|\|\||::|.)""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an expression: its kind (text, quoted, number, name, operator), itself, and where it starts."""

    kind: str
    text: str
    start: int

    @property
    def word(self) -> str:
        """The token as a keyword or function: in capitals."""
        return self.text.upper()


def check(text: str, *, where: str) -> tuple[str, ...]:
    """The columns that an expression reads, in order of appearance; anything outside the closed list is refused.

    `/` is true division, as in Spark: `7 / 2` is 3.5; write `FLOOR(a / 100)` for the whole part. Its right side is a
    number other than 0, or `NULLIF(x, 0)`: engines disagree about division by zero. `CAST` goes to BIGINT, DOUBLE or STRING.
    `LOG1P` and `SQRT` may only enclose the whole expression, where a value without a finite result is missing: inside,
    engines disagree about it.

    :raises UserError: naming the forbidden word and its place.

    Example
    -------
    >>> check("FLOOR(hourmin / 100)", where="fields.hour")
    ('hourmin',)
    """
    tokens = list(_tokens(text))
    if not tokens:
        raise UserError(f"{where}: the expression is empty", mend="write one, or name a column")
    found: list[str] = []
    for place, token in enumerate(tokens):
        before, after = tokens[:place], tokens[place + 1 :]
        _check_token(token, before, after, where=where)
        if _is_column(token, before, after):
            found.append(token.text.strip('`"') if token.kind == "quoted" else token.text)
    return tuple(dict.fromkeys(found))


def _tokens(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is not None and kind != "space":
            yield Token(kind, match.group(), match.start())


def _opens(after: list[Token]) -> bool:
    return bool(after) and after[0].text == "("


def _is_type(token: Token, before: list[Token]) -> bool:
    return bool(before) and before[-1].word == "AS" and token.kind == "name"


def _is_column(token: Token, before: list[Token], after: list[Token]) -> bool:
    if token.kind == "quoted":
        return True
    return token.kind == "name" and token.word not in WORDS and not _opens(after) and not _is_type(token, before)


def _check_token(token: Token, before: list[Token], after: list[Token], *, where: str) -> None:
    place = f"{where}: {token.text!r} at character {token.start + 1}"
    if token.kind == "operator" and token.text not in OPERATORS:
        raise UserError(f"{place} is not in the closed list", mend=f"use {' '.join(sorted(OPERATORS))}")
    if token.text == "/" and not _safe_divisor(after):
        raise UserError(f"{place} may divide by zero", mend="divide by a number other than 0 or by NULLIF(x, 0)")
    if _is_type(token, before) and token.word not in TYPES:
        raise UserError(f"{place} is no type that every engine casts alike", mend=nearest(token.word, TYPES))
    if token.kind == "name" and _opens(after) and token.word in OUTERMOST:
        if before or not _closes_last(after):
            raise UserError(f"{place} must enclose the whole expression", mend=f"write {token.word}(...) with nothing around it")
    elif token.kind == "name" and _opens(after) and token.word not in FUNCTIONS | WORDS:
        raise UserError(f"{place} is not in the closed list of functions", mend=nearest(token.word, FUNCTIONS | OUTERMOST))


def _closes_last(after: list[Token]) -> bool:
    """Whether the bracket that opens here closes at the very end."""
    depth = 0
    for place, token in enumerate(after):
        depth += (token.text == "(") - (token.text == ")")
        if not depth:
            return place == len(after) - 1
    return False


def outermost(text: str) -> bool:
    """Whether a checked expression is one of the functions whose non-finite results are missing."""
    return next(_tokens(text)).word in OUTERMOST


def _safe_divisor(after: list[Token]) -> bool:
    if not after:
        return False
    if after[0].kind == "number":
        return float(after[0].text) != 0
    return after[0].word == "NULLIF"
