"""The slices of a report: how often user and item were seen in training, and the columns the run file names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from umbel.data.source import Source
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.errors import UserError, nearest
from umbel.evaluate.slices import frequency_bins
from umbel.schema import Field, Schema


@dataclass(frozen=True, slots=True)
class Slice:
    """One way to part rows: by a coded field of one value, whose codes `labels` names."""

    name: str
    field: str
    labels: Callable[[Int[np.ndarray, "codes"]], np.ndarray]

    def __call__(self, codes: Int[np.ndarray, "rows"]) -> np.ndarray:
        """A label per row, from the row's code of the field."""
        used, place = np.unique(codes, return_inverse=True)
        return self.labels(used)[place]


def slices(table: Table, part: str, *, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """A label per row of `part` for each slice; :raises UserError: for a name that is no coded field of one value."""
    return {one.name: one(table.column(one.field, part)) for one in slicing(table.encoder, table.source, names=names)}


def slicing(encoder: Encoder, source: Source, *, names: Sequence[str], where: str = "evaluate.slices") -> tuple[Slice, ...]:
    """How often user and item were seen in training, where a field holds them, then the values of the named fields.

    :raises UserError: that says `where`, for a name that is no coded field of one value.
    """
    check_slices(encoder.schema, names, where=where)
    roles = (("user", source.user), ("item", source.item))
    fields = {role: reading(encoder.schema, column) for role, column in roles}
    seen = [Slice(f"{role} seen in training", field.name, _Seen(encoder, field)) for role, field in fields.items() if field is not None]
    return (*seen, *(Slice(name, name, _Values(encoder, name)) for name in names))


def check_slices(schema: Schema, names: Sequence[str], *, where: str = "evaluate.slices") -> None:
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
        return np.array(["unknown" if value is None else str(value) for value in values])
