"""What a value that nobody has seen reads as, where training met too few such values to learn it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from umbel.data.table import Table
from umbel.nn.recommender import Recommender

RARE = 0.01


def average_unknown(model: Recommender, table: Table, *, learned: Collection[str]) -> tuple[str, ...]:
    """Make the unknown row of an embedding table the mean of its known rows, each by how often it stands in training rows.

    Of tables in whose fields less than `RARE` of all training values are unknown, but for those of the fields `learned`, which training
    reads as unknown on purpose. A movie's actors are all known in training, save for a few of one film each; of a new movie's every third
    is not, and what those few films were like is then said of it. Returns the names of the tables.
    """
    found = []
    for name in model.schema.tables:
        fields = [field for field in model.schema.fields if field.coded and field.table == name]
        if any(field.name in learned for field in fields):
            continue
        rows = model.places.span(fields[0].name)
        counts = np.zeros(len(rows))
        for field in fields:
            codes = table.column(field.name, "train").ravel()
            counts += np.bincount(codes[codes >= 0], minlength=len(rows))
        if counts[1:].any() and counts[0] < RARE * counts.sum():
            share = torch.from_numpy(counts[1:] / counts[1:].sum()).to(model.table)
            with torch.no_grad():
                model.table[rows.start] = share @ model.table[rows.start + 1 : rows.stop]
            found.append(name)
    return tuple(found)
