"""Any draw of users on any few rows: the figure of rows that are physically there so often, undefined exactly where that is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int

from umbel.evaluate import metrics
from umbel.evaluate.figures import Rows, binary_figures, regression_figures
from umbel.evaluate.intervals import FEWEST_USERS, Interval, Resamples, Sampled, resample, resampled_sums, user_sums
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import average, paired

EXAMPLES = settings(max_examples=50, deadline=None)
ROW = st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))


def _rows(drawn: list[tuple[int, int, int, int]]) -> tuple[Int[np.ndarray, "rows"], ...]:
    return tuple(np.array(drawn, dtype=np.int64).reshape(-1, 4).T)


SOME = st.lists(ROW, min_size=1, max_size=25).map(_rows)
Some = tuple[Int[np.ndarray, "rows"], ...]


def drawn_rows(some: Some, times: list[int]) -> tuple[Rows, Int[np.ndarray, "rows"]]:
    """Rows under one draw that takes user u `times[u]` times, and how often each row then stands there."""
    labels, scores, chance, groups = some
    users, code = np.unique(groups, return_inverse=True)
    count = np.array(times[: len(users)], dtype=np.uint8)[None]
    rows = Rows(labels.astype(np.float64), scores / 10, chance / 10, groups, Resamples(count, code.astype(np.int64)))
    return rows, count[0][code].astype(np.int64)


def copies(groups: Int[np.ndarray, "rows"], often: Int[np.ndarray, "rows"]) -> Int[np.ndarray, "some"]:
    """A user who is drawn twice is two users."""
    number: Int[np.ndarray, "some"] = np.concatenate([np.empty(0, dtype=np.int64), *[np.arange(times) for times in often]])
    found: Int[np.ndarray, "some"] = np.repeat(groups, often) * 1000 + number
    return found


def check(sampled: Sampled | Undefined, expected: float | Undefined, name: str) -> None:
    if isinstance(sampled, Undefined):
        return  # undefined on the rows as they are
    found = float(sampled.draws[0])
    if isinstance(expected, Undefined):
        assert math.isnan(found), name
    else:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), name


TIMES = st.lists(st.integers(0, 3), min_size=6, max_size=6)


@EXAMPLES
@given(SOME, TIMES)
def test_a_draw_is_its_rows_even_with_a_class_missing(some: Some, times: list[int]) -> None:
    rows, often = drawn_rows(some, times)
    labels, scores, chance = (np.repeat(column, often) for column in (rows.labels, rows.scores, rows.predictions))
    draws = binary_figures(rows).draws
    check(draws["auc"], metrics.auc(labels, scores), "auc")
    check(draws["pr_auc"], metrics.average_precision(labels, scores), "pr_auc")
    check(draws["gauc"], metrics.gauc(labels, scores, copies(rows.groups, often)), "gauc")
    check(draws["logloss"], metrics.logloss(labels, chance), "logloss")
    check(draws["calibration_ratio"], metrics.calibration_ratio(labels, chance), "calibration_ratio")
    if 0 < labels.sum() < len(labels):
        check(draws["ne"], metrics.normalised_entropy(labels, chance), "ne")
    if len(labels):
        check(draws["ece"], metrics.ece(labels, chance, edges=metrics.equal_mass_edges(rows.predictions)), "ece")


@EXAMPLES
@given(SOME, TIMES)
def test_a_draw_of_a_regression_is_its_rows(some: Some, times: list[int]) -> None:
    rows, often = drawn_rows(some, times)
    labels = rows.scores * 7 + rows.labels
    rows = Rows(labels, rows.scores, rows.predictions * 5, rows.groups, rows.by)
    again, found = np.repeat(labels, often), np.repeat(rows.predictions, often)
    draws = regression_figures(rows).draws
    check(draws["rmse"], metrics.rmse(again, found), "rmse")
    check(draws["mae"], metrics.mae(again, found), "mae")
    if len(again) and np.ptp(again) > 0:
        check(draws["r2"], metrics.r2(again, found), "r2")


@EXAMPLES
@given(SOME)
def test_the_gaps_of_a_draw_move_no_less_than_their_sum(some: Some) -> None:
    """`noise` is a sum of how far each gap moved: at least the change of the sum, by the triangle's inequality."""
    labels, scores, chance, groups = some
    rows = Rows(labels.astype(np.float64), scores / 10, chance / 10, groups, resample(groups, resamples=9, seed=1))
    found = binary_figures(rows).draws["ece"]
    assert isinstance(found, Sampled)
    assert found.noise is not None
    assert (found.noise >= np.abs(found.draws - found.value) - 1e-12).all()
    assert found.value == pytest.approx(metrics.ece(rows.labels, rows.predictions), abs=1e-12)


@EXAMPLES
@given(SOME, st.integers(0, 5))
def test_draws_are_as_many_users_as_there_are(some: Some, seed: int) -> None:
    groups = some[3] * 2**58 - 7
    found = resample(groups, resamples=5, seed=seed)
    users = np.unique(groups)
    assert found.count.shape == (5, len(users))
    assert (found.count.sum(axis=1) == len(users)).all()
    assert (users[found.code] == groups).all()
    assert found.users == len(users)
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    assert (resample(groups[shuffled], resamples=5, seed=seed).count == found.count).all()
    half = np.flatnonzero(some[0] == 1)
    assert found.of(half).users == len(np.unique(groups[half]))


@EXAMPLES
@given(SOME, TIMES)
def test_sums_of_users_are_sums_of_rows(some: Some, times: list[int]) -> None:
    rows, often = drawn_rows(some, times)
    columns = (np.ones(len(often)), some[1].astype(np.float64), some[2] * -0.5)
    found = resampled_sums(user_sums(columns, rows.by), rows.by)
    assert found[0] == pytest.approx([float(column @ often) for column in columns], abs=1e-9)


Track = Float[np.ndarray, "draws"]


def sampled(values: Track, *, users: int = 50) -> Sampled:
    return Sampled(float(values.mean()), values, users)


TRACK = st.lists(st.integers(-1000, 1000), min_size=40, max_size=40).map(lambda drawn: np.array(drawn) / 1000)


@EXAMPLES
@given(TRACK, TRACK, TRACK)
def test_differences_are_antisymmetric_and_add_up(a: Track, b: Track, c: Track) -> None:
    one, two, three = ([sampled(track)] for track in (a, b, c))
    forth, back = paired(one, two), paired(two, one)
    assert back.mean.value == -forth.mean.value
    assert forth.mean.low is not None
    assert back.mean.high == pytest.approx(-forth.mean.low, abs=1e-12)
    assert forth.p == pytest.approx(back.p)
    assert 0.0 <= forth.p <= 1.0
    assert paired(one, three).mean.value == pytest.approx(forth.mean.value + paired(two, three).mean.value, abs=1e-12)


@EXAMPLES
@given(TRACK, st.floats(-1, 1))
def test_a_shift_of_every_draw_shifts_the_interval(track: Track, shift: float) -> None:
    before, after = sampled(track).interval(), sampled(track + shift).interval()
    assert before.low is not None
    assert before.high is not None
    assert after.low == pytest.approx(before.low + shift, abs=1e-9)
    assert after.high == pytest.approx(before.high + shift, abs=1e-9)
    assert before.low <= np.median(track) <= before.high


@EXAMPLES
@given(st.lists(TRACK, min_size=2, max_size=4), TRACK)
def test_recipes_over_seeds_differ_by_the_mean_of_their_differences(tracks: list[Track], other: Track) -> None:
    many, one = [sampled(track) for track in tracks], [sampled(other)] * len(tracks)
    found = paired(many, one)
    assert found.mean.value == pytest.approx(average(many).value - one[0].value, abs=1e-12)
    assert found.seeds == pytest.approx([track.mean() - other.mean() for track in tracks], abs=1e-12)
    whole = Sampled(0.0, average(many).draws - other, 50).interval()
    assert (found.mean.low, found.mean.high) == pytest.approx((whole.low, whole.high), abs=1e-12)
    assert isinstance(found.spread, Interval)
    assert found.spread.low is not None
    assert found.spread.low <= found.mean.value + 1e-12


@pytest.mark.parametrize(("users", "undefined", "reason"), [
    (FEWEST_USERS, 0, ""),
    (FEWEST_USERS - 1, 0, "9 users are too few to resample"),
    (FEWEST_USERS, 2, ""),
    (FEWEST_USERS, 3, "defined in 17 of 20 resamples only"),
    (FEWEST_USERS, 20, "defined in 0 of 20 resamples only"),
])
def test_where_bounds_end(users: int, undefined: int, reason: str) -> None:
    values = np.linspace(0.4, 0.6, 20)
    values[:undefined] = np.nan
    found = Sampled(0.5, values, users).interval()
    assert found.reason == reason
    assert (found.low is None) == (found.high is None) == bool(reason)
    assert found.value == 0.5
