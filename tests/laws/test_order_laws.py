"""The sequential policy: its chances are the exact ones of what it draws, its draws follow them, and a seed says all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from umbel.errors import UserError
from umbel.serve.order import Order

scores = st.lists(st.floats(-30.0, 30.0), min_size=1, max_size=9)
temperatures = st.one_of(st.floats(1e-3, 50.0), st.just(0.0))
penalties = st.one_of(st.just(0.0), st.floats(0.0, 5.0))
CASES = settings(max_examples=150, deadline=None)


def by_hand(order: Order, fused: Sequence[float], places: Sequence[int], kinds: Sequence[int]) -> list[float]:
    """The chance of each step, from the definition alone."""
    found = []
    for position, place in enumerate(places):
        above = places[:position]
        lower = [order.penalty * sum(kinds[one] == kinds[other] for other in above) for one in range(len(fused))]
        left = [one for one in range(len(fused)) if one not in above]
        logits = np.array([(fused[one] - lower[one]) / order.temperature for one in left])
        weights = np.exp(logits - logits.max())
        found.append(float(weights[left.index(place)] / weights.sum()))
    return found


@CASES
@given(scores, st.floats(1e-2, 50.0), penalties, st.integers(0, 2**40), st.integers(1, 12))
def test_every_chance_is_that_of_its_step(fused: list[float], temperature: float, penalty: float, seed: int, count: int) -> None:
    kinds = [at % 3 for at in range(len(fused))]
    order = Order(temperature, penalty)
    drawn = order.draw(np.array(fused), count, seed=seed, kinds=np.array(kinds))
    assert len(drawn.places) == min(count, len(fused)) == len(set(drawn.places.tolist()))
    assert_allclose(drawn.propensities, by_hand(order, fused, drawn.places.tolist(), kinds), rtol=1e-9, atol=1e-300)
    assert ((drawn.propensities > 0) & (drawn.propensities <= 1)).all()


@CASES
@given(scores, temperatures, penalties, st.integers(0, 2**40))
def test_a_seed_says_the_order(fused: list[float], temperature: float, penalty: float, seed: int) -> None:
    kinds = np.arange(len(fused)) % 2
    one, other = (Order(temperature, penalty).draw(np.array(fused), 9, seed=seed, kinds=kinds) for _ in range(2))
    assert one.places.tobytes() == other.places.tobytes()
    assert one.propensities.tobytes() == other.propensities.tobytes()


@CASES
@given(scores, penalties, st.integers(0, 5))
def test_without_heat_the_greatest_comes_first_and_surely(fused: list[float], penalty: float, seed: int) -> None:
    kinds = np.arange(len(fused)) % 2
    drawn = Order(0.0, penalty).draw(np.array(fused), len(fused), seed=seed, kinds=kinds)
    assert drawn.propensities.tolist() == [1.0] * len(fused)
    for position, place in enumerate(drawn.places.tolist()):
        above = drawn.places[:position]
        worth = np.array(fused) - penalty * np.array([(kinds[above] == kind).sum() for kind in kinds])
        worth[above] = -np.inf
        assert worth[place] == worth.max()
        assert place == np.flatnonzero(worth == worth.max())[0]


@CASES
@given(scores, st.floats(1e-2, 5.0), st.floats(-1e3, 1e3))
def test_only_differences_of_scores_count(fused: list[float], temperature: float, more: float) -> None:
    one = Order(temperature).draw(np.array(fused), 9, seed=3)
    other = Order(temperature).draw(np.array(fused) + more, 9, seed=3)
    assert_allclose(one.propensities, by_hand(Order(temperature), fused, one.places.tolist(), [0] * len(fused)), rtol=1e-9)
    if (one.places == other.places).all():
        assert_allclose(other.propensities, one.propensities, rtol=1e-6)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_draws_are_as_frequent_as_their_chances_say(penalty: float) -> None:
    order, fused, kinds = Order(0.5, penalty), np.array([0.1, 0.6, 0.3, 0.0]), np.array([0, 0, 1, 1])
    times = 20_000
    counted: dict[tuple[int, ...], int] = dict.fromkeys(itertools.permutations(range(4), 2), 0)
    told: dict[tuple[int, ...], float] = {}
    for seed in range(times):
        drawn = order.draw(fused, 2, seed=seed, kinds=kinds)
        pair = tuple(drawn.places.tolist())
        counted[pair] += 1
        told[pair] = float(drawn.propensities.prod())
    assert_allclose(sum(told.values()), 1.0, rtol=1e-12)
    for pair, count in counted.items():
        expected = times * told[pair]
        assert abs(count - expected) < 5 * np.sqrt(expected), (pair, count, expected)


def test_a_hopeless_candidate_is_never_drawn_before_another_nor_with_chance_0() -> None:
    for order in (Order(0.01), Order(0.01, 0.1)):
        for seed in range(50):
            drawn = order.draw(np.array([0.0, -1e6, 1.0, -1e6]), 4, seed=seed, kinds=np.arange(4))
            assert set(drawn.places[2:].tolist()) == {1, 3}
            assert (drawn.propensities > 0).all()


def test_nothing_to_choose_from_is_nothing() -> None:
    for order in (Order(), Order(1.0), Order(1.0, 1.0), Order(0.0, 1.0)):
        assert len(order.draw(np.empty(0), 5, seed=1, kinds=np.empty(0, np.int64)).places) == 0
        assert len(order.draw(np.ones(3), 0, seed=1, kinds=np.zeros(3, np.int64)).places) == 0


def test_a_penalty_spreads_the_kinds() -> None:
    fused, kinds = np.array([0.9, 0.8, 0.7, 0.6]), np.array([7, 7, 7, 1])
    assert Order().draw(fused, 4, seed=0, kinds=kinds).places.tolist() == [0, 1, 2, 3]
    assert Order(penalty=0.25).draw(fused, 4, seed=0, kinds=kinds).places.tolist() == [0, 3, 1, 2]
    assert Order(penalty=0.25).draw(fused, 4, seed=0).places.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("temperature", "penalty"), [(-1.0, 0.0), (1e-9, 0.0), (np.inf, 0.0), (np.nan, 0.0), (1.0, -0.1), (1.0, np.nan)])
def test_what_is_no_order_is_refused(temperature: float, penalty: float) -> None:
    with pytest.raises(UserError, match=r"temperature|penalty"):
        Order(temperature, penalty)
