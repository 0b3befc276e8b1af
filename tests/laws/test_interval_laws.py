"""Laws of the resampled users: ones give the plain metric, draws are repeated rows, and intervals cover what they say."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float, Int

from umbel.evaluate import metrics
from umbel.evaluate.figures import Figures, Rows, binary_figures, regression_figures
from umbel.evaluate.intervals import Interval, Resamples, Sampled, follow, resample, resampled_sums, user_sums
from umbel.evaluate.metrics import Undefined


def log(seed: int, *, users: int = 40, count: int = 400, ties: bool = True) -> Rows:
    """A small log: users of different taste and activity, tied scores, rough probabilities."""
    draw = np.random.default_rng(seed)
    groups = (draw.integers(0, users, count) ** 2 * 7919 - 5).astype(np.int64)
    taste = draw.normal(size=users**2 * 7919)[groups % (users**2)]
    logit = taste + draw.normal(size=count)
    labels = (draw.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    scores = np.round(logit * 2) / 2 if ties else logit
    return Rows(labels, scores, 1 / (1 + np.exp(-scores * 0.8)), groups, resample(groups, resamples=20, seed=seed))


def single(rows: Rows, count: Int[np.ndarray, "users"]) -> Rows:
    """The same rows with one resample that draws each user so often."""
    return Rows(rows.labels, rows.scores, rows.predictions, rows.groups, Resamples(count.astype(np.uint8)[None], rows.by.code))


def repeated(rows: Rows, count: Int[np.ndarray, "users"]) -> tuple[Float[np.ndarray, "some"], ...]:
    """Labels, scores, predictions and users of rows that are physically there as often as their user was drawn.

    A user drawn twice is two users, as in the bootstrap.
    """
    times = count[rows.by.code]
    copy = np.concatenate([np.arange(number) for number in times]) if times.sum() else np.empty(0, dtype=np.int64)
    copies = np.repeat(rows.groups, times) * 100 + copy
    return (*(np.repeat(column, times) for column in (rows.labels, rows.scores, rows.predictions)), copies.astype(np.float64))


def drawn(figures: Figures, name: str, at: int = 0) -> float:
    sampled = figures.draws[name]
    assert isinstance(sampled, Sampled)
    return float(sampled.draws[at])


def plain(figures: Figures, name: str) -> float:
    interval = figures.metrics[name]
    assert isinstance(interval, Interval)
    return interval.value


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [True, False])
def test_drawing_every_user_once_is_the_plain_metric(seed: int, ties: bool) -> None:
    rows = log(seed, ties=ties)
    figures = binary_figures(single(rows, np.ones(rows.by.count.shape[1], dtype=np.int64)))
    for name in figures.metrics:
        assert drawn(figures, name) == pytest.approx(plain(figures, name), abs=1e-12), name


def test_drawing_every_user_once_is_the_plain_metric_of_a_regression() -> None:
    rows = log(1)
    rows = Rows(rows.scores + rows.labels, rows.scores, rows.scores, rows.groups, rows.by)
    figures = regression_figures(single(rows, np.ones(rows.by.count.shape[1], dtype=np.int64)))
    for name in figures.metrics:
        assert drawn(figures, name) == pytest.approx(plain(figures, name), rel=1e-9), name


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [True, False])
def test_a_draw_is_the_metric_of_repeated_rows(seed: int, ties: bool) -> None:
    rows = log(seed, ties=ties)
    figures = binary_figures(rows)
    for at in range(5):
        labels, scores, chance, copies = repeated(rows, rows.by.count[at].astype(np.int64))
        expected = {
            "auc": metrics.auc(labels, scores),
            "pr_auc": metrics.average_precision(labels, scores),
            "gauc": metrics.gauc(labels, scores, copies.astype(np.int64)),
            "logloss": metrics.logloss(labels, chance),
            "ne": metrics.normalised_entropy(labels, chance),
            "ece": metrics.ece(labels, chance, edges=metrics.equal_mass_edges(rows.predictions)),
            "calibration_ratio": metrics.calibration_ratio(labels, chance),
        }
        assert set(expected) == set(figures.metrics)
        for name, value in expected.items():
            assert drawn(figures, name, at) == pytest.approx(value, abs=1e-12), (name, at)


def test_a_draw_is_the_metric_of_repeated_rows_for_a_regression() -> None:
    rows = log(2)
    labels = rows.labels * 100 + 1e4
    rows = Rows(labels, rows.scores, labels + rows.scores, rows.groups, rows.by)
    figures = regression_figures(rows)
    for at in range(5):
        again, _, found, _ = repeated(rows, rows.by.count[at].astype(np.int64))
        for name, metric in metrics.REGRESSION.items():
            assert drawn(figures, name, at) == pytest.approx(metric(again, found), rel=1e-9), (name, at)


def test_draws_are_multinomial_and_the_seed_decides() -> None:
    groups = np.repeat(np.arange(500) * 3, 4)
    first, again, other = (resample(groups, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert (first.count == again.count).all()
    assert (first.count != other.count).any()
    assert (first.count.sum(axis=1, dtype=np.int64) == 500).all()
    assert first.count.mean() == 1.0
    assert first.count.astype(np.float64).var() == pytest.approx(1.0, abs=0.05)


def test_draws_depend_on_the_users_and_not_on_the_order_of_rows() -> None:
    groups = np.random.default_rng(0).integers(0, 30, 200)
    order = np.random.default_rng(1).permutation(200)
    first, second = resample(groups, resamples=8, seed=3), resample(groups[order], resamples=8, seed=3)
    assert (first.count[:, first.code][:, order] == second.count[:, second.code]).all()


def test_some_rows_keep_the_draws_of_their_users() -> None:
    by = resample(np.array([4, 4, 9, 1]), resamples=5, seed=0)
    some = by.of(np.array([0, 2]))
    assert (some.count == by.count).all()
    assert some.code.tolist() == [1, 2]
    assert (by.users, some.users) == (3, 2)


def test_no_rows_and_no_resamples_are_fine() -> None:
    empty = resample(np.empty(0, dtype=np.int64), resamples=3)
    assert empty.count.shape == (3, 0)
    assert empty.users == 0
    none = resample(np.arange(30), resamples=0)
    figures = binary_figures(Rows(np.tile([0.0, 1.0], 15), np.arange(30.0), np.full(30, 0.5), np.arange(30), none))
    found = figures.metrics["auc"]
    assert isinstance(found, Interval)
    assert (found.low, found.high, found.reason) == (None, None, "no resamples were asked for")


def test_user_sums_are_sums_per_user() -> None:
    by = resample(np.array([7, 3, 7, 3, 3]), resamples=4, seed=0)
    sums = user_sums((np.arange(5.0), np.ones(5)), by)
    assert sums.tolist() == [[1 + 3 + 4, 3], [0 + 2, 2]]
    assert resampled_sums(sums, by) == pytest.approx(by.count.astype(np.float64) @ sums)


def test_sums_over_many_users_go_through_several_chunks() -> None:
    by = resample(np.arange(20_000), resamples=3, seed=0)
    values = np.random.default_rng(0).normal(size=(20_000, 2))
    assert resampled_sums(values, by) == pytest.approx(by.count.astype(np.float64) @ values, rel=1e-12)


def test_follow_gives_each_row_the_weight_of_its_user() -> None:
    by = resample(np.array([5, 6, 5]), resamples=6, seed=2)
    found = follow(lambda weight: tuple(weight.astype(np.float64).tolist()), by, count=3)
    assert (found == by.count[:, by.code]).all()


def test_an_interval_is_the_central_95_percent() -> None:
    found = Sampled(0.5, np.arange(1001.0), users=100).interval()
    assert found.low == pytest.approx(25.0)
    assert found.high == pytest.approx(975.0)


def test_too_few_users_have_no_bounds() -> None:
    found = Sampled(0.5, np.arange(1001.0), users=9).interval()
    assert (found.value, found.low, found.reason) == (0.5, None, "9 users are too few to resample")


def test_a_metric_that_most_draws_cannot_have_has_no_bounds() -> None:
    draws = np.where(np.arange(100) < 15, np.nan, 0.7)
    found = Sampled(0.7, draws, users=50).interval()
    assert (found.low, found.high, found.reason) == (None, None, "defined in 85 of 100 resamples only")
    draws[:6] = 0.7
    assert Sampled(0.7, draws, users=50).interval().low == 0.7


def test_what_noise_can_only_raise_has_a_low_bound_of_its_own() -> None:
    draws, noise = np.linspace(0.03, 0.05, 201), np.linspace(0.0, 0.04, 201)
    found = Sampled(0.05, draws, 50, noise).interval()
    assert found.low == pytest.approx(0.05 - 0.039)
    assert found.high == pytest.approx(0.05)
    near = Sampled(0.03, draws, 50, noise).interval()
    assert near.low == 0.0
    assert near.high == pytest.approx(0.0495)
    assert Sampled(0.03, draws, 2, noise).interval().low is None


def test_only_the_calibration_error_is_a_sum_of_gaps() -> None:
    for name, sampled in binary_figures(log(6)).draws.items():
        assert isinstance(sampled, Sampled)
        assert (sampled.noise is not None) == (name == "ece")


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 1.5])
def test_the_interval_of_the_calibration_error_covers_it(shift: float) -> None:
    """100 logs of 60 users; log-odds promised `shift` too high. It may cover more often than it says, for it is cautious."""

    def simulated(seed: int, users: int) -> Rows:
        draw = np.random.default_rng(seed)
        groups = np.repeat(np.arange(users), 10)
        logit = draw.normal(size=users * 10)
        labels = (draw.random(users * 10) < 1 / (1 + np.exp(-logit))).astype(np.float64)
        promised = 1 / (1 + np.exp(-logit - shift))
        return Rows(labels, logit, promised, groups, resample(groups, resamples=100 if users < 1000 else 0, seed=seed))

    truth = plain(binary_figures(simulated(1, 40_000)), "ece") if shift else 0.0
    inside = 0
    for seed in range(100):
        found = binary_figures(simulated(seed, 60)).metrics["ece"]
        assert isinstance(found, Interval)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    assert inside >= 93


def test_a_single_positive_user_gives_a_value_without_bounds() -> None:
    groups = np.repeat(np.arange(50), 4)
    labels = np.zeros(200)
    labels[:2] = 1
    rows = Rows(labels, np.random.default_rng(0).normal(size=200), np.full(200, 0.01), groups, resample(groups))
    found = binary_figures(rows).metrics["auc"]
    assert isinstance(found, Interval)
    assert found.low is None
    assert "resamples only" in found.reason


def test_undefined_passes_through() -> None:
    rows = log(3)
    one = Rows(np.zeros_like(rows.labels), rows.scores, rows.predictions, rows.groups, rows.by)
    figures = binary_figures(one)
    assert figures.metrics["auc"] == Undefined("no positive row")
    assert figures.metrics["gauc"] == Undefined("no user with both classes")
    assert figures.metrics["calibration_ratio"] == Undefined("no positive row")
    assert isinstance(figures.metrics["logloss"], Interval)


def test_no_rows_at_all_are_undefined_everywhere() -> None:
    rows = log(4).where(np.empty(0, dtype=np.int64))
    for figures in (binary_figures(rows), regression_figures(rows)):
        assert figures.rows == figures.users == 0
        assert all(one == Undefined("no row") for one in figures.metrics.values())
        assert figures.curve == ()


def test_a_model_that_gives_no_numbers_is_undefined_everywhere() -> None:
    rows = log(5)
    broken = np.full_like(rows.scores, np.nan)
    figures = binary_figures(Rows(rows.labels, broken, broken, rows.groups, rows.by))
    assert all(isinstance(one, Undefined) for one in figures.metrics.values())
    assert figures.curve == ()


def test_intervals_over_users_are_wider_than_over_rows_when_users_differ() -> None:
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 50)
    labels = (draw.random(3000) < draw.beta(0.3, 0.3, 60)[groups]).astype(np.float64)
    chance = np.full(3000, labels.mean())
    by_user, by_row = resample(groups), resample(np.arange(3000))
    widths = []
    for by in (by_user, by_row):
        found = binary_figures(Rows(labels, draw.normal(size=3000), chance, groups, by)).metrics["logloss"]
        ratio = binary_figures(Rows(labels, draw.normal(size=3000), chance, groups, by)).metrics["calibration_ratio"]
        assert isinstance(found, Interval)
        assert isinstance(ratio, Interval)
        assert ratio.low is not None
        assert ratio.high is not None
        widths.append(ratio.high - ratio.low)
    assert widths[0] > 3 * widths[1]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """200 logs of 60 users; the truth is the value on a log of 40,000 users. Stated band: 89 % to 98.5 %."""
    def simulated(seed: int, users: int) -> Rows:
        draw = np.random.default_rng(seed)
        groups = np.repeat(np.arange(users), 10)
        logit = draw.normal(size=users)[groups] + draw.normal(size=users * 10)
        labels = (draw.random(users * 10) < 1 / (1 + np.exp(-logit))).astype(np.float64)
        chance = 1 / (1 + np.exp(-logit))
        return Rows(labels, logit, chance, groups, resample(groups, resamples=100 if users < 1000 else 0, seed=seed))

    truth = binary_figures(simulated(10_000, 40_000))
    inside = dict.fromkeys(("auc", "gauc", "logloss", "calibration_ratio"), 0)
    for seed in range(200):
        found = binary_figures(simulated(seed, 60)).metrics
        for name in inside:
            one = found[name]
            assert isinstance(one, Interval)
            assert one.low is not None
            assert one.high is not None
            inside[name] += one.low <= plain(truth, name) <= one.high
    for name, hits in inside.items():
        assert 0.89 <= hits / 200 <= 0.985, (name, hits)
