"""What Spark has to leave of a log: raw columns as they are, and the values of the expressions that it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from umbel.data.derive import Derived, evaluate, field_value, label_value, needed, reads
from umbel.data.source import Log
from umbel.data.spark.form import alike, form
from umbel.data.spark.types import carried
from umbel.data.split import Split
from umbel.data.statistics import second
from umbel.errors import UserError
from umbel.schema import Field, Schema, Task


@dataclass(frozen=True, slots=True)
class Made:
    """A value that Spark computes: where it is asked for, and how."""

    where: str
    form: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The columns that are left of a log: `carried` raw ones and, by the name of their column, `made` ones.

    `schema` reads the made columns in place of their SQL. `golden` are the raw columns of the first rows, `needed` all that is read;
    `like` has all columns, without rows.
    """

    schema: Schema
    carried: Sequence[str]
    made: Mapping[str, Made]
    golden: Sequence[str]
    needed: Sequence[str]
    like: pl.DataFrame


def plan(log: Log, schema: Schema, split: Split) -> Plan:
    """What to leave; :raises UserError: for what the local path refuses before it reads, or a column of a type that Spark has not."""
    border = split.label(log).meta.root_names()
    second(schema, log)
    golden = needed(schema, log.source, log.names, labels=False)
    every = list(dict.fromkeys([*needed(schema, log.source, log.names, labels=True), *border]))
    making = _Making(log.empty(every))
    laid = Schema(tuple(making.field(one) for one in schema.fields), tuple(making.task(one) for one in schema.tasks))
    rest = [name for name in reads(laid, log.source, labels=True) if name not in making.made]
    return Plan(laid, list(dict.fromkeys([*rest, *border])), making.made, golden, every, making.like)


class _Making:
    """The values that Spark computes, gathered over fields and tasks; an expression that stands twice is computed once."""

    def __init__(self, raw: pl.DataFrame) -> None:
        for column in raw:
            if carried(column) is None:
                what = f"--spark: column {column.name!r} holds {column.dtype}, which Spark has not"
                raise UserError(what, mend="write it as text or as integers, or leave out --spark")
        self._raw = raw
        self.made: dict[str, Made] = {}
        self.like = raw

    def field(self, field: Field) -> Field:
        """The field, reading its column if Spark computes it."""
        column = None if field.sql is None else self._column(field_value(field), field.sql)
        return field if column is None else replace(field, sql=None, column=column)

    def task(self, task: Task) -> Task:
        """The task, reading its column if Spark computes it."""
        column = None if task.sql is None else self._column(label_value(task), task.sql)
        return task if column is None else replace(task, sql=None, label=column)

    def _column(self, value: Derived, sql: str) -> str | None:
        """Where Spark leaves a value; None where it is left to Polars."""
        made = evaluate(self._raw, [value]).to_series()
        if not alike(sql, self._raw):
            return None
        name = f"sql: {sql}"
        self.made.setdefault(name, Made(value.where, form(sql, self._raw)))
        self.like = self.like.with_columns(made.alias(name))
        return name
