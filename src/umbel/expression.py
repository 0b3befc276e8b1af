"""The closed list of SQL that Polars and Spark evaluate alike: the check against it, and the form that Polars is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from umbel.errors import UserError, nearest

OPERATORS = frozenset({"+", "-", "*", "/", "%", "=", "<>", "!=", "<", "<=", ">", ">=", "(", ")", ","})
WORDS = frozenset({"AND", "OR", "NOT", "IS", "NULL", "IN", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END", "AS", "TRUE", "FALSE"})
FUNCTIONS = frozenset({"ABS", "CAST", "CEIL", "COALESCE", "FLOOR", "LN", "LOWER", "NULLIF", "SQRT", "TRY_CAST", "UPPER"})
TYPES = frozenset({"BIGINT", "DOUBLE"})

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<text>'(?:[^']|'')*')|(?P<quoted>`[^`]+`|"[^"]+")|(?P<number>\d+(?:\.\d+)?(?![\w.]))"""
    r"""|(?P<name>[^\W\d]\w*)|(?P<operator><=>|<>|!=|<=|>=|--|/\*|//|\|\||::|.)""",
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


@dataclass(frozen=True, slots=True)
class Portable:
    """What Polars is given: an expression, and columns of one number each that it reads besides the raw ones."""

    sql: str
    constants: dict[str, float]


def check(text: str, *, where: str) -> tuple[str, ...]:
    """The columns that an expression reads, in order of appearance; anything outside the closed list is refused.

    `/` is true division, as in Spark: `7 / 2` is 3.5; write `FLOOR(a / 100)` for the whole part. The right side of `/` and `%`
    is a number other than 0 or `NULLIF(x, 0)`: engines disagree about division by zero. `LN(x)` is null where x is not above 0.
    `CAST` goes to BIGINT (towards zero) or DOUBLE and fails where a value has no counterpart; `TRY_CAST` gives null there.

    :raises UserError: naming the forbidden word and its place.

    Example
    -------
    >>> check("FLOOR(hourmin / 100)", where="fields.hour")
    ('hourmin',)
    >>> check("ABSOLUTE(price)", where="fields.size")
    Traceback (most recent call last):
    umbel.errors.UserError: fields.size: 'ABSOLUTE' at character 1 is not in the closed list of functions; use ABS, CAST, CEIL, COALESCE,
    FLOOR, LN, LOWER, NULLIF, SQRT, TRY_CAST, UPPER
    """
    tokens = tokenise(text)
    found: list[str] = []
    for place, token in enumerate(tokens):
        before, after = tokens[:place], tokens[place + 1 :]
        _check_token(token, before, after, where=where)
        if is_column(token, before, after):
            found.append(token.text.strip('`"') if token.kind == "quoted" else token.text)
    if [token.text for token in tokens].count("(") != [token.text for token in tokens].count(")"):
        raise UserError(f"{where}: {text!r} has brackets that do not close", mend="close them")
    if not found:
        raise UserError(f"{where}: {text!r} reads no column", mend="name at least one")
    return tuple(dict.fromkeys(found))


def portable(text: str) -> Portable:
    """A checked expression as Polars must be given it, so that it gives what Spark gives.

    Polars multiplies by the rounded reciprocal of a constant divisor (`FLOOR(3600000 / 3600000)` can come out one less), so the
    divisor becomes a column; it reads `1.5` as an exact decimal, so the literal gets an exponent; its logarithm of 0 is -inf.

    Example
    -------
    >>> portable("a / 100 + 0.5").sql
    'a / "/100" + 0.5e0'
    """
    constants: dict[str, float] = {}
    return Portable(_rewritten(tokenise(text), constants), constants)


def tokenise(text: str) -> list[Token]:
    """The words of an expression, blanks left out."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is not None and kind != "space":
            yield Token(kind, match.group(), match.start())


def _rewritten(tokens: list[Token], constants: dict[str, float]) -> str:
    words: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.word == "LN" and _opens(tokens[place + 1 : place + 2]):
            end = closing(tokens, place + 1)
            inner = _rewritten(tokens[place + 2 : end], constants)
            words.append(f"CASE WHEN ({inner}) > 0 THEN LN({inner}) END")
            place = end
        elif token.kind == "number" and place and tokens[place - 1].text == "/":
            constants[f"/{token.text}"] = float(token.text)
            words.append(f'"/{token.text}"')
        else:
            words.append(f"{token.text}e0" if token.kind == "number" and "." in token.text else token.text)
        place += 1
    return " ".join(words)


def closing(tokens: list[Token], start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for place in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place].text, 0)
        if depth == 0:
            return place
    return len(tokens)


def _opens(after: list[Token]) -> bool:
    return bool(after) and after[0].text == "("


def _is_type(token: Token, before: list[Token]) -> bool:
    return bool(before) and before[-1].word == "AS" and token.kind == "name"


def is_column(token: Token, before: list[Token], after: list[Token]) -> bool:
    """Whether a token among others names a column: no word, function or type."""
    if token.kind == "quoted":
        return True
    return token.kind == "name" and token.word not in WORDS and not _opens(after) and not _is_type(token, before)


def _ends_value(token: Token) -> bool:
    return _begins_value(token) or token.text == ")" or token.word in ("END", "NULL", "TRUE", "FALSE")


def _begins_value(token: Token) -> bool:
    """Text, numbers, columns, functions: Polars would take the second of two in a row for the new name of the first."""
    return token.kind in ("text", "quoted", "number") or (token.kind == "name" and token.word not in WORDS)


def _check_token(token: Token, before: list[Token], after: list[Token], *, where: str) -> None:
    place = f"{where}: {token.text!r} at character {token.start + 1}"
    if token.kind == "operator" and token.text not in OPERATORS:
        raise UserError(f"{place} is not in the closed list", mend=f"use {' '.join(sorted(OPERATORS))}")
    if before and _ends_value(before[-1]) and _begins_value(token):
        raise UserError(f"{place} follows a value without an operator", mend="put one between them")
    if token.text in ("/", "%") and not _safe_divisor(after):
        raise UserError(f"{place} may divide by zero", mend="divide by a number other than 0 or by NULLIF(x, 0)")
    if _is_type(token, before) and token.word not in TYPES:
        raise UserError(f"{place} is no type that every engine casts alike", mend=nearest(token.word, TYPES))
    if token.kind == "name" and _opens(after) and token.word not in FUNCTIONS | WORDS:
        raise UserError(f"{place} is not in the closed list of functions", mend=f"use {', '.join(sorted(FUNCTIONS))}")


def _safe_divisor(after: list[Token]) -> bool:
    if not after:
        return False
    if after[0].kind == "number":
        return float(after[0].text) != 0
    end = closing(after, 1)
    return after[0].word == "NULLIF" and [token.text for token in after[end - 2 : end]] == [",", "0"]
