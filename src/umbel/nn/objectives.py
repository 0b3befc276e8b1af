"""The formulas of the losses that a task may choose: row by row, by pairs of rows, or by lists of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from umbel.errors import UserError
from umbel.kinds import BINARY, TaskKind
from umbel.nn.kinds import loss
from umbel.objectives import CrossEntropy, Focal, Huber, Likelihood, Listwise, Objective, Pairwise

PAIRS = 1 << 20  # pairs of rows held at a time


@dataclass(frozen=True, slots=True)
class Own:
    """One task's side of a batch: rows that were not seen hold zeros and some allowed label; a missing `weight` is 1."""

    outputs: Float[Tensor, "rows outputs"]
    labels: Float[Tensor, "rows"]
    seen: Bool[Tensor, "rows"]
    weight: Float[Tensor, "rows"] | None = None
    group: Int[Tensor, "rows"] | None = None

    def weighed(self, losses: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
        """Each row's loss by its weight."""
        return losses if self.weight is None else losses * self.weight

    @property
    def weights(self) -> Float[Tensor, "rows"]:
        """The weights, ones included; 0 where nothing was seen."""
        given = torch.ones_like(self.labels) if self.weight is None else self.weight
        return torch.where(self.seen, given, 0.0)


@singledispatch
def pay(objective: Objective, kind: TaskKind, own: Own) -> Float[Tensor, "rows"]:
    """What each row pays, row weights in it; what rows that were not seen pay is not to be read.

    A term over pairs or lists is shared out to its rows so that their sum over the number of rows seen is the term's mean.

    :raises NotImplementedError: for a loss that has no formula here.
    """
    raise NotImplementedError(objective.name)


@pay.register(Likelihood)
def _(objective: Likelihood, kind: TaskKind, own: Own) -> Float[Tensor, "rows"]:
    """The kind's own loss."""
    return own.weighed(loss(kind, own.outputs, own.labels))


@pay.register(CrossEntropy)
def _(objective: CrossEntropy, kind: TaskKind, own: Own) -> Float[Tensor, "rows"]:
    """`c^y (log(1 + e^z) - y z)`."""
    return own.weighed(loss(kind, own.outputs, own.labels) * _class_weight(own.labels, objective.positive))


@pay.register(Focal)
def _(objective: Focal, kind: TaskKind, own: Own) -> Float[Tensor, "rows"]:
    """`-c^y (1 - p_y)^gamma log p_y`, p_y the chance given to what happened; `(1 - p_y)^gamma` is taken in logarithms."""
    toward = torch.where(own.labels == 1, own.outputs[:, 0], -own.outputs[:, 0])
    hardness = torch.exp(-objective.gamma * functional.softplus(toward))
    return own.weighed(hardness * functional.softplus(-toward) * _class_weight(own.labels, objective.positive))


@pay.register(Huber)
def _(objective: Huber, kind: TaskKind, own: Own) -> Float[Tensor, "rows"]:
    """`e^2 / 2` for errors up to delta, `delta (|e| - delta / 2)` beyond."""
    return own.weighed(functional.huber_loss(own.outputs[:, 0], own.labels, reduction="none", delta=objective.delta))


@pay.register(Pairwise)
def _(objective: Pairwise, kind: TaskKind, own: Own) -> Float[Tensor, "rows"]:
    """`a * cross entropy + (1 - a) * mean over pairs of log(1 + e^(z- - z+))`."""
    plain = own.weighed(loss(BINARY, own.outputs, own.labels))
    return objective.share * plain + (1 - objective.share) * _pairs(own)


@pay.register(Listwise)
def _(objective: Listwise, kind: TaskKind, own: Own) -> Float[Tensor, "rows"]:
    """`a * cross entropy + (1 - a) * mean over groups of the mean over their events of -log softmax(z)`."""
    if own.group is None:
        raise UserError("loss 'listwise': these rows have no group", mend="name the column of requests, or of users, in [data]")
    plain = own.weighed(loss(BINARY, own.outputs, own.labels))
    return objective.share * plain + (1 - objective.share) * _lists(own, own.group)


def _class_weight(labels: Float[Tensor, "rows"], positive: float) -> Float[Tensor, "rows"]:
    return 1 + (positive - 1) * labels


def _pairs(own: Own) -> Float[Tensor, "rows"]:
    """The ranking term, shared out to the rows with the event; a pair weighs as much as its rows multiplied.

    Pairs are made from `PAIRS // negatives` positive rows at a time and made again for the gradient, so that memory stays bounded.
    """
    positive, negative = (torch.nonzero(own.seen & (own.labels == label))[:, 0] for label in (1, 0))
    found = torch.zeros_like(own.labels)
    if not len(positive) or not len(negative):
        return found
    z, w = own.outputs[:, 0], own.weights
    size = max(1, PAIRS // len(negative))
    parts = []
    for some in torch.split(positive, size):
        given = (z[some], z[negative], w[negative])
        parts.append(_against(*given) if len(positive) <= size else checkpoint(_against, *given, use_reentrant=False))
    scale = own.seen.sum().to(z.dtype) / (len(positive) * len(negative))
    return found.index_put((positive,), scale * w[positive] * torch.cat(parts))


def _against(
    positive: Float[Tensor, "some"], negative: Float[Tensor, "negatives"], weight: Float[Tensor, "negatives"]
) -> Float[Tensor, "some"]:
    """`sum_j w_j log(1 + e^(z_j - z_i))` of each positive row i."""
    return functional.softplus(negative[None, :] - positive[:, None]) @ weight


def _lists(own: Own, group: Int[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """The listwise term, shared out to rows with the event, over groups that have both classes; rows of weight 0 are in none."""
    weights = own.weights
    counts, code = weights != 0, _coded(group)
    # What is not counted is made harmless before the logarithm, not after it: its gradient would be no number.
    z, y, none = torch.where(counts, own.outputs[:, 0], 0.0), torch.where(counts, own.labels, 0.0), torch.zeros_like(own.labels)
    lowest = torch.where(counts, z.detach(), -torch.inf)
    top = torch.where(counts, torch.full_like(none, -torch.inf).scatter_reduce(0, code, lowest, "amax")[code], 0.0)
    chance = none.scatter_add(0, code, torch.where(counts, (z - top).exp(), 0.0))[code]
    log_chance = z - top - torch.where(counts, chance, 1.0).log()
    events, rows = none.scatter_add(0, code, y), none.scatter_add(0, code, counts.to(y.dtype))
    mixed = (events > 0) & (events < rows)
    share = own.seen.sum().to(z.dtype) / mixed.sum().clamp(min=1) * torch.where(mixed, 1 / events.clamp(min=1), 0.0)[code]
    return -share * y * weights * log_chance


def _coded(group: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """A number from 0 on for each group; how many there are, which `unique` would ask of the device, is not needed."""
    group, order = group.sort()
    first = (group.diff(prepend=group[:1]) != 0).cumsum(0)
    return torch.empty_like(first).scatter(0, order, first)
