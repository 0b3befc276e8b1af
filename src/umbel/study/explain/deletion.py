"""Are the fields that are named the ones that matter? They are taken away, and as many others at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.data.lookup import mixed
from umbel.evaluate.intervals import Interval, Resamples
from umbel.evaluate.metrics import Undefined
from umbel.study.explain.explain import Explanation
from umbel.study.explain.ranking import mean_intervals

MOST = 5    # fields taken away, from one to this many
RANDOM = 4  # random orders a row
ROWS = 4096

Orders = Int[Tensor, "rows fields"]


@runtime_checkable
class Scorer(Protocol):
    """What is checked: which columns are a task's, the baseline, and scores from the fields as views see them; an `Explainer`."""

    answers: Mapping[str, slice]
    base: Float[Tensor, "views fields dim"]

    def scores(self, seen: Float[Tensor, "rows views fields dim"]) -> Float[Tensor, "rows columns"]:
        """What is explained."""
        ...


@dataclass(frozen=True, slots=True)
class Deletion:
    """By how much a prediction changes when 1 to `most` fields of a row go to the baseline, on average over these numbers and rows.

    `named` takes a row's own fields in the order of their contributions, `ranked` those of the task's ranking, `chance` any;
    `gain` and `ranked_gain` are the differences to chance, with 95 % intervals over users.
    """

    most: int
    named: float
    ranked: float
    chance: float
    gain: Interval
    ranked_gain: Interval

    @property
    def shown(self) -> bool:
        """Whether the row's own order is better than chance: its interval lies above 0."""
        return self.gain.low is not None and self.gain.low > 0

    @property
    def ranking_shown(self) -> bool:
        """The same of the task's ranking."""
        return self.ranked_gain.low is not None and self.ranked_gain.low > 0


def deletions(
    scorer: Scorer, seen: Float[Tensor, "rows views fields dim"], found: Explanation, *, by: Resamples, index: Int[Tensor, "rows"]
) -> dict[str, Deletion | Undefined]:
    """The check for each task; `index` are the rows' numbers, which draw their random orders."""
    fields = len(found.fields)
    if fields < 2:
        return {task: Undefined("the only field has no other to stand against") for task in scorer.answers}
    most = min(MOST, fields - 1)
    value = torch.from_numpy(found.value)

    def moved(order: Orders) -> Float[Tensor, "rows columns"]:
        return torch.stack([(_without(scorer, seen, order[:, :count]) - value).abs() for count in range(1, most + 1)]).mean(0)

    chance = torch.stack([moved(order) for order in _random(index, fields)]).mean(0)
    checks: dict[str, Deletion | Undefined] = {}
    for task, own in scorer.answers.items():
        sizes = torch.from_numpy(np.abs(found.contributions[:, own]).mean(axis=1))
        orders = _falling(sizes), _falling(sizes.mean(0)).expand(len(sizes), -1)
        named, ranked, any_ = (one[:, own].mean(1).numpy() for one in (*map(moved, orders), chance))
        gain, ranked_gain = mean_intervals(np.stack([named - any_, ranked - any_], 1), by)
        checks[task] = Deletion(most, float(named.mean()), float(ranked.mean()), float(any_.mean()), gain, ranked_gain)
    return checks


@torch.no_grad()
def _without(scorer: Scorer, seen: Tensor, gone: Int[Tensor, "rows some"]) -> Float[Tensor, "rows columns"]:
    """The scores of rows whose fields `gone` stand at the baseline."""
    mask = torch.zeros(seen.shape[0], seen.shape[2], dtype=torch.bool).scatter_(1, gone, True)
    pieces = zip(torch.split(seen, ROWS), torch.split(mask, ROWS), strict=True)
    return torch.cat([scorer.scores(torch.where(away[:, None, :, None], scorer.base, piece)) for piece, away in pieces])


def _falling(sizes: Float[Tensor, "*rows fields"]) -> Int[Tensor, "*rows fields"]:
    return sizes.argsort(dim=-1, descending=True, stable=True)


def _random(index: Int[Tensor, "rows"], fields: int) -> list[Orders]:
    """Orders of fields that a row's number draws."""
    keys = index.numpy()[:, None] * fields + np.arange(fields)
    return [torch.from_numpy(mixed(keys.ravel(), seed).reshape(keys.shape).argsort(axis=1)) for seed in range(1, RANDOM + 1)]
