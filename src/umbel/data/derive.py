"""From raw columns to the values of fields and labels: a column as it is, or an SQL expression."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from umbel.data.source import Source
from umbel.errors import UserError, nearest
from umbel.expression import check, outermost
from umbel.schema import Field, Schema, Task


def field_values(frame: pl.DataFrame, fields: Iterable[Field]) -> pl.DataFrame:
    """One column a field, named by the field, from a frame of raw columns."""
    return frame.select(field_expression(field) for field in fields)


def field_expression(field: Field) -> pl.Expr:
    """The raw value of a field."""
    if field.sql is None:
        return pl.col(field.column or field.name).alias(field.name)
    return _sql(field.sql, where=f"fields.{field.name}").alias(field.name)


def label_expression(task: Task) -> pl.Expr:
    """The raw event of a task."""
    if task.sql is None:
        return pl.col(task.label or task.name).alias(task.name)
    return _sql(task.sql, where=f"tasks.{task.name}").alias(task.name)


def field_columns(field: Field) -> tuple[str, ...]:
    """The raw columns a field reads."""
    return (field.column or field.name,) if field.sql is None else check(field.sql, where=f"fields.{field.name}")


def label_columns(task: Task) -> tuple[str, ...]:
    """The raw columns a label reads."""
    return (task.label or task.name,) if task.sql is None else check(task.sql, where=f"tasks.{task.name}")


def needed(schema: Schema, source: Source, columns: Iterable[str], *, labels: bool) -> list[str]:
    """The raw columns that fields, labels, user, item and time read, each once.

    :raises UserError: naming the field or task whose column is not among `columns`.
    """
    known = list(columns)
    wanted = {f"fields.{field.name}": field_columns(field) for field in schema.fields}
    if labels:
        wanted |= {f"tasks.{task.name}": label_columns(task) for task in schema.tasks}
    ends = {"data.user": source.user, "data.item": source.item, "data.time": source.time}
    wanted |= {where: (name,) for where, name in ends.items() if name is not None}
    for where, names in wanted.items():
        for name in names:
            if name not in known:
                raise UserError(f"{where}: no column {name!r} in {source.log} or its joins", mend=nearest(name, known))
    return list(dict.fromkeys(name for names in wanted.values() for name in names))


def _sql(text: str, *, where: str) -> pl.Expr:
    check(text, where=where)
    try:
        found = pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{where}: {text!r} cannot be read ({reason})", mend="correct the expression") from error
    return pl.when(found.is_finite()).then(found) if outermost(text) else found
