"""The slices of a report: how often user and item were seen in training, and the fields and raw columns the run file names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import polars as pl
from jaxtyping import Int

from umbel.data.batch import Batch
from umbel.data.beside import UNKNOWN, Beside
from umbel.data.source import Source
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.errors import UserError, nearest
from umbel.evaluate.slices import frequency_bins
from umbel.schema import Field, FieldKind, Schema


class Slice(ABC):
    """One way to part rows: a code for each row, and a label for each code."""

    name: str

    @abstractmethod
    def codes(self, frame: pl.DataFrame, batch: Batch) -> Int[np.ndarray, "rows"]:
        """The codes of raw rows and the batch made of them; no view of either."""

    @abstractmethod
    def labels(self, codes: Int[np.ndarray, "rows"]) -> np.ndarray:
        """What the codes say."""

    @abstractmethod
    def part(self, table: Table, part: str) -> np.ndarray:
        """The labels of a part of a table."""


@final
@dataclass(frozen=True, slots=True)
class Coded(Slice):
    """By a coded field of one value, whose distinct codes `said` names."""

    name: str
    field: str
    said: Callable[[Int[np.ndarray, "codes"]], np.ndarray]

    def codes(self, frame: pl.DataFrame, batch: Batch) -> Int[np.ndarray, "rows"]:
        """Those of the field."""
        return batch.fields[self.field].numpy().copy()

    def labels(self, codes: Int[np.ndarray, "rows"]) -> np.ndarray:
        """Each distinct code is asked for once."""
        used, place = np.unique(codes, return_inverse=True)
        return self.said(used)[place]

    def part(self, table: Table, part: str) -> np.ndarray:
        """From the field's codes in the table."""
        return self.labels(table.column(self.field, part))


@final
@dataclass(frozen=True, slots=True)
class Raw(Slice):
    """By a raw column that is no such field; where a log has it not, it is unknown."""

    name: str
    column: str
    beside: Beside

    def codes(self, frame: pl.DataFrame, batch: Batch) -> Int[np.ndarray, "rows"]:
        """Values, numbered as they are met."""
        column = frame[self.column] if self.column in frame.columns else pl.Series(self.column, [None] * frame.height, dtype=pl.String)
        return self.beside.code(column.to_frame())[:, 0]

    def labels(self, codes: Int[np.ndarray, "rows"]) -> np.ndarray:
        """The values themselves."""
        return np.array(self.beside.values[self.column]).take(codes)

    def part(self, table: Table, part: str) -> np.ndarray:
        """As the table has kept them."""
        return table.beside(self.column, part)


def slices(table: Table, part: str, *, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """A label per row of `part` for each slice; :raises UserError: for a name that `check_kept` refuses."""
    check_kept(table, names)
    return {one.name: one.part(table, part) for one in slicing(table.encoder, table.source, names=names)}


def slicing(encoder: Encoder, source: Source, *, names: Sequence[str], where: str = "evaluate.slices") -> tuple[Slice, ...]:
    """How often user and item were seen in training, where a field holds them, then the values of the named fields and columns.

    :raises UserError: that says `where`, for a field of several values, or one that is derived and no category.
    """
    raw = beside(encoder.schema, names, where=where)
    roles = (("user", source.user), ("item", source.item))
    fields = {role: reading(encoder.schema, column) for role, column in roles}
    seen = [Coded(f"{role} seen in training", field.name, _Seen(encoder, field)) for role, field in fields.items() if field is not None]
    named = [Raw(name, raw[name], Beside([raw[name]])) if name in raw else Coded(name, name, _Values(encoder, name)) for name in names]
    return (*seen, *named)


def beside(schema: Schema, names: Sequence[str], *, where: str = "evaluate.slices") -> dict[str, str]:
    """The raw columns that those of the names stand for which are no coded field of one value.

    A number is told by its raw values; a name that no field has is itself a column.

    :raises UserError: that says `where`, for a field of several values, or one that is derived and no category.
    """
    found: dict[str, str] = {}
    for name in names:
        field = next((one for one in schema.fields if one.name == name), Field(name, FieldKind.NUMBER))
        if field.many or field.wide:
            raise UserError(f"{where}: {name!r} holds several values a row", mend="name an id, a category, a number or a raw column")
        if not field.coded and field.sql is not None:
            raise UserError(f"{where}: {name!r} is a derived number", mend="make it a category, or name a raw column")
        if not field.coded:
            found[name] = field.column or name
    return found


def check_kept(table: Table, names: Sequence[str]) -> None:
    """:raises UserError: for a name that `beside` refuses, or whose raw column the table was not told to keep."""
    for column in beside(table.schema, names).values():
        if column not in table.source.beside:
            raise UserError(f"evaluate.slices: {column!r} is not in {table.folder}", mend="ingest again, into another folder")


def check_slices(schema: Schema, names: Sequence[str], *, where: str) -> None:
    """:raises UserError: that says `where`, for a name that is no coded field of one value."""
    single = [field.name for field in schema.fields if field.coded and not field.many]
    for name in names:
        if name not in single:
            raise UserError(f"{where}: {name!r} is no id or category", mend=nearest(name, single))


def reading(schema: Schema, column: str | None) -> Field | None:
    """The field that holds a raw column as an id, if the schema has one."""
    for field in schema.fields:
        if column is not None and field.coded and not field.many and field.sql is None and (field.column or field.name) == column:
            return field
    return None


class _Seen:
    """How often a code's value stood in the field's training rows, in bins."""

    def __init__(self, encoder: Encoder, field: Field) -> None:
        self._counts = encoder.vocabularies[field.table].counts(field.name)

    def __call__(self, codes: Int[np.ndarray, "codes"]) -> np.ndarray:
        return frequency_bins(self._counts[codes])


class _Values:
    """The raw value behind a code, as text."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        self._encoder, self._name = encoder, name

    def __call__(self, codes: Int[np.ndarray, "codes"]) -> np.ndarray:
        values = self._encoder.decode(self._name, codes).to_list()
        return np.array([UNKNOWN if value is None else str(value) for value in values])
