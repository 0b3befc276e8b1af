"""A raw log as batches, without a table: for scoring and evaluating a bundle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32, Int64

from umbel.data.assemble import Assembler
from umbel.data.batch import Batch
from umbel.data.derive import label_value, needed
from umbel.data.groups import groups
from umbel.data.labels import events
from umbel.data.lookup import mixed
from umbel.data.source import Log, Source
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.schema import Schema

SIZE = 16384  # rows looked at a time


def rows(source: Source, encoder: Encoder, size: int, *, labels: bool = True) -> Iterator[tuple[pl.DataFrame, Batch]]:
    """The log in order, `size` rows at a time: the raw columns that were read, and the batch that the encoder makes of them.

    Codes equal those of ingest to the byte. A label whose column is absent is unseen; without `labels` no label's column
    is read, whatever stands in it, and all are unseen; no more is a column of slices.

    :raises UserError: if a column that a field reads is missing, or a label that is read is out of its range.
    """
    log = Log(source)
    schema = encoder.schema
    columns = dict.fromkeys(needed(schema, source, log.names, labels=False))
    if labels:
        columns |= dict.fromkeys(name for name in (*_labels(schema), *source.beside) if name in log.names)
    assembler = Assembler(schema)
    start = 0
    for chunk in log.read(list(columns), size):
        happened = events(chunk, schema, start, log=source.log) if labels else _unseen(chunk, schema)
        index, group = np.arange(start, start + chunk.height), np.array(groups(chunk, source, start))
        yield chunk, _batch(encoder, assembler, chunk, labels=happened, group=group, index=index)
        start += chunk.height


def some(source: Source, encoder: Encoder, count: int, *, seed: int) -> tuple[pl.DataFrame, Batch]:
    """At most `count` rows of the log, in its order, without labels: the same ones for a seed, however the log is cut into files.

    A row's number is mixed with the seed, and the rows with the least results are drawn; no others are held or encoded.

    :raises UserError: if a column that a field reads is missing, or the log has no rows.
    """
    log = Log(source)
    kept, index, start = pl.DataFrame(), np.empty(0, np.int64), 0
    for chunk in log.read(needed(encoder.schema, source, log.names, labels=False), SIZE):
        index = np.concatenate([index, np.arange(start, start + chunk.height)])
        kept = pl.concat([kept, chunk]) if start else chunk
        least = np.sort(np.argsort(mixed(index, seed))[:count])
        kept, index = kept[least], index[least]
        start += chunk.height
    if not start:
        raise UserError(f"{source.log}: no rows", mend="give a log that has some")
    return kept, _unlabelled(source, encoder, kept, index=index)


def one(source: Source, encoder: Encoder, number: int) -> tuple[pl.DataFrame, Batch]:
    """One row of the log by its number, from 1, without labels; :raises UserError: if the log has no such row."""
    log = Log(source)
    start = 0
    for chunk in log.read(needed(encoder.schema, source, log.names, labels=False), SIZE):
        if 0 < number <= start + chunk.height:
            row = chunk[number - 1 - start : number - start]
            return row, _unlabelled(source, encoder, row, index=np.array([number - 1]))
        start += chunk.height
    raise UserError(f"{source.log}: no row {number}", mend=f"rows run from 1 to {start}" if start else "give a log that has some rows")


def encoded(frame: pl.DataFrame, encoder: Encoder, *, labels: bool = False) -> Batch:
    """Raw rows that hold every column the fields read, as a batch in which every row is its own group; labels unseen, unless asked for.

    :raises UserError: if a label that is asked for is out of its range.
    """
    index = np.arange(frame.height)
    happened = events(frame, encoder.schema, 0, log="rows") if labels else _unseen(frame, encoder.schema)
    return _batch(encoder, Assembler(encoder.schema), frame, labels=happened, group=index, index=index)


def _unlabelled(source: Source, encoder: Encoder, frame: pl.DataFrame, *, index: Int64[np.ndarray, "rows"]) -> Batch:
    group = index if source.user is None else np.array(groups(frame, source, 0))
    return _batch(encoder, Assembler(encoder.schema), frame, labels=_unseen(frame, encoder.schema), group=group, index=index)


def _batch(
    encoder: Encoder, assembler: Assembler, frame: pl.DataFrame, *,
    labels: Float32[np.ndarray, "rows tasks"], group: Int64[np.ndarray, "rows"], index: Int64[np.ndarray, "rows"],
) -> Batch:
    packed = encoder.encode(frame)
    codes, numbers, happened = (torch.from_numpy(pack) for pack in (packed.codes, packed.numbers, labels))
    return assembler.batch(codes, numbers, labels=happened, group=torch.from_numpy(group), index=torch.from_numpy(index))


def _unseen(frame: pl.DataFrame, schema: Schema) -> Float32[np.ndarray, "rows tasks"]:
    return np.full((frame.height, len(schema.tasks)), np.nan, np.float32)


def _labels(schema: Schema) -> Iterator[str]:
    """The raw columns that labels are made of."""
    for task in schema.tasks:
        yield from label_value(task).reads
