"""An expression of the closed list as Spark must be given it, and whether Spark and Polars compute it to the same bits."""

from __future__ import annotations

import polars as pl

from umbel.data.derive import NARROW, evaluate, field_value
from umbel.expression import Token, closing, is_column, tokenise
from umbel.schema import Field, FieldKind

# Each engine has logarithms, tables of letters and readers of text of its own.
OWN_LIBRARY = frozenset({"LN", "LOWER", "UPPER"})
EXACT = frozenset({*NARROW, pl.Int64, pl.Float64, pl.Boolean})
BEYOND = "9223372036854775808e0"  # 2^63, which Spark casts to 2^63 - 1
LARGE = "9007199254740992e0"      # 2^53: doubles from here on are whole


def alike(text: str, columns: pl.DataFrame) -> bool:
    """Whether both engines compute it to the same bits: numbers and truth values alone, and no function that differs in the last bit.

    `columns` has the raw columns that it reads, in their types.
    """
    tokens = tokenise(text)
    plain = not any(token.kind == "text" or (token.kind == "name" and token.word in OWN_LIBRARY) for token in tokens)
    return plain and all(columns[name].dtype in EXACT for name in _reads(tokens))


def form(text: str, columns: pl.DataFrame) -> str:
    """A checked expression in Spark's words; `columns` has the raw columns that it reads, in their types.

    Numbers are read as BIGINT and DOUBLE, as Polars is made to read them. Spark takes `1.5` for an exact decimal and `"a"` for text,
    floors a double to a BIGINT, of NaN to 0, and casts 2^63 to 2^63 - 1: it is given forms that do none of that.

    Example
    -------
    >>> form("a / 100 + 0.5", pl.DataFrame(schema={"a": pl.UInt8}))
    'CAST(`a` AS BIGINT) / 100L + 0.5e0'
    """
    return _rewritten(tokenise(text), columns)


def quoted(name: str) -> str:
    """A column's name in Spark's SQL."""
    return f"`{name.replace('`', '``')}`"


def _reads(tokens: list[Token]) -> list[str]:
    return [_name(token) for place, token in enumerate(tokens) if is_column(token, tokens[:place], tokens[place + 1 :])]


def _name(token: Token) -> str:
    return token.text[1:-1] if token.kind == "quoted" else token.text


def _rewritten(tokens: list[Token], columns: pl.DataFrame) -> str:
    words: list[str] = []
    place = 0
    while place < len(tokens):
        token, after = tokens[place], tokens[place + 1 :]
        if token.word in _CALLS and token.kind == "name" and after and after[0].text == "(":
            end = closing(tokens, place + 1)
            words.append(_call(token.word, tokens[place + 2 : end], columns))
            place = end
        else:
            words.append(_word(token, tokens[:place], after, columns=columns))
        place += 1
    return " ".join(words)


def _word(token: Token, before: list[Token], after: list[Token], *, columns: pl.DataFrame) -> str:
    if is_column(token, before, after):
        name, wide = quoted(_name(token)), NARROW.get(columns[_name(token)].dtype)
        return f"CAST({name} AS {'DOUBLE' if wide == pl.Float64 else 'BIGINT'})" if wide else name
    if token.kind == "text":
        inner = token.text[1:-1].replace("''", "'").replace("\\", "\\\\").replace("'", "\\'")
        return f"'{inner}'"
    if token.kind == "number":
        return f"{token.text}e0" if "." in token.text else f"{token.text}L"
    return token.text


def _call(name: str, inner: list[Token], columns: pl.DataFrame) -> str:
    if name in ("FLOOR", "CEIL"):
        return _whole(name, inner, columns)
    cast = next(place for place in range(len(inner) - 1, -1, -1) if inner[place].word == "AS")
    value, kind = _rewritten(inner[:cast], columns), inner[cast + 1].word
    if kind == "BIGINT" and _of_doubles(inner[:cast], columns):
        value = f"CASE WHEN ({value}) = {BEYOND} THEN 1e300 ELSE ({value}) END"
    return f"{name}({value} AS {kind})"


def _whole(name: str, inner: list[Token], columns: pl.DataFrame) -> str:
    """The whole number below or above, of doubles as a double: with its sign where it is zero, itself where it is NaN or large."""
    value = _rewritten(inner, columns)
    if not _of_doubles(inner, columns):
        return f"({value})"
    zero = f"({value}) >= 0 AND ({value}) < 1" if name == "FLOOR" else f"({value}) > -1 AND ({value}) <= 0"
    return f"CASE WHEN {zero} THEN ({value}) * 0e0 WHEN ABS({value}) < {LARGE} THEN CAST({name}({value}) AS DOUBLE) ELSE ({value}) END"


def _of_doubles(tokens: list[Token], columns: pl.DataFrame) -> bool:
    """Whether Polars takes part of an expression for doubles."""
    if not _reads(tokens):  # numbers alone
        return any("." in token.text or token.text == "/" for token in tokens)
    part = Field("part", FieldKind.NUMBER, sql=" ".join(token.text for token in tokens))
    return evaluate(columns.clear(), [field_value(part)]).to_series().dtype.is_float()


_CALLS = frozenset({"FLOOR", "CEIL", "CAST", "TRY_CAST"})
