"""From a raw log to a table in two streaming passes: count, then encode."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int8

from umbel import machine
from umbel.data.aside import Aside
from umbel.data.audit import Audit
from umbel.data.behind import behind
from umbel.data.beside import CODES, Beside
from umbel.data.bins import binned
from umbel.data.count import Tally
from umbel.data.derive import needed
from umbel.data.groups import groups, nobody, requests, times
from umbel.data.labels import events
from umbel.data.laid import Elsewhere, Laid
from umbel.data.once import Once
from umbel.data.source import Log, Source
from umbel.data.split import MOVE, PARTS, ByTime, Split, mend
from umbel.data.statistics import Statistics, key_file, second
from umbel.data.storage import FORMAT, GOLDEN, MARK, REQUEST, Rows, fresh_folder, write_json
from umbel.data.table import Table
from umbel.data.vocab import Each, Encoder, Ready
from umbel.errors import UserError
from umbel.machine import said
from umbel.schema import NO_EDGES, Schema

CHUNK = 1 << 17  # rows at a time; fewer where a row is wider than 32 values
WORD = 12        # bytes of a value at the most: in its field's columns, in the batch's, and in those of a part
LAID = "laid"    # where an engine leaves rows, as long as they are needed
KEPT = 32        # raw rows that stay in the table, for the golden rows of bundles
Batch = tuple[pl.DataFrame, Int8[np.ndarray, "rows"]]


def ingest(
    source: Source | Elsewhere, schema: Schema, split: Split, *,
    folder: Path, progress: Callable[[int], None] | None = None, before: Encoder | None = None,
) -> Table:
    """Encode a log into a table folder: vocabularies and scales from training rows only, parts contiguous, rows in log order.

    The log is read twice, in constant memory plus the vocabularies. `progress` is told the rows done so far: a row counts half
    when it is counted and half when it is encoded. The folder appears when all is written, or not at all. Numbers that the encoder `before`
    knows keep its scales and edges of bins, as a training that goes on needs them, and a task may have no label then. Of a source
    elsewhere, the table is the same.

    :raises UserError: for anything wrong with the log, the schema or the split, or rows wider than there is memory for; what `folder`
        held before is untouched.
    """
    size = _at_once(schema)
    # Counting and looking up are numpy calls that let other threads run: fields go side by side, each as in one thread.
    with fresh_folder(folder) as partial, ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        laid = Laid(source, schema) if isinstance(source, Source) else source.laid(schema, split, partial / LAID)
        rows = _Rows(laid, split, size=size, each=pool.map, progress=progress)
        _fill(partial, rows, before, ordered=isinstance(split, ByTime), schema=schema)
        shutil.rmtree(partial / LAID, ignore_errors=True)
    return Table.open(folder)  # what was counted is forgotten by now: two copies of large vocabularies need not fit


def _at_once(schema: Schema) -> int:
    """How many rows are encoded at a time; :raises UserError: where this machine has no room for the columns of so many."""
    slots = sum(field.size for field in schema.fields)
    rows = min(CHUNK, max(CHUNK >> 4, (CHUNK << 5) // slots))
    needs, have = WORD * slots * rows, machine.memory()
    if needs > have:
        widest = max(schema.fields, key=lambda field: field.size)
        what = f"fields.{widest.name}: {widest.size:,} values a row"
        what += f"; {rows:,} rows at a time take {said(needs)} and this machine has {said(have)}"
        raise UserError(what, mend=f"lower its {'length' if widest.many else 'width'}")
    return rows


def _fill(folder: Path, rows: _Rows, before: Encoder | None, *, ordered: bool, schema: Schema) -> None:
    """Both passes, and every file of a table; the one that marks it as such comes last."""
    audit, encoder = _count(rows, ordered=ordered, further=before is not None)
    if before is not None:
        encoder = encoder.rescaled(before.scales)
    write_json(folder / "source.json", asdict(rows.typed))
    _Encoding(rows, encoder, audit.sizes, folder=folder).run()
    if encoder.statistics:
        encoder = Statistics(folder, encoder, training=audit.sizes[0], time=rows.source.time, second=rows.second).encoder()
    if any(field.bins for field in encoder.schema.fields):
        encoder = binned(folder, encoder, training=audit.sizes[0], known=NO_EDGES if before is None else before.edges)
    encoder.as_of(schema).save(folder)
    stops = np.cumsum(audit.sizes).tolist()
    ranges = {part: [stop - size, stop] for part, stop, size in zip(PARTS, stops, audit.sizes, strict=True)}
    alone = int(nobody(np.load(folder / "group.npy", mmap_mode="r")).sum())
    aside = Aside(audit.dropped, alone, audit.against, audit.label_spreads, _unknown(encoder), tuple(audit.unlabelled))
    write_json(folder / MARK, {"format": FORMAT, "parts": ranges, **aside.to_json()})


def _unknown(encoder: Encoder) -> dict[str, int]:
    """The fields whose vocabulary has no row but the unknown one, and their `min_count`."""
    return {name: encoder.schema.field(name).min_count for name, own in encoder.vocabularies.items() if own.size == 1}


def _count(rows: _Rows, *, ordered: bool, further: bool) -> tuple[Audit, Encoder]:
    """The first pass: everything is checked, then the encoder made."""
    audit, tally = Audit(rows.schema), Tally(rows.schema, rows.once.fields)

    def take(batch: Batch) -> None:
        frame, parts = batch
        audit.add(events(frame, rows.schema, audit.rows, log=rows.typed.log), parts, times(frame, rows.source))
        tally.add(frame, parts, each=rows.each)

    behind(rows.read(), take)
    audit.check(ordered=ordered, further=further, mend=MOVE if all(audit.sizes) else rows.mend())
    rows.once.settle(tally)
    return audit, tally.encoder(each=rows.each)


class _Rows:
    """The needed raw columns of a log, with the part of each row."""

    def __init__(
        self, laid: Laid, split: Split, *, size: int, each: Each, progress: Callable[[int], None] | None,
    ) -> None:  # fmt: skip
        self.source, self.schema, self.each = laid.source, laid.schema, each
        self._size = size
        self._golden = laid.golden
        self._log = Log(laid.source, laid.like)
        columns = needed(self.schema, self.source, self._log.names, labels=True)
        self.typed = laid.asked or self._log.typed(columns)
        self.second = second(self.schema, self._log)
        self._split, self._part = split, split.label(self._log)
        border = self._part.meta.root_names()
        self.once = Once(self.schema, self._log, [*border, *self.source.beside])
        self._columns = self.once.columns([*columns, *border])
        self._progress = progress
        self._halves = 0

    def read(self) -> Iterator[Batch]:
        """Batches and their parts, -1 for rows that belong to none."""
        for frame in self._log.read(self._columns, self._size):
            yield frame, frame.select(self._part.fill_null(-1)).to_series().to_numpy()
            self._halves += frame.height
            if self._progress is not None:
                self._progress(self._halves // 2)

    def mend(self) -> str:
        """What may help a part that no row falls into."""
        return mend(self._split, self._log)

    def kept(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The first raw rows of a batch, joined, with what fields, user, item and time read: the labels are nobody's business later."""
        if self._golden is not None:
            return self._golden
        whole = self.once.whole(frame.head(KEPT))
        return whole.select(needed(self.schema, self.source, whole.columns, labels=False))


class _Encoding:
    """The second pass: every batch is encoded, and the rows of each part are written at their own place."""

    def __init__(self, rows: _Rows, encoder: Encoder, sizes: list[int], *, folder: Path) -> None:
        self._rows, self._encoder, self._folder = rows, encoder, folder
        self._ends = np.cumsum(sizes)
        self._places = self._ends - sizes
        self._files: dict[str, Rows] = {}
        self._open = ExitStack()
        self._read = 0
        self._ready: dict[str, Ready] = {}
        self._beside = Beside(rows.source.beside)

    def run(self) -> None:
        """:raises UserError: if the log has not the rows that were counted."""
        self._ready = self._rows.once.ready(self._encoder)
        with self._open:
            behind(self._rows.read(), self._take)
        self._check(self._places == self._ends)
        if self._rows.source.beside:
            self._beside.save(self._folder)

    def _take(self, batch: Batch) -> None:
        frame, parts = batch
        if not self._read:
            self._rows.kept(frame).write_parquet(self._folder / GOLDEN)
        self._write(self._arrays(frame), parts)

    def _write(self, arrays: Mapping[str, np.ndarray], parts: Int8[np.ndarray, "rows"]) -> None:
        for part in range(len(PARTS)):
            mine = parts == part
            count = int(mine.sum())
            self._check(self._places[part] + count <= self._ends[part])
            for name, array in arrays.items():
                self._file(name, array).put(int(self._places[part]), array if count == len(mine) else array[mine])
            self._places[part] += count

    def _file(self, name: str, like: np.ndarray) -> Rows:
        if name not in self._files:
            file = Rows(self._folder / f"{name}.npy", like.dtype, (int(self._ends[-1]), *like.shape[1:]))
            self._files[name] = self._open.enter_context(closing(file))
        return self._files[name]

    def _check(self, holds: np.bool | np.ndarray) -> None:
        if not np.all(holds):
            raise UserError(f"{self._rows.typed.log}: changed while it was read", mend="run again when nothing writes to it")

    def _arrays(self, frame: pl.DataFrame) -> dict[str, np.ndarray]:
        columns = self._encoder.encode(frame, each=self._rows.each, ready=self._ready)
        start, self._read = self._read, self._read + frame.height
        return {
            "int32": columns.codes,
            "float32": columns.numbers,
            "labels": events(frame, self._encoder.schema),
            "group": groups(frame, self._rows.source, start),
            "time": times(frame, self._rows.source),
            **{key_file(name): keys for name, keys in self._encoder.keys(frame).items()},
            **({REQUEST: requests(frame, self._rows.source, start)} if self._rows.source.request is not None else {}),
            **({CODES: self._beside.code(frame)} if self._rows.source.beside else {}),
        }
