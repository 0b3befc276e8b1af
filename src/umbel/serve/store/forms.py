"""The column that logged values of one name go into: the narrowest type that holds them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from umbel.serve.records import Value
from umbel.serve.store.rows import compact

LARGEST = 2**63 - 1


class Kind(StrEnum):
    """What single values are."""

    NOTHING = "nothing"  # null alone
    TRUTH = "truth"
    WHOLE = "whole"
    NUMBER = "number"
    TEXT = "text"        # or a mixture, as JSON


DTYPES = {Kind.NOTHING: pl.String(), Kind.TRUTH: pl.Boolean(), Kind.WHOLE: pl.Int64(), Kind.NUMBER: pl.Float64(), Kind.TEXT: pl.String()}


@dataclass(frozen=True, slots=True)
class Form:
    """The type of a column: what its values are, and whether there are several a row.

    Example
    -------
    >>> whole = form_of(3)
    >>> whole | form_of(0.5), whole | form_of("a"), form_of([1]) | form_of([]), form_of([1]) | whole
    (Form(kind='number', many=False), Form(kind='text', many=False), Form(kind='whole', many=True), Form(kind='text', many=False))
    """

    kind: Kind
    many: bool = False

    def __repr__(self) -> str:
        return f"Form(kind={self.kind.value!r}, many={self.many})"

    def __or__(self, other: Form) -> Form:
        if self == other or other == NOTHING:
            return self
        if self == NOTHING:
            return other
        return Form(_both(self.kind, other.kind), self.many) if self.many == other.many else Form(Kind.TEXT)

    def series(self, name: str, values: Iterable[Value]) -> pl.Series:
        """Values as a column of this type; in a mixture, what is no text as its JSON."""
        dtype = pl.List(DTYPES[self.kind]) if self.many else DTYPES[self.kind]
        return pl.Series(name, [self._value(value) for value in values], dtype=dtype)

    def _value(self, value: Value) -> Value:
        if value is None or not isinstance(value, list) or not self.many:
            return value if value is None or self.kind is not Kind.TEXT or isinstance(value, str) else compact(value)
        single = Form(self.kind)
        return [single._value(one) for one in value]  # type: ignore[return-value]


NOTHING = Form(Kind.NOTHING)


def form_of(value: Value) -> Form:
    """The type of one value."""
    if not isinstance(value, list):
        return Form(_kind(value))
    found = Form(Kind.NOTHING, many=True)
    for one in value:
        found |= Form(_kind(one), many=True)
    return found


def widen(forms: dict[str, Form], fields: Mapping[str, Value]) -> None:
    """Let the columns hold these values too."""
    for name, value in fields.items():
        forms[name] = forms.get(name, NOTHING) | form_of(value)


def all_whole(ids: Iterable[str]) -> bool:
    """Whether every id is the text of a whole number of 64 bits, so that no two become one as numbers.

    Example
    -------
    >>> all_whole(["7", "-12"]), all_whole(["7", "07"]), all_whole(["9223372036854775808"])
    (True, False, False)
    """
    return all(_whole(one) for one in ids)


def columns(forms: Mapping[str, Form], rows: Sequence[Mapping[str, Value]]) -> list[pl.Series]:
    """A column for each name, null where a row has no value."""
    return [form.series(name, [row.get(name) for row in rows]) for name, form in forms.items()]


def _whole(text: str) -> bool:
    digits = text.removeprefix("-")
    canonical = digits.isascii() and digits.isdigit() and (digits[0] != "0" or text == "0")
    return canonical and len(digits) < 20 and abs(int(text)) <= LARGEST


def _kind(value: Value) -> Kind:
    if value is None:
        return Kind.NOTHING
    if isinstance(value, bool):
        return Kind.TRUTH
    if isinstance(value, int):
        return Kind.WHOLE if abs(value) <= LARGEST else Kind.TEXT
    return Kind.NUMBER if isinstance(value, float) else Kind.TEXT


def _both(one: Kind, other: Kind) -> Kind:
    if one is Kind.NOTHING or one is other:
        return other
    if other is Kind.NOTHING:
        return one
    return Kind.NUMBER if {one, other} == {Kind.WHOLE, Kind.NUMBER} else Kind.TEXT
