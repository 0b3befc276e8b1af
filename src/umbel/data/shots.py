"""An episode batch: query rows to answer, and beside them, under names of their own, the support rows of the same users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from umbel.data.batch import Batch
from umbel.data.episodes import PADDING, Rows
from umbel.data.table import Table

SUPPORT = "support/"
LABELS, SEEN, WEIGHT, PRIOR = (f"{SUPPORT}{name}" for name in (":labels", ":seen", ":weight", ":prior"))
QUERY_PRIOR, KNOWN = ":prior", ":known"


class Shots(NamedTuple):
    """Rows of several users, padded to one length: fields and what happened.

    `weight` is how much a row counts in what its user learns (0 for padding; it adds up to 1 for a user of one table).
    `prior` is added to the outputs: what is known of an item before anyone is asked, in the unit of the outputs.
    """

    fields: Mapping[str, Tensor]
    labels: Float[Tensor, "users shots tasks"]
    seen: Bool[Tensor, "users shots tasks"]
    weight: Float[Tensor, "users shots"]
    prior: Float[Tensor, "users shots outputs"]


def gather(table: Table, rows: Rows) -> tuple[dict[str, Tensor], Float[Tensor, "users shots tasks"], Bool[Tensor, "users shots tasks"]]:
    """Fields, labels and what was seen of padded rows; padding repeats a user's first row, unseen.

    So it touches no row of an embedding table that the user does not read anyway.
    """
    first = np.maximum(rows[:, :1], 0)
    batch = table.batch(np.where(rows == PADDING, first, rows).ravel())
    fields = {name: divided(column, rows.shape) for name, column in batch.fields.items()}
    there = torch.from_numpy(rows != PADDING)
    return fields, divided(batch.labels, rows.shape), divided(batch.seen, rows.shape) & there[..., None]


def divided(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first dimension as several."""
    return x.reshape(*shape, *x.shape[1:])


def even(seen: Bool[Tensor, "users shots tasks"]) -> Float[Tensor, "users shots"]:
    """Weights by which every row of a user counts alike, and that add up to 1; zeros for a user without rows."""
    there = seen.any(dim=2).float()
    return there / there.sum(dim=1, keepdim=True).clamp(min=1)


def episode_batch(
    support: Shots, query: Shots, index: Tensor | None = None, *, known: Bool[Tensor, "users"] | None = None,
) -> Batch:
    """One batch of the two: its rows are the query's, flattened user by user; support rows are fields like any other.

    Users that are `known` are read by their ids, others as unknown.

    Row weights make the loss of each task the mean over users of their own means, over those that saw a label of it.
    """
    users, shots, tasks = query.labels.shape
    rows = users * shots
    seen = query.seen.view(rows, tasks)
    fields = {name: column.flatten(0, 1) for name, column in query.fields.items()} | {QUERY_PRIOR: query.prior.flatten(0, 1)}
    fields |= {f"{SUPPORT}{name}": column for name, column in support.fields.items()}
    fields |= {LABELS: support.labels, SEEN: support.seen, WEIGHT: support.weight, PRIOR: support.prior}
    fields |= {} if known is None else {KNOWN: known}
    numbers = torch.arange(rows) if index is None else index
    return Batch(fields, query.labels.view(rows, tasks), seen, numbers, _by_user(query.seen).reshape(rows, tasks))


def parted(fields: Mapping[str, Tensor]) -> tuple[Shots, dict[str, Tensor]]:
    """The support, and the query's own fields (its prior and marks left out), of an episode batch."""
    plain = {name: column for name, column in fields.items() if not name.startswith((SUPPORT, ":"))}
    support = {name: fields[f"{SUPPORT}{name}"] for name in plain}
    return Shots(support, fields[LABELS], fields[SEEN], fields[WEIGHT], fields[PRIOR]), plain


def _by_user(seen: Bool[Tensor, "users shots tasks"]) -> Float[Tensor, "users shots tasks"]:
    """By how much a mean over rows has to weigh each, to be a mean over users of means."""
    own = seen.sum(dim=1, keepdim=True)
    users = (own > 0).sum(dim=0, keepdim=True).clamp(min=1)
    total = own.sum(dim=0, keepdim=True)
    return (total / (users * own.clamp(min=1))).float().expand(seen.shape)
