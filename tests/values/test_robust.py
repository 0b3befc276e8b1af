"""Groups of users: figures by hand, small groups said to be small, and a spread that noise alone does not make."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float

from umbel.evaluate.intervals import Interval, Resamples, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.peruser import PerUser
from umbel.evaluate.rated import RATED
from umbel.evaluate.robust import over_seeds, quarters, robustness


def plain(values: Float[np.ndarray, "users"], *, falls: bool = False) -> PerUser:
    return PerUser(values, np.ones(len(values)), {}, falls=falls)


def users(count: int, *, resamples: int = 200, seed: int = 0) -> Resamples:
    return resample(np.arange(count), resamples=resamples, seed=seed)


HUNDRED = np.repeat([0.2, 0.6, 0.5], [40, 40, 20])
LABELS: list[object] = [*["young"] * 40, *["old"] * 40, *[None] * 20]


def test_figures_worst_and_spread_of_groups() -> None:
    told = robustness(plain(HUNDRED), LABELS, users(100), fewest=30)
    assert [(group.name, group.users) for group in told.groups] == [("old", 40), ("unknown", 20), ("young", 40)]
    assert [group.figure.value for group in told.groups if isinstance(group.figure, Interval)] == pytest.approx([0.6, 0.2])
    assert told.groups[1].figure == Undefined("20 users with a value, fewer than 30")
    assert told.worst == told.groups[2]
    assert isinstance(told.spread, Interval)
    assert told.spread.value == pytest.approx(0.4)
    assert told.spread.low == pytest.approx(0.4)  # no value differs inside a group: nothing moves


def test_of_several_seeds_every_figure_is_the_mean() -> None:
    """Of the groups' figures, from which the worst is chosen and the spread taken: not the mean of worst figures or of spreads."""
    first, second = HUNDRED.copy(), HUNDRED.copy()
    second[:40] = 1.2  # the young are worst in one seed and best in the other
    told = over_seeds([plain(first), plain(second)], LABELS, users(100), fewest=30)
    assert [group.figure.value for group in told.groups if isinstance(group.figure, Interval)] == pytest.approx([0.6, 0.7])
    assert told.worst == told.groups[0]
    assert told.groups[0].name == "old"
    assert isinstance(told.spread, Interval)
    assert told.spread.value == pytest.approx(0.1)
    assert over_seeds([plain(first)], LABELS, users(100), fewest=30) == robustness(plain(first), LABELS, users(100), fewest=30)


def test_the_worst_of_an_error_is_the_largest() -> None:
    told = robustness(plain(HUNDRED, falls=True), LABELS, users(100), fewest=20)
    assert told.worst == told.groups[0]
    assert isinstance(told.spread, Interval)
    assert told.spread.value == pytest.approx(0.4)


def test_users_without_a_value_make_a_group_smaller() -> None:
    values = HUNDRED.copy()
    values[:15] = np.nan
    told = robustness(plain(values), LABELS, users(100), fewest=30)
    assert told.groups[2].figure == Undefined("25 users with a value, fewer than 30")
    assert told.worst == told.groups[0]
    assert told.spread == Undefined("one group of enough users")


def test_where_no_group_is_large_nothing_is_worst() -> None:
    told = robustness(plain(HUNDRED), LABELS, users(100), fewest=41)
    assert told.worst == told.spread == Undefined("no group of 41 users")
    assert all(isinstance(group.figure, Undefined) for group in told.groups)
    assert robustness(plain(np.empty(0)), [], users(0)).groups == ()


def test_a_group_of_nobody_with_a_value_is_no_failure() -> None:
    told = robustness(plain(np.array([np.nan, 1.0, 2.0])), ["a", "b", "b"], users(3), fewest=0)
    assert (told.groups[0].users, told.groups[0].figure) == (0, Undefined("0 users with a value, fewer than 0"))
    assert isinstance(told.worst, type(told.groups[1]))


def test_labels_of_any_kind_are_named_and_missing_ones_are_one_group() -> None:
    told = robustness(plain(np.arange(6.0)), [1, 1, None, float("nan"), 25, "25"], users(6), fewest=1)
    assert [(group.name, group.users) for group in told.groups] == [("1", 2), ("25", 2), ("unknown", 2)]


def test_groups_weigh_back_to_the_whole_and_pool_as_the_metric_does() -> None:
    draw = np.random.default_rng(0)
    ratings, predictions = draw.integers(1, 6, (90, 8)).astype(np.float64), draw.normal(3, 1, (90, 8))
    mask = np.arange(8) < draw.integers(1, 9, (90, 1))
    labels = draw.integers(0, 3, 90)
    for name in ("mae", "rmse_pooled", "mae_pooled"):
        found = RATED[name](ratings, predictions, mask)
        for group in robustness(found, list(labels), users(90), fewest=2).groups:
            chosen = labels == int(group.name)
            assert isinstance(group.figure, Interval)
            assert group.figure.value == pytest.approx(RATED[name](ratings[chosen], predictions[chosen], mask[chosen]).value)


def test_a_groups_interval_is_that_of_its_own_users_resampled_with_all() -> None:
    draw = np.random.default_rng(1)
    values, labels = draw.random(80), list("ab" * 40)
    by = users(80, resamples=50)
    told = robustness(plain(values), labels, by, fewest=2)
    tracks = np.array([[np.average(values[at::2], weights=count[at::2]) for count in by.count] for at in (0, 1)])
    for group, track in zip(told.groups, tracks, strict=True):
        assert isinstance(group.figure, Interval)
        assert (group.figure.low, group.figure.high) == pytest.approx(tuple(np.quantile(track, [0.025, 0.975])))
    assert isinstance(told.spread, Interval)
    apart = np.abs(tracks[0] - tracks[1] - (values[::2].mean() - values[1::2].mean()))
    assert told.spread.low == pytest.approx(max(0.0, told.spread.value - float(np.quantile(apart, 0.975))))
    assert told.spread.high == pytest.approx(max(told.spread.value, float(np.quantile(np.abs(tracks[0] - tracks[1]), 0.975))))


def test_noise_alone_makes_no_spread_and_a_true_one_is_found() -> None:
    """Four groups alike: the low bound is above 0 in at most one run of ten. One group worse by .3 of a deviation of .5: in nearly all."""
    found = {0.0: 0, 0.3: 0}
    for seed in range(60):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 4, 400)
        by = users(400, resamples=100, seed=seed)
        noise = draw.normal(0, 0.5, 400)
        for shift in found:
            spread = robustness(plain(noise - shift * (labels == 2)), list(labels), by).spread
            assert isinstance(spread, Interval)
            assert spread.low is not None
            assert spread.high is not None
            assert 0 <= spread.low <= spread.value <= spread.high
            found[shift] += spread.low > 0
    assert found[0.0] <= 6
    assert found[0.3] >= 50


def test_quarters_hold_a_quarter_each_and_equal_values_stay_together() -> None:
    names = quarters(np.random.default_rng(0).permutation(400).astype(np.float64))
    found, sizes = np.unique(np.array(names), return_counts=True)
    assert found.tolist() == ["quarter 1: 0 to 99", "quarter 2: 100 to 199", "quarter 3: 200 to 299", "quarter 4: 300 to 399"]
    assert sizes.tolist() == [100] * 4
    coarse = quarters(np.array([1.0, 1, 1, 1, 1, 2, 3, 3]))
    assert coarse == [*["quarter 1: 1 to 1"] * 5, "quarter 3: 2 to 2", *["quarter 4: 3 to 3"] * 2]
    assert quarters(np.array([np.nan, np.nan])) == [None, None]
    assert set(quarters(np.full(9, 7.0))) == {"quarter 1: 7 to 7"}
