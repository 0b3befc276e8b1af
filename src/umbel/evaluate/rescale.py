"""Calibrators of answers that are no single probability: amounts are scaled, quantiles shifted, chances of classes tempered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

FEWEST = 100       # rows under which answers stay as they are
STEEPEST = 20.0    # the powers that chances may be raised to lie between its inverse and this


@dataclass(frozen=True, slots=True)
class Scaled:
    """`prediction = factor * answer`: the sum of what is predicted becomes the sum of what happened."""

    kind: ClassVar[str] = "scaled"
    factor: float = 1.0

    def __call__(self, answers: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        """Amounts in the label's unit."""
        return self.factor * answers.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Shifted:
    """`q_k + offset_k`, put in order: each quantile is moved until its level holds where it was fitted (Romano et al., NeurIPS 2019)."""

    kind: ClassVar[str] = "shifted"
    offsets: tuple[float, ...]

    def __call__(self, answers: Float[np.ndarray, "rows levels"]) -> Float[np.ndarray, "rows levels"]:
        """Quantiles in the label's unit, rising."""
        moved: Float[np.ndarray, "rows levels"] = np.maximum.accumulate(answers.astype(np.float64) + np.array(self.offsets), axis=1)
        return moved


@dataclass(frozen=True, slots=True)
class Tempered:
    """`p_k^power / sum_j p_j^power`: a softmax's temperature scaling, power = 1 / temperature (Guo et al., ICML 2017)."""

    kind: ClassVar[str] = "tempered"
    power: float = 1.0

    def __call__(self, answers: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
        """Chances that add up to 1."""
        logs = self.power * _logs(answers)
        odds = np.exp(logs - logs.max(axis=1, keepdims=True))
        chances: Float[np.ndarray, "rows classes"] = odds / odds.sum(axis=1, keepdims=True)
        return chances


def fit_scaled(answers: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"]) -> Scaled:
    """From 100 rows on, if anything happened and anything was predicted."""
    own, promised = float(labels.sum(dtype=np.float64)), float(answers.sum(dtype=np.float64))
    return Scaled(own / promised) if len(labels) >= FEWEST and own > 0 and promised > 0 else Scaled()


def fit_shifted(
    answers: Float[np.ndarray, "rows levels"], labels: Float[np.ndarray, "rows"], levels: tuple[float, ...]
) -> Shifted:
    """Each offset is the quantile of `y - q_k` at its level, from 100 rows on."""
    if len(labels) < FEWEST:
        return Shifted((0.0,) * len(levels))
    error = labels.astype(np.float64)[:, None] - answers
    return Shifted(tuple(float(np.quantile(error[:, at], level, method="inverted_cdf")) for at, level in enumerate(levels)))


def fit_tempered(answers: Float[np.ndarray, "rows classes"], labels: Float[np.ndarray, "rows"]) -> Tempered:
    """The power of least log-loss, by bisection on its slope (the loss is convex in it), from 100 rows on."""
    if len(labels) < FEWEST:
        return Tempered()
    logs = _logs(answers)
    own = np.take_along_axis(logs, labels.astype(np.int64)[:, None], axis=1).mean()
    low, high = -np.log(STEEPEST), np.log(STEEPEST)
    for _ in range(50):
        middle = (low + high) / 2
        promised = (Tempered(float(np.exp(middle)))(answers) * logs).sum(axis=1).mean()
        low, high = (middle, high) if promised < own else (low, middle)
    return Tempered(float(np.exp((low + high) / 2)))


def _logs(chances: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
    logs: Float[np.ndarray, "rows classes"] = np.log(np.maximum(chances.astype(np.float64), np.finfo(np.float64).tiny))
    return logs
