"""From a raw log to a table in two streaming passes: count, then encode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int8

from umbel.data.count import Tally
from umbel.data.derive import needed
from umbel.data.groups import stable
from umbel.data.labels import events
from umbel.data.source import Source, batches, scan
from umbel.data.split import PARTS, Split
from umbel.data.storage import MARK, Rows, fresh_folder, write_json
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.schema import Schema

CHUNK = 1 << 17
PART = "__part__"


def ingest(source: Source, schema: Schema, split: Split, folder: Path, *, progress: Callable[[int], None] | None = None) -> Table:
    """Encode a log into a table folder: vocabularies and scales from training rows only, parts contiguous, rows in log order.

    The log is read twice, in constant memory plus the vocabularies. `progress` is told the rows done so far: a row counts half
    when it is counted and half when it is encoded. The folder appears when all is written, or not at all.

    :raises UserError: for anything wrong with the log, the schema or the split; what `folder` held before is untouched.
    """
    with fresh_folder(folder) as partial:
        log = _Log(source, schema, split, progress)
        tally = Tally(schema)
        for frame, parts in log.read():
            tally.add(frame, parts)
        tally.check()
        encoder = tally.encoder()
        encoder.save(partial)
        write_json(partial / "source.json", asdict(source))
        _encode(log, encoder, tally.sizes, partial)
        stops = np.cumsum(tally.sizes).tolist()
        ranges = {part: [stop - size, stop] for part, stop, size in zip(PARTS, stops, tally.sizes, strict=True)}
        write_json(partial / MARK, {"format": 1, "parts": ranges, "dropped": tally.dropped, "contradictions": tally.against})
    return Table.open(folder)


class _Log:
    """The needed raw columns of a log, with the part of each row."""

    def __init__(self, source: Source, schema: Schema, split: Split, progress: Callable[[int], None] | None) -> None:
        frame = scan(source)
        columns = needed(schema, source, frame.collect_schema().names(), labels=True)
        self.source, self.schema = source, schema
        self._frame = frame.select(*columns, split.label(frame, source).alias(PART))
        self._progress = progress
        self._halves = 0

    def read(self) -> Iterator[tuple[pl.DataFrame, Int8[np.ndarray, "rows"]]]:
        for frame in batches(self._frame, CHUNK):
            yield frame, frame[PART].fill_null(-1).to_numpy()
            self._halves += frame.height
            if self._progress is not None:
                self._progress(self._halves // 2)


def _encode(log: _Log, encoder: Encoder, sizes: list[int], folder: Path) -> None:
    """The second pass: encode each batch and write each part's rows at its own place."""
    files: dict[str, Rows] = {}
    places = np.cumsum([0, *sizes])[:-1]
    ends = np.cumsum(sizes)
    read = 0
    try:
        for frame, parts in log.read():
            arrays = _arrays(log, encoder, frame, read)
            read += frame.height
            if not files:
                files = {name: Rows(folder / f"{name}.npy", array.dtype, (sum(sizes), *array.shape[1:])) for name, array in arrays.items()}
            for part in range(len(PARTS)):
                mine = parts == part
                if places[part] + mine.sum() > ends[part]:
                    raise UserError(f"{log.source.log}: changed while it was read", mend="run again when nothing writes to it")
                for name, array in arrays.items():
                    files[name].put(int(places[part]), array[mine])
                places[part] += mine.sum()
    finally:
        for file in files.values():
            file.close()
    if (places != ends).any():
        raise UserError(f"{log.source.log}: changed while it was read", mend="run again when nothing writes to it")


def _arrays(log: _Log, encoder: Encoder, frame: pl.DataFrame, read: int) -> dict[str, np.ndarray]:
    columns = encoder.encode(frame)
    return {
        "int32": columns.codes,
        "float32": columns.numbers,
        "labels": events(frame, log.schema),
        "group": groups(frame, log.source, read),
        "time": times(frame, log.source),
    }


def groups(frame: pl.DataFrame, source: Source, start: int) -> np.ndarray:
    """The user of each row as int64; without a user column every row is its own."""
    return np.arange(start, start + frame.height) if source.user is None else stable(frame[source.user])


def times(frame: pl.DataFrame, source: Source) -> np.ndarray:
    """The time of each row as int64: numbers as they are, dates and datetimes as microseconds since 1970, 0 without a time column."""
    if source.time is None:
        return np.zeros(frame.height, np.int64)
    time = frame[source.time]
    if time.dtype == pl.String:
        time = time.str.to_datetime(time_unit="us", strict=False)
    if time.dtype.is_temporal():
        time = time.cast(pl.Datetime("us"))
    return time.cast(pl.Int64).fill_null(0).to_numpy()
