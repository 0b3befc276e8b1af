"""Laws of the tests that are looked at after every user: a fair game under what they test, rare alarms, and what they catch in time."""

from __future__ import annotations

from itertools import product
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float

from umbel.evaluate.sequential import BOLDEST, mismatch, worse

ALARM = log(20)
RUNS = 400


def visits(
    rng: np.random.Generator, users: int, *, share: float, rate: float, factor: float = 1.0, shown: int = 10,
) -> tuple[Bool[np.ndarray, "users"], Float[np.ndarray, "users"]]:
    """Users with rates of their own (Beta), who are shown some items; those of the canary click `factor` times as often."""
    arm = rng.random(users) < share
    own = rng.beta(4 * rate, 4 * (1 - rate), users) * np.where(arm, factor, 1.0)
    return arm, rng.binomial(shown, own) / shown


def looped(arm: Bool[np.ndarray, "users"], value: Float[np.ndarray, "users"], share: float, keep: float) -> list[float]:
    """The process of one who bets, user by user."""
    owned, seen, earlier, found = 1.0, [0.5], [0.0], []
    for own, one in zip(arm.tolist(), value.tolist(), strict=True):
        centre = sum(seen) / len(seen)
        payoff = (one - centre) / share if own else -(keep * one - centre) / (1 - share)
        most = max((1 - centre) / share, centre / (1 - share))
        bet = -sum(earlier) / (most**2 + sum(each * each for each in earlier))
        owned *= 1 - min(max(bet, 0.0), BOLDEST / most) * payoff
        seen.append(one)
        earlier.append(payoff)
        found.append(log(owned))
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=30), st.floats(0.01, 0.99), st.floats(0.1, 1.0))
def test_it_is_what_one_owns_who_bets(users: list[tuple[bool, float]], share: float, keep: float) -> None:
    arm, value = np.array([one for one, _ in users], bool), np.array([one for _, one in users], float)
    found = worse(arm, value, share=share, keep=keep)
    assert found == pytest.approx(looped(arm, value, share, keep), abs=1e-9)
    assert np.isfinite(found).all(), "nobody is ever ruined"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize(("own", "other", "keep"), [(0.3, 0.3, 1.0), (0.9, 0.9, 1.0), (0.4, 0.8, 0.5), (0.6, 0.3, 1.0), (0.5, 0.5, 0.7)])
def test_the_game_is_fair_exactly(share: float, own: float, other: float, keep: float) -> None:
    """Over every outcome of five users, what is owned is 1 on the average where the means are at the bound, and at most 1 where better."""
    total = np.zeros(5)
    for outcome in product([(True, 1.0), (True, 0.0), (False, 1.0), (False, 0.0)], repeat=5):
        arm, value = np.array([one for one, _ in outcome]), np.array([one for _, one in outcome])
        rate = np.where(arm, own, other)
        chance = np.prod(np.where(arm, share, 1 - share) * np.where(value == 1, rate, 1 - rate))
        total += chance * np.exp(worse(arm, value, share=share, keep=keep))
    if own == pytest.approx(keep * other):
        assert total == pytest.approx(np.ones(5))
    else:
        assert (total <= 1 + 1e-12).all()
        assert total[-1] < 1


@pytest.mark.parametrize("share", [0.05, 0.5, 0.7])
def test_the_sample_ratio_is_a_fair_game_exactly(share: float) -> None:
    total = np.zeros(6)
    for outcome in product([True, False], repeat=6):
        arm = np.array(outcome)
        total += np.prod(np.where(arm, share, 1 - share)) * np.exp(mismatch(arm, share))
    assert total == pytest.approx(np.ones(6))


@pytest.mark.parametrize(("share", "rate"), [(0.05, 0.1), (0.5, 0.1), (0.5, 0.5), (0.2, 0.02)])
def test_equal_arms_raise_few_alarms_however_often_one_looks(share: float, rate: float) -> None:
    """The greatest evidence at any user of 3,000, in 400 experiments; 5 % may pass, with three standard errors of 400 experiments."""
    rng = np.random.default_rng(7)
    alarms = [worse(*visits(rng, 3_000, share=share, rate=rate), share=share).max() >= ALARM for _ in range(RUNS)]
    assert np.mean(alarms) <= 0.05
    ratio = [mismatch(rng.random(3_000) < share, share).max() >= ALARM for _ in range(RUNS)]
    assert np.mean(ratio) <= 0.05


def test_a_fixed_test_looked_at_often_would_not_hold() -> None:
    """Why it has to be this one: the usual test of two means at 5 %, looked at every 100 users, alarms on far more equal arms."""
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(200):
        arm, value = visits(rng, 3_000, share=0.5, rate=0.1)
        worst = min(_statistic(arm[:size], value[:size]) for size in range(100, 3_001, 100))
        alarms += worst < -1.645
    assert alarms / 200 > 0.15


@pytest.mark.parametrize(("share", "users"), [(0.5, 2_500), (0.2, 4_000), (0.05, 12_000)])
def test_a_canary_that_loses_thirty_in_a_hundred_is_caught_in_time(share: float, users: int) -> None:
    """Ten items shown, clicked at a rate of .1 that differs from user to user."""
    rng = np.random.default_rng(11)
    caught = [worse(*visits(rng, users, share=share, rate=0.1, factor=0.7), share=share).max() >= ALARM for _ in range(100)]
    assert np.mean(caught) >= 0.95


@pytest.mark.parametrize(("share", "truth", "users"), [(0.5, 0.52, 20_000), (0.05, 0.06, 16_000), (0.05, 0.04, 13_000)])
def test_a_small_mismatch_of_the_sample_ratio_is_caught(share: float, truth: float, users: int) -> None:
    rng = np.random.default_rng(5)
    assert np.mean([mismatch(rng.random(users) < truth, share).max() >= ALARM for _ in range(100)]) >= 0.95


def test_users_of_heavy_tails_are_as_rare_an_alarm() -> None:
    """Most users never click, a few always do: no distribution is assumed."""
    rng = np.random.default_rng(13)
    alarms = []
    for _ in range(RUNS):
        value = (rng.random(2_000) < 0.01).astype(float)
        alarms.append(worse(rng.random(2_000) < 0.1, value, share=0.1).max() >= ALARM)
    assert np.mean(alarms) <= 0.05


def _statistic(arm: Bool[np.ndarray, "users"], value: Float[np.ndarray, "users"]) -> float:
    own, other = value[arm], value[~arm]
    error = np.sqrt(own.var() / len(own) + other.var() / len(other))
    return float((own.mean() - other.mean()) / error)
