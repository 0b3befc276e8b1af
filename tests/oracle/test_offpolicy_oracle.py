"""Off-policy estimates and list chances against plain loops, and against what the service draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from umbel.evaluate.offpolicy import Logged, Model, estimate, value
from umbel.evaluate.slates import Slates
from umbel.serve.order import Order

CASES = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def logged(seed: int, decisions: int = 300, positions: int = 3) -> Logged:
    draw = np.random.default_rng(seed)
    shape = (decisions, positions)
    logging = draw.uniform(0.3, 0.9, shape)
    return Logged(
        reward=draw.normal(size=shape), logging=logging, target=np.clip(logging * draw.uniform(0.7, 1.3, shape), 0, 1),
        user=draw.integers(0, 50, decisions), model=Model(draw.normal(size=shape), draw.normal(size=shape)),
    )  # fmt: skip


def loop(name: str, one: Logged, clip: float) -> float:
    """The estimators as they are written down, a decision and a position at a time."""
    total, self_normalised, mass = 0.0, [0.0] * one.reward.shape[1], [0.0] * one.reward.shape[1]
    assert one.model is not None
    for n in range(len(one.reward)):
        weight = 1.0
        for k in range(one.reward.shape[1]):
            above = weight
            weight *= one.target[n, k] / one.logging[n, k]
            reward, q, v = one.reward[n, k], one.model.shown[n, k], one.model.expected[n, k]
            total += {
                "ips": weight * reward, "clipped_ips": min(weight, clip) * reward, "dm": above * v,
                "dr": above * v + weight * (reward - q), "snips": 0.0,
            }[name]  # fmt: skip
            self_normalised[k] += weight * reward
            mass[k] += weight
    return sum(a / b for a, b in zip(self_normalised, mass, strict=True)) if name == "snips" else total / len(one.reward)


@CASES
@given(seeds, st.sampled_from(["ips", "clipped_ips", "snips", "dm", "dr"]), st.floats(0.5, 3.0))
def test_estimators_are_those_of_a_loop(seed: int, name: str, clip: float) -> None:
    one = logged(seed, decisions=40)
    assert value(one, name, clip=clip) == pytest.approx(loop(name, one, clip), abs=1e-10)


@CASES
@given(seeds)
def test_the_figures_of_weights_are_those_of_a_loop(seed: int) -> None:
    one = logged(seed)
    weights = [math.prod(one.target[n, k] / one.logging[n, k] for k in range(3)) for n in range(len(one.reward))]
    found = estimate(one, resamples=10, clip=1.5).weights
    assert found.effective == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))
    assert found.mean.value == pytest.approx(sum(weights) / len(weights))
    assert found.largest == pytest.approx(max(weights))
    assert found.clipped == pytest.approx(sum(weight > 1.5 for weight in weights) / len(weights))


def test_a_draw_of_users_is_a_log_of_their_decisions() -> None:
    """Each resampled value is the loop's over decisions that are physically there as often as their user was drawn."""
    from umbel.evaluate.intervals import resample

    one = logged(3, decisions=200)
    found, by = estimate(one, resamples=5, seed=9), resample(one.user, resamples=5, seed=9)
    for place in range(5):
        rows = np.repeat(np.arange(200), by.count[place][by.code])
        assert one.model is not None
        again = Logged(
            reward=one.reward[rows], logging=one.logging[rows], target=one.target[rows], user=one.user[rows],
            model=Model(one.model.shown[rows], one.model.expected[rows]),
        )
        for name in ("ips", "clipped_ips", "snips", "dm", "dr"):
            assert found.draws[name].draws[place] == pytest.approx(loop(name, again, 10.0), abs=1e-9)


def flat(seed: int) -> tuple[Slates, np.ndarray, np.ndarray]:
    """Decisions of one to nine candidates, lists of up to four of them, with logits and values."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 10, 12)
    start = np.cumsum(sizes) - sizes
    shown = np.full((12, 4), -1)
    for n, size in enumerate(sizes):
        length = draw.integers(0, min(4, size) + 1)
        shown[n, :length] = start[n] + draw.permutation(size)[:length]
    return Slates(start, shown, int(sizes.sum())), draw.normal(0, 10, sizes.sum()), draw.normal(size=sizes.sum())


def steps_by_hand(slates: Slates, logits: np.ndarray, values: np.ndarray) -> tuple[list[list[float]], list[list[float]]]:
    ends = [*slates.start[1:].tolist(), slates.candidates]
    chances, means = [], []
    for n, (first, last) in enumerate(zip(slates.start.tolist(), ends, strict=True)):
        left, row, mean = list(range(first, last)), [1.0] * slates.shown.shape[1], [0.0] * slates.shown.shape[1]
        for k, at in enumerate(slates.shown[n].tolist()):
            if at < 0:
                break
            among = [one for one in left if slates.allowed is None or slates.allowed[k, one]]
            top = max((logits[one] for one in among), default=0.0)
            mass = {one: math.exp(logits[one] - top) for one in among}
            row[k] = mass.get(at, 0.0) / sum(mass.values()) if mass else 0.0
            mean[k] = sum(mass[one] * values[one] for one in among) / sum(mass.values()) if mass else 0.0
            left.remove(at)
        chances.append(row)
        means.append(mean)
    return chances, means


@CASES
@given(seeds)
def test_steps_are_those_of_a_loop(seed: int) -> None:
    slates, logits, values = flat(seed)
    chance, expected = steps_by_hand(slates, logits, values)
    found = slates.steps(logits, values)
    assert_allclose(found.chance, chance, rtol=1e-9)
    assert_allclose(found.expected, expected, rtol=1e-9, atol=1e-12)


@CASES
@given(seeds)
def test_masked_steps_are_those_of_a_loop(seed: int) -> None:
    slates, logits, values = flat(seed)
    allowed = np.random.default_rng(seed + 1).random((4, slates.candidates)) < 0.6
    masked = Slates(slates.start, slates.shown, slates.candidates, allowed)
    chance, expected = steps_by_hand(masked, logits, values)
    found = masked.steps(logits, values)
    assert_allclose(found.chance, chance, rtol=1e-9)
    assert_allclose(found.expected, expected, rtol=1e-9, atol=1e-12)
    everything = Slates(slates.start, slates.shown, slates.candidates, np.ones_like(allowed))
    assert_allclose(everything.steps(logits, values).chance, slates.steps(logits, values).chance, rtol=1e-9)


@CASES
@given(seeds, st.floats(0.01, 10.0))
def test_steps_are_the_propensities_that_the_service_logs(seed: int, temperature: float) -> None:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 30, 10)
    start = np.cumsum(sizes) - sizes
    fused = draw.normal(size=sizes.sum())
    shown, logged = np.full((10, 5), -1), np.ones((10, 5))
    for n, (first, size) in enumerate(zip(start, sizes, strict=True)):
        drawn = Order(temperature).draw(fused[first : first + size], 5, seed=seed + n)
        shown[n, : len(drawn.places)] = first + drawn.places
        logged[n, : len(drawn.places)] = drawn.propensities
    assert_allclose(Slates(start, shown, int(sizes.sum())).steps(fused / temperature).chance, logged, rtol=1e-9)


def test_owners_are_the_decisions_of_candidates() -> None:
    assert Slates(np.array([0, 2, 3]), np.zeros((3, 1), np.int64), 5).owner().tolist() == [0, 0, 1, 2, 2]
