"""Tests that may be looked at after every user, by hand: the first payoffs and bets, and the Bayes factor of the sample ratio."""

from __future__ import annotations

from math import comb, log

import numpy as np
import pytest
from jaxtyping import Bool, Float

from umbel.evaluate.sequential import mismatch, worse


def arms(text: str) -> Bool[np.ndarray, "users"]:
    """`c` is a user of the canary, `s` of the stable bundle."""
    return np.array([one == "c" for one in text], bool)


def values(*numbers: float) -> Float[np.ndarray, "users"]:
    return np.array(numbers, dtype=float)


def test_nothing_is_bet_on_the_first_user() -> None:
    assert worse(arms("c"), values(0.0), share=0.5).tolist() == [0.0]
    assert worse(arms("s"), values(1.0), share=0.05).tolist() == [0.0]
    assert worse(arms(""), values(), share=0.5).tolist() == []


def test_the_second_bet_by_hand() -> None:
    """Before: centre 3/4, payoffs sum to -1; most = 1.5; bet = 1 / (1.5^2 + 1); payoff = -.75 / .5."""
    found = worse(arms("sc"), values(1.0, 0.0), share=0.5)
    assert found[1] == pytest.approx(log(1 + 1.5 / 3.25))


def test_a_bet_risks_at_most_half() -> None:
    """After many users who speak against the canary, one of its own with a value of 1 takes exactly half away."""
    arm, value = arms("cs" * 200 + "c"), values(*[0.0, 1.0] * 200, 1.0)
    found = worse(arm, value, share=0.5)
    assert found[-1] - found[-2] == pytest.approx(log(0.5))


def test_a_canary_that_looks_better_costs_nothing_more() -> None:
    found = worse(arms("cs" * 50), values(*[1.0, 0.0] * 50), share=0.5)
    assert found[-1] <= 0
    assert found[-1] == found[10], "no bet is made"


def test_what_is_kept_is_a_ratio() -> None:
    """Canary .5, stable 1: worse, but not worse than half."""
    arm, value = arms("cscs" * 100), values(*[0.0, 1.0, 1.0, 1.0] * 100)
    assert worse(arm, value, share=0.5)[-1] > log(1000)
    assert worse(arm, value, share=0.5, keep=0.5)[-1] < log(2)
    assert worse(arm, value, share=0.5, keep=0.8)[-1] > log(20)


def test_arms_may_change_places() -> None:
    """Of what nobody wants, more is worse: the same test of the other arm."""
    arm, value = arms("cs" * 100), values(*[1.0, 0.0] * 100)
    assert worse(~arm, value, share=0.5)[-1] > log(1000)
    assert worse(arm, value, share=0.5)[-1] <= 0


@pytest.mark.parametrize(("users", "own"), [(1, 0), (1, 1), (4, 2), (10, 7)])
def test_the_sample_ratio_by_hand(users: int, own: int) -> None:
    """At a share of one half the prior is Beta(50, 50), whose moments are products."""
    chance = 1.0
    for at in range(own):
        chance *= (50 + at) / (100 + at)
    for at in range(users - own):
        chance *= (50 + at) / (100 + own + at)
    arm = np.arange(users) < own
    assert mismatch(arm, 0.5)[-1] == pytest.approx(log(chance * 2**users))


def test_the_sample_ratio_of_a_small_share_by_hand() -> None:
    """Beta(5, 95): a canary user has 5 in 100, the next 6 in 101."""
    assert mismatch(np.array([True, True]), 0.05) == pytest.approx([0.0, log(6 / 101 / 0.05)])


def test_order_does_not_matter_to_the_sample_ratio() -> None:
    one = np.random.default_rng(0).random(300) < 0.2
    assert mismatch(one, 0.3)[-1] == pytest.approx(mismatch(one[::-1], 0.3)[-1])


def test_the_sample_ratio_is_a_likelihood_ratio() -> None:
    """Over all outcomes of five users the marginal of the prior sums to 1."""
    total = 0.0
    for own in range(6):
        evidence = mismatch(np.arange(5) < own, 0.25)[-1]
        total += comb(5, own) * np.exp(evidence) * 0.25**own * 0.75 ** (5 - own)
    assert total == pytest.approx(1.0)
