"""Whom the tasks listen to: the shares their gates give, experts that say nothing, and tables that have collapsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.data.batch import Batch
from umbel.evaluate.slices import cut
from umbel.nn.mixture import Mixture, mixture_of
from umbel.nn.recommender import Recommender

DEAD = 0.9  # of an expert's numbers are 0: HoME (https://arxiv.org/abs/2408.05430) calls such an expert collapsed


@dataclass(frozen=True, slots=True)
class Listening:
    """How much of what a task hears, at the last layer, comes from its own experts, from shared ones and from the other tasks'.

    Means over rows of a gate's shares, 1 in sum; `entropy` is that of the shares over `log experts`: 1 where all are
    heard alike, 0 where one is. None where one expert is heard, and there is no gate.
    """

    task: str
    own: float
    shared: float
    others: float
    entropy: float | None


@dataclass(frozen=True, slots=True)
class Expert:
    """The share of an expert's outputs that are 0 over all rows; `dead` above nine tenths."""

    layer: int
    expert: int
    zeros: float

    @property
    def dead(self) -> bool:
        """Whether it says next to nothing."""
        return self.zeros > DEAD


@dataclass(frozen=True, slots=True)
class Abundance:
    """How many directions an embedding table uses: `sum sigma / max sigma` of its rows in one view, between 1 and its width.

    The information abundance of https://arxiv.org/abs/2310.04400; near 1 the table has collapsed to a line.
    """

    table: str
    view: int
    value: float
    width: int


@dataclass(frozen=True, slots=True)
class Ear:
    """Whom the tasks listen to on the rows of one group."""

    split: str
    group: str
    rows: int
    gates: tuple[Listening, ...]


@dataclass
class Heard:
    """What is gathered at one mixture while batches pass."""

    shares: list[Tensor] = field(default_factory=list)
    zeros: list[Tensor] = field(default_factory=list)

    @property
    def mean(self) -> Float[np.ndarray, "readers experts"]:
        """The shares that gates gave, over batches."""
        return torch.stack(self.shares).mean(0).numpy()


def listen(model: Recommender, batches: Sequence[Batch]) -> tuple[tuple[Listening, ...], tuple[Expert, ...]]:
    """Gates of the last layer and experts of all, where layers are mixtures; empty for other architectures."""
    found = hear(model, batches)
    experts = [
        Expert(number, expert, float(share))
        for number, one in found.items() for expert, share in enumerate(torch.stack(one.zeros).mean(0))
    ]  # fmt: skip
    last = len(model.layers) - 1
    return _listening(model, last, found[last].mean) if last in found else (), tuple(experts)


@torch.no_grad()
def hear(model: Recommender, batches: Sequence[Batch]) -> dict[int, Heard]:
    """What is said and heard at each layer that is a mixture or holds one, by its number."""
    mixtures = {number: found for number, layer in enumerate(model.layers) if (found := mixture_of(layer)) is not None}
    heard = {number: Heard() for number in mixtures}
    with ExitStack() as hooks:
        for number, mixture in mixtures.items():
            hooks.callback(model.layers[number].register_forward_pre_hook(_gatherer(mixture, heard[number])).remove)
        for batch in batches:
            model(batch.fields)
    return heard


@torch.no_grad()
def listen_by(model: Recommender, batches: Iterable[Batch], splits: Mapping[str, np.ndarray]) -> tuple[Ear, ...]:
    """Gates of the last layer by group of rows: `splits` have a label per row, in the order in which `batches` come.

    Empty where the last layer is no mixture.
    """
    last = len(model.layers) - 1
    if mixture_of(model.layers[last]) is None:
        return ()
    shares = _every_share(model, last, batches)
    masks = [(split, group, mask) for split, labels in splits.items() for group, mask in cut(labels).items()]
    return tuple(Ear(split, group, int(mask.sum()), _listening(model, last, shares[mask].mean(0))) for split, group, mask in masks)


def abundances(model: Recommender, sizes: Mapping[str, int]) -> tuple[Abundance, ...]:
    """Of every table in every view; `sizes` are the vocabularies' rows. Tables with fewer rows than the view is wide are left out."""
    found, start, dim = [], 0, model.views.dim
    for table in model.schema.tables:
        rows = model.table.detach()[start : start + sizes[table]].double()
        start += sizes[table]
        for view in range(model.views.views if len(rows) >= dim else 0):
            own = rows[:, view * dim : (view + 1) * dim]
            # The singular values by the small product: a table may have millions of rows.
            sigma = torch.linalg.eigvalsh(own.T @ own).clamp(min=0).sqrt().numpy()
            found.append(Abundance(table, view, float(sigma.sum() / sigma.max()) if sigma.max() > 0 else 0.0, dim))
    return tuple(found)


def _every_share(model: Recommender, number: int, batches: Iterable[Batch]) -> Float[np.ndarray, "rows readers experts"]:
    kept: list[Tensor] = []
    mixture = mixture_of(model.layers[number])
    assert mixture is not None
    hook = model.layers[number].register_forward_pre_hook(lambda layer, given: kept.append(mixture.shares(given[0])))
    with ExitStack() as hooks:
        hooks.callback(hook.remove)
        for batch in batches:
            model(batch.fields)
    return torch.cat(kept).double().numpy()


def _gatherer(mixture: Mixture, heard: Heard) -> Callable[[nn.Module, tuple[Sequence[Tensor]]], None]:
    def gather(layer: nn.Module, given: tuple[Sequence[Tensor]]) -> None:
        (inputs,) = given
        heard.shares.append(mixture.shares(inputs).mean(0))
        back = [mixture.bank.order.index(expert) for expert in range(len(mixture.bank.order))]
        heard.zeros.append((mixture.said(inputs)[:, back] == 0).double().mean((0, 2)))

    return gather


def _listening(model: Recommender, layer: int, shares: Float[np.ndarray, "readers experts"]) -> tuple[Listening, ...]:
    taught = teachers(model, layer)
    return tuple(_of_task((task.name, number), shares[number], taught) for number, task in enumerate(model.schema.tasks))


def teachers(model: Recommender, layer: int) -> list[tuple[int, ...]]:
    """The tasks that teach each expert of a mixture."""
    mixture = mixture_of(model.layers[layer])
    assert mixture is not None
    reach = model.reach
    return [reach[f"layer {layer} expert {expert}"] for expert in range(len(mixture.routing.views))]


def _of_task(named: tuple[str, int], shares: Float[np.ndarray, "experts"], taught: Sequence[tuple[int, ...]]) -> Listening:
    name, task = named
    own = sum(share for share, tasks in zip(shares, taught, strict=True) if tasks == (task,))
    shared = sum(share for share, tasks in zip(shares, taught, strict=True) if task in tasks and len(tasks) > 1)
    heard = shares[shares > 0]
    entropy = float(-(heard * np.log(heard)).sum() / np.log(len(heard))) if len(heard) > 1 else None
    return Listening(name, float(own), float(shared), max(0.0, float(1 - own - shared)), entropy)
