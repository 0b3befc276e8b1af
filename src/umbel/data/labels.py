"""Labels of raw rows: the plain events, checked against their kinds and against what they are given."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Float32

from umbel.data.derive import label_columns, label_expression
from umbel.errors import UserError
from umbel.schema import Schema, Task


def events(frame: pl.DataFrame, schema: Schema) -> Float32[np.ndarray, "rows tasks"]:
    """The plain event of each task, NaN where it is missing (or where its column is not there).

    :raises UserError: for text, and for a value outside the range of the task's kind.
    """
    out = np.full((frame.height, len(schema.tasks)), np.nan, np.float32)
    for place, task in enumerate(schema.tasks):
        if set(label_columns(task)) <= set(frame.columns):
            out[:, place] = _event(frame.select(label_expression(task)).to_series(), task)
    return out


def contradictions(labels: Float32[np.ndarray, "rows tasks"], schema: Schema) -> list[int]:
    """For each task, the rows whose event holds although the event it is given does not."""
    place = {task.name: column for column, task in enumerate(schema.tasks)}
    return [
        0 if task.given is None else int(((labels[:, place[task.name]] == 1) & (labels[:, place[task.given]] == 0)).sum())
        for task in schema.tasks
    ]


def _event(raw: pl.Series, task: Task) -> Float32[np.ndarray, "rows"]:
    if not (raw.dtype.is_numeric() or raw.dtype in (pl.Boolean, pl.Null)):
        raise UserError(f"tasks.{task.name}: a label cannot be read from {raw.dtype}", mend="give numbers, or an sql that makes them")
    values = raw.cast(pl.Float64).to_numpy()
    kind = task.kind
    wrong = (values < kind.low) | (values > kind.high) | np.isinf(values)
    if kind.whole:
        wrong |= (values != np.floor(values)) & ~np.isnan(values)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = f"tasks.{task.name}: label {values[row]:g} (one of {int(wrong.sum())} such)"
        raise UserError(what, mend=f"a {kind.name} label is {'whole and ' if kind.whole else ''}in [{kind.low:g}, {kind.high:g}]")
    return values.astype(np.float32)
