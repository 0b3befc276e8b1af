"""Laws of learning from draws: the planted optimum is found and truly better, noise is not promoted, and nothing is guessed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.fusing import COLUMNS, LOGGER, drawn_log, rates, worth

from umbel.errors import UserError
from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.offpolicy import LOGGING, estimate
from umbel.evaluate.slates import Slates
from umbel.fuse.asked import Asked
from umbel.fuse.drawn import Drawn
from umbel.fuse.goal import Goal
from umbel.fuse.replay import Replayed, learned, promoted, thinning
from umbel.fuse.search import best, search
from umbel.fuse.space import Space
from umbel.fuse.standing import Standing
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear, Log

CASES = settings(max_examples=10, deadline=None)
FREE = Asked(primary="watch", bounds=("hate=200%",), trials=120)


def value_of(standing: Standing, task: str = "watch") -> Interval:
    found = standing.tasks[task]
    assert isinstance(found, Interval)
    return found


@pytest.mark.parametrize("method", ["cma", "tpe"])
def test_the_planted_optimum_is_found_and_promoted(method: str) -> None:
    """Click counts four times as much as watch; what is learned is better by as much as is said, in a world that is known."""
    found = learned(drawn_log(1), LOGGER, replace(FREE, method=method))
    assert found.better
    weights = {term.task: term.shape.weight for term in found.chosen.policy.terms if isinstance(term.shape, Linear)}
    assert weights["watch"] / weights["click"] < 0.6  # the log had 1, the truth .25
    said, earned = value_of(found.test[0]), value_of(found.test[-1])
    true, logger = worth(found.chosen.policy)[0], worth(LOGGER)[0]
    assert said.low is not None
    assert said.high is not None
    assert said.low - 0.02 < true < said.high + 0.02
    assert earned.value == pytest.approx(logger, abs=0.05)
    assert true > logger + 0.15
    assert found.verdict.startswith("on test users better than the logging policy in watch: +")


def test_noise_is_not_promoted() -> None:
    """Of ten logs whose labels have nothing to do with predictions at most one is (a quarter of one is expected)."""
    logs = [drawn_log(seed, decisions=1200, useless=True) for seed in range(10)]
    assert sum(learned(one, LOGGER, replace(FREE, trials=30)).better for one in logs) <= 1


def test_a_seed_says_all_and_the_budget_is_exact() -> None:
    log = drawn_log(3, decisions=1500)
    runs = [learned(log, LOGGER, replace(FREE, trials=25, seed=seed)).to_json() for seed in (4, 4, 5)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert all(isinstance(run["tried"], list) and len(run["tried"]) == 25 for run in runs)


def test_limits_are_of_estimates_and_what_is_missed_is_not_promoted() -> None:
    """A bound that nothing can keep on the test half: promoted only without it."""
    found = learned(drawn_log(1), LOGGER, FREE)
    assert found.better
    tight = Goal(found.goal.aims, "watch", {"hate": 0.01})
    assert not promoted(found.test[0], found.test[-1], tight)
    assert promoted(found.test[0], found.test[-1], found.goal)


def test_promotion_needs_both_lower_bounds() -> None:
    goal = Goal(learned(drawn_log(1, decisions=900), LOGGER, replace(FREE, trials=5)).goal.aims, "watch", {})
    hate, earned = Interval(0.1, 0.0, 0.2), Standing("log", {"watch": Interval(1.0, 0.9, 1.1), "hate": Interval(0.1, 0.0, 0.2)}, {})

    def chosen(low: float, gain: float) -> Standing:
        return Standing("chosen", {"watch": Interval(1.3, low, 1.6), "hate": hate}, {"watch": Interval(0.3, gain, 0.6)})

    assert promoted(chosen(1.01, 0.01), earned, goal)
    assert not promoted(chosen(0.99, 0.01), earned, goal)
    assert not promoted(chosen(1.01, -0.01), earned, goal)
    lost = Standing("chosen", {"watch": Undefined("few"), "hate": hate}, {"watch": Undefined("few")})
    assert not promoted(lost, earned, goal)
    unwanted = Goal(goal.aims, "hate", {})
    less = Standing("chosen", {"watch": hate, "hate": Interval(0.05, 0.01, 0.09)}, {"hate": Interval(-0.05, -0.09, -0.01)})
    assert promoted(less, earned, unwanted)
    more = Standing("chosen", {"watch": hate, "hate": Interval(0.05, 0.01, 0.11)}, {"hate": Interval(-0.05, -0.09, -0.01)})
    assert not promoted(more, earned, unwanted)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_logging_policy_replays_itself(temperature: float) -> None:
    """Its own weights are 1, so that its value is what the log earned, exactly; the model moves it by no more than noise."""
    log = drawn_log(7, decisions=300, temperature=temperature)
    judge = Replayed(log, thinning(log))
    for logged, earned in zip(judge.logged(LOGGER), judge.earned(seed=0), strict=True):
        assert_allclose(logged.target, log.logging, rtol=1e-9)
        found = estimate(logged, resamples=20)
        assert isinstance(earned, Sampled)
        for name in ("ips", "snips", LOGGING):
            assert found.draws[name].value == pytest.approx(earned.value, abs=1e-9), name
        assert found.draws["dr"].value == pytest.approx(earned.value, abs=0.06)
    values = judge(LOGGER).values
    assert values is not None
    assert_allclose(values, log.labels.sum(1).mean(0), atol=0.06)


def test_values_are_those_of_the_world() -> None:
    """Whatever the policy, the estimate is near what it earns where decisions are drawn by it."""
    log = drawn_log(8, decisions=9000)
    judge = Replayed(log, thinning(log))
    for weights in ((1.0, 0.2, 0.1), (0.2, 0.8, 0.9), (0.1, 0.1, 1.2)):
        terms = zip(LOGGER.terms, weights, strict=True)
        policy = Fusion(tuple(replace(term, shape=Linear(weight)) for term, weight in terms))
        values = judge(policy).values
        assert values is not None
        assert_allclose(values, worth(policy), atol=0.09)


def test_a_policy_that_the_log_cannot_carry_has_no_value() -> None:
    log = drawn_log(2, decisions=600)
    judge = Replayed(log, thinning(log))
    greedy = Fusion(tuple(replace(term, shape=Linear(60.0)) for term in LOGGER.terms))
    found = judge(greedy)
    assert found.values is None
    assert "effective sample size" in found.reason
    assert "of 600 decisions (at least 100)" in found.reason
    worse = judge(Fusion((replace(LOGGER.terms[2], shape=Linear(300.0)),)))
    assert worse.lacking > 0
    for one in judge.sampled(greedy, seed=0):
        assert isinstance(one, Undefined)
        assert "effective sample size" in one.reason


def test_a_search_comes_back_from_what_cannot_be_judged() -> None:
    """Half of the space has no value; the search still ends where there is one."""
    log = drawn_log(1, decisions=1200)
    judge = Replayed(log, thinning(log))
    goal = Goal(learned(log, LOGGER, replace(FREE, trials=4)).goal.aims, "watch", {})
    tried = list(search(Space(LOGGER, anchored=False), judge, goal, trials=80, method="cma", seed=0))
    chosen = best(tried, goal)
    assert chosen is not None
    assert chosen.judged.values is not None
    assert 0 < sum(one.judged.values is None for one in tried) < 60
    assert chosen.judged.caution > 0
    assert chosen.gain == pytest.approx(chosen.judged.values[0] - chosen.judged.caution)


def test_caution_is_of_the_primary() -> None:
    log = drawn_log(1, decisions=900)
    policy = replace(LOGGER, terms=(replace(LOGGER.terms[0], shape=Linear(1.0)), *LOGGER.terms[1:]))
    first, second = (Replayed(log, thinning(log), primary=place)(policy).caution for place in (0, 1))
    assert first > second > 0  # hate is rarer, so its value is surer


def test_the_order_of_decisions_changes_nothing() -> None:
    log = drawn_log(6, decisions=400)
    order = np.random.default_rng(0).permutation(400)
    cells = (order[:, None] * 10 + np.arange(10)).ravel()
    shown = log.slates.shown - log.slates.start[:, None]
    other = Drawn(
        COLUMNS, Slates(log.slates.start, shown[order] + log.slates.start[:, None], 4000), log.predictions[cells], log.temperature,
        log.logging[order], log.labels[order], log.user[order],
    )
    policy = Fusion((Term("click", Log(0.6, 0.5)), Term("watch", Log(0.3, 0.5)), Term("hate", Log(0.5), -1)))
    one, two = Replayed(log, thinning(log))(policy), Replayed(other, thinning(other))(policy)
    assert one.values is not None
    assert two.values is not None
    assert_allclose(one.values, two.values)


@CASES
@given(st.integers(0, 2**31))
def test_a_part_of_a_log_is_the_log_of_that_part(seed: int) -> None:
    """Candidates, lists and labels of kept decisions are what they were."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 7, 30)
    start = np.cumsum(sizes) - sizes
    lengths = draw.integers(0, np.minimum(sizes, 3) + 1)
    shown = np.full((30, 3), -1)
    for n in range(30):
        shown[n, : lengths[n]] = start[n] + draw.permutation(sizes[n])[: lengths[n]]
    log = Drawn(
        COLUMNS, Slates(start, shown, int(sizes.sum())), draw.random((sizes.sum(), 3)), draw.random(30) + 0.1, draw.random((30, 3)),
        draw.random((30, 3, 2)), np.arange(30),
    )  # fmt: skip
    rows = draw.random(30) < 0.5
    if not rows.any():
        return
    part = log.where(rows)
    whole, own = log.slates.steps(log.predictions[:, 0] / log.temperature[log.slates.owner()]), part.slates
    steps = own.steps(part.predictions[:, 0] / part.temperature[own.owner()])
    assert_allclose(steps.chance, whole.chance[rows])
    assert (part.labels == log.labels[rows]).all()
    assert part.user.tolist() == np.flatnonzero(rows).tolist()
    assert own.candidates == sizes[rows].sum()


def test_thinning_is_labels_by_predictions() -> None:
    log = drawn_log(5, decisions=500)
    factor = thinning(log)
    for place in range(2):
        assert factor[place, 0] == pytest.approx(log.labels[:, place, 0].sum() / log.predictions[log.slates.shown[:, place], 1].sum())
    nothing = replace(log, predictions=np.zeros_like(log.predictions))
    assert (thinning(nothing) == 1).all()


def test_rates_of_the_world_are_chances() -> None:
    found = rates(np.random.default_rng(0).random((1000, 3)))
    assert ((found >= 0) & (found <= 1)).all()


def test_a_start_that_cannot_be_judged_is_refused() -> None:
    with pytest.raises(UserError, match=r"the start cannot be judged: effective sample size \d+ of \d+ decisions \(at least 100\)"):
        learned(drawn_log(1, decisions=150), LOGGER, FREE)
