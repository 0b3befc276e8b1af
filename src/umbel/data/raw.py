"""A raw log as batches, without a table: for scoring and evaluating a bundle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch

from umbel.data.assemble import Assembler
from umbel.data.batch import Batch
from umbel.data.derive import needed
from umbel.data.groups import groups
from umbel.data.labels import events
from umbel.data.source import Log, Source
from umbel.data.vocab import Encoder


def rows(source: Source, encoder: Encoder, size: int) -> Iterator[tuple[pl.DataFrame, Batch]]:
    """The log in order, `size` rows at a time: the raw columns, and the batch that the encoder makes of them.

    Codes equal those of ingest to the byte. A label whose column is absent is unseen.

    :raises UserError: if a column that a field reads is missing.
    """
    log = Log(source)
    needed(encoder.schema, source, log.names, labels=False)
    assembler = Assembler(encoder.schema)
    start = 0
    for chunk in log.read(log.names, size):
        columns = encoder.encode(chunk)
        labels = torch.from_numpy(events(chunk, encoder.schema, start))
        group = torch.from_numpy(np.array(groups(chunk, source, start)))
        index = torch.arange(start, start + chunk.height)
        codes, numbers = torch.from_numpy(columns.codes), torch.from_numpy(columns.numbers)
        yield chunk, assembler.batch(codes, numbers, labels=labels, group=group, index=index)
        start += chunk.height
