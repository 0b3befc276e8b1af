"""Off-policy weights, estimators and their errors, one case a line by hand."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.offpolicy import ESTIMATORS, LOGGING, MODELLED, Logged, Model, Weighed, deviations, estimate, standard_error, value

Rows = list[list[float]]


def logged(reward: Rows, logging: Rows, target: Rows, *, model: tuple[Rows, Rows] | None = None) -> Logged:
    made = None if model is None else Model(*(np.array(one, float) for one in model))
    columns = [np.array(one, float) for one in (reward, logging, target)]
    return Logged(reward=columns[0], logging=columns[1], target=columns[2], user=np.arange(len(reward)), model=made)


@pytest.mark.parametrize(("logging", "target", "weight", "above"), [
    ([[0.5]], [[0.25]], [[0.5]], [[1.0]]), ([[0.5, 0.5]], [[1.0, 0.25]], [[2.0, 1.0]], [[1.0, 2.0]]),
    ([[0.25, 0.5, 1.0]], [[0.5, 0.5, 0.5]], [[2.0, 2.0, 1.0]], [[1.0, 2.0, 2.0]]), ([[0.5, 1.0]], [[0.0, 1.0]], [[0.0, 0.0]], [[1.0, 0.0]]),
    ([[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.5], [1.0, 1.0]], [[1.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, 2.0]]),
])  # fmt: skip
def test_weights_go_down_the_list(logging: Rows, target: Rows, weight: Rows, above: Rows) -> None:
    one = Weighed.of(logged([[0.0] * len(logging[0])] * len(logging), logging, target), 3.0)
    assert (one.weight.tolist(), one.above.tolist(), one.clip) == (weight, above, 3.0)


# Two decisions: weights 2 and .5, rewards 3 and 1; the model says 2 and 2 of what was shown, 1 and 4 of what the target would show.
PAIR = logged([[3.0], [1.0]], [[0.25], [0.5]], [[0.5], [0.25]], model=([[2.0], [2.0]], [[1.0], [4.0]]))


@pytest.mark.parametrize(("name", "clip", "expected"), [
    ("ips", 10.0, (6 + 0.5) / 2), ("ips", 1.0, (6 + 0.5) / 2), ("clipped_ips", 10.0, (6 + 0.5) / 2), ("clipped_ips", 1.0, (3 + 0.5) / 2),
    ("clipped_ips", 0.25, (0.75 + 0.25) / 2), ("snips", 1.0, 6.5 / 2.5), ("dm", 10.0, 2.5), ("dr", 10.0, (1 + 2 * 1 + 4 - 0.5) / 2),
])  # fmt: skip
def test_a_pair_by_every_estimator(name: str, clip: float, expected: float) -> None:
    assert value(PAIR, name, clip=clip) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "expected"), [
    ("ips", [(6 - 3.25) / 2, (0.5 - 3.25) / 2]), ("clipped_ips", [(6 - 3.25) / 2, (0.5 - 3.25) / 2]),
    ("snips", [(6 - 2 * 2.6) / 2.5, (0.5 - 0.5 * 2.6) / 2.5]), ("dm", [(1 - 2.5) / 2, (4 - 2.5) / 2]),
    ("dr", [(3 - 3.25) / 2, (3.5 - 3.25) / 2]),
])  # fmt: skip
def test_deviations_by_hand(name: str, expected: list[float]) -> None:
    moved = deviations(Weighed.of(PAIR, 10.0), name)
    assert moved.tolist() == pytest.approx(expected)
    assert moved.sum() == pytest.approx(0.0)


@pytest.mark.parametrize(("moved", "user", "expected"), [
    ([3.0, 4.0], [1, 2], 5.0), ([3.0, 4.0], [1, 1], 7.0), ([3.0, -3.0], [1, 1], 0.0), ([3.0, -3.0, 4.0], [5, 5, 2], 4.0),
    ([1.0, 2.0, 2.0], [9, 7, 8], 3.0), ([], [], 0.0), ([1.0, 2.0, 2.0, 10.0], [9, 7, 7, 9], np.sqrt(121 + 16)),
])  # fmt: skip
def test_a_standard_error_is_over_users(moved: list[float], user: list[int], expected: float) -> None:
    assert standard_error(np.array(moved, float), np.array(user, int)) == pytest.approx(expected)


def test_a_whole_list_is_one_action() -> None:
    one = logged([[1.0, 2.0], [0.0, 5.0]], [[0.5, 0.5], [0.25, 1.0]], [[0.5, 0.25], [0.5, 0.5]], model=([[0.0] * 2] * 2, [[0.0] * 2] * 2))
    whole = one.whole()
    assert (whole.reward.tolist(), whole.logging.tolist(), whole.target.tolist()) == ([[3.0], [5.0]], [[0.25], [0.25]], [[0.125], [0.25]])
    assert whole.model is None, "a model of positions says nothing of lists"
    assert value(whole, "ips") == pytest.approx((0.5 * 3 + 5) / 2)
    assert value(one, "ips") == pytest.approx((1 + 0.5 * 2 + 0 + 5) / 2)


def test_some_decisions_keep_all_that_is_theirs() -> None:
    one = Logged(
        reward=PAIR.reward, logging=PAIR.logging, target=PAIR.target, user=np.array([4, 6]), model=PAIR.model, outside=np.array([0.1, 0.2])
    )  # fmt: skip
    some = one.where(np.array([False, True]))
    assert some.model is not None
    assert some.outside is not None
    kept = (some.reward, some.logging, some.target, some.user, some.model.shown, some.model.expected, some.outside)
    assert [part.ravel().tolist() for part in kept] == [[1.0], [0.5], [0.25], [6], [2.0], [4.0], [0.2]]
    assert one.whole().outside is one.outside


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_logging_policy_earns_what_it_earned(name: str) -> None:
    reward = [[1.0, 0.5], [0.0, 2.0], [3.0, 0.0]]
    same = [[0.5, 0.25]] * 3
    assert value(logged(reward, same, same, model=(reward, reward)), name) == pytest.approx(6.5 / 3)


def many(count: int = 400, *, weight: float = 1.0, users: int = 100, model: bool = False, outside: float | None = None) -> Logged:
    """Decisions whose rewards are 0 and 1 in turn, all of one weight."""
    reward = (np.arange(count) % 2.0)[:, None]
    return Logged(
        reward=reward, logging=np.full((count, 1), 0.5), target=np.full((count, 1), 0.5 * weight), user=np.arange(count) % users,
        model=Model(reward / 2, np.full((count, 1), 0.75)) if model else None, outside=None if outside is None else np.full(count, outside),
    )  # fmt: skip


def reasons(one: Logged) -> set[str]:
    return {found.reason for name, found in estimate(one, resamples=40).estimates.items() if name in ("ips", "snips", "clipped_ips")}


@pytest.mark.parametrize(("one", "said"), [
    (many(99, users=50), "effective sample size 99 of 99 decisions (at least 100)"), (many(100, users=50), ""),
    (many(weight=1.1), ""), (many(weight=0.9), ""), (many(weight=1.125), "mean weight 1.125 (1.125 to 1.125), not 1"),
    (many(weight=0.875), "mean weight 0.875 (0.875 to 0.875), not 1"), (many(outside=0.01), ""),
    (many(outside=0.011), "support: on the average 1.1% of the target's chance"), (many(users=10), ""),
    (many(users=9), "9 users are too few to resample"),
])  # fmt: skip
def test_what_carries_and_what_does_not(one: Logged, said: str) -> None:
    found = reasons(one)
    assert len(found) == 1
    assert found.pop().startswith(said) if said else found == {""}


def test_a_model_is_asked_where_there_is_one() -> None:
    without, having = (estimate(many(model=one), resamples=40) for one in (False, True))
    assert set(without.estimates) == set(having.estimates) == {*ESTIMATORS, LOGGING}
    assert {name for name, one in without.estimates.items() if isinstance(one, Undefined)} == MODELLED
    assert {one.reason for one in without.estimates.values() if isinstance(one, Undefined)} == {"no model of the reward"}
    assert set(having.draws) == {*ESTIMATORS, LOGGING}
    figures = {name: one.value for name, one in having.estimates.items() if isinstance(one, Interval)}
    assert figures == pytest.approx({"ips": 0.5, "clipped_ips": 0.5, "snips": 0.5, "dm": 0.75, "dr": 1.0, "logging": 0.5})


def test_draws_belong_to_a_seed_and_are_as_many_as_asked() -> None:
    one, same, other = (estimate(many(users=80), resamples=33, seed=seed).draws["ips"] for seed in (1, 1, 2))
    assert one.draws.tolist() == same.draws.tolist() != other.draws.tolist()
    assert (len(one.draws), one.users) == (33, 80)


@pytest.mark.parametrize(("weights", "effective", "largest", "clipped"), [
    ([1.0, 1.0], 400.0, 1.0, 0.0), ([0.5, 1.5], 400 * 0.8, 1.5, 0.5), ([0.0, 2.0], 200.0, 2.0, 0.5),
    ([0.75, 1.25], 400 / 1.0625, 1.25, 0.0),
])  # fmt: skip
def test_what_is_told_of_the_weights(weights: list[float], effective: float, largest: float, clipped: float) -> None:
    one = many()
    target = 0.5 * np.tile(weights, 200)[:, None]
    told = estimate(Logged(reward=one.reward, logging=one.logging, target=target, user=one.user), resamples=40, clip=1.25).weights
    assert (told.used, told.excluded, told.largest, told.clipped) == (400, {}, largest, clipped)
    assert [told.effective, told.mean.value] == pytest.approx([effective, 1.0])
