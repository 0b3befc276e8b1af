"""The statistics of an encoded log: made of its training rows once all rows are written, and put into their columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from umbel.data.labels import conditional
from umbel.data.lookup import mixed
from umbel.data.past import Labels, before, elsewhere, total
from umbel.data.source import Log
from umbel.data.storage import file_name
from umbel.data.totals import Counted, Rule, Standard, Totals
from umbel.data.units import is_day
from umbel.data.vocab import Encoder, layout
from umbel.errors import UserError
from umbel.schema import Field, Schema
from umbel.statistic import Statistic, check_time

STEP = 1 << 17  # rows written at a time


class Statistics:
    """Fills the columns of an encoded log, statistic by statistic; `training` are its first rows.

    The keys of a statistic's rows stand in a file of their own until then. A training row sees what its mode lets it see, every
    other row all training rows. Memory is that of one statistic's training rows (see `umbel.data.past.before`).
    """

    def __init__(self, folder: Path, encoder: Encoder, *, training: int, time: str | None, second: int) -> None:
        self._folder, self._encoder, self._training, self._time, self._second = folder, encoder, training, time, second
        self._labels = conditional(self._array("labels")[:training], encoder.schema)

    def encoder(self) -> Encoder:
        """The encoder with all statistics, whose columns are now written."""
        encoder = self._encoder
        made = {field.name: self._fill(field, field.statistic) for field in encoder.schema.fields if field.statistic is not None}
        return Encoder(encoder.schema, encoder.vocabularies, encoder.scales, statistics=made)

    def _fill(self, field: Field, statistic: Statistic) -> Totals:
        file = key_file(field.name)
        keys = self._array(file)
        known = np.asarray(keys[: self._training])
        place = [task.name for task in self._encoder.schema.tasks]
        labels = self._labels[:, [place.index(name) for name in statistic.tasks]]
        own, whole = self._visible(statistic, known, labels)
        rule = Rule.of(self._encoder.schema, statistic)
        figures = rule.figures(own, whole)
        standard = Standard.of(figures, own)
        distinct, counted = total(known, labels)
        _, everything = total(np.zeros(len(known), np.int64), labels)
        kinds = self._encoder.statistics[field.name].kinds
        totals = Totals(rule, kinds, keys=distinct, counted=counted, whole=everything, standard=standard)
        columns = layout(self._encoder.schema, coded=False)[field.name]
        self._write(columns, 0, standard(figures))
        for start, some in _pieces(keys, self._training):
            self._write(columns, start, totals.read(some))
        (self._folder / f"{file}.npy").unlink()
        return totals

    def _visible(self, statistic: Statistic, keys: Int64[np.ndarray, "rows"], labels: Labels) -> tuple[Counted, Counted]:
        """What each training row sees: of its key, and of any."""
        if statistic.timed(self._time):
            times = np.asarray(self._array("time")[: self._training])
            return before(keys, times, labels, window=round(statistic.window * self._second))
        return elsewhere(keys, self._folds(statistic), labels, count=statistic.folds)

    def _folds(self, statistic: Statistic) -> Int64[np.ndarray, "rows"]:
        """The fold of each training row: by its user, time and codes, so that it does not matter where in the log it stands.

        Rows alike in all of that are told apart by which comes first.
        """
        codes = self._array("int32")[: self._training]
        mark = mixed(np.array(self._array("group")[: self._training]), statistic.seed)
        for column in (self._array("time")[: self._training], *codes.T):
            mark = mixed((mark ^ np.asarray(column).astype(np.int64).view(np.uint64)).view(np.int64), 0)
        _, first, place = np.unique(mark, return_index=True, return_inverse=True)
        order = np.argsort(place, kind="stable")
        sizes = np.bincount(place, minlength=len(first))
        twin = np.empty(len(mark), np.int64)
        twin[order] = np.arange(len(mark)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        mark = mixed((mark ^ twin.view(np.uint64)).view(np.int64), 0)
        return np.asarray((mark % np.uint64(statistic.folds)).astype(np.int64))

    def _write(self, columns: slice, start: int, numbers: Float32[np.ndarray, "rows width"]) -> None:
        pack = np.load(self._folder / "float32.npy", mmap_mode="r+")
        pack[start : start + len(numbers), columns] = numbers
        pack.flush()

    def _array(self, name: str) -> np.ndarray:
        return np.asarray(np.load(self._folder / f"{name}.npy", mmap_mode="r"))


def second(schema: Schema, log: Log) -> int:
    """How many of the units of `times` a window of 1 is: 1 for numbers, and a second for dates, datetimes and text.

    :raises UserError: for a statistic that needs a time column and has none, or a window over numbers such as 20250131.
    """
    time = log.source.time
    asked = [(f"fields.{field.name}", field.statistic) for field in schema.fields if field.statistic is not None]
    for where, statistic in asked:
        check_time(where, statistic, time)
    if time is None or not asked:
        return 1
    first = log.first(time)
    if not first.dtype.is_numeric():
        return 1_000_000
    for where, statistic in asked:
        if statistic.window and len(first) and is_day(float(first.item())):
            raise UserError(f"{where}: a window over days of the form YYYYMMDD", mend="name a time column that holds moments")
    return 1


def key_file(name: str) -> str:
    """The file of a statistic's keys, without suffix; it is gone when the table is made."""
    return f"key-{file_name(name)}"


def _pieces(keys: Int64[np.ndarray, "rows"], start: int) -> Iterator[tuple[int, Int64[np.ndarray, "some"]]]:
    for at in range(start, len(keys), STEP):
        yield at, np.asarray(keys[at : at + STEP])
