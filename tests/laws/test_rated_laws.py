"""Laws that every metric of episodes obeys, found in its lists: users stand alone, padding says nothing, nothing undefined is a number."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from jaxtyping import Bool, Float

from umbel.evaluate.compat import COMPAT
from umbel.evaluate.intervals import Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import paired
from umbel.evaluate.peruser import PerUser
from umbel.evaluate.rated import RATED, Metric, listing

ALL: Mapping[str, Metric] = {**RATED, **COMPAT}
EVENTS = listing(relevant=1.0, tops=(2,))
USERS, SHOTS = 40, 12
Shots = tuple[Float[np.ndarray, "users shots"], Float[np.ndarray, "users shots"], Bool[np.ndarray, "users shots"]]


def drawn(seed: int, *, ties: bool = True) -> Shots:
    """Ratings 1 to 5, predictions (many tied on request), 8 to 12 query rows a user anywhere among the shots."""
    draw = np.random.default_rng(seed)
    ratings = draw.integers(1, 6, (USERS, SHOTS)).astype(np.float64)
    predictions = ratings + draw.normal(0, 1.5, ratings.shape)
    mask = draw.random(ratings.shape).argsort(axis=1) < draw.integers(8, SHOTS + 1, (USERS, 1))
    return ratings, np.round(predictions) if ties else predictions, mask


def same(one: PerUser, other: PerUser) -> None:
    np.testing.assert_allclose(one.values, other.values, rtol=0, atol=1e-12)
    assert one.lost == other.lost
    assert one.value == pytest.approx(other.value, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_padding_says_nothing(name: str) -> None:
    ratings, predictions, mask = drawn(0)
    noise = np.random.default_rng(9).normal(size=ratings.shape) * 100
    noise[:, ::3] = np.nan
    changed = [np.where(mask, one, noise) for one in (ratings, predictions)]
    longer = [np.concatenate([one, noise[:, :5]], axis=1) for one in changed]
    wider = np.concatenate([mask, np.zeros((USERS, 5), dtype=bool)], axis=1)
    same(ALL[name](longer[0], longer[1], wider), ALL[name](ratings, predictions, mask))


@pytest.mark.parametrize("name", ALL)
def test_a_user_alone_is_the_user_among_others(name: str) -> None:
    ratings, predictions, mask = drawn(1)
    whole = ALL[name](ratings, predictions, mask).values
    alone = [ALL[name](ratings[[at]], predictions[[at]], mask[[at]]).values[0] for at in range(USERS)]
    np.testing.assert_allclose(whole, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_users_in_another_order_keep_their_values(name: str) -> None:
    ratings, predictions, mask = drawn(2)
    order = np.random.default_rng(3).permutation(USERS)
    moved = ALL[name](ratings[order], predictions[order], mask[order])
    np.testing.assert_allclose(moved.values, ALL[name](ratings, predictions, mask).values[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith(("metahin", "mamo"))])
def test_the_order_of_a_users_rows_does_not_matter_even_among_ties(name: str) -> None:
    ratings, predictions, mask = drawn(4)
    order = np.random.default_rng(5).permutation(SHOTS)
    same(ALL[name](ratings[:, order], predictions[:, order], mask[:, order]), ALL[name](ratings, predictions, mask))


def test_which_compatible_forms_see_the_order_of_rows() -> None:
    ratings, predictions, mask = drawn(4)
    for name in ("metahin_ndcg@5", "mamo_ndcg@3"):
        turned = ALL[name](ratings[:, ::-1], predictions[:, ::-1], mask[:, ::-1]).value
        assert turned != pytest.approx(ALL[name](ratings, predictions, mask).value, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_what_cannot_be_had_is_no_number_and_is_counted(name: str) -> None:
    ratings, predictions, mask = drawn(6)
    mask[0] = False
    predictions[1, mask[1].argmax()] = np.nan
    ratings[2, mask[2].argmax()] = np.nan
    found = ALL[name](ratings, predictions, mask)
    assert np.isnan(found.values[:3]).all()
    assert (found.lost["no query row"], found.lost["a value is not a number"]) == (1, 2)
    assert found.users + sum(found.lost.values()) == USERS
    rest = ALL[name](ratings[3:], predictions[3:], mask[3:])
    assert found.value == pytest.approx(rest.value, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_without_any_user_or_row_there_is_no_figure(name: str) -> None:
    assert ALL[name](np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), dtype=bool)).value == Undefined("no user")
    for shots in (0, 3):
        found = ALL[name](np.zeros((2, shots)), np.zeros((2, shots)), np.zeros((2, shots), dtype=bool))
        assert found.value == Undefined("no query row")
        assert found.lost == {"no query row": 2}


@pytest.mark.parametrize("name", RATED)
def test_nothing_beats_the_ratings_themselves(name: str) -> None:
    best = None
    for seed in range(5):
        ratings, predictions, mask = drawn(seed)
        best, found = (RATED[name](ratings, one, mask) for one in (ratings, predictions))
        sign = -1 if best.falls else 1
        assert (sign * best.values[best.defined] >= sign * found.values[best.defined] - 1e-12).all()
        assert sign * best.value > sign * found.value  # type: ignore[operator]
    assert best is not None
    assert np.isin(best.values[best.defined], [0.0 if best.falls else 1.0]).all() or name.startswith(("precision", "recall"))


@pytest.mark.parametrize("name", [name for name in RATED if "mae" not in name and "rmse" not in name])
def test_a_ranking_does_not_see_monotone_maps(name: str) -> None:
    ratings, predictions, mask = drawn(7)
    for bent in (np.tanh(predictions / 5), 3 * predictions - 7, predictions**3):
        same(RATED[name](ratings, bent, mask), RATED[name](ratings, predictions, mask))


@pytest.mark.parametrize("name", [name for name in RATED if name.startswith(("ndcg", "precision", "recall"))])
def test_ties_are_the_mean_over_all_ways_to_break_them(name: str) -> None:
    ratings, predictions, mask = drawn(8)
    draw = np.random.default_rng(0)
    broken = np.mean([RATED[name](ratings, predictions + draw.random(mask.shape) / 10, mask).values for _ in range(800)], axis=0)
    np.testing.assert_allclose(RATED[name](ratings, predictions, mask).values, broken, atol=0.08)


@pytest.mark.parametrize("name", ALL)
def test_float32_is_as_good_and_inputs_are_left_alone(name: str) -> None:
    ratings, predictions, mask = drawn(10)
    narrow = predictions.astype(np.float32)
    for one in (ratings, predictions, mask, narrow):
        one.setflags(write=False)
    same(ALL[name](ratings.astype(np.float32), narrow, mask), ALL[name](ratings, predictions, mask))


@pytest.mark.parametrize("name", EVENTS)
def test_one_class_is_never_one_half(name: str) -> None:
    _, predictions, mask = drawn(11)
    for label in (0.0, 1.0):
        found = EVENTS[name](np.full(mask.shape, label), predictions, mask)
        if name == "auc":
            assert found.lost == {"relevant rows only, or none": USERS}
        assert not np.isin(found.values, [0.5]).any()


@pytest.mark.parametrize("name", ALL)
def test_intervals_hold_the_figure_and_differences_are_exact(name: str) -> None:
    ratings, predictions, mask = drawn(12)
    by = resample(np.arange(USERS), resamples=100, seed=1)
    found, other = (ALL[name](ratings, one, mask).sampled(by) for one in (predictions, predictions + 0.5 * (ratings > 2)))
    assert not isinstance(found, Undefined)
    assert not isinstance(other, Undefined)
    interval = found.interval()
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.value < interval.high
    nothing = paired([found], [found])
    assert (nothing.mean.low, nothing.mean.value, nothing.mean.high) == (0, 0, 0)
    assert paired([found], [other]).mean.value == pytest.approx(found.value - other.value)


@pytest.mark.parametrize("name", ALL)
def test_a_draw_is_the_metric_of_the_users_drawn(name: str) -> None:
    ratings, predictions, mask = drawn(13)
    by = resample(np.arange(USERS), resamples=3, seed=2)
    found = ALL[name](ratings, predictions, mask).sampled(by)
    assert not isinstance(found, Undefined)
    for count, draw in zip(by.count, found.draws, strict=True):
        users = np.repeat(np.arange(USERS), count)
        assert draw == pytest.approx(ALL[name](ratings[users], predictions[users], mask[users]).value, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_a_summary_says_the_figure_its_users_and_who_is_lost(name: str) -> None:
    ratings, predictions, mask = drawn(15)
    mask[:4] = False
    by = resample(np.arange(USERS), resamples=60, seed=3)
    found = ALL[name](ratings, predictions, mask)
    told, drawn_again = found.summary(by), found.sampled(by)
    assert isinstance(drawn_again, Sampled)
    assert told.figure == drawn_again.interval()
    assert told.users + sum(told.lost.values()) == USERS
    assert told.lost["no query row"] == 4
    nobody = ALL[name](ratings, predictions, np.zeros_like(mask)).summary(by)
    assert (nobody.figure, nobody.users, nobody.lost) == (Undefined("no query row"), 0, {"no query row": USERS})


def test_a_figure_of_too_few_users_has_no_bounds() -> None:
    ratings, predictions, mask = drawn(14)
    mask[9:] = False
    found = RATED["mae"](ratings, predictions, mask).sampled(resample(np.arange(USERS), resamples=50))
    assert not isinstance(found, Undefined)
    assert found.users == 9
    assert found.interval().reason == "9 users are too few to resample"
