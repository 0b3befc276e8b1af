"""Raw values as codes: one vocabulary a table, and the encoder that ingest and scoring share."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32, Int64

from umbel.data.derive import by_values, evaluate, field_value
from umbel.data.frequency import COUNT, VALUE
from umbel.data.keys import Finder
from umbel.data.storage import file_name, schema_from_json, schema_to_json, write_json
from umbel.data.totals import Totals
from umbel.data.values import as_lists, no_infinities, numbers, single, vectors
from umbel.errors import UserError
from umbel.schema import NO_EDGES, Edges, Field, FieldKind, Schema

Each = Callable[[Callable[[str], None], Iterable[str]], Iterable[None]]  # `map`, or that of a pool
Ready = Callable[[pl.DataFrame], Int32[np.ndarray, "rows"]]  # the codes of one field in a batch
Encoded = Int32[np.ndarray, "rows width"] | Float32[np.ndarray, "rows width"]  # one field of some rows
NONE: Mapping[str, Ready] = MappingProxyType({})


class Vocabulary:
    """The raw values of one table in code order: codes from 1 by training count (descending), then by UTF-8 bytes; 0 is unknown.

    `frame` holds `value`, `count` (over all fields that share the table) and, where several do, a column `count:FIELD` for each.
    What finds a value is made when one is looked for: training looks for none.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    @cached_property
    def _finder(self) -> Finder:
        return Finder(self.frame[VALUE])

    @property
    def size(self) -> int:
        """Rows of the table it codes for, the unknown value's included."""
        return self.frame.height + 1

    def encode(self, raw: pl.Series) -> Int32[np.ndarray, "rows"]:
        """The code of each value; 0 where it is missing or unknown."""
        return self._finder.find(raw) + np.int32(1)

    def decode(self, codes: Int32[np.ndarray, "rows"]) -> pl.Series:
        """The raw values behind codes; null for 0 and for padding."""
        places = pl.Series(codes - 1, dtype=pl.Int64)
        return self.frame[VALUE].gather(places.set(places < 0, None))

    def counts(self, field: str) -> Int64[np.ndarray, "codes"]:
        """How often each code stood in the training rows of that field; 0 for the unknown code."""
        own = f"{COUNT}:{field}"
        return np.concatenate([np.zeros(1, np.int64), self.frame[own if own in self.frame.columns else COUNT].to_numpy()])


@dataclass(frozen=True, slots=True)
class Columns:
    """Encoded rows, packed row-major by type: codes of coded fields, and standardised numbers and vectors."""

    codes: Int32[np.ndarray, "rows slots"]
    numbers: Float32[np.ndarray, "rows width"]


def layout(schema: Schema, *, coded: bool) -> dict[str, slice]:
    """The columns that each coded (or number and vector) field takes in its pack, in schema order."""
    places: dict[str, slice] = {}
    start = 0
    for field in schema.fields:
        if field.coded == coded:
            places[field.name] = slice(start, start + field.size)
            start += field.size
    return places


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of a number in the training rows."""

    mean: float
    sd: float


class Encoder:
    """A schema with its vocabularies, scales and statistics: raw rows in, packed columns out, the same at ingest and at scoring.

    `edges` of bins are what models read of it; no column depends on them.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: Mapping[str, Vocabulary],
        scales: Mapping[str, Scale],
        *,
        statistics: Mapping[str, Totals] = MappingProxyType({}),
        edges: Edges = NO_EDGES,
    ) -> None:
        self.schema = schema
        self.vocabularies = vocabularies
        self.scales = scales
        self.statistics = statistics
        self.edges = edges
        self._derived = [field_value(field) for field in schema.fields if field.statistic is None]
        self._by = {field.name: by_values(schema, field) for field in schema.fields if field.statistic is not None}

    def rescaled(self, scales: Mapping[str, Scale]) -> Encoder:
        """The same with these scales, where it has such numbers."""
        own = {name: scales.get(name, one) for name, one in self.scales.items()}
        return Encoder(self.schema, self.vocabularies, own, statistics=self.statistics, edges=self.edges)

    def as_of(self, schema: Schema) -> Encoder:
        """The same under another schema, whose fields are of the same values."""
        return Encoder(schema, self.vocabularies, self.scales, statistics=self.statistics, edges=self.edges)

    def encode(self, frame: pl.DataFrame, *, each: Each = map, ready: Mapping[str, Ready] = NONE) -> Columns:
        """The packed columns of raw rows; `each` goes through the fields, a thread pool's `map` many at once.

        `ready` gives the codes of fields of single values whose columns the frame has not.

        :raises UserError: for an infinite number or a vector of another width.
        """
        values = evaluate(frame, [one for one in self._derived if one.name not in ready])
        coded, plain = layout(self.schema, coded=True), layout(self.schema, coded=False)
        codes = np.empty((frame.height, sum(part.stop - part.start for part in coded.values())), np.int32)
        plains = np.empty((frame.height, sum(part.stop - part.start for part in plain.values())), np.float32)

        def fill(name: str) -> None:
            codes[:, coded[name]] = ready[name](frame)[:, None] if name in ready else self._codes(self.schema.field(name), values[name])

        deque(each(fill, coded), maxlen=0)
        for name, part in plain.items():
            if name not in self.statistics:
                plains[:, part] = self._numbers(self.schema.field(name), values[name])
        for name, keys in self.keys(frame).items():
            plains[:, plain[name]] = self.statistics[name].read(keys)
        return Columns(codes, plains)

    def some(self, frame: pl.DataFrame, names: Collection[str]) -> dict[str, Encoded]:
        """The columns of some fields, as `encode` packs them, from a frame that needs to have no more than those read."""
        wanted = [one for one in self._derived if one.name in names]
        plain = {one.name: frame[one.reads[0]] for one in wanted if self.schema.field(one.name).sql is None}  # a plan of Polars costs more
        computed = [one for one in wanted if one.name not in plain]
        values = {**plain, **(evaluate(frame, computed).to_dict() if computed else {})}
        keys = self.keys(frame, names)
        found: dict[str, Encoded] = {}
        for name in names:
            field = self.schema.field(name)
            if name in keys:
                found[name] = self.statistics[name].read(keys[name])
            else:
                found[name] = self._codes(field, values[name]) if field.coded else self._numbers(field, values[name])
        return found

    def keys(self, frame: pl.DataFrame, names: Collection[str] | None = None) -> dict[str, Int64[np.ndarray, "rows"]]:
        """What each statistic's rows are looked up by; only of some where they are named."""
        found = {}
        for name, by in self._by.items():
            if names is not None and name not in names:
                continue
            values = evaluate(frame, by)
            found[name] = self.statistics[name].find(pl.DataFrame([single(one, self.schema.field(name)) for one in values]))
        return found

    def code(self, name: str, raw: pl.Series) -> Int32[np.ndarray, "rows"]:
        """The codes of raw values of a field that holds one a row."""
        field = self.schema.field(name)
        return self.vocabularies[field.table].encode(single(raw, field))

    def decode(self, name: str, codes: Int32[np.ndarray, "rows"]) -> pl.Series:
        """The raw values behind a field's codes."""
        return self.vocabularies[self.schema.field(name).table].decode(codes)

    def save(self, folder: Path) -> None:
        """Write schema.json, scales.json and vocabulary/TABLE.parquet under a folder."""
        (folder / "vocabulary").mkdir(parents=True, exist_ok=True)
        write_json(folder / "schema.json", schema_to_json(self.schema))
        write_json(folder / "scales.json", {name: [scale.mean, scale.sd] for name, scale in self.scales.items()})
        if self.statistics:
            (folder / "statistic").mkdir()
            write_json(folder / "statistics.json", {name: totals.beside() for name, totals in self.statistics.items()})
        if self.edges:
            write_json(folder / "edges.json", self.edges)
        for name, totals in self.statistics.items():
            totals.save(folder / "statistic" / f"{file_name(name)}.parquet")
        for name, vocabulary in self.vocabularies.items():
            path = folder / "vocabulary" / f"{file_name(name)}.parquet"
            vocabulary.frame.write_parquet(path, compression="lz4")  # zstd takes twice as long, for three bytes in ten

    @staticmethod
    def load(folder: Path) -> Encoder:
        """The encoder that `save` wrote; :raises UserError: if a file of it is missing or damaged."""
        try:
            schema = schema_from_json(json.loads((folder / "schema.json").read_text(encoding="utf-8")))
            scales = {name: Scale(*pair) for name, pair in json.loads((folder / "scales.json").read_text(encoding="utf-8")).items()}
            statistics = _statistics(schema, folder)
            edges = _edges(schema, folder)
            frames = {name: pl.read_parquet(folder / "vocabulary" / f"{file_name(name)}.parquet", glob=False) for name in schema.tables}
        except (OSError, ValueError, LookupError, TypeError, pl.exceptions.PolarsError) as error:
            what = f"{folder}: schema, scales, vocabulary or statistics are damaged ({error})"
            raise UserError(what, mend="make the folder again") from error
        return Encoder(schema, {name: Vocabulary(frame) for name, frame in frames.items()}, scales, statistics=statistics, edges=edges)

    def _codes(self, field: Field, raw: pl.Series) -> Int32[np.ndarray, "rows *length"]:
        vocabulary = self.vocabularies[field.table]
        if not field.many:
            return self.code(field.name, raw)[:, None]
        lists = as_lists(raw, field)
        lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
        flat = vocabulary.encode(lists.explode(empty_as_null=False, keep_nulls=False))
        out = np.full((len(raw), field.length), -1, np.int32)
        out[np.arange(field.length) < lengths[:, None]] = flat
        return out

    def _numbers(self, field: Field, raw: pl.Series) -> Float32[np.ndarray, "rows width"]:
        if field.kind is FieldKind.VECTOR:
            return vectors(raw, field)
        scale = self.scales[field.name]
        values = numbers(raw, field)
        with np.errstate(over="ignore"):
            scaled = ((values - scale.mean) / scale.sd).astype(np.float32)
        no_infinities(int(np.isinf(scaled).sum()), field)
        return scaled[:, None]


def _edges(schema: Schema, folder: Path) -> Edges:
    if not any(field.bins for field in schema.fields):
        return NO_EDGES
    saved = json.loads((folder / "edges.json").read_text(encoding="utf-8"))
    return {field.name: tuple(map(tuple, saved[field.name])) for field in schema.fields if field.bins}


def _statistics(schema: Schema, folder: Path) -> dict[str, Totals]:
    fields = [field for field in schema.fields if field.statistic is not None]
    beside = json.loads((folder / "statistics.json").read_text(encoding="utf-8")) if fields else {}
    files = {field.name: folder / "statistic" / f"{file_name(field.name)}.parquet" for field in fields}
    return {field.name: Totals.load(schema, field, files[field.name], beside=beside[field.name]) for field in fields}
