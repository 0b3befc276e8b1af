"""The slices of a report: how often user and item were seen in training, and the columns the run file names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from umbel.data.table import Table
from umbel.errors import UserError, nearest
from umbel.evaluate.slices import frequency_bins
from umbel.schema import Field, Schema


def slices(table: Table, part: str, *, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """A label per row of `part` for each slice; :raises UserError: for a name that is no coded field of one value."""
    check_slices(table.schema, names)
    found: dict[str, np.ndarray] = {}
    for role, column in (("user", table.source.user), ("item", table.source.item)):
        field = _reading(table, column)
        if field is not None:
            found[f"{role} seen in training"] = frequency_bins(table.seen_counts(part, field.name))
    return found | {name: _values(table, part, name) for name in names}


def check_slices(schema: Schema, names: Sequence[str]) -> None:
    """:raises UserError: for a name that is no coded field of one value."""
    single = [field.name for field in schema.fields if field.coded and not field.many]
    for name in names:
        if name not in single:
            raise UserError(f"evaluate.slices: {name!r} is no id or category", mend=nearest(name, single))


def _reading(table: Table, column: str | None) -> Field | None:
    """The field that holds a raw column as an id, if the schema has one."""
    for field in table.schema.fields:
        if column is not None and field.coded and not field.many and field.sql is None and (field.column or field.name) == column:
            return field
    return None


def _values(table: Table, part: str, name: str) -> np.ndarray:
    values = table.encoder.decode(name, table.column(name, part)).to_list()
    return np.array(["unknown" if value is None else str(value) for value in values])
