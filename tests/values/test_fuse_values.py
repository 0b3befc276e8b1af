"""Goals, bounds and settings of a search by hand, and what its page and its sentence say."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from tests.fusing import AIMS, COLUMNS, START

from umbel.chosen import told
from umbel.errors import UserError
from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.fuse.asked import Asked, searched, started
from umbel.fuse.found import Found
from umbel.fuse.goal import Bound, Goal, goal, read_bounds
from umbel.fuse.log import aims_of, columns_of, for_test
from umbel.fuse.page import fuse_page, numbers
from umbel.fuse.ranked import METRICS, Ranked, Rows
from umbel.fuse.search import Judged, Tried
from umbel.fuse.space import Space
from umbel.fuse.standing import Base, Standing, better, contenders, missed, standings, verdict
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import AdditiveMonotone, Linear, Log
from umbel.kinds import Quantile
from umbel.schema import Field, FieldKind, Schema, Task

VALUES = np.array([0.5, 0.02])


def test_a_task_without_a_bound_keeps_99_percent() -> None:
    made = goal(AIMS, primary="watch", bounds={}, start=VALUES)
    assert made.limits == {"hate": pytest.approx(0.0202)}
    assert goal(AIMS, primary="hate", bounds={}, start=VALUES).limits == {"watch": pytest.approx(0.495)}
    assert goal(AIMS, primary=None, bounds={}, start=VALUES).primary == "watch"


def test_bounds_are_figures_or_shares_of_the_start() -> None:
    made = goal(AIMS, primary="hate", bounds=read_bounds(["watch=90%"]), start=VALUES)
    assert made.limits == {"watch": pytest.approx(0.45)}
    assert goal(AIMS, primary="hate", bounds=read_bounds(["watch=0.3"]), start=VALUES).limits == {"watch": 0.3}
    assert Bound(0.9, share=True).limit(-10.0) == pytest.approx(-11.0)  # a tenth of its size worse, below 0 too
    assert (str(Bound(0.9, share=True)), str(Bound(0.25, share=False))) == ("0.9 of the start", "0.25")


@pytest.mark.parametrize(("texts", "said"), [
    (["like"], "--bound like: not TASK=FIGURE; write like=0.02, or like=99% of the start's figure"),
    (["like=much"], "--bound like=much: not TASK=FIGURE; write like=0.02, or like=99% of the start's figure"),
    (["like=nan"], "--bound like=nan: not TASK=FIGURE; write like=0.02, or like=99% of the start's figure"),
    (["=1"], "--bound =1: not TASK=FIGURE; write like=0.02, or like=99% of the start's figure"),
    (["like=1", "like=99%"], "--bound like: given twice; keep one"),
])  # fmt: skip
def test_a_bound_that_is_none_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        read_bounds(texts)
    assert str(refused.value) == said


@pytest.mark.parametrize(("primary", "bounds", "said"), [
    ("watched", [], "--primary watched: no such task in the fusion; did you mean 'watch'?"),
    ("watch", ["hat=1"], "--bound hat: no such task in the fusion; did you mean 'hate'?"),
    ("watch", ["watch=1"], "--bound watch: it is the primary task; bound the others, or name another --primary"),
])  # fmt: skip
def test_a_goal_that_is_none_is_refused(primary: str, bounds: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        goal(AIMS, primary=primary, bounds=read_bounds(bounds), start=VALUES)
    assert str(refused.value) == said


def test_what_is_missed_is_a_share_of_the_limit() -> None:
    made = Goal(AIMS, "watch", {"hate": 0.02})
    assert made.gain(np.array([0.3, 0.5])) == 0.3
    assert made.short(np.array([0.3, 0.02])) == 0
    assert made.short(np.array([0.3, 0.03])) == pytest.approx(0.5)
    assert made.short(np.array([0.3, np.nan])) == np.inf
    low = Goal(AIMS, "hate", {"watch": 0.4})
    assert low.gain(np.array([0.3, 0.5])) == -0.5
    assert low.short(np.array([0.3, 0.5])) == pytest.approx(0.25)
    assert Goal(AIMS, "hate", {"watch": 0.0}).short(np.array([-2.0, 0.5])) == pytest.approx(2.0)


@pytest.mark.parametrize(("given", "said"), [
    (["trials"], "--set trials: not KEY=VALUE; e.g. --set seed=1"),
    (["trails=3"], "--set: 'Asked' has no parameter 'trails'; did you mean 'trials'?"),
    (["trials=many"], "--set.trials = 'many'; input should be a valid integer"),
    (["trials=0"], "--set: trials = 0; give 1 or more"),
    (["seed=-1"], "--set: seed = -1; give 0 or more"),
    (["top=0"], "--set: top = 0; give 1 or more"),
    (["metric=ndgc"], "--set: metric 'ndgc': unknown; did you mean 'ndcg'?"),
    (["method=cmaes"], "--set: method 'cmaes': unknown; did you mean 'cma'?"),
])  # fmt: skip
def test_a_setting_that_is_none_is_refused(given: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        told(Asked, given, {})
    assert str(refused.value) == said


def test_settings_are_read_as_what_they_are() -> None:
    asked = told(Asked, ["trials=7", "by=12", "method = tpe", "join=a=b.parquet,c=d.parquet", "metric=auc"], {"bounds": ("x=1",)})
    assert asked == Asked(trials=7, by="12", method="tpe", join="a=b.parquet,c=d.parquet", metric="auc", bounds=("x=1",))
    assert asked.joins == ("a=b.parquet", "c=d.parquet")
    assert Asked().joins == ()
    assert asked.judge() == METRICS["auc"](5)
    with pytest.raises(UserError, match="given twice"):
        Asked(bounds=("a=1", "a=2"))


def test_a_policy_s_predictions_are_of_tasks() -> None:
    fields = (Field("user", FieldKind.ID),)
    schema = Schema(fields, (Task("click"), Task("buy", given="click"), Task("watch", Quantile((0.1, 0.5, 0.9)))))
    policy = Fusion((Term("watch_q50", Linear()), Term("buy_marginal", Linear(), -1), Term("watch_q90", Linear()), Term("click", Linear())))
    columns = columns_of(schema, policy)
    assert columns.predictions == policy.tasks
    assert columns.tasks == ("watch", "buy", "click")
    assert [(one.task, one.direction) for one in aims_of(columns, policy)] == [("watch", 1), ("buy", -1), ("click", 1)]


def test_users_are_halved_the_same_way_each_time() -> None:
    users = np.arange(10_000)
    held = for_test(users, 3)
    assert 0.48 < held.mean() < 0.52
    assert (for_test(users[::-1].copy(), 3) == held[::-1]).all()
    assert 0.4 < (for_test(users, 4) == held).mean() < 0.6


def test_a_group_is_one_user_s() -> None:
    rows = Rows.of(COLUMNS, np.zeros((4, 3)), np.zeros((4, 2)), group=np.array([5, 5, 5, 1]), user=np.array([1, 2, 1, 9]))
    assert rows.user.tolist() == [9, 1, 1, 2]
    assert rows.starts.tolist() == [0, 1, 3]
    assert rows.number.tolist() == [0, 1, 1, 2]


def test_what_no_group_can_tell_is_refused() -> None:
    rows = Rows.of(COLUMNS, np.zeros((4, 3)), np.zeros((4, 2)), group=np.array([1, 1, 2, 2]), user=np.array([1, 1, 2, 2]))
    with pytest.raises(UserError, match=r"log: no request or user has rows enough to order; give a longer log, or a smaller top"):
        Ranked.of(rows, METRICS["top"](2), where="log")
    assert len(Ranked.of(rows, METRICS["top"](1), where="log").rows.group) == 4


def test_no_label_above_zero_is_no_figure() -> None:
    rows = Rows.of(COLUMNS, np.zeros((4, 3)), np.zeros((4, 2)), group=np.array([1, 1, 2, 2]), user=np.array([1, 1, 2, 2]))
    for name in ("ndcg", "auc"):
        judge = Ranked.of(rows, METRICS[name](1), where="log")
        values = judge(START).values
        assert values is not None
        assert np.isnan(values).all()


def test_a_start_in_equal_shares_keeps_directions() -> None:
    predictions = {"click": np.array([0.1, 0.3]), "watch": np.array([5.0, 15.0]), "hate": np.array([0.01, 0.01])}
    assert started(START, Asked(), predictions) == START
    begun = started(START, Asked(family="log"), predictions)
    assert (begun.family, [term.direction for term in begun.terms]) == ("log", [1, 1, -1])
    assert [term.shape.scale for term in begun.terms if isinstance(term.shape, Log)] == pytest.approx([0.2, 10.0, 0.01])
    with pytest.raises(UserError, match="no family 'lgo'"):
        started(START, Asked(family="lgo"), predictions)


def test_limits_that_nothing_keeps_are_told_with_the_nearest() -> None:
    asked = Asked(primary="watch", bounds=("hate=0.1",), trials=6)
    with pytest.raises(UserError) as refused:
        searched(lambda _: Judged(np.array([0.5, 0.25])), Space(START, anchored=True), AIMS, asked=asked, watch=lambda *_: None)
    assert str(refused.value) == "--bound: none of 6 policies keeps every limit; loosen one; the nearest has hate 0.25"
    with pytest.raises(UserError) as refused:
        searched(lambda _: Judged(None, reason="no"), Space(START, anchored=True), AIMS, asked=asked, watch=lambda *_: None)
    assert str(refused.value) == "the start cannot be judged: no; give a longer log"


# The test


def draws(value: float, spread: float = 0.01, users: int = 50) -> Sampled:
    return Sampled(value, value + spread * np.linspace(-1, 1, 101), users)


STANDING: dict[str, Sequence[Sampled | Undefined]] = {
    "start": [draws(0.5), draws(0.020, 0.001)],
    "better": [Sampled(0.55, draws(0.5).draws + 0.05, 50), draws(0.021, 0.001)],
    "level": [Sampled(0.501, draws(0.5).draws[::-1] + 0.001, 50), draws(0.03, 0.001)],
    "lost": [Undefined("why not"), draws(0.02)],
}


def stand(name: str) -> tuple[Standing, ...]:
    chosen = Fusion(START.terms, name)
    target, base = Goal(AIMS, "watch", {"hate": 0.025}), Base("the start", STANDING["start"])
    return standings(lambda policy: STANDING.get(policy.name, STANDING["level"]), target, contenders(chosen, START), base=base)


def test_the_sentence_says_what_may_be_said() -> None:
    target = Goal(AIMS, "watch", {"hate": 0.025})
    assert verdict(stand("better")[0], target, than="the start") == "on test users better than the start in watch: +0.05 (+0.05 to +0.05)"
    said = "on test users not shown to be better than the start in watch: +0.001 (-0.018 to +0.02); hate 0.03 misses its limit 0.025"
    assert verdict(stand("level")[0], target, than="the start") == said
    assert verdict(stand("lost")[0], target, than="the start") == "on test users watch cannot be compared with the start (why not)"
    three = Interval(0.1, None, None, "3 users")
    few = Standing("chosen", {"watch": three, "hate": Undefined("none")}, {"watch": three})
    assert verdict(few, target, than="the start") == "on test users not shown to be better than the start in watch: +0.1 (3 users)"
    assert not better(few, target)
    assert missed(few, target) == []


def test_less_is_better_of_what_is_unwanted() -> None:
    target = Goal(AIMS, "hate", {"watch": 0.52})
    figures = {"watch": Interval(0.5, 0.4, 0.6), "hate": Interval(0.01, 0.0, 0.02)}
    less = Standing("chosen", figures, {"hate": Interval(-0.01, -0.02, -0.001)})
    assert better(less, target)
    more = Standing("chosen", less.tasks, {"hate": Interval(0.01, 0.001, 0.02)})
    assert not better(more, target)
    assert missed(less, target) == ["watch 0.5 misses its limit 0.52"]


def found() -> Found:
    tried = [
        Tried(0, START, Judged(np.array([0.5, 0.02])), "start", 0.0, 0.5),
        Tried(1, Fusion(START.terms[:1]), Judged(np.array([0.6, 0.05])), "click <b>alone</b>", 1.0, 0.6),
        Tried(2, START, Judged(None, reason="too few")),
        Tried(3, START, Judged(np.array([0.55, 0.02])), "", 0.0, 0.55),
    ]
    return Found(
        goal=Goal(AIMS, "watch", {"hate": 0.025}), figure="the mean label", chosen=tried[3], tried=tuple(tried), front=(1, 3),
        test=stand("better"), facts={"tuned on": "3 rows"}, verdict="on test users <better>", better=True,
    )  # fmt: skip


def test_the_page_shows_front_limits_and_test() -> None:
    page = fuse_page(found())
    assert page.count("<circle") == 3  # the one that was not judged has no place
    assert page.count("(chosen)") == 1
    assert "var(--c1)" in page  # the limit
    assert "click &lt;b&gt;alone&lt;/b&gt;" in page
    assert "<b>alone" not in page
    assert "on test users &lt;better&gt;" in page
    assert "missed" in page
    assert page.count('class="worst"') == 1
    assert "0.5500" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_report_is_plain_json() -> None:
    content = json.loads(json.dumps(found().to_json(), allow_nan=False))
    assert content["chosen"] == 3
    assert content["tasks"] == {"watch": {"direction": 1, "limit": None}, "hate": {"direction": -1, "limit": 0.025}}
    assert [one["keeps limits"] for one in content["tried"]] == [True, False, False, True]
    assert content["tried"][2] == {"number": 2, "note": "", "values": None, "reason": "too few", "keeps limits": False}
    assert content["test"][0]["gains"]["watch"]["value"] == pytest.approx(0.05)
    assert content["test"][-1]["gains"] == {}


def test_numbers_of_a_policy() -> None:
    policy = Fusion((Term("a", AdditiveMonotone((0.0, 1.0, 2.0), (0.5, 0.25))),))
    assert numbers(policy) == {"a": "increments 0.5, 0.25"}
