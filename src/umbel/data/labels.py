"""Labels of raw rows: the plain events, checked against their kinds and against what they are given."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64

from umbel.data.derive import evaluate, label_value
from umbel.data.values import as_float
from umbel.errors import UserError
from umbel.schema import BINARY, Schema, Task


def events(frame: pl.DataFrame, schema: Schema, start: int = 0, *, log: str = "these rows") -> Float32[np.ndarray, "rows tasks"]:
    """The plain event of each task, NaN where it is missing (or where its column is not there).

    `start` is the row of `log` that the frame begins with, for messages.

    :raises UserError: for text, and for a value outside the range of the task's kind, with its file, column and row.
    """
    out = np.full((frame.height, len(schema.tasks)), np.nan, np.float32)
    for place, task in enumerate(schema.tasks):
        one = label_value(task)
        if set(one.reads) <= set(frame.columns):
            out[:, place] = _event(evaluate(frame, [one]).to_series(), task, start=start, log=log)
    return out


def contradictions(labels: Float32[np.ndarray, "rows tasks"], schema: Schema) -> list[int]:
    """For each task, the rows whose event holds, or whose amount is above 0, although the event it is given does not.

    0 for numbers, grades and classes whose 0 is not that nothing happened.
    """
    place = {task.name: column for column, task in enumerate(schema.tasks)}
    counts = [0] * len(schema.tasks)
    for column, task in enumerate(schema.tasks):
        if task.given is not None and (task.kind == BINARY or task.kind.labels.amount):
            counts[column] = int(((labels[:, column] > 0) & (labels[:, place[task.given]] == 0)).sum())
    return counts


def conditional(labels: Float32[np.ndarray, "rows tasks"], schema: Schema) -> Float32[np.ndarray, "rows tasks"]:
    """The labels that a model learns from: NaN also where an event of the task's chain does not hold, or was not observed."""
    place = {task.name: column for column, task in enumerate(schema.tasks)}
    above = [[place[step] for step in schema.chain(task.name)[:-1]] for task in schema.tasks]
    holds = np.stack([(labels[:, columns] == 1).all(axis=1) for columns in above], axis=1)
    return np.where(holds, labels, np.float32(np.nan))


def _event(raw: pl.Series, task: Task, *, start: int, log: str) -> Float32[np.ndarray, "rows"]:
    known = as_float(raw, f"tasks.{task.name}", mend="give numbers, or an sql that makes them")
    wrong = task.kind.labels.outside(known) | (np.abs(known) > np.finfo(np.float32).max)
    if task.range is not None and not wrong.any():
        _check_range(known, task, start=start, log=log)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        column = "its sql" if task.sql is not None else f"column {task.label or task.name!r}"
        what = f"tasks.{task.name}: label {known[row]:g} in row {start + row + 1} of the log, {column} of {log}"
        raise UserError(what, mend=f"{_a(task.kind.name)} label is {task.kind.labels}")
    return known.astype(np.float32)


def _check_range(known: Float64[np.ndarray, "rows"], task: Task, *, start: int, log: str) -> None:
    low, high = task.range or (-np.inf, np.inf)
    rows = np.flatnonzero((known < low) | (known > high))
    if len(rows):
        more = f" (and {len(rows) - 1:,} more of the {len(known):,} rows read with it)" if len(rows) > 1 else ""
        what = f"tasks.{task.name}: label {known[rows[0]]:g} in row {start + rows[0] + 1} of {log}{more}"
        raise UserError(what, mend=f"its range is [{low:g}, {high:g}]: correct the rows, or the range")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
