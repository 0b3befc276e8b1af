"""What must not matter to an off-policy estimate does not, what must does; and two logs of the kind that public data has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.bandits import simulated, softmax

from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.offpolicy import (
    ESTIMATORS,
    LOGGING,
    Logged,
    Model,
    OffPolicy,
    Weighed,
    effective_sample,
    estimate,
    standard_error,
    too_few,
    value,
)

CASES = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
names = st.sampled_from(list(ESTIMATORS))


def log(seed: int, decisions: int = 120, positions: int = 2) -> Logged:
    draw = np.random.default_rng(seed)
    shape = (decisions, positions)
    logging = draw.uniform(0.3, 0.9, shape)
    target = np.clip(logging * draw.uniform(0.7, 1.3, shape), 0, 1)
    model = Model(draw.normal(size=shape), draw.normal(size=shape))
    return Logged(reward=draw.normal(size=shape), logging=logging, target=target, user=draw.integers(0, 40, decisions), model=model)


def scaled(model: Model | None, factor: float) -> Model:
    assert model is not None
    return Model(model.shown * factor, model.expected * factor)


@CASES
@given(seeds, names, st.floats(0.1, 50))
def test_rewards_in_another_unit_are_values_in_that_unit(seed: int, name: str, factor: float) -> None:
    one = log(seed)
    other = replace(one, reward=one.reward * factor, model=scaled(one.model, factor))
    assert value(other, name) == pytest.approx(factor * value(one, name), rel=1e-9, abs=1e-9)


@CASES
@given(seeds, names)
def test_every_decision_twice_is_the_same_value(seed: int, name: str) -> None:
    one = log(seed)
    twice = np.tile(np.arange(120), 2)
    other = one.where(np.ones(120, dtype=bool))
    other = Logged(
        reward=one.reward[twice], logging=one.logging[twice], target=one.target[twice], user=one.user[twice],
        model=None if one.model is None else Model(one.model.shown[twice], one.model.expected[twice]),
    )  # fmt: skip
    assert value(other, name) == pytest.approx(value(one, name), rel=1e-9, abs=1e-9)
    few, many = (effective_sample(Weighed.of(each, 10.0).weight[:, -1]) for each in (one, other))
    assert many == pytest.approx(2 * few)


@CASES
@given(seeds, names)
def test_positions_behind_the_end_of_a_list_add_nothing(seed: int, name: str) -> None:
    """Reward 0 and chances of 1, as a list that is shorter has them."""
    one = log(seed)
    assert one.model is not None
    zeros, ones = np.zeros((120, 1)), np.ones((120, 1))
    other = Logged(
        reward=np.hstack([one.reward, zeros]), logging=np.hstack([one.logging, ones]), target=np.hstack([one.target, ones]), user=one.user,
        model=Model(np.hstack([one.model.shown, zeros]), np.hstack([one.model.expected, zeros])),
    )  # fmt: skip
    assert value(other, name) == pytest.approx(value(one, name), rel=1e-9, abs=1e-9)


@CASES
@given(seeds)
def test_one_position_is_its_own_whole(seed: int) -> None:
    one = log(seed, positions=1)
    for name in ("ips", "clipped_ips", "snips"):
        assert value(one.whole(), name) == value(one, name)
    assert one.whole().model is None


@CASES
@given(seeds)
def test_a_model_of_zeros_is_ips(seed: int) -> None:
    one = log(seed)
    nothing = replace(one, model=scaled(one.model, 0.0))
    assert value(nothing, "dr") == pytest.approx(value(one, "ips"))
    assert value(nothing, "dm") == 0


@CASES
@given(seeds, st.floats(0.2, 3.0), st.floats(1.0, 3.0))
def test_clipping_only_takes_away_from_rewards_above_zero(seed: int, clip: float, wider: float) -> None:
    one = log(seed)
    one = replace(one, reward=np.abs(one.reward))
    narrow, wide, free = (value(one, "clipped_ips", clip=bound) for bound in (clip, clip * wider, np.inf))
    assert narrow <= wide + 1e-12
    assert wide <= free + 1e-12
    assert free == pytest.approx(value(one, "ips"))


@CASES
@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
@example([7.2e-191])
@example([5e-324, 100.0])
def test_an_effective_sample_is_between_one_and_all(weights: list[float]) -> None:
    found = effective_sample(np.array(weights))
    if any(weights):
        assert 1 - 1e-9 <= found <= len(weights) + 1e-9
        assert effective_sample(np.array(weights) * 7) == pytest.approx(found)
    else:
        assert found == 0
    assert effective_sample(np.ones(len(weights))) == len(weights)


def test_the_least_sample_is_a_hundred_or_a_hundredth() -> None:
    assert too_few(100.0, 10_000) is None
    assert too_few(99.9, 500) == Undefined("effective sample size 100 of 500 decisions (at least 100)")
    assert too_few(249.0, 25_000) == Undefined("effective sample size 249 of 25,000 decisions (at least 250)")
    assert too_few(250.0, 25_000) is None


@CASES
@given(seeds)
def test_a_standard_error_is_of_sums_by_user(seed: int) -> None:
    draw = np.random.default_rng(seed)
    moved, user = draw.normal(size=60), draw.integers(0, 9, 60) * 10**12 - 5
    expected = np.sqrt(sum(moved[user == one].sum() ** 2 for one in np.unique(user)))
    assert standard_error(moved, user) == pytest.approx(expected)


@CASES
@given(seeds, st.integers(0, 40), st.integers(0, 15))
def test_what_is_unknown_is_as_if_it_were_not_there(seed: int, chances: int, rewards: int) -> None:
    one = log(seed, decisions=200)
    logging, reward = one.logging.copy(), one.reward.copy()
    logging[:chances, 1] = np.nan
    reward[chances : chances + rewards, 0] = np.nan
    found = estimate(replace(one, logging=logging, reward=reward), resamples=8)
    alone = estimate(one.where(np.arange(200) >= chances + rewards), resamples=8)
    assert sum(found.weights.excluded.values()) == chances + rewards
    assert found.weights.used == alone.weights.used == 200 - chances - rewards
    assert found.estimates == alone.estimates
    for name, draws in found.draws.items():
        assert_allclose(draws.draws, alone.draws[name].draws)


@CASES
@given(seeds)
def test_answers_are_all_there_or_all_refused(seed: int) -> None:
    """Whatever the log, an answer has a value or a reason for each name, and no number is not a number."""
    draw = np.random.default_rng(seed)
    logging = draw.choice([0.001, 0.05, 0.5, 1.0, np.nan], (300, 1), p=[0.1, 0.2, 0.4, 0.2, 0.1])
    wild = Logged(
        reward=draw.choice([0.0, 1.0, np.nan], (300, 1), p=[0.6, 0.35, 0.05]), logging=logging, target=draw.random((300, 1)) ** 4,
        user=draw.integers(0, 60, 300),
    )  # fmt: skip
    found = estimate(wild, resamples=20)
    assert set(found.estimates) == {*ESTIMATORS, LOGGING}
    kinds = {type(found.estimates[name]) for name in ("ips", "clipped_ips", "snips")}
    assert len(kinds) == 1
    for one in found.estimates.values():
        if isinstance(one, Undefined):
            assert one.reason
        else:
            assert one.low is not None
            assert one.high is not None
            assert np.isfinite([one.value, one.low, one.high]).all()
            assert one.low <= one.value + 1e-9
    assert isinstance(found.estimates[LOGGING], Interval)


def thompson(seed: int, *, greedy: float, decisions: int = 10_000, actions: int = 40) -> OffPolicy:
    """A log of one that had nearly made up its mind, asked about one that draws evenly."""
    draw = np.random.default_rng(seed)
    belief = greedy * draw.normal(size=(decisions, actions))
    logging = softmax(belief)
    shown = (draw.random((decisions, 1)) > np.cumsum(logging, 1)).sum(1).clip(max=actions - 1)
    rate = 0.01 + 0.02 * np.arange(actions) / actions
    rows = np.arange(decisions)
    return estimate(Logged(
        reward=(draw.random(decisions) < rate[shown]).astype(np.float64)[:, None], logging=logging[rows, shown][:, None],
        target=np.full((decisions, 1), 1 / actions), user=rows // 2,
    ), seed=seed)  # fmt: skip


def test_a_log_that_still_explores_answers_about_an_even_draw() -> None:
    found = thompson(1, greedy=1.0)
    expected = 0.01 + 0.02 * np.arange(40).mean() / 40
    assert 1000 < found.weights.effective < 8000
    for name in ("ips", "snips"):
        one = found.estimates[name]
        assert isinstance(one, Interval)
        assert one.low is not None
        assert one.high is not None
        assert one.low < expected < one.high


def test_a_log_that_has_made_up_its_mind_is_refused() -> None:
    """Weights of thousands: whatever number came out, a handful of decisions would have made it."""
    found = thompson(1, greedy=5.0)
    assert found.weights.largest > 1000
    assert found.weights.effective < 100
    for name in ("ips", "clipped_ips", "snips"):
        one = found.estimates[name]
        assert isinstance(one, Undefined)
        assert one.reason.startswith("effective sample size ")
        assert one.reason.endswith("of 10,000 decisions (at least 100)")


def test_chances_of_another_policy_are_found_out() -> None:
    """A log whose chances were written down wrong: weights no longer average to 1, and that is said."""
    one, _ = simulated(2, users=300, each=5)
    wrong = replace(one, logging=np.minimum(1.0, one.logging * 1.4))
    reason = estimate(wrong).estimates["ips"]
    assert isinstance(reason, Undefined)
    assert reason.reason.startswith("mean weight 0.7")
    assert "not 1: the chances are not those of what was shown" in reason.reason
