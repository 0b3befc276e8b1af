"""Laws of the search for a fusion: the budget is exact, a seed says all, limits are kept, and a planted optimum is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.fusing import AIMS, COLUMNS, START, loose, planted

from umbel.errors import UserError
from umbel.evaluate.intervals import Interval, resample
from umbel.fuse.goal import Bound, Goal, goal
from umbel.fuse.ranked import METRICS, Metric, Ranked, Rows
from umbel.fuse.samplers import METHODS
from umbel.fuse.search import Judged, Tried, best, front, references, search
from umbel.fuse.space import REACH, Space
from umbel.fuse.standing import Base, better, contenders, standings, verdict
from umbel.fusion import SHAPES, Fusion, Term, equal
from umbel.fusion.shapes import Linear

CASES = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31 - 1)


def starts(family: str) -> Fusion:
    draw = np.random.default_rng(3)
    return equal(family, {name: draw.random(50) for name in ("click", "watch", "hate")}, unwanted=["hate"])


def aim(judge: Ranked, **bounds: Bound) -> Goal:
    values = judge(START).values
    assert values is not None
    return goal(AIMS, primary="watch", bounds=bounds, start=values)


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("anchored", [True, False])
def test_the_origin_is_the_start(family: str, anchored: bool) -> None:
    space = Space(starts(family), anchored=anchored)
    assert space.size >= 2
    assert space.policy(np.zeros(space.size)) == space.start


@pytest.mark.parametrize("family", SHAPES)
def test_every_point_is_a_policy_that_rises(family: str) -> None:
    """Wherever a search looks, a greater wanted prediction never lowers the score, and a greater unwanted one never raises it."""
    space, draw = Space(starts(family), anchored=False), np.random.default_rng(1)
    for _ in range(30):
        policy = space.policy(draw.normal(0, 5, space.size))
        assert policy.family == family
        assert [term.direction for term in policy.terms] == [1, 1, -1]
        rows = draw.random((40, 3))
        for place, direction in enumerate([1, 1, -1]):
            more = rows.copy()
            more[:, place] += draw.random(40)
            before, after = policy.score(rows), policy.score(more)
            assert (direction * (after - before) >= -1e-9 * (1 + np.abs(before))).all()


@pytest.mark.parametrize("family", SHAPES)
def test_distinct_points_inside_reach_are_distinct_policies(family: str) -> None:
    space = Space(starts(family), anchored=True)
    found = {space.policy(point).version for point in np.eye(space.size)}
    assert len(found) == space.size
    far, edge = np.full(space.size, REACH + 50), np.full(space.size, REACH)
    assert space.policy(far) == space.policy(edge)


def test_an_anchored_space_holds_every_order() -> None:
    """A policy that is not in it has the order of one that is: that with all weights divided alike."""
    weights = np.array([2.5, 0.3, 7.0])
    wanted = Fusion(tuple(replace(term, shape=Linear(float(weight))) for term, weight in zip(START.terms, weights, strict=True)))
    inside = Space(START, anchored=True).policy(np.log(weights[1:] / weights[0]))
    rows = np.random.default_rng(0).random((100, 3))
    assert (np.argsort(wanted.score(rows)) == np.argsort(inside.score(rows))).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("trials", [4, 5, 17, 40])
def test_the_budget_is_exact_and_a_seed_says_all(method: str, trials: int) -> None:
    judged: list[Fusion] = []

    def judge(policy: Fusion) -> Judged:
        judged.append(policy)
        weights = [getattr(term.shape, "weight", 0.0) for term in policy.terms]
        return Judged(np.array([-abs(weights[0] - 0.3), 0.0]))

    aim = Goal(AIMS, "watch", {})
    runs = [list(search(Space(START, anchored=False), judge, aim, trials=trials, method=method, seed=seed)) for seed in (1, 1, 2)]
    assert [len(run) for run in runs] == [trials] * 3
    assert len(judged) == 3 * trials
    assert [one.number for one in runs[0]] == list(range(trials))
    versions = [[one.policy.version for one in run] for run in runs]
    assert versions[0] == versions[1]
    if trials > 5:
        assert versions[0] != versions[2]
    assert [one.note for one in runs[0][:4]] == ["start", "click alone", "watch alone", "hate alone"]


@pytest.mark.parametrize("method", METHODS)
def test_a_search_leaves_the_world_s_random_numbers_alone(method: str) -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3).tolist()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    for _ in search(Space(START, anchored=True), lambda _: Judged(np.zeros(2)), Goal(AIMS, "watch", {}), trials=40, method=method, seed=0):
        pass
    assert np.random.random(3).tolist() == expected  # noqa: NPY002


@pytest.mark.parametrize("method", METHODS)
def test_one_number_can_be_searched(method: str) -> None:
    space = Space(Fusion(START.terms[:2]), anchored=True)
    assert space.size == 1

    def judge(policy: Fusion) -> Judged:
        shape = policy.terms[-1].shape
        assert isinstance(shape, Linear)
        return Judged(np.array([-abs(np.log(shape.weight) - 2.0) if len(policy.terms) > 1 else -9.0, 0.0]))

    tried = list(search(space, judge, Goal(AIMS, "watch", {}), trials=120, method=method, seed=0))
    chosen = best(tried, Goal(AIMS, "watch", {}))
    assert chosen is not None
    assert chosen.gain > -0.1


def test_a_search_that_has_converged_goes_on() -> None:
    """Long after one summit is found the budget is still spent, on points that are not all one."""
    def judge(policy: Fusion) -> Judged:
        weights = np.log([getattr(term.shape, "weight", 1.0) for term in policy.terms])
        return Judged(np.array([-float(np.square(weights - 1).sum()) if len(weights) == 3 else -99.0, 0.0]))

    tried = list(search(Space(START, anchored=False), judge, Goal(AIMS, "watch", {}), trials=1500, method="cma", seed=0))
    assert len(tried) == 1500
    assert len({one.policy.version for one in tried[-100:]}) > 50
    assert max(one.gain for one in tried) > -1e-8


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_optimum_is_found(method: str) -> None:
    """Of click and watch the order of the label is 4 to 1; and on other users the policy is better than the start, hate no worse."""
    tuning, testing = (Ranked.of(planted(seed, users=500), METRICS["top"](5), where="") for seed in (1, 2))
    target = aim(tuning, hate=Bound(1.2, share=True))
    tried = list(search(Space(START, anchored=True), tuning, target, trials=100, method=method, seed=0))
    chosen = best(tried, target)
    assert chosen is not None
    weights = [term.shape.weight for term in chosen.policy.terms if isinstance(term.shape, Linear)]
    assert weights[1] / weights[0] < 0.6  # the start has 1, the truth .25
    by = resample(testing.users, resamples=200)
    base = Base("the start", testing.sampled(START, by))
    test = standings(partial(testing.sampled, by=by), target, contenders(chosen.policy, START), base=base)
    assert [one.name for one in test] == ["chosen", "click alone", "watch alone", "hate alone", "the start"]
    assert better(test[0], target)
    assert "better than the start in watch: +" in verdict(test[0], target, than=base.name)


def test_useless_predictions_are_not_called_better() -> None:
    """Whatever is chosen on noise is not sold as an improvement: of 20 searches at most two say so (one is expected)."""
    said = 0
    for seed in range(20):
        tuning, testing = (Ranked.of(planted(2 * seed + part, users=60, useless=True), METRICS["top"](5), where="") for part in (0, 1))
        target = aim(tuning, hate=Bound(2.0, share=True))
        chosen = best(list(search(Space(START, anchored=True), tuning, target, trials=40, method="cma", seed=seed)), target)
        assert chosen is not None
        by = resample(testing.users, resamples=200, seed=seed)
        base = Base("the start", testing.sampled(START, by))
        said += better(standings(partial(testing.sampled, by=by), target, [("chosen", chosen.policy)], base=base)[0], target)
    assert said <= 2


def test_limits_are_kept_and_the_primary_pays_for_them() -> None:
    judge = Ranked.of(planted(4), METRICS["top"](5), where="")
    free, tight = (aim(judge, hate=bound) for bound in (Bound(9.0, share=True), Bound(0.6, share=True)))
    found = []
    for target in (free, tight):
        tried = list(search(Space(START, anchored=True), judge, target, trials=150, method="cma", seed=0))
        chosen = best(tried, target)
        assert chosen is not None
        assert chosen.judged.values is not None
        assert chosen.judged.values[1] <= target.limits["hate"]
        assert chosen.gain == max(one.gain for one in tried if not one.short)
        found.append(chosen.gain)
    assert found[0] > found[1] + 0.02


def test_a_limit_that_nothing_keeps_leaves_nothing() -> None:
    judge = Ranked.of(planted(4, users=40), METRICS["top"](5), where="")
    target = aim(judge, hate=Bound(-1.0, share=False))
    tried = list(search(Space(START, anchored=True), judge, target, trials=30, method="cma", seed=0))
    assert best(tried, target) is None
    assert all(one.short > 0 for one in tried)


@CASES
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25))
def test_the_front_is_what_none_beats(values: list[tuple[int, int]]) -> None:
    """High is better in the first task, low in the second."""
    target = Goal(AIMS, "watch", {})
    tried = [Tried(n, START, Judged(np.array(one, dtype=np.float64)), short=0.0, gain=float(one[0])) for n, one in enumerate(values)]
    found = front(tried, target)
    beaten = {one for one in values if any(o != one and o[0] >= one[0] and o[1] <= one[1] for o in values)}
    assert {values[one.number] for one in found} == set(values) - beaten
    assert len(found) == len({values[one.number] for one in found})
    assert [one.gain for one in found] == sorted((one.gain for one in found), reverse=True)
    chosen = best(tried, target)
    assert chosen is not None
    assert chosen.number == found[0].number


def test_what_cannot_be_judged_comes_last() -> None:
    kept = Tried(0, START, Judged(np.array([1.0, 0.0])), short=0.0, gain=-1e6)
    missed = Tried(1, START, Judged(np.array([1.0, 0.0])), short=0.1, gain=1e6)
    worse = Tried(2, START, Judged(np.array([1.0, 0.0])), short=0.2, gain=1e6)
    lost = Tried(3, START, Judged(None, reason="", lacking=0.5))
    far = Tried(4, START, Judged(None, reason="", lacking=2.0))
    assert kept.loss < missed.loss < worse.loss < lost.loss < far.loss


@pytest.mark.parametrize("name", METRICS)
@CASES
@given(seeds)
def test_figures_know_only_the_order(name: str, seed: int) -> None:
    """Neither the order of the log's rows nor a monotone change of the score moves a figure."""
    predictions, labels, group, user = loose(9, seed)
    predictions = predictions + np.random.default_rng(seed).random(predictions.shape) * 1e-3  # no ties: those are for chance to decide
    policy = Fusion((Term("click", Linear(2.0)), Term("watch", Linear(1.0))))
    double = Fusion((Term("click", Linear(6.0)), Term("watch", Linear(3.0))))
    order = np.random.default_rng(seed).permutation(len(group))
    one = Ranked.of(Rows.of(COLUMNS, predictions, labels, group=group, user=user), METRICS[name](3), where="")
    other = Ranked.of(Rows.of(COLUMNS, predictions[order], labels[order], group=group[order], user=user[order]), METRICS[name](3), where="")
    found = one(policy).values
    assert found is not None
    assert_allclose(found, other(policy).values)  # type: ignore[arg-type]
    assert_allclose(found, one(double).values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METRICS)
def test_the_labels_themselves_are_the_best_order(name: str) -> None:
    draw = np.random.default_rng(2)
    rows = planted(3)
    perfect = Rows(COLUMNS, np.stack([rows.labels[:, 0], *rows.predictions[:, 1:].T], axis=1), rows.labels, rows.group, rows.user)
    alone = Fusion((Term("click", Linear()),))
    values = Ranked.of(perfect, METRICS[name](5), where="")(alone).values
    assert values is not None
    if name != "top":
        assert values[0] == 1.0
    for _ in range(5):
        other = Fusion(tuple(Term(task, Linear(weight)) for task, weight in zip(("watch", "hate"), draw.random(2).tolist(), strict=True)))
        less = Ranked.of(perfect, METRICS[name](5), where="")(other).values
        assert less is not None
        assert less[0] < values[0]


@pytest.mark.parametrize("name", METRICS)
def test_a_draw_of_every_user_once_is_the_figure(name: str) -> None:
    judge = Ranked.of(planted(6, users=30), METRICS[name](5), where="")
    by = resample(judge.users, resamples=3, seed=1)
    by.count[:] = 1
    values = judge(START).values
    assert values is not None
    for value, sampled in zip(values, judge.sampled(START, by), strict=True):
        assert_allclose(sampled.draws, value)
        assert sampled.value == value
        assert isinstance(sampled.interval(), Interval)


def test_too_few_trials_are_refused() -> None:
    run = search(Space(START, anchored=True), lambda _: Judged(np.zeros(2)), Goal(AIMS, "watch", {}), trials=3, method="cma", seed=0)
    with pytest.raises(UserError, match=r"trials = 3: too few; give 4 or more: .* are among them; or 1, which judges the start alone"):
        list(run)


def test_one_trial_judges_the_start_alone() -> None:
    (one,) = search(Space(START, anchored=True), lambda _: Judged(np.zeros(2)), Goal(AIMS, "watch", {}), trials=1, method="cma", seed=0)
    assert (one.policy, one.note) == (START, "start")


def test_references_are_the_start_and_each_task() -> None:
    assert [(name, policy.tasks) for name, policy in references(START)] == [
        ("start", ("click", "watch", "hate")), ("click alone", ("click",)), ("watch alone", ("watch",)), ("hate alone", ("hate",)),
    ]  # fmt: skip
    assert [term.direction for _, policy in references(START)[1:] for term in policy.terms] == [1, 1, -1]


def test_metrics_are_named_and_said() -> None:
    for name, make in METRICS.items():
        metric: Metric = make(3)
        assert metric.name == name
        assert "each request_id" in metric.said("request_id")
