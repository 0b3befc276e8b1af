"""Rules that keep an epoch, by hand: which epoch, how long they wait, what they say, and what they refuse."""

from __future__ import annotations

import pytest

from umbel.errors import UserError
from umbel.learn.history import Scores, frontier, furthest, peak
from umbel.learn.keep import Keep, Mean, Pareto, Primary, stale
from umbel.run import resolve
from umbel.run.kept import Fared, Kept
from umbel.run.settings import parse

# click peaks in epoch 1, like in epoch 3; epoch 2 is a fair middle, epoch 4 is beaten by it.
SEEN: list[Scores] = [
    {"click": 0.700, "like": 0.600},
    {"click": 0.740, "like": 0.560},
    {"click": 0.725, "like": 0.615},
    {"click": 0.650, "like": 0.640},
    {"click": 0.720, "like": 0.610},
]


@pytest.mark.parametrize(("rule", "epoch", "contenders", "waited"), [
    (Mean(), 2, (2,), 2),                                      # .650 .650 .670 .645 .665
    (Mean({"click": 9.0}), 1, (1,), 3),                        # .6900 .7220 .7140 .6490 .7090
    (Mean({"like": 9.0}), 3, (3,), 1),
    (Primary("click"), 1, (1,), 3),
    (Primary("like"), 3, (3,), 1),
    (Primary("click", {"like": 0.08}), 1, (1, 2, 3), 1),       # .64 - .56 = .08 holds
    (Primary("click", {"like": 0.03}), 2, (1, 2, 3), 1),
    (Primary("click", {"like": 0.0}), 3, (1, 2, 3), 1),
    (Primary("like", {"click": 0.02}), 2, (1, 2, 3), 1),
    (Pareto(), 2, (1, 2, 3), 1),                               # regrets .04 .08 .025 .09 .03
])  # fmt: skip
def test_which_epoch_is_kept(rule: Keep, epoch: int, contenders: tuple[int, ...], waited: int) -> None:
    assert (rule.best(SEEN), rule.contenders(SEEN), stale(rule, SEEN)) == (epoch, contenders, waited)


def test_a_guard_looks_at_the_whole_training() -> None:
    """Epoch 1 was within .05 of what like had reached; once like has reached .64 it is not any more."""
    rule = Primary("click", {"like": 0.05})
    assert [rule.best(SEEN[:count]) for count in range(1, 6)] == [0, 1, 2, 2, 2]


def test_where_no_epoch_holds_the_guards_the_nearest_is_kept() -> None:
    history = [{"a": 0.9, "b": 0.50, "c": 0.8}, {"a": 0.5, "b": 0.80, "c": 0.5}, {"a": 0.6, "b": 0.75, "c": 0.6}]
    rule = Primary("a", {"b": 0.01, "c": 0.05})
    # short of b, c: (.29, -), (-, .25), (.04, .15)
    assert rule.best(history) == 2
    assert rule.why(history) == "no epoch has b within 0.01 of its best, c within 0.05 of its best; it falls short the least, by 0.1500"


def test_mean_over_known_tasks_alone() -> None:
    assert Mean().score({"a": 0.5, "b": None, "c": 0.7}) == pytest.approx(0.6)
    assert Mean({"a": 3.0}).score({"a": 0.5, "b": None, "c": 0.7}) == pytest.approx((1.5 + 0.7) / 4)
    assert Primary("a").score({"a": 0.5, "b": None}) == 0.5


def test_a_score_missing_in_one_epoch_is_the_worst_there() -> None:
    history: list[Scores] = [{"a": 0.6, "b": None}, {"a": 0.5, "b": 0.1}]
    assert Pareto().best(history) == 1
    assert Primary("a", {"b": 0.3}).best(history) == 1
    assert Primary("a").best(history) == 0
    assert furthest(history, {"b": 0.0}) == [float("inf"), 0.0]
    assert frontier([{"b": None}, {"b": float("nan")}], ["b"]) == (0,)


@pytest.mark.parametrize(("series", "expected"), [([0.1], 0), ([0.1, 0.1 + 1e-6], 0), ([0.1, 0.1 + 2e-6], 1), ([0.1, -1.0, 0.3], 2)])
def test_a_peak_is_above_every_peak_before_it(series: list[float], expected: int) -> None:
    assert peak(series) == expected


@pytest.mark.parametrize(("rule", "said"), [
    (Mean(), "the highest mean validation score"),
    (Mean({"like": 2.0}), "the highest weighted mean validation score"),
    (Primary("click"), "the highest validation score of click"),
    (Primary("click", {"like": 0.03}), "the highest validation score of click with like within 0.03 of its best"),
    (Pareto(), "of 3 that no other beats on every task, the nearest to each task's own best (at most 0.0250 below)"),
])  # fmt: skip
def test_it_says_why(rule: Keep, said: str) -> None:
    assert rule.why(SEEN) == said


def test_what_a_report_keeps_of_it() -> None:
    found = Kept.of(Primary("click", {"like": 0.03}), SEEN, train={"click": 0.9, "like": None})
    assert (found.rule, found.epoch, found.among) == ({"name": "primary", "task": "click", "guards": {"like": 0.03}}, 3, (2, 3, 4))
    assert found.tasks == {"click": Fared(2, 0.725, 0.9), "like": Fared(4, 0.615, None)}
    assert found.tasks["click"].gap == pytest.approx(0.175)
    assert found.tasks["like"].gap is None
    assert Kept.from_json(found.to_json()) == found


def test_a_task_without_any_score_has_no_best_epoch() -> None:
    found = Kept.of(Mean(), [{"a": 0.5, "b": None}], train={"a": 0.6, "b": 0.5})
    assert found.tasks["b"] == Fared(None, None, 0.5)
    assert found.rule == {"name": "mean", "weights": {}}


def tree(keep: object) -> dict[str, object]:
    return {
        "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id"}}, "model": {"recipe": "stem"},
        "tasks": {"click": {}, "like": {}, "hover": {"auxiliary": True}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1}, "fit": {"keep": keep},
    }  # fmt: skip


@pytest.mark.parametrize(("written", "rule"), [
    ("mean", Mean()),
    ({"name": "mean", "weights": {"like": 2}}, Mean({"like": 2.0})),
    ({"name": "primary", "task": "click", "guards": {"like": 0.01}}, Primary("click", {"like": 0.01})),
    ({"name": "primary", "task": "like"}, Primary("like")),
    ("pareto", Pareto()),
])  # fmt: skip
def test_a_run_file_declares_it(written: object, rule: Keep) -> None:
    settings = parse(tree(written), where="here")
    assert resolve.keep(settings) == rule
    assert resolve.plan(settings.fit, keep=resolve.keep(settings)).keep == rule


def test_nothing_said_is_the_mean() -> None:
    settings = parse({**tree("mean"), "fit": {}}, where="here")
    assert resolve.keep(settings) == resolve.plan(settings.fit).keep == Mean()


@pytest.mark.parametrize(("written", "said"), [
    ("means", "fit.keep: no 'means'; did you mean 'mean'?"),
    ({"name": "primary"}, "fit.keep.task is missing; write { name = ..., task = ... }"),
    ({"name": "primary", "task": "clik"}, "fit.keep: no judged task 'clik'; did you mean 'click'?"),
    ({"name": "primary", "task": "hover"}, "fit.keep: no judged task 'hover'; known: click, like"),
    ({"name": "primary", "task": "click", "guards": {"lik": 0.1}}, "fit.keep: no judged task 'lik'; did you mean 'like'?"),
    ({"name": "primary", "task": "click", "guards": {"like": -0.1}}, "fit.keep: guards.like = -0.1; a guard is at least 0"),
    ({"name": "mean", "weights": {"like": 0.0}}, "fit.keep: weights.like = 0; a weight is above 0"),
    ({"name": "mean", "weights": {"liked": 1.0}}, "fit.keep: no judged task 'liked'; did you mean 'like'?"),
    ({"name": "pareto", "task": "click"}, "fit.keep: 'pareto' has no parameter 'task'; known: none"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_the_log_is_read(written: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve.check(parse(tree(written), where="here"))
    assert str(caught.value) == said
