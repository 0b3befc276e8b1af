"""Boosted trees of every kind of task: what they answer is what was planted, as outputs that the kind reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from umbel.kinds import TASK_KINDS, Binary, LogNormal, MultiClass, Ordinal, Poisson, Quantile, Regression, TaskKind, Tweedie, ZeroInflated
from umbel.nn.kinds import link, loss
from umbel.study.forest import Rows, forest

COUNT = 6_000
Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def _inflated(rng: np.random.Generator, high: np.ndarray) -> np.ndarray:
    return np.where(rng.random(len(high)) < 0.3 + 0.4 * high, np.exp(1 + high + 0.5 * rng.normal(size=len(high))), 0.0)


# Of each kind: how labels are drawn where the one column is low and high, and what a row of each should be answered.
PLANTED: dict[TaskKind, tuple[Draw, list[list[float]]]] = {
    Binary(): (lambda rng, high: (rng.random(len(high)) < 0.2 + 0.5 * high).astype(float), [[0.2], [0.7]]),
    Regression(): (lambda rng, high: 3 * high + rng.normal(size=len(high)), [[0.0], [3.0]]),
    Poisson(): (lambda rng, high: rng.poisson(1 + 3 * high).astype(float), [[1.0], [4.0]]),
    Tweedie(): (lambda rng, high: rng.poisson(1 + high) * rng.exponential(2.0, len(high)), [[2.0], [4.0]]),
    LogNormal(): (lambda rng, high: np.exp(high + 0.5 * rng.normal(size=len(high))), [[np.exp(0.125)], [np.exp(1.125)]]),
    ZeroInflated(): (_inflated, [[0.3 * np.exp(1.125)], [0.7 * np.exp(2.125)]]),
    Quantile(): (lambda rng, high: high + rng.random(len(high)), [[0.1, 0.5, 0.9], [1.1, 1.5, 1.9]]),
    Ordinal(grades=3): (lambda rng, high: (rng.random(len(high)) < 0.5 + 0.3 * high) * (1.0 + high), [[0.5, 0.5, 0.0], [0.2, 0.0, 0.8]]),
    MultiClass(classes=3): (lambda rng, high: np.where(rng.random(len(high)) < 0.6, 2 * high, 1.0), [[0.6, 0.4, 0.0], [0.0, 0.4, 0.6]]),
}


def rows(kind: TaskKind) -> Rows:
    rng = np.random.default_rng(0)
    high = rng.integers(2, size=COUNT).astype(float)
    y = PLANTED[kind][0](rng, high)
    half = COUNT // 2
    x = np.stack([high, rng.normal(size=COUNT)], 1)
    return Rows(x[:half], y[:half], x[half:], y[half:], np.array([False, False]), 0.1, 1)


def test_every_kind_has_trees() -> None:
    assert {kind.name for kind in PLANTED} == set(TASK_KINDS)


@pytest.mark.parametrize("kind", PLANTED, ids=lambda kind: kind.name)
def test_they_answer_what_was_planted(kind: TaskKind) -> None:
    given = rows(kind)
    grown = forest(kind, given)
    outputs = torch.from_numpy(grown.outputs(given.x_valid))
    assert outputs.shape == (len(given.x_valid), kind.outputs)
    answers = link(kind, outputs).numpy()
    for high, expected in enumerate(PLANTED[kind][1]):
        np.testing.assert_allclose(answers[given.x_valid[:, 0] == high].mean(0), expected, atol=0.08, rtol=0.1)
    assert grown.trees > 0


@pytest.mark.parametrize("kind", PLANTED, ids=lambda kind: kind.name)
def test_rows_held_out_are_paid_less_for_than_by_a_tree_of_noise(kind: TaskKind) -> None:
    """The planted column gone, trees pay more for rows they have not seen: the loss of the kind is what they went down."""
    given = rows(kind)
    blind = Rows(given.x[:, 1:], given.y, given.x_valid[:, 1:], given.y_valid, given.categories[1:], given.rate, given.seed)
    labels = torch.from_numpy(given.y_valid)
    paid = [float(loss(kind, torch.from_numpy(forest(kind, one).outputs(one.x_valid)), labels).mean()) for one in (given, blind)]
    assert np.isfinite(paid).all()
    assert paid[0] < paid[1]


def test_a_class_that_nobody_has_is_next_to_impossible() -> None:
    given = rows(MultiClass(classes=3)).told(lambda y: np.minimum(y, 1.0))
    answers = link(MultiClass(classes=3), torch.from_numpy(forest(MultiClass(classes=3), given).outputs(given.x_valid)))
    assert float(answers[:, 2].max()) < 1e-6
    assert torch.allclose(answers.sum(1), torch.ones(len(answers), dtype=answers.dtype))


def test_quantiles_do_not_cross() -> None:
    given = rows(Quantile())
    levels = link(Quantile(), torch.from_numpy(forest(Quantile(), given).outputs(given.x_valid)))
    assert bool((levels.diff(dim=1) >= 0).all())
