"""What must hold of a log's parts and labels before anything is encoded."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int8, Int64

from umbel.data.labels import conditional, contradictions
from umbel.data.split import MOVE, PARTS
from umbel.errors import UserError
from umbel.schema import Schema, Task

LIMIT = 0.001  # share of rows whose label may contradict what it is given


class Audit:
    """Sizes, label ranges, contradictions and times of the parts, gathered batch by batch."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.rows = 0
        self.sizes = [0] * len(PARTS)
        shape = (len(PARTS), len(schema.tasks))
        self._seen, self._low, self._high = np.zeros(shape, np.int64), np.full(shape, np.inf), np.full(shape, -np.inf)
        # The same of what is learned from: training rows where the events hold that a task is given.
        self._least, self._most = np.full(len(schema.tasks), np.inf), np.full(len(schema.tasks), -np.inf)
        self._sums, self._squares = np.zeros(len(schema.tasks)), np.zeros(len(schema.tasks))
        self._learned = np.zeros(len(schema.tasks), np.int64)
        self._against = np.zeros(len(schema.tasks), np.int64)
        self._first, self._last = [np.iinfo(np.int64).max] * len(PARTS), [np.iinfo(np.int64).min] * len(PARTS)

    def add(self, labels: Float32[np.ndarray, "rows tasks"], parts: Int8[np.ndarray, "rows"], times: Int64[np.ndarray, "rows"]) -> None:
        """Take the labels, parts (-1 = dropped) and times of a batch."""
        self.rows += len(labels)
        self._against += contradictions(labels[parts >= 0], self._schema)
        learned = conditional(labels[parts == 0], self._schema)
        self._least = np.fmin(self._least, np.fmin.reduce(learned, axis=0, initial=np.inf))
        self._most = np.fmax(self._most, np.fmax.reduce(learned, axis=0, initial=-np.inf))
        self._sums += np.nansum(learned, axis=0, dtype=np.float64)
        self._squares += np.nansum(np.square(learned, dtype=np.float64), axis=0)
        self._learned += (~np.isnan(learned)).sum(axis=0)
        for part in range(len(PARTS)):
            here = parts == part
            if here.any():
                self._add_part(part, labels[here], times[here])

    def check(self, *, ordered: bool, further: bool = False, mend: str = MOVE) -> None:
        """Refuse what nothing can be learned or judged from; of a training that goes `further` a task may have no label any more.

        `mend` is what helps an empty part.

        :raises UserError: for an empty part, a bad label column, or, where `ordered`, training rows later than the first test row.
        """
        for part, size in zip(PARTS, self.sizes, strict=True):
            if size == 0:
                raise UserError(f"split: no row falls into {part} (of {self.rows})", mend=mend)
        for column, task in enumerate(self._schema.tasks):
            if not (further and task.name in self.unlabelled):
                self._check_task(column, task)
        if ordered and self._last[0] > self._first[2]:
            what = f"split: a training row has time {self._last[0]}, a test row {self._first[2]}"
            raise UserError(what, mend="split by the log's own time column, or correct the times")

    @property
    def dropped(self) -> int:
        """Rows that belong to no part."""
        return self.rows - sum(self.sizes)

    @property
    def against(self) -> dict[str, int]:
        """By task, the rows that contradict its `given`."""
        return {task.name: int(count) for task, count in zip(self._schema.tasks, self._against, strict=True)}

    @property
    def label_spreads(self) -> dict[str, float]:
        """By task whose labels can be any number, the standard deviation of those that are learned from."""
        own = [place for place, task in enumerate(self._schema.tasks) if task.kind.labels.any and self._learned[place]]
        mean, squares = (total[own] / self._learned[own] for total in (self._sums, self._squares))
        spread = np.sqrt(np.maximum(squares - mean**2, 0.0))
        return {self._schema.tasks[place].name: float(value) for place, value in zip(own, spread, strict=True)}

    @property
    def unlabelled(self) -> list[str]:
        """The tasks that no row has a label of, or that are given one of those."""
        none = {task.name for place, task in enumerate(self._schema.tasks) if not self._seen[:, place].any()}
        return [task.name for task in self._schema.tasks if not none.isdisjoint(self._schema.chain(task.name))]

    def _add_part(self, part: int, labels: Float32[np.ndarray, "rows tasks"], times: Int64[np.ndarray, "rows"]) -> None:
        self.sizes[part] += len(labels)
        self._seen[part] += (~np.isnan(labels)).sum(axis=0)
        self._low[part] = np.fmin(self._low[part], np.fmin.reduce(labels, axis=0))
        self._high[part] = np.fmax(self._high[part], np.fmax.reduce(labels, axis=0))
        self._first[part] = min(self._first[part], int(times.min()))
        self._last[part] = max(self._last[part], int(times.max()))

    def _check_task(self, column: int, task: Task) -> None:
        for place, part in enumerate(PARTS):
            if self._seen[place, column] == 0:
                raise UserError(f"tasks.{task.name}: no label is seen in {part}", mend="check the label column, or move the split")
            if task.kind.labels.whole and self._low[place, column] == self._high[place, column]:
                what = f"tasks.{task.name}: every label in {part} is {self._low[place, column]:g}"
                raise UserError(what, mend="check the label column, or move the split")
        where, least, most = f"in train where {task.given!r} holds", self._least[column], self._most[column]
        if least > most:
            raise UserError(f"tasks.{task.name}: no label is seen {where}", mend="check the label columns, or move the split")
        if task.kind.labels.whole and least == most:
            raise UserError(f"tasks.{task.name}: every label {where} is {least:g}", mend="check the label columns, or move the split")
        against, rows = int(self._against[column]), sum(self.sizes)
        if against > LIMIT * rows:
            what = f"tasks.{task.name}: {against} of {rows} rows hold it although {task.given!r} does not hold"
            raise UserError(what, mend=f"drop given = {task.given!r}: it is no sample space of this task")
