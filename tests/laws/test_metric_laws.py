"""Laws every metric obeys, whichever they are: found through the dicts of `metrics`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Float

from umbel.evaluate import metrics
from umbel.evaluate.metrics import Metric, Undefined

ALL: dict[str, Metric] = {**metrics.RANKING, **metrics.PROBABILITY, **metrics.REGRESSION}
BINARY: dict[str, Metric] = {**metrics.RANKING, **metrics.PROBABILITY}
MONOTONE: dict[str, Callable[[Float[np.ndarray, "rows"]], Float[np.ndarray, "rows"]]] = {
    "times two": lambda x: 2 * x,
    "minus nine": lambda x: x - 9,
    "cubed": lambda x: x**3,
    "squashed": np.tanh,
}


def rows(seed: int, count: int = 200) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]]:
    """Labels and probabilities with many ties."""
    draw = np.random.default_rng(seed)
    chance = draw.integers(1, 20, count) / 20
    return (draw.random(count) < chance).astype(np.float64), chance


@pytest.mark.parametrize("name", ALL)
def test_no_row_is_undefined(name: str) -> None:
    assert ALL[name](np.empty(0), np.empty(0)) == Undefined("no row")


@pytest.mark.parametrize("name", ALL)
def test_a_value_that_is_no_number_is_undefined_and_counted(name: str) -> None:
    labels, chance = rows(0)
    chance[[3, 5]] = np.nan
    assert ALL[name](labels, chance) == Undefined("2 of 200 rows are not a number")


@pytest.mark.parametrize("name", ALL)
def test_a_label_that_is_no_number_is_undefined(name: str) -> None:
    labels, chance = rows(0)
    labels[7] = np.nan
    assert ALL[name](labels, chance) == Undefined("1 of 200 rows are not a number")


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    labels, chance = rows(1)
    order = np.random.default_rng(5).permutation(len(labels))
    assert ALL[name](labels[order], chance[order]) == pytest.approx(ALL[name](labels, chance), abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_every_row_twice_changes_nothing(name: str) -> None:
    labels, chance = rows(2)
    assert ALL[name](np.tile(labels, 2), np.tile(chance, 2)) == pytest.approx(ALL[name](labels, chance), abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_float32_is_as_good_as_float64(name: str) -> None:
    labels, chance = rows(3)
    narrow = chance.astype(np.float32)
    found = ALL[name](labels.astype(np.float32), narrow)
    assert found == pytest.approx(ALL[name](labels, narrow.astype(np.float64)), abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_inputs_are_left_alone(name: str) -> None:
    labels, chance = rows(4)
    before = labels.copy(), chance.copy()
    labels.setflags(write=False)
    chance.setflags(write=False)
    ALL[name](labels, chance)
    assert (labels == before[0]).all()
    assert (chance == before[1]).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_one_class_is_a_finite_number_or_undefined_and_never_one_half(name: str, constant: float) -> None:
    found = ALL[name](np.full(50, constant), np.linspace(0.11, 0.83, 50))
    if isinstance(found, float):
        assert np.isfinite(found)
        assert found != 0.5
    else:
        assert found.reason


@pytest.mark.parametrize("name", metrics.RANKING)
@pytest.mark.parametrize("shape", MONOTONE)
def test_ranking_does_not_see_monotone_maps(name: str, shape: str) -> None:
    labels, chance = rows(6)
    assert ALL[name](labels, MONOTONE[shape](chance)) == pytest.approx(ALL[name](labels, chance), abs=1e-12)


def test_auc_turned_round_is_its_complement() -> None:
    for seed in range(50):
        labels, chance = rows(seed)
        forward, back, swapped = metrics.auc(labels, chance), metrics.auc(labels, -chance), metrics.auc(1 - labels, chance)
        assert isinstance(forward, float)
        assert back == pytest.approx(1 - forward, abs=1e-12)
        assert swapped == pytest.approx(1 - forward, abs=1e-12)


@pytest.mark.parametrize("metric", [metrics.auc, metrics.average_precision, metrics.logloss, metrics.normalised_entropy])
def test_whole_weights_are_repeated_rows(metric: Callable[..., float | Undefined]) -> None:
    for seed in range(50):
        labels, chance = rows(seed, 60)
        weight = np.random.default_rng(seed + 1000).integers(0, 4, 60)
        repeated = metric(np.repeat(labels, weight), np.repeat(chance, weight))
        assert metric(labels, chance, weight.astype(np.float64)) == pytest.approx(repeated, abs=1e-12)


def test_ece_under_fixed_bins_takes_weights_as_repeated_rows() -> None:
    labels, chance = rows(8)
    weight = np.random.default_rng(1).integers(0, 4, len(labels))
    edges = metrics.equal_mass_edges(chance)
    repeated = metrics.ece(np.repeat(labels, weight), np.repeat(chance, weight), edges=edges)
    assert metrics.ece(labels, chance, weight=weight.astype(np.float64), edges=edges) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 3.0, 1e9])
@pytest.mark.parametrize("metric", [metrics.auc, metrics.average_precision, metrics.logloss, metrics.normalised_entropy])
def test_the_scale_of_weights_does_not_matter(metric: Callable[..., float | Undefined], scale: float) -> None:
    labels, chance = rows(9)
    weight = np.random.default_rng(2).random(len(labels))
    assert metric(labels, chance, weight * scale) == pytest.approx(metric(labels, chance, weight), rel=1e-9)


def test_gauc_of_one_user_is_auc() -> None:
    for seed in range(50):
        labels, chance = rows(seed)
        assert metrics.gauc(labels, chance, np.zeros(len(labels), dtype=np.int64)) == pytest.approx(metrics.auc(labels, chance), abs=1e-12)


def test_gauc_does_not_see_what_shifts_a_whole_user() -> None:
    labels, chance = rows(10)
    groups = np.random.default_rng(3).integers(0, 12, len(labels))
    shift = np.random.default_rng(4).normal(size=12)[groups]
    found = metrics.gauc(labels, chance, groups)
    assert metrics.gauc(labels, np.round(chance * 20) + 1000 * np.round(shift), groups) == pytest.approx(found, abs=1e-12)
    assert metrics.auc(labels, chance + shift) != pytest.approx(metrics.auc(labels, chance), abs=1e-3)


def test_gauc_does_not_see_the_names_of_users() -> None:
    labels, chance = rows(11)
    groups = np.random.default_rng(5).integers(0, 12, len(labels))
    renamed = (np.random.default_rng(6).permutation(12) * 2**40 - 2**42)[groups]
    assert metrics.gauc(labels, chance, renamed) == pytest.approx(metrics.gauc(labels, chance, groups), abs=1e-12)


def test_ece_is_never_more_than_the_mean_gap_of_rows_and_at_least_the_whole_gap() -> None:
    for seed in range(50):
        labels, chance = rows(seed)
        found = metrics.ece(labels, chance)
        assert isinstance(found, float)
        assert abs(labels.mean() - chance.mean()) - 1e-12 <= found <= np.abs(labels - chance).mean() + 1e-12


def test_the_true_probabilities_have_the_lowest_expected_loss() -> None:
    draw = np.random.default_rng(7)
    chance = draw.random(200_000)
    labels = (draw.random(200_000) < chance).astype(np.float64)
    best = metrics.logloss(labels, chance)
    assert isinstance(best, float)
    for bent in (chance**1.2, chance**0.8, 0.5 + 0.8 * (chance - 0.5)):
        worse = metrics.logloss(labels, bent)
        assert isinstance(worse, float)
        assert worse > best
