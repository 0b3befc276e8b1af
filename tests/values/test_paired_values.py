"""Paired differences, Holm's rule and verdicts on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.errors import UserError
from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Paired, Verdict, average, holm, paired, student_bound, verdicts


def sampled(value: float, spread: float, seed: int, *, users: int = 100, resamples: int = 200) -> Sampled:
    return Sampled(value, value + spread * np.random.default_rng(seed).normal(size=resamples), users)


def shifted(one: Sampled, by: float) -> Sampled:
    return Sampled(one.value + by, one.draws + by, one.users)


def pair(low: float, high: float, *, spread: tuple[float, float] | None, p: float) -> Paired:
    middle = (low + high) / 2
    seeds = Undefined("one seed") if spread is None else Interval(middle, *spread)
    return Paired(Interval(middle, low, high), (middle,), seeds, p)


def test_average_takes_the_mean_value_and_the_mean_of_every_draw() -> None:
    one, two = Sampled(0.7, np.array([0.6, 0.8]), 12), Sampled(0.8, np.array([0.8, 0.9]), 11)
    found = average([one, two])
    assert found.value == pytest.approx(0.75)
    assert found.draws == pytest.approx([0.7, 0.85])
    assert found.users == 11


def test_what_both_models_share_falls_out_of_a_paired_difference() -> None:
    base = [sampled(0.7, 0.05, seed) for seed in range(3)]
    better = [shifted(one, by) for one, by in zip(base, (0.011, 0.010, 0.009), strict=True)]
    found = paired(better, base)
    assert found.mean.value == pytest.approx(0.01)
    assert found.mean.low == pytest.approx(0.01)
    assert found.seeds == pytest.approx((0.011, 0.010, 0.009))
    assert found.p == pytest.approx(0.0)


def test_the_interval_of_a_difference_follows_its_draws() -> None:
    a, b = Sampled(0.6, np.linspace(0.5, 0.7, 201), 50), Sampled(0.55, np.full(201, 0.55), 50)
    found = paired([a], [b])
    assert found.mean.low == pytest.approx(-0.045)
    assert found.mean.high == pytest.approx(0.145)


def test_turning_a_difference_round_turns_its_sign() -> None:
    a, b = [sampled(0.7, 0.01, 1), sampled(0.71, 0.01, 2)], [sampled(0.69, 0.01, 3), sampled(0.7, 0.01, 4)]
    there, back = paired(a, b), paired(b, a)
    assert there.mean.value == pytest.approx(-back.mean.value)
    assert there.mean.low is not None
    assert back.mean.high is not None
    assert there.mean.low == pytest.approx(-back.mean.high)
    assert there.p == pytest.approx(back.p)


def test_the_spread_over_seeds_is_students_interval() -> None:
    base = [sampled(0.7, 0.01, seed) for seed in range(3)]
    found = paired([shifted(one, by) for one, by in zip(base, (0.01, 0.02, 0.03), strict=True)], base)
    assert isinstance(found.spread, Interval)
    # mean .02, standard deviation .01, t = 4.3027 with two degrees of freedom
    half = 4.30265 * 0.01 / np.sqrt(3)
    assert found.spread.low == pytest.approx(0.02 - half, abs=1e-6)
    assert found.spread.high == pytest.approx(0.02 + half, abs=1e-6)


def test_one_seed_has_no_spread() -> None:
    assert paired([sampled(0.7, 0.01, 1)], [sampled(0.6, 0.01, 2)]).spread == Undefined("one seed")


def test_p_is_that_of_a_normal_with_the_draws_deviation() -> None:
    draws = np.array([-1.0, 1.0] * 100) * 0.01
    a, b = Sampled(0.0196, 0.0196 + draws, 50), Sampled(0.0, np.zeros(200), 50)
    assert paired([a], [b]).p == pytest.approx(0.05, abs=0.001)


def test_two_equal_models_have_p_one_and_an_interval_of_nothing() -> None:
    one = sampled(0.7, 0.01, 1)
    found = paired([one, one], [one, one])
    assert (found.mean.value, found.mean.low, found.mean.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_too_few_users_can_prove_nothing() -> None:
    found = paired([sampled(0.9, 0.001, 1, users=4)], [sampled(0.1, 0.001, 2, users=4)])
    assert found.mean.low is None
    assert found.p == 1.0


@pytest.mark.parametrize(
    ("left", "right"),
    [(2, 3), (0, 0)],
)
def test_seeds_must_match(left: int, right: int) -> None:
    with pytest.raises(UserError, match="same seeds"):
        paired([sampled(0.7, 0.01, seed) for seed in range(left)], [sampled(0.7, 0.01, seed) for seed in range(right)])


def test_resamples_must_match() -> None:
    with pytest.raises(UserError, match="same resample"):
        paired([sampled(0.7, 0.01, 1, resamples=100)], [sampled(0.7, 0.01, 1, resamples=200)])


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        ((0.01, 0.02, 0.03), (True, True, True)),
        ((0.017, 0.02, 0.03), (False, False, False)),
        ((0.001, 0.03, 0.04), (True, False, False)),
        ((0.04, 0.001, 0.02), (True, True, True)),
        ((0.05,), (True,)),
        ((0.051,), (False,)),
        ((), ()),
    ],
)
def test_holm_steps_down_until_the_first_that_fails(p: tuple[float, ...], kept: tuple[bool, ...]) -> None:
    assert tuple(holm(dict(enumerate(p))).values()) == kept


def test_holm_keeps_the_order_of_its_keys() -> None:
    assert list(holm({"late": 0.9, "early": 0.001})) == ["late", "early"]


VERDICTS = [
    # interval over users, spread over seeds, p, verdict
    ((0.002, 0.006), (0.001, 0.007), 0.001, Verdict.HIGHER),
    ((-0.006, -0.002), (-0.007, -0.001), 0.001, Verdict.LOWER),
    ((0.002, 0.006), (-0.001, 0.009), 0.001, Verdict.OPEN),
    ((-0.001, 0.009), (0.002, 0.006), 0.2, Verdict.OPEN),
    ((0.002, 0.006), None, 0.001, Verdict.OPEN),
    ((-0.001, 0.001), (-0.005, 0.005), 0.9, Verdict.EQUAL),
    ((-0.001, 0.0021), (-0.005, 0.005), 0.5, Verdict.OPEN),
    ((-0.0021, 0.001), (-0.005, 0.005), 0.5, Verdict.OPEN),
    ((-0.002, 0.001), (-0.005, 0.005), 0.5, Verdict.OPEN),
    ((0.0005, 0.0015), (0.0004, 0.0016), 0.001, Verdict.HIGHER),
    ((0.0005, 0.0015), (-0.0004, 0.0024), 0.001, Verdict.EQUAL),
    ((0.002, 0.006), (0.001, 0.007), 0.2, Verdict.OPEN),
]


@pytest.mark.parametrize(("users", "seeds", "p", "verdict"), VERDICTS)
def test_verdicts_by_hand(users: tuple[float, float], seeds: tuple[float, float] | None, p: float, verdict: Verdict) -> None:
    assert verdicts({"one": pair(*users, spread=seeds, p=p)}) == {"one": verdict}


def test_the_margin_is_the_callers() -> None:
    near = pair(-0.004, 0.004, spread=(-0.01, 0.01), p=0.9)
    assert verdicts({"one": near}) == {"one": Verdict.OPEN}
    assert verdicts({"one": near}, margin=0.005) == {"one": Verdict.EQUAL}


def test_a_margin_is_of_a_comparison_s_own_unit() -> None:
    near = {name: pair(-0.004, 0.004, spread=(-0.01, 0.01), p=0.9) for name in ("seconds", "auc", "days")}
    found = verdicts(near, units={"seconds": 3.0, "days": 1e-5})
    assert found == {"seconds": Verdict.EQUAL, "auc": Verdict.OPEN, "days": Verdict.OPEN}
    assert verdicts(near, margin=0.005, units={"days": 0.5})["auc"] is Verdict.EQUAL


def test_a_unit_does_not_make_a_difference_that_is_none() -> None:
    clear = {name: pair(0.002, 0.006, spread=(0.001, 0.007), p=0.001) for name in ("seconds", "auc")}
    assert set(verdicts(clear, units={"seconds": 100.0}).values()) == {Verdict.HIGHER}


def test_comparisons_made_together_need_more() -> None:
    clear = pair(0.002, 0.006, spread=(0.001, 0.007), p=0.04)
    assert verdicts({0: clear})[0] is Verdict.HIGHER
    assert set(verdicts(dict.fromkeys(range(2), clear)).values()) == {Verdict.OPEN}


def test_intervals_without_bounds_say_nothing() -> None:
    none = Paired(Interval(0.1, None, None, "9 users"), (0.1,), Interval(0.1, 0.05, 0.15), 1.0)
    assert verdicts({"one": none}) == {"one": Verdict.OPEN}


def test_student_bounds_come_down_to_the_normals() -> None:
    bounds = [student_bound(freedom) for freedom in (1, 2, 3, 10, 1000)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] == pytest.approx(1.96, abs=0.01)


def test_no_difference_is_rarely_called_one() -> None:
    """400 comparisons of three seeds without any difference: at most 5 % may be called higher or lower."""
    wrong = 0
    for seed in range(400):
        draw = np.random.default_rng(seed)
        users = draw.normal(size=(2, 200)) * 0.01
        seeds = draw.normal(size=(2, 3)) * 0.01
        noise = draw.normal(size=2) * 0.01
        values = noise[:, None] + seeds
        one, two = ([Sampled(value, value + users[side], 100) for value in values[side].tolist()] for side in (0, 1))
        wrong += verdicts({0: paired(one, two)})[0] in (Verdict.HIGHER, Verdict.LOWER)
    assert wrong <= 20
