"""A raw log as batches, without a table: for scoring and evaluating a bundle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch

from umbel.data.assemble import Assembler
from umbel.data.batch import Batch
from umbel.data.derive import label_value, needed
from umbel.data.groups import groups
from umbel.data.labels import events
from umbel.data.source import Log, Source
from umbel.data.vocab import Encoder
from umbel.schema import Schema


def rows(source: Source, encoder: Encoder, size: int, *, labels: bool = True) -> Iterator[tuple[pl.DataFrame, Batch]]:
    """The log in order, `size` rows at a time: the raw columns that were read, and the batch that the encoder makes of them.

    Codes equal those of ingest to the byte. A label whose column is absent is unseen; without `labels` no label's column
    is read, whatever stands in it, and all are unseen.

    :raises UserError: if a column that a field reads is missing, or a label that is read is out of its range.
    """
    log = Log(source)
    schema = encoder.schema
    columns = dict.fromkeys(needed(schema, source, log.names, labels=False))
    if labels:
        columns |= dict.fromkeys(name for name in _labels(schema) if name in log.names)
    assembler = Assembler(schema)
    start = 0
    for chunk in log.read(list(columns), size):
        packed = encoder.encode(chunk)
        if labels:
            happened = events(chunk, schema, start, log=source.log)
        else:
            happened = np.full((chunk.height, len(schema.tasks)), np.nan, np.float32)
        group = torch.from_numpy(np.array(groups(chunk, source, start)))
        index = torch.arange(start, start + chunk.height)
        codes, numbers = torch.from_numpy(packed.codes), torch.from_numpy(packed.numbers)
        yield chunk, assembler.batch(codes, numbers, labels=torch.from_numpy(happened), group=group, index=index)
        start += chunk.height


def _labels(schema: Schema) -> Iterator[str]:
    """The raw columns that labels are made of."""
    for task in schema.tasks:
        yield from label_value(task).reads
