"""The edges of bins: quantiles of the training rows, read off the columns once these are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from umbel.data.vocab import Encoder, layout
from umbel.schema import NO_EDGES, Edges

SAMPLE = 1 << 20  # training rows that are looked at, evenly spaced, so that memory does not grow with the log


def binned(folder: Path, encoder: Encoder, *, training: int, known: Edges = NO_EDGES) -> Encoder:
    """The encoder with the edges of its fields with bins: those that are `known`, else from the first `training` rows of an encoded log."""
    pack = np.load(folder / "float32.npy", mmap_mode="r")[:training]
    some = np.asarray(pack[:: -(-max(training, 1) // SAMPLE)])
    columns = layout(encoder.schema, coded=False)
    found: dict[str, Sequence[Sequence[float]]] = {}
    for field in encoder.schema.fields:
        if field.bins:
            found[field.name] = known.get(field.name) or tuple(edges(one, field.bins) for one in some[:, columns[field.name]].T)
    return Encoder(encoder.schema, encoder.vocabularies, encoder.scales, statistics=encoder.statistics, edges=found)


def edges(values: Float32[np.ndarray, "rows"], bins: int) -> tuple[float, ...]:
    """The quantiles 0, 1 / bins, ..., 1 of the known values, each once; one value v has the bin from v to v + 1, none that from 0 to 1.

    Example
    -------
    >>> edges(np.array([0, 0, 0, 1, 2, 3, 4, np.nan], np.float32), 4)
    (0.0, 1.0, 2.5, 4.0)
    """
    known = values[~np.isnan(values)]
    cuts = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)).astype(np.float32)) if len(known) else np.zeros(1, np.float32)
    return tuple(cuts.tolist()) if len(cuts) > 1 else (float(cuts[0]), float(cuts[0]) + 1)
