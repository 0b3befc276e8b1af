"""What tasks want of the parameters they share: do their gradients agree, and does one task's step help another?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.data.batch import Batch
from umbel.nn.bank import Part
from umbel.nn.losses import Denominator, masked_mean
from umbel.nn.recommender import Recommender
from umbel.nn.views import compact
from umbel.schema import Schema

LOWERED = 0.001  # the share of its own loss by which a task's look-ahead step lowers it, to first order

KEPT = (0.5, 1.5)  # of that share, between which its step may really lower it


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two tasks at the parameters of one layer that both teach: mean cosine of their gradients, and the share of batches below 0.

    `a . b / (|a| |b|)`: 1 where both pull the same way, 0 where neither minds the other, below 0 where they pull apart.
    """

    layer: str
    tasks: tuple[str, str]
    cosine: float
    conflicts: float


@dataclass(frozen=True, slots=True)
class Affinity:
    """What a step on shared parameters for `helper` does to the loss of `helped`: the share by which it falls, per 1 % of the helper's own.

    The look-ahead of Fifty et al. (https://arxiv.org/abs/2109.04617), `Z = 1 - L_j(theta - eta g_i) / L_j(theta)`, with
    `eta = .001 L_i / |g_i|^2`, so that a step lowers its own loss by .1 % whatever the units of the loss: theirs is the
    learning rate, by which tasks with large losses take large steps. A step of 1 % is too long: late in a training the gradients
    are short, and such a step overshoots. In percent of the helped one's loss for each percent of one's own; 1 = as much as itself.
    A loss that is minus the logarithm of a density has no zero of its own, as the label's unit moves it: there shares are of a nat
    (`_measures`) in place of L_i and L_j.
    """

    helper: str
    helped: str
    percent: float


def conflicts(model: Recommender, batches: Sequence[Batch], sizes: Mapping[str, int]) -> tuple[Conflict, ...]:
    """Per layer that two tasks teach, and per embedding table of the views they share (`sizes`: its rows), and pair of tasks.

    Over batches; pairs whose gradients vanish there are left out.
    """
    found: dict[tuple[str, tuple[int, int]], list[float]] = {}
    shared = _shared(model)
    for batch in batches:
        gradients = _gradients(model, batch)
        for layer, parts in {**shared, **_tables(model, batch, sizes)}.items():
            for pair in combinations(range(len(gradients)), 2):
                cosine = _cosine(gradients[pair[0]], gradients[pair[1]], parts)
                if cosine is not None:
                    found.setdefault((layer, pair), []).append(cosine)
    names = [task.name for task in model.schema.tasks]
    return tuple(
        Conflict(layer, (names[one], names[other]), float(np.mean(each)), float(np.mean([cosine < 0 for cosine in each])))
        for (layer, (one, other)), each in found.items()
    )


def affinities(model: Recommender, batches: Sequence[Batch]) -> tuple[Affinity, ...]:
    """Per ordered pair of tasks, the mean over batches.

    Left out is a helper without a gradient on shared parameters, and a batch on which its step does not lower its own loss about
    as promised: where a gradient has all but vanished (a tower died), the step that should do it is a leap, and tells nothing.
    """
    names = [task.name for task in model.schema.tasks]
    each: dict[tuple[int, int], list[float]] = {}
    for batch in batches:
        before = _losses(model, batch, {})
        measures = _measures(model.schema, batch, before)
        for helper, gradients in enumerate(_gradients(model, batch)):
            step = _step(model, gradients, loss=float(measures[helper]))
            gains = ((before - _losses(model, batch, step)) / measures / LOWERED).tolist() if step else []
            if gains and KEPT[0] < gains[helper] < KEPT[1]:
                for helped, gain in enumerate(gains):
                    each.setdefault((helper, helped), []).append(gain)
    return tuple(
        Affinity(names[helper], names[helped], float(np.nanmean(gains)))
        for (helper, helped), gains in each.items() if helper != helped and not np.isnan(gains).all()
    )  # fmt: skip


def _shared(model: Recommender) -> dict[str, tuple[Part, ...]]:
    """The parameters that two tasks or more teach, by layer: `views`, `layer 0 expert`, ..."""
    found: dict[str, tuple[Part, ...]] = {}
    groups = model.groups()
    for name, tasks in model.reach.items():
        if len(tasks) > 1:
            layer = re.sub(r" \d+$", "", name)
            found[layer] = (*found.get(layer, ()), *groups[name])
    return found


def _tables(model: Recommender, batch: Batch, sizes: Mapping[str, int]) -> dict[str, tuple[Part, ...]]:
    """Each embedding table in the views that two tasks or more teach: the rows of it that the batch touches."""
    ids, _ = compact(model.rows(batch.fields))
    ends = np.cumsum([0, *(sizes[table] for table in model.schema.tables)])
    places = np.searchsorted(ids.numpy(), ends).tolist()
    views = [part.index[1] for name, parts in _shared(model).items() if name == "view" for part in parts if part.name == "table"]
    rows = zip(model.schema.tables, pairwise(places), strict=True)
    return {f"table {name}": tuple(Part("table", (slice(*own), view)) for view in views) for name, own in rows if views}


def _gradients(model: Recommender, batch: Batch) -> list[dict[str, Tensor]]:
    """Each task's gradient at every parameter (zeros where it has none); of the table, at the rows of the batch."""
    _, rows = compact(model.rows(batch.fields))
    named = {"table": rows["table"], **{name: one for name, one in model.named_parameters() if name != "table"}}
    losses = model.losses(model.score(rows, batch.fields).float(), batch)
    found = []
    for loss in losses.unbind():
        gradients = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
        each = zip(named.items(), gradients, strict=True)
        found.append({name: torch.zeros_like(at) if gradient is None else gradient for (name, at), gradient in each})
    return found


def _cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor], parts: tuple[Part, ...]) -> float | None:
    products = [_dot(left, right, parts) for left, right in ((one, other), (one, one), (other, other))]
    scale = (products[1] * products[2]) ** 0.5
    return products[0] / scale if scale > 0 else None


def _dot(one: Mapping[str, Tensor], other: Mapping[str, Tensor], parts: tuple[Part, ...]) -> float:
    return float(sum((part.of(one).double() * part.of(other).double()).sum() for part in parts))


def _measures(schema: Schema, batch: Batch, losses: Float[Tensor, "tasks"]) -> Float[Tensor, "tasks"]:
    """What gains of each task are shares of: its loss; of a density, a nat for each row above 0, weighed as the loss is.

    By that much such a loss moves where the label's unit is e times smaller; rows at 0 do not move. NaN where there is nothing to share.
    """
    found = losses.clone()
    for number, task in enumerate(schema.tasks):
        if task.kind.form.density:
            weight = None if batch.weight is None else batch.weight[:, number]
            nats = (batch.labels[:, number] > 0).to(losses.dtype)
            found[number] = task.weight * masked_mean(nats, batch.seen[:, number], weight, denominator=Denominator.SEEN)
    return found.masked_fill(found == 0, float("nan"))


def _step(model: Recommender, gradients: Mapping[str, Tensor], *, loss: float) -> dict[str, Tensor]:
    """The shared parameters' move for one task, by name; empty where it has no gradient there."""
    parts = tuple(part for own in _shared(model).values() for part in own)
    square = _dot(gradients, gradients, parts)
    if not square > 0:
        return {}
    moves = {part.name: torch.zeros_like(gradients[part.name]) for part in parts}
    for part in parts:
        part.of(moves).copy_(part.of(gradients) * (-LOWERED * loss / square))
    return moves


class _Scorer(nn.Module):
    """`score` as a module's call, for `functional_call`."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Tensor:
        return self.model.score(rows, fields)


@torch.no_grad()
def _losses(model: Recommender, batch: Batch, moves: Mapping[str, Tensor]) -> Float[Tensor, "tasks"]:
    """The tasks' losses with parameters moved; the model is left as it is."""
    _, rows = compact(model.rows(batch.fields))
    if "table" in moves:
        rows = {**rows, "table": rows["table"] + moves["table"]}
    moved = {f"model.{name}": one + moves[name] for name, one in model.named_parameters() if name in moves and name != "table"}
    logits = torch.func.functional_call(_Scorer(model), moved, (rows, batch.fields))
    return model.losses(logits.float(), batch)
