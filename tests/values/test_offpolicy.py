"""Off-policy estimates by hand, and every refusal with the number that says so."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.offpolicy import ESTIMATORS, LOGGING, Logged, Model, OffPolicy, estimate, value
from umbel.evaluate.slates import Slates


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


HAND = Logged(
    reward=column(1, 0, 2), logging=column(0.5, 0.25, 0.1), target=column(0.25, 0.5, 0.4), user=np.array([1, 2, 3]),
    model=Model(column(0.5, 0.5, 1.0), column(0.7, 0.6, 0.8)),
)  # fmt: skip


def test_three_decisions_by_hand() -> None:
    # weights .5, 2, 4
    assert value(HAND, "ips") == pytest.approx((0.5 + 0 + 8) / 3)
    assert value(HAND, "clipped_ips", clip=3) == pytest.approx((0.5 + 0 + 6) / 3)
    assert value(HAND, "snips") == pytest.approx(8.5 / 6.5)
    assert value(HAND, "dm") == pytest.approx(2.1 / 3)
    assert value(HAND, "dr") == pytest.approx((2.1 + 0.5 * 0.5 - 2 * 0.5 + 4 * 1.0) / 3)


def test_two_positions_by_hand() -> None:
    one = Logged(
        reward=np.array([[1.0, 1.0], [0.0, 3.0]]), logging=np.full((2, 2), 0.5), target=np.array([[1.0, 0.5], [0.5, 0.25]]),
        user=np.array([0, 1]), model=Model(np.full((2, 2), 0.5), np.array([[0.2, 0.4], [0.6, 0.8]])),
    )  # fmt: skip
    # weights down to each position: 2, 2 and 1, .5; above it: 1, 2 and 1, 1
    assert value(one, "ips") == pytest.approx((2 + 2 + 0 + 1.5) / 2)
    assert value(one, "snips") == pytest.approx(2 / 3 + 3.5 / 2.5)
    assert value(one, "dm") == pytest.approx((0.2 + 0.8 + 0.6 + 0.8) / 2)
    assert value(one, "dr") == pytest.approx((0.2 + 2 * 0.5 + 0.8 + 2 * 0.5 + 0.6 - 0.5 + 0.8 + 0.5 * 2.5) / 2)
    assert value(one.whole(), "ips") == pytest.approx((2 * 2 + 0.5 * 3) / 2)


def test_a_list_by_hand() -> None:
    slates = Slates(np.array([0, 3]), np.array([[1, 0], [4, -1]]), 5)
    steps = slates.steps(np.log([1.0, 2.0, 5.0, 1.0, 3.0]), np.array([10.0, 20.0, 30.0, 1.0, 2.0]))
    assert steps.chance.tolist() == [[pytest.approx(2 / 8), pytest.approx(1 / 6)], [pytest.approx(3 / 4), 1.0]]
    assert steps.expected.tolist() == [[pytest.approx(200 / 8), pytest.approx(160 / 6)], [pytest.approx(7 / 4), 0.0]]


def test_what_a_position_may_not_show_has_no_chance() -> None:
    allowed = np.array([[True, False, True]])
    steps = Slates(np.array([0]), np.array([[1]]), 3, allowed).steps(np.zeros(3))
    assert steps.chance.tolist() == [[0.0]]
    assert Slates(np.array([0]), np.array([[2]]), 3, allowed).steps(np.zeros(3)).chance.tolist() == [[0.5]]


def test_steps_of_far_apart_logits_stay_exact() -> None:
    """Where the shown one is all of the mass, what is left below it is still told apart."""
    steps = Slates(np.array([0]), np.array([[0, 1]]), 3).steps(np.array([2000.0, -3.0, -3.0]), np.array([0.0, 1.0, 2.0]))
    assert steps.chance.tolist() == [[1.0, pytest.approx(0.5)]]
    assert steps.expected.tolist() == [[0.0, pytest.approx(1.5)]]


def test_a_list_that_shows_all_ends_in_certainty() -> None:
    steps = Slates(np.array([0]), np.array([[1, 0]]), 2).steps(np.array([0.0, 0.0]), np.array([4.0, 6.0]))
    assert steps.chance.tolist() == [[0.5, 1.0]]
    assert steps.expected.tolist() == [[5.0, 4.0]]


def log(decisions: int = 400, *, logging: float = 0.5, target: float = 0.5, users: int = 100) -> Logged:
    rows = np.arange(decisions)
    return Logged(
        reward=(rows % 2).astype(np.float64)[:, None], logging=np.full((decisions, 1), logging), target=np.full((decisions, 1), target),
        user=rows % users,
    )  # fmt: skip


def changed(one: Logged, **columns: np.ndarray) -> Logged:
    kept = {"reward": one.reward, "logging": one.logging, "target": one.target, "user": one.user, **columns}
    return Logged(**kept)  # type: ignore[arg-type]


def refusal(found: OffPolicy) -> str:
    """The one reason of all estimators."""
    reasons = {one.reason for name, one in found.estimates.items() if name != LOGGING and isinstance(one, Undefined)}
    assert len(reasons) == 1
    assert all(isinstance(found.estimates[name], Undefined) for name in ESTIMATORS)
    return reasons.pop()


def test_a_small_effective_sample_is_refused() -> None:
    target = np.full((400, 1), 0.001)
    target[:50] = 0.5
    found = estimate(changed(log(logging=0.0625), target=target))
    assert refusal(found) == "effective sample size 51 of 400 decisions (at least 100)"
    assert isinstance(found.estimates[LOGGING], Interval)  # what the log earned is known all the same


def test_the_least_effective_sample_grows_with_the_log() -> None:
    one = log(20_000)
    target = np.full((20_000, 1), 1e-6)
    target[:150] = 0.5
    assert refusal(estimate(changed(one, target=target), resamples=20)) == "effective sample size 150 of 20,000 decisions (at least 200)"


def test_a_mean_weight_that_is_not_one_is_refused() -> None:
    found = estimate(log(logging=0.5, target=0.625))
    assert refusal(found) == "mean weight 1.250 (1.250 to 1.250), not 1: the chances are not those of what was shown"
    assert found.weights.mean.value == pytest.approx(1.25)


def test_a_mean_weight_is_believed_inside_its_noise() -> None:
    """Twelve users, of whom five weigh 2 in all their decisions: the mean is 1.25, but users might well have been others."""
    heavy = (np.arange(396) % 12 < 5)[:, None]
    one = changed(log(396, logging=0.5, users=12), target=np.where(heavy, 1.0, 5 / 14))
    found = estimate(one)
    assert found.weights.mean.value == pytest.approx(1.25)
    assert found.weights.mean.low is not None
    assert found.weights.mean.low < 1
    assert isinstance(found.estimates["ips"], Interval)


def test_what_the_log_never_shows_is_refused() -> None:
    one = log()
    outside = Logged(reward=one.reward, logging=one.logging, target=one.target, user=one.user, outside=np.full(400, 0.034))
    reason = "support: on the average 3.4% of the target's chance is on what the log never shows (at most 1%)"
    assert refusal(estimate(outside)) == reason
    little = Logged(reward=one.reward, logging=one.logging, target=one.target, user=one.user, outside=np.full(400, 0.009))
    assert isinstance(estimate(little).estimates["ips"], Interval)


def test_unknown_chances_are_left_out_and_counted() -> None:
    one = log()
    logging, reward = one.logging.copy(), one.reward.copy()
    logging[:40], reward[30:60] = np.nan, np.nan
    found = estimate(changed(one, logging=logging, reward=reward))
    assert found.weights.used == 340
    assert found.weights.excluded == {"no propensity": 40, "no reward": 20}
    assert found.draws["ips"].value == pytest.approx(float(one.reward[60:].mean()))


def test_too_many_unknown_chances_are_refused() -> None:
    one = log()
    logging = one.logging.copy()
    logging[:201] = np.nan
    found = estimate(changed(one, logging=logging))
    assert refusal(found) == "201 of 400 decisions have no propensity or reward (at most 50% may lack one)"
    assert found.weights.excluded == {"no propensity": 201}
    logging[200] = 0.5
    assert isinstance(estimate(changed(one, logging=logging)).estimates["ips"], Interval)


@pytest.mark.parametrize(("key", "wrong", "said"), [
    ("logging", 0.0, "2 logging propensities are none, such as 0"), ("logging", 1.5, "2 logging propensities are none, such as 1.5"),
    ("target", -0.25, "2 target propensities are none, such as -0.25"), ("target", 1.25, "2 target propensities are none, such as 1.25"),
    ("target", np.nan, "2 target propensities are none, such as nan"),
])  # fmt: skip
def test_what_is_no_chance_is_refused(key: str, wrong: float, said: str) -> None:
    one = log()
    column = getattr(one, key).copy()
    column[:2] = wrong
    assert refusal(estimate(changed(one, **{key: column}))) == said


def test_few_users_are_refused() -> None:
    assert refusal(estimate(log(users=9))) == "9 users are too few to resample"


def test_no_decision_is_refused() -> None:
    assert refusal(estimate(log().where(np.zeros(400, dtype=bool)))) == "no decision"


def test_a_target_that_shows_none_of_it_is_refused() -> None:
    assert refusal(estimate(log(target=0.0))) == "effective sample size 0 of 400 decisions (at least 100)"


def test_the_clipped_share_is_told() -> None:
    target = np.where(np.arange(400)[:, None] % 4 == 0, 0.5, 1 / 6)
    found = estimate(changed(log(logging=0.25), target=target), clip=1.5)
    assert found.weights.clipped == pytest.approx(0.25)
    assert found.weights.largest == pytest.approx(2)
