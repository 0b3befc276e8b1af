"""An encoded log on disk, memory-mapped: batches by row number, labels, groups and codes by part."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float32, Int, Int64, Shaped
from torch import Tensor

from umbel import durable
from umbel.data.aside import Aside
from umbel.data.assemble import Assembler
from umbel.data.batch import Batch, sent
from umbel.data.beside import CODES, saved
from umbel.data.shuffle import ahead
from umbel.data.source import Source
from umbel.data.split import PARTS
from umbel.data.storage import FORMAT, GOLDEN, MARK, REQUEST
from umbel.data.vocab import Encoder, layout
from umbel.errors import UserError
from umbel.schema import Schema, Task


class Table:
    """An encoded log: `parts` maps train, valid and test to contiguous row numbers.

    Of a `sealed` part the row numbers are known and nothing else: whoever asks for more of it fails.

    Example
    -------
    >>> Table.open("no-such-folder")
    Traceback (most recent call last):
    umbel.errors.UserError: no-such-folder: not a table; make one with umbel ingest
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        *,
        source: Source,
        parts: Mapping[str, range],
        aside: Aside,
        sealed: frozenset[str] = frozenset(),
    ) -> None:
        self.folder, self.encoder, self.source, self.parts = folder, encoder, source, parts
        self.aside = aside
        self.sealed = sealed
        self._packs = {True: _map(folder, "int32"), False: _map(folder, "float32")}
        self._labels: Float32[np.ndarray, "rows tasks"] = _map(folder, "labels")
        self._groups: Int64[np.ndarray, "rows"] = _map(folder, "group")
        self._times: Int64[np.ndarray, "rows"] = _map(folder, "time")
        self._lists: Int64[np.ndarray, "rows"] = self._groups if source.request is None else _map(folder, REQUEST)
        self._tensors = tuple(torch.from_numpy(one) for one in (*self._packs.values(), self._labels, self._lists))
        self._files = ("int32", "float32", "labels", "group" if source.request is None else REQUEST)
        self._assembler = Assembler(encoder.schema)
        self._device = torch.device("cpu")

    @staticmethod
    def open(folder: Path | str) -> Table:
        """The table in a folder; :raises UserError: if it is none or was cut short."""
        path = Path(folder)
        durable.recover(path)
        try:
            meta = json.loads((path / MARK).read_text())
            place = json.loads((path / "source.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a table", mend="make one with umbel ingest") from error
        if meta["format"] != FORMAT:
            raise UserError(f"{path}: a table of format {meta['format']}, this version reads {FORMAT}", mend="ingest again")
        parts = {part: range(*meta["parts"][part]) for part in PARTS}
        return Table(path, Encoder.load(path), source=Source.from_json(place), parts=parts, aside=Aside.from_json(meta))

    def seal(self, *parts: str) -> Table:
        """The same table with parts that cannot be read."""
        return self._but(self.encoder, self.sealed | set(parts))

    def under(self, tasks: tuple[Task, ...]) -> Table:
        """The same rows for the same tasks with other weights, losses or shares of negatives, on which no column depends."""
        return self._but(self.encoder.as_of(Schema(self.schema.fields, tasks)), self.sealed)

    def on(self, device: torch.device, *, most: int) -> Table:
        """The same rows in batches that lie on another device, row numbers apart.

        Where the columns, requests with them, take `most` bytes or less they lie there, too, and a batch is gathered there; else it is
        gathered here and sent, a pack at a time, from pinned memory where that is a GPU, so that a step goes on meanwhile.
        """
        made = copy.copy(self)
        if sum(pack.nbytes for pack in self._tensors) <= most:
            made._tensors = tuple(pack.to(device) for pack in self._tensors)
        made._device = device
        return made

    def _but(self, encoder: Encoder, sealed: frozenset[str]) -> Table:
        return Table(self.folder, encoder, source=self.source, parts=self.parts, aside=self.aside, sealed=sealed)

    @property
    def schema(self) -> Schema:
        """The schema it was encoded with."""
        return self.encoder.schema

    def golden(self) -> pl.DataFrame:
        """The first raw rows of the log, joined, as they were when it was ingested; :raises UserError: if they are not there."""
        try:
            return pl.read_parquet(self.folder / GOLDEN, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(f"{self.folder / GOLDEN}: missing or cut short", mend="ingest again") from error

    def batch(self, index: Int[np.ndarray, "rows"] | Int[Tensor, "rows"]) -> Batch:
        """The rows of those numbers, by one gather a pack; fields are views of the packs."""
        rows = torch.as_tensor(index, dtype=torch.int64)
        self._admit(rows)
        codes, numbers, labels, group = (sent(_gather(pack, rows), self._device) for pack in self._tensors)
        return self._assembler.batch(codes, numbers, labels=labels, group=group, index=rows)

    def expect(self, index: Int64[np.ndarray, "rows"]) -> None:
        """Have the system begin to read rows of those numbers, of which batches are soon made."""
        rows = np.sort(index)
        self._admit(torch.from_numpy(rows))
        for name, pack in zip(self._files, self._tensors, strict=True):
            file, width = self.folder / f"{name}.npy", pack[:1].nbytes
            ahead(file, rows, start=file.stat().st_size - pack.nbytes, width=width)

    def labels(self, part: str) -> tuple[Float32[np.ndarray, "rows tasks"], Bool[np.ndarray, "rows tasks"]]:
        """Labels (0 where unseen) and what was seen, `given` honoured."""
        plain = self._labels[self._rows(part)]
        seen = self._assembler.seen(torch.from_numpy(plain)).numpy()
        return np.where(seen, plain, np.float32(0)), seen

    def events(self, part: str) -> tuple[Float32[np.ndarray, "rows tasks"], Bool[np.ndarray, "rows tasks"]]:
        """Plain events (0 where missing) and which were observed, whatever they are given."""
        plain = self._labels[self._rows(part)]
        return np.nan_to_num(plain), ~np.isnan(plain)

    def groups(self, part: str) -> Int64[np.ndarray, "rows"]:
        """The raw user of each row, as a number."""
        return np.array(self._groups[self._rows(part)])

    def users(self, index: Int[np.ndarray, "some"]) -> Int64[np.ndarray, "some"]:
        """The raw users of the rows of those numbers, without reading any other row."""
        self._admit(torch.as_tensor(index, dtype=torch.int64))
        return np.take(self._groups, index)

    def lists(self, part: str) -> Int64[np.ndarray, "rows"]:
        """The request of each row, as a number; its user where the log does not say its request."""
        return np.array(self._lists[self._rows(part)])

    def times(self, part: str) -> Int64[np.ndarray, "rows"]:
        """The time of each row, in the unit of its column (microseconds for dates and datetimes)."""
        return np.array(self._times[self._rows(part)])

    def column(self, name: str, part: str) -> Shaped[np.ndarray, "rows *length"]:
        """A field's codes (`encoder.decode` gives raw values), or its standardised numbers."""
        field = self.schema.field(name)
        block = np.array(self._packs[field.coded][self._rows(part), layout(self.schema, coded=field.coded)[name]])
        return block if field.many or field.wide else np.ravel(block)

    def beside(self, name: str, part: str) -> Shaped[np.ndarray, "rows"]:
        """The values, as text, of a column that no field reads, one of `source.beside`."""
        codes: Int[np.ndarray, "rows"] = _map(self.folder, CODES)[self._rows(part), self.source.beside.index(name)]
        return np.array(saved(self.folder)[name]).take(codes)

    def _admit(self, rows: Int64[Tensor, "rows"]) -> None:
        """Refuse rows of which any lies in a sealed part."""
        for part in self.sealed:
            _refuse(part, bool(((rows >= self.parts[part].start) & (rows < self.parts[part].stop)).any()))

    def _rows(self, part: str) -> slice:
        """The row numbers of a part that is about to be read."""
        _refuse(part, part in self.sealed)
        rows = self.parts[part]
        return slice(rows.start, rows.stop)

    def seen_counts(self, part: str, field: str) -> Int64[np.ndarray, "rows"]:
        """How often each row's value stood in the field's training rows; 0 for unknown values."""
        if self.schema.field(field).many or not self.schema.field(field).coded:
            raise UserError(f"fields.{field}: has no one value a row to count", mend="name an id or category")
        return np.take(self.encoder.vocabularies[self.schema.field(field).table].counts(field), self.column(field, part))


def _refuse(part: str, asked: bool) -> None:
    if asked:
        raise PermissionError(f"the {part} part of this table is sealed")


def _map(folder: Path, name: str) -> np.ndarray:
    """Mapped copy-on-write: torch refuses to be quiet about memory it may not write."""
    try:
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / f'{name}.npy'}: missing or cut short", mend="ingest again") from error


def _gather(pack: Tensor, rows: Int64[Tensor, "rows"]) -> Tensor:
    return pack.index_select(0, sent(rows, pack.device)) if pack[:1].numel() else pack.new_empty(len(rows), *pack.shape[1:])
