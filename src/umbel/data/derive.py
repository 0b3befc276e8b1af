"""From raw columns to the values of fields and labels: a column as it is, or an SQL expression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from umbel.data.source import Source
from umbel.errors import UserError, nearest
from umbel.expression import check, portable
from umbel.schema import Field, Schema, Task

# Numbers that Polars would compute with at their own width, and wrap around.
NARROW: Mapping[pl.DataType, pl.DataType] = {
    **{one(): pl.Int64() for one in (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)}, pl.Float32(): pl.Float64(),
}


@dataclass(frozen=True, slots=True)
class Derived:
    """How one value is had: the raw columns it reads, the expression, and of SQL (else None) the constant columns that it needs."""

    name: str
    where: str
    reads: tuple[str, ...]
    expression: pl.Expr
    constants: Mapping[str, float] | None


def field_value(field: Field) -> Derived:
    """The raw value of a field; :raises UserError: for an expression outside the closed list."""
    return _derived(field.name, field.column or field.name, field.sql, where=f"fields.{field.name}")


def by_values(schema: Schema, field: Field) -> tuple[Derived, ...]:
    """The raw values that a statistic is by, one a column: of the field of that name, else of the raw column."""
    own = {one.name: one for one in schema.fields if one.statistic is None}
    names = field.statistic.by if field.statistic is not None else ()
    return tuple(field_value(own[name]) if name in own else _derived(name, name, None, where=f"fields.{field.name}.by") for name in names)


def label_value(task: Task) -> Derived:
    """The raw event of a task; :raises UserError: for an expression outside the closed list."""
    return _derived(task.name, task.label or task.name, task.sql, where=f"tasks.{task.name}")


def evaluate(frame: pl.DataFrame, wanted: Iterable[Derived]) -> pl.DataFrame:
    """One column for each value, by name, from a frame of raw columns; :raises UserError: where one cannot be computed.

    SQL reads numbers at full width, as BIGINT and DOUBLE: of the UInt8 100 and 200, `a - b` is -100.
    """
    wanted = list(wanted)
    computed = [one for one in wanted if one.constants is not None]
    whole = _whole(frame, computed)
    try:
        if len(computed) in (0, len(wanted)):
            return whole.select(one.expression for one in wanted)
        plain = frame.select(one.expression for one in wanted if one.constants is None)
        return plain.hstack(whole.select(one.expression for one in computed)).select(one.name for one in wanted)
    except pl.exceptions.PolarsError:
        return pl.DataFrame([_alone(frame if one.constants is None else whole, one) for one in wanted])


def needed(schema: Schema, source: Source, columns: Iterable[str], *, labels: bool) -> list[str]:
    """The raw columns that fields, user, item and time read, with `labels` those of labels, request and slices too, each once.

    :raises UserError: naming the field or task whose column is not among `columns`.
    """
    known = list(columns)
    wanted = reads(schema, source, labels=labels)
    for name, where in wanted.items():
        if name not in known:
            raise UserError(f"{where}: no column {name!r} in {source.log} or its joins", mend=nearest(name, known))
    return list(wanted)


def reads(schema: Schema, source: Source, *, labels: bool) -> dict[str, str]:
    """The raw columns that fields, user, item and time read, and with `labels` those, request and slices, each with its first reader."""
    values = [*(one for field in schema.fields for one in field_values(schema, field)), *(map(label_value, schema.tasks) if labels else ())]
    ends = {"data.user": source.user, "data.item": source.item, "data.time": source.time}
    wanted = [(name, one.where) for one in values for name in one.reads]
    wanted += [(name, where) for where, name in ends.items() if name is not None]
    if labels:
        wanted += [(name, "data.request") for name in (source.request,) if name is not None]
        wanted += [(name, "evaluate.slices") for name in source.beside]
    found: dict[str, str] = {}
    for name, where in wanted:
        found.setdefault(name, where)
    return found


def field_values(schema: Schema, field: Field) -> tuple[Derived, ...]:
    """The raw values that a field is made of: its own, or those that its statistic is by."""
    return (field_value(field),) if field.statistic is None else by_values(schema, field)


def _whole(frame: pl.DataFrame, computed: Sequence[Derived]) -> pl.DataFrame:
    """What SQL is computed from: constants as whole columns, not scalars, by which Polars divides inexactly; narrow numbers widened."""
    constants = {name: number for one in computed for name, number in (one.constants or {}).items()}
    read = {name: frame[name].dtype for one in computed for name in one.reads if name in frame.columns}
    wide = [pl.col(name).cast(NARROW[dtype]) for name, dtype in read.items() if dtype in NARROW]
    return frame.with_columns(*wide, *(pl.Series(name, np.full(frame.height, number)) for name, number in constants.items()))


def _alone(frame: pl.DataFrame, one: Derived) -> pl.Series:
    try:
        return frame.select(one.expression).to_series()
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{one.where}: {str(error).splitlines()[0]}", mend="correct the expression, or CAST what it reads") from error


def _derived(name: str, column: str, sql: str | None, *, where: str) -> Derived:
    if sql is None:
        return Derived(name, where, (column,), pl.col(column).alias(name), None)
    reads = check(sql, where=where)
    form = portable(sql)
    try:
        return Derived(name, where, reads, pl.sql_expr(form.sql).alias(name), form.constants)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{where}: {sql!r} cannot be read ({str(error).splitlines()[0]})", mend="correct the expression") from error
