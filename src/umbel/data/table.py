"""An encoded log on disk, memory-mapped: batches by row number, labels, groups and codes by part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64, Shaped
from torch import Tensor

from umbel.data.batch import Batch
from umbel.data.labels import seen
from umbel.data.source import Join, Source
from umbel.data.split import PARTS
from umbel.data.storage import MARK
from umbel.data.vocab import Columns, Encoder, layout
from umbel.errors import UserError
from umbel.schema import Schema


class Table:
    """An encoded log: `parts` maps train, valid and test to contiguous row numbers.

    Example
    -------
    >>> Table.open("no-such-folder")
    Traceback (most recent call last):
    umbel.errors.UserError: no-such-folder: not a table; make one with umbel ingest
    """

    def __init__(self, folder: Path, encoder: Encoder, source: Source, parts: Mapping[str, range]) -> None:
        self.folder, self.encoder, self.source, self.parts = folder, encoder, source, parts
        self._labels: Float32[np.ndarray, "rows tasks"] = _map(folder, "labels")
        self._groups: Int64[np.ndarray, "rows"] = _map(folder, "group")
        self._times: Int64[np.ndarray, "rows"] = _map(folder, "time")
        self._columns = Columns(_map(folder, "int32"), _map(folder, "float32"))
        self._packs = tuple(torch.from_numpy(pack) for pack in (self._columns.codes, self._columns.numbers, self._labels, self._groups))

    @staticmethod
    def open(folder: Path | str) -> Table:
        """The table in a folder; :raises UserError: if it is none or was cut short."""
        path = Path(folder)
        try:
            meta = json.loads((path / MARK).read_text())
            place = json.loads((path / "source.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a table", mend="make one with umbel ingest") from error
        source = Source(**{**place, "joins": tuple(Join(**join) for join in place["joins"])})
        return Table(path, Encoder.load(path), source, {part: range(*meta["parts"][part]) for part in PARTS})

    @property
    def schema(self) -> Schema:
        """The schema it was encoded with."""
        return self.encoder.schema

    def batch(self, index: Int[np.ndarray, "rows"] | Int[Tensor, "rows"]) -> Batch:
        """The rows of those numbers, by one gather a pack; fields are views of the packs."""
        rows = torch.as_tensor(index, dtype=torch.int64)
        codes, numbers, labels, groups = (pack.index_select(0, rows) for pack in self._packs)
        return assemble(self.schema, Columns(codes.numpy(), numbers.numpy()), labels.numpy(), groups=groups, index=rows)

    def labels(self, part: str) -> tuple[Float32[np.ndarray, "rows tasks"], Bool[np.ndarray, "rows tasks"]]:
        """Labels (0 where unseen) and what was seen, `given` honoured."""
        plain = self._labels[_span(self.parts[part])]
        mask = seen(plain, self.schema)
        return np.where(mask, plain, np.float32(0)), mask

    def events(self, part: str) -> tuple[Float32[np.ndarray, "rows tasks"], Bool[np.ndarray, "rows tasks"]]:
        """Plain events (0 where missing) and which were observed, whatever they are given."""
        plain = self._labels[_span(self.parts[part])]
        return np.nan_to_num(plain), ~np.isnan(plain)

    def groups(self, part: str) -> Int64[np.ndarray, "rows"]:
        """The raw user of each row, as a number."""
        return np.array(self._groups[_span(self.parts[part])])

    def times(self, part: str) -> Int64[np.ndarray, "rows"]:
        """The time of each row, in the unit of its column (microseconds for dates and datetimes)."""
        return np.array(self._times[_span(self.parts[part])])

    def column(self, name: str, part: str) -> Shaped[np.ndarray, "rows *length"]:
        """A field's codes (`encoder.decode` gives raw values), or its standardised numbers."""
        field = self.schema.field(name)
        pack = self._columns.codes if field.coded else self._columns.numbers
        block = np.array(pack[_span(self.parts[part]), layout(self.schema, coded=field.coded)[name]])
        return block if field.many or field.width else np.ravel(block)

    def seen_counts(self, part: str, field: str) -> Int64[np.ndarray, "rows"]:
        """How often each row's value stood in the field's training rows; 0 for unknown values."""
        if self.schema.field(field).many or not self.schema.field(field).coded:
            raise UserError(f"fields.{field}: has no one value a row to count", mend="name an id or category")
        return np.take(self.encoder.vocabularies[self.schema.field(field).table].counts(field), self.column(field, part))


def assemble(schema: Schema, columns: Columns, labels: Float32[np.ndarray, "rows tasks"], *, groups: Tensor, index: Tensor) -> Batch:
    """A batch over packed columns: field tensors are views, labels 0 where unseen."""
    fields: dict[str, Tensor] = {}
    for coded, pack in ((True, columns.codes), (False, columns.numbers)):
        block = torch.from_numpy(pack)
        for name, part in layout(schema, coded=coded).items():
            field = schema.field(name)
            fields[name] = block[:, part] if field.many or field.width else block[:, part.start]
    mask = seen(labels, schema)
    ordered = {field.name: fields[field.name] for field in schema.fields}
    return Batch(ordered, torch.from_numpy(np.where(mask, labels, np.float32(0))), torch.from_numpy(mask), index, group=groups)


def _map(folder: Path, name: str) -> np.ndarray:
    """Mapped copy-on-write: torch refuses to be quiet about memory it may not write."""
    try:
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / f'{name}.npy'}: missing or cut short", mend="ingest again") from error


def _span(rows: range) -> slice:
    return slice(rows.start, rows.stop)
