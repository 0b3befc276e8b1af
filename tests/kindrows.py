"""A row for every kind of task: labels it may have, the best constant answer to them, and its loss as others compute it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from scipy.special import expit, log_softmax
from sklearn.metrics import mean_pinball_loss, mean_tweedie_deviance
from torch import Tensor

from umbel.kinds import BINARY, REGRESSION, LogNormal, MultiClass, Ordinal, Poisson, Quantile, TaskKind, Tweedie, ZeroInflated

Array = Float[np.ndarray, "..."]
DRAW = np.random.default_rng(7)
AMOUNTS = np.where(DRAW.random(400) < 0.3, DRAW.lognormal(0.4, 0.8, 400), 0.0)
LEVELS = (0.1, 0.5, 0.8)


@dataclass(frozen=True)
class Row:
    """`best` are the answers of the constant outputs that pay least; `other(outputs, label)` is one row's loss from elsewhere."""

    kind: TaskKind
    labels: Array
    best: Callable[[Array], Array]
    other: Callable[[Array, float], float]

    def tensors(self, rows: int = 24, *, spread: float = 1.0, seed: int = 3) -> tuple[Tensor, Tensor]:
        """Random outputs, and the first labels, in float64."""
        outputs = spread * torch.randn(rows, self.kind.outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return outputs, torch.from_numpy(self.labels[:rows].astype(np.float64))


def _softplus(z: float) -> float:
    return float(np.logaddexp(0.0, z))


def _spread(z: float) -> float:
    return _softplus(z) + float(np.sqrt(np.finfo(np.float32).eps))


def _mean(y: Array) -> Array:
    return np.array([y.mean()])


def _lognormal_mean(y: Array) -> Array:
    logs = np.log(y)
    return np.array([np.exp(logs.mean() + logs.var() / 2)])


def _shares(count: int) -> Callable[[Array], Array]:
    return lambda y: np.bincount(y.astype(int), minlength=count) / len(y)


def _lognormal(z: Array, y: float) -> float:
    return -float(stats.lognorm.logpdf(y, s=_spread(z[1]), scale=np.exp(z[0])))


def _zero_inflated(z: Array, y: float) -> float:
    chance = stats.bernoulli.logpmf(int(y > 0), expit(z[0]))
    return -float(chance) + (_lognormal(z[1:], y) if y > 0 else 0.0)


def _quantile(z: Array, y: float) -> float:
    steps = [z[0], *(_softplus(one) for one in z[1:])]
    pairs = zip(LEVELS, np.cumsum(steps), strict=True)
    return float(np.mean([mean_pinball_loss([y], [quantile], alpha=level) for level, quantile in pairs]))


def _ordinal(z: Array, y: float) -> float:
    above = z[0] - np.cumsum([0.0, *(_softplus(one) for one in z[1:])])
    edges = [1.0, *expit(above), 0.0]
    return -float(np.log(edges[int(y)] - edges[int(y) + 1]))


ROWS: dict[str, Row] = {
    row.kind.name: row
    for row in (
        Row(BINARY, (DRAW.random(400) < 0.2).astype(float), _mean, lambda z, y: -float(stats.bernoulli.logpmf(y, expit(z[0])))),
        Row(REGRESSION, DRAW.normal(1.0, 2.0, 400), _mean, lambda z, y: float((z[0] - y) ** 2)),
        Row(LogNormal(), DRAW.lognormal(0.5, 0.7, 400), _lognormal_mean, _lognormal),
        Row(ZeroInflated(), AMOUNTS, lambda y: (y > 0).mean() * _lognormal_mean(y[y > 0]), _zero_inflated),
        Row(Poisson(), DRAW.poisson(1.7, 400).astype(float), _mean, lambda z, y: -float(stats.poisson.logpmf(y, np.exp(z[0])))),
        Row(Tweedie(1.4), AMOUNTS, _mean, lambda z, y: mean_tweedie_deviance([y], [np.exp(z[0])], power=1.4) / 2),
        Row(Quantile(LEVELS), DRAW.normal(0.0, 1.5, 400), lambda y: np.quantile(y, LEVELS), _quantile),
        Row(Ordinal(4), DRAW.binomial(3, 0.4, 400).astype(float), _shares(4), _ordinal),
        Row(MultiClass(3), DRAW.choice(3, 400, p=[0.5, 0.2, 0.3]).astype(float), _shares(3), lambda z, y: -float(log_softmax(z)[int(y)])),
    )
}
