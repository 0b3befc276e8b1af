"""The spread of a table's training rows, and of a batch's rows in the same bins: what monitoring holds against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from umbel.data.batch import Batch
from umbel.data.table import Table
from umbel.evaluate.drift import Profile, Shares
from umbel.learn.predict import votes
from umbel.nn.recommender import Recommender
from umbel.run.fitting import looked
from umbel.schema import Field, FieldKind, Schema

LOOKED = 65536  # training rows looked at, at most
Values = Float[np.ndarray, "rows"] | Int[np.ndarray, "rows"]


def profile(
    table: Table,
    columns: Sequence[str],
    predictions: Float[np.ndarray, "rows columns"],
    *,
    model: Recommender | None = None,
    window: int = 0,
) -> Profile:
    """From some training rows, also of whom the model's gates listen to, and the predictions of validation rows, named `columns`."""
    batches = looked(table, LOOKED, window=window)
    values = [spread(table.schema, batch) for batch in batches]
    fields = {name: _shares(np.concatenate([one[name] for one in values])) for name in values[0]}
    answers = {name: Shares.of_numbers(predictions[:, at].astype(np.float64)) for at, name in enumerate(columns)}
    heard = {} if model is None else votes(model, batches[:1])
    return Profile(fields, answers, {name: Shares.of_votes(one) for name, one in heard.items()})


def spread(schema: Schema, batch: Batch) -> dict[str, Values]:
    """One number or code a row for each field: a list's is how many values it holds; vectors and statistics are left out."""
    return {field.name: _value(field, batch.fields) for field in schema.fields if not field.wide}


def _value(field: Field, fields: Mapping[str, Tensor]) -> Values:
    column = fields[field.name]
    if field.many:
        found: Values = (column >= 0).sum(1).numpy().astype(np.float64)
    elif field.kind is FieldKind.NUMBER:
        found = column.flatten().numpy().astype(np.float64)
    else:
        found = column.numpy().astype(np.int64)
    return found


def _shares(values: Values) -> Shares:
    return Shares.of_numbers(values) if np.issubdtype(values.dtype, np.floating) else Shares.of_codes(values)
