"""A search for a fusion, part by part, by hand: figures of orders, spaces, what is tried and chosen, samplers, and what is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.fusing import AIMS, COLUMNS, START

from umbel.errors import UserError
from umbel.evaluate.intervals import Interval, resample
from umbel.evaluate.metrics import Undefined
from umbel.fuse.asked import Asked, searched
from umbel.fuse.found import Found
from umbel.fuse.goal import Bound, Goal, read_bounds
from umbel.fuse.page import fuse_page
from umbel.fuse.ranked import METRICS, Auc, Metric, Ndcg, Ranked, Rows, Scored, Top
from umbel.fuse.samplers import METHODS
from umbel.fuse.search import WORST, Judged, Tried, best, front, references, search
from umbel.fuse.show import check, leave, print_found
from umbel.fuse.space import REACH, Space
from umbel.fuse.standing import Standing
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import AdditiveMonotone, Constrained, Linear, Log, Power, Shape

CLICK = Fusion((Term("click", Linear()),))
GOAL = Goal(AIMS, "watch", {"hate": 0.25})


def rows(clicks: Sequence[float], watch: Sequence[float], group: Sequence[int], user: Sequence[int] | None = None) -> Rows:
    """Rows of one prediction and one label: the others are 0."""
    predictions = np.stack([np.array(clicks), *np.zeros((2, len(clicks)))], 1)
    labels = np.stack([np.array(watch), np.zeros(len(clicks))], 1)
    return Rows.of(COLUMNS, predictions, labels, group=np.array(group), user=np.array(group if user is None else user))


def figure(metric: Metric, clicks: Sequence[float], watch: Sequence[float], group: Sequence[int]) -> float:
    values = Ranked.of(rows(clicks, watch, group), metric, where="log")(CLICK).values
    assert values is not None
    return float(values[0])


NAN = float("nan")
L3 = 1 / np.log2(3)


@pytest.mark.parametrize(("metric", "clicks", "watch", "group", "expected"), [
    (Top(1), [0.9, 0.1], [1, 0], [1, 1], 1.0), (Top(1), [0.1, 0.9], [1, 0], [1, 1], 0.0),
    (Top(1), [0.9, 0.1, 0.2, 0.3], [3, 0, 9, 1], [1, 1, 2, 2], 2.0),  # 3 and 1
    (Top(2), [0.9, 0.5, 0.1, 0.9, 0.1], [1, 3, 9, 7, 7], [1, 1, 1, 2, 2], 2.0),  # of two rows all would stand on top: left out
    (Top(2), [0.9, 0.5, 0.1], [NAN, 3, 9], [1, 1, 1], 3.0),  # unseen: on top, but not counted
    (Top(1), [0.9, 0.1, 0.9, 0.1], [NAN, 1, 5, 1], [1, 1, 2, 2], 5.0),
    (Ndcg(), [0.9, 0.1], [1, 0], [1, 1], 1.0), (Ndcg(), [0.1, 0.9], [1, 0], [1, 1], L3),
    (Ndcg(), [0.1, 0.9], [2, 1], [1, 1], (1 + 2 * L3) / (2 + L3)), (Ndcg(), [0.1, 0.9], [2, -1], [1, 1], L3),
    (Ndcg(), [0.1, 0.9, 0.5], [1, NAN, 0], [1, 1, 1], 0.5),
    (Ndcg(), [0.1, 0.9, 0.9, 0.1, 0.9, 0.1], [1, 0, 1, 0, 0, 0], [1, 1, 2, 2, 3, 3], (1 + L3) / 2),
    (Auc(), [0.9, 0.1], [1, 0], [1, 1], 1.0), (Auc(), [0.1, 0.9], [1, 0], [1, 1], 0.0), (Auc(), [0.5, 0.5], [1, 0], [1, 1], 0.5),
    (Auc(), [0.9, 0.1, 0.1, 0.5, 0.9], [1, 0, 1, 0, 0], [1, 1, 2, 2, 2], 0.4),  # 1 of two rows, 0 of three
    (Auc(), [0.9, 0.1, 0.1, 0.5], [1, 0, 1, 1], [1, 1, 2, 2], 1.0), (Auc(), [0.9, 0.1, 0.5], [2.5, 0, NAN], [1, 1, 1], 1.0),
    (Auc(), [0.9, 0.1, 0.5], [-1, 3, -1], [1, 1, 1], 0.0),
])  # fmt: skip
def test_figures_by_hand(metric: Metric, clicks: list[float], watch: list[float], group: list[int], expected: float) -> None:
    assert figure(metric, clicks, watch, group) == pytest.approx(expected)


@pytest.mark.parametrize(("metric", "kept"), [(Top(1), [2, 2, 2, 3, 3]), (Top(2), []), (Ndcg(), [2, 2, 2, 3, 3]), (Auc(), [2, 2, 2, 3, 3])])
def test_which_groups_are_read(metric: Metric, kept: list[int]) -> None:
    every = rows([0.1] * 6, [1.0] * 6, [1, 2, 2, 2, 3, 3])
    assert every.sizes.tolist() == [1, 3, 2]
    assert every.group[metric.orders(every)].tolist() == (kept or [2, 2, 2])


def test_ranks_start_at_0_inside_each_group() -> None:
    every = rows([0.1, 0.9, 0.5, 0.2, 0.3], [0.0] * 5, [7, 7, 7, 2, 2])
    assert every.group.tolist() == [2, 2, 7, 7, 7]
    assert Scored(every, every.score(CLICK)).rank.tolist() == [1, 0, 2, 0, 1]
    assert Scored(every, -every.score(CLICK)).rank.tolist() == [0, 1, 0, 2, 1]
    assert every.where(every.group == 7).starts.tolist() == [0]


def test_draws_are_ratios_of_sums_over_the_users_drawn() -> None:
    judge = Ranked.of(rows([0.9, 0.1] * 3, [1, 0, 0, 0, 4, 0], [1, 1, 2, 2, 3, 3], [5, 5, 5, 5, 6, 6]), Top(1), where="log")
    assert judge.users.tolist() == [5, 5, 6]
    by = resample(judge.users, resamples=50, seed=1)
    watch, hate = judge.sampled(CLICK, by)
    assert [watch.value, hate.value, watch.users] == pytest.approx([5 / 3, 0.0, 2])
    for (five, six), draw in zip(by.count.astype(int), watch.draws, strict=True):
        assert draw == pytest.approx((five * 1 + six * 4) / (five * 2 + six))
    assert len(np.unique(watch.draws)) > 1


def test_a_draw_without_any_group_is_undefined() -> None:
    judge = Ranked.of(rows([0.9, 0.1] * 2, [NAN, 1, 4, 0], [1, 1, 2, 2]), Top(1), where="log")
    by = resample(judge.users, resamples=50, seed=1)
    draws = judge.sampled(CLICK, by)[0].draws
    assert np.isnan(draws).tolist() == (by.count[:, 1] == 0).tolist()
    assert np.nanmax(draws) == np.nanmin(draws) == 4.0


@pytest.mark.parametrize(("name", "top", "said"), [
    ("top", 3, "the mean label of the first 3 of each request"), ("ndcg", 3, "nDCG by the labels' values in each request"),
    ("auc", 3, "AUC in each request, averaged by rows"),
])  # fmt: skip
def test_a_metric_says_what_it_is(name: str, top: int, said: str) -> None:
    assert Asked(metric=name, top=top).judge().said("request") == said
    assert METRICS[name](top).name == name


# Spaces


@pytest.mark.parametrize(("shape", "size", "moved"), [
    (Linear(2.0, 5.0), 1, Linear(4.0, 5.0)), (Log(2.0, 5.0), 2, Log(4.0, 15.0)), (Power(2.0, 5.0), 1, Power(4.0, 5.0)),
    (Constrained(2.0, 5.0, 0.1, 7.0), 1, Constrained(4.0, 5.0, 0.1, 7.0)),
    (AdditiveMonotone((0.0, 1.0, 2.0), (0.5, 0.25)), 2, AdditiveMonotone((0.0, 1.0, 2.0), (1.0, 0.75))),
])  # fmt: skip
def test_what_moves_of_a_shape(shape: Shape, size: int, moved: Shape) -> None:
    """By 2, then by 3; of two tasks, the first number of the first stands where it is anchored."""
    free = Space(Fusion((Term("a", shape),)), anchored=False)
    assert free.size == size
    for one, wanted in zip(_numbers(free.policy(np.log([2.0, 3.0][:size])).terms[0].shape), _numbers(moved), strict=True):
        assert one == pytest.approx(wanted)
    two = Space(Fusion((Term("a", shape), Term("b", shape, -1)), "named"), anchored=True)
    assert two.size == 2 * size - 1
    policy = two.policy(np.full(two.size, np.log(2.0)))
    assert (policy.name, policy.tasks, [term.direction for term in policy.terms]) == ("named", ("a", "b"), [1, -1])
    assert _numbers(policy.terms[0].shape)[0] == _numbers(shape)[0]
    assert _numbers(policy.terms[1].shape)[0] == pytest.approx(2 * _numbers(shape)[0])


def _numbers(shape: Shape) -> list[float]:
    return [float(one) for name in shape.moved for one in np.atleast_1d(getattr(shape, name))]


@pytest.mark.parametrize(("at", "factor"), [(0.0, 1.0), (REACH, np.exp(6)), (REACH + 1, np.exp(6)), (-REACH, np.exp(-6)),
(-99.0, np.exp(-6))])
def test_a_space_has_an_edge(at: float, factor: float) -> None:
    shape = Space(CLICK, anchored=False).policy(np.array([at])).terms[0].shape
    assert isinstance(shape, Linear)
    assert shape.weight == pytest.approx(factor)


# Goals


@pytest.mark.parametrize(("text", "bound", "limit"), [
    ("a=1", Bound(1.0, share=False), 1.0), ("a=-1.5", Bound(-1.5, share=False), -1.5), ("a=.5", Bound(0.5, share=False), 0.5),
    ("a=1e-3", Bound(0.001, share=False), 0.001), (" a=2. ", Bound(2.0, share=False), 2.0), ("a=50%", Bound(0.5, share=True), 2.0),
    ("a=110%", Bound(1.1, share=True), 4.4), ("a=0%", Bound(0.0, share=True), 0.0), ("a=+2E0", Bound(2.0, share=False), 2.0),
])  # fmt: skip
def test_a_bound_as_it_is_written(text: str, bound: Bound, limit: float) -> None:
    assert read_bounds([text]) == {"a": bound}
    assert bound.limit(4.0) == pytest.approx(limit)
    assert list(read_bounds(["a=b=3"])) == ["a=b"], "the last equals sign parts them"


@pytest.mark.parametrize(("one", "other", "better"), [
    ((0.5, 0.2), (0.4, 0.2), True), ((0.5, 0.2), (0.5, 0.3), True), ((0.5, 0.2), (0.5, 0.2), False), ((0.5, 0.3), (0.4, 0.2), False),
    ((0.4, 0.2), (0.5, 0.2), False), ((NAN, 0.2), (0.5, 0.3), False),
])  # fmt: skip
def test_one_set_of_figures_beats_another(one: tuple[float, float], other: tuple[float, float], better: bool) -> None:
    assert GOAL.better(np.array(one), np.array(other)) is better


@pytest.mark.parametrize(("limits", "values", "short"), [
    ({"hate": 0.25}, (0.0, 0.5), 1.0), ({"hate": 0.25}, (0.0, 0.25), 0.0), ({"hate": 0.25, "watch": 0.5}, (0.25, 0.5), 1.5),
    ({"hate": -0.5}, (0.0, 0.0), 1.0), ({}, (NAN, NAN), 0.0), ({"watch": 0.5}, (NAN, 0.0), np.inf),
])  # fmt: skip
def test_what_is_missed_adds_up(limits: dict[str, float], values: tuple[float, float], short: float) -> None:
    assert Goal(AIMS, "watch", limits).short(np.array(values)) == pytest.approx(short)


# What is tried and chosen


def tried(number: int, watch: float, hate: float, *, note: str = "") -> Tried:
    values = np.array([watch, hate])
    return Tried(number, START, Judged(values), note, GOAL.short(values), GOAL.gain(values))


LOST = Tried(9, START, Judged(None, reason="too few", lacking=3.0))


@pytest.mark.parametrize(("one", "loss"), [
    (tried(0, 0.5, 0.25), -0.5), (tried(0, 0.5, 0.5), WORST / 2 + 1), (LOST, WORST + 3), (tried(0, 0.5, NAN), WORST * 0.75),
])  # fmt: skip
def test_a_loss_puts_limits_before_gains(one: Tried, loss: float) -> None:
    assert one.loss == pytest.approx(loss)


@pytest.mark.parametrize(("figures", "chosen", "kept"), [
    ([(0.5, 0.2), (0.6, 0.2), (0.9, 0.3)], 1, [2, 1]), ([(0.5, 0.2), (0.5, 0.1)], 1, [1]), ([(0.5, 0.1), (0.5, 0.1)], 0, [0]),
    ([(0.5, 0.3), (0.6, 0.4)], None, [1, 0]), ([(0.5, 0.2), (0.4, 0.1), (0.3, 0.15)], 0, [0, 1]), ([], None, []),
    ([(0.5, NAN), (0.4, 0.1)], 1, [1]),
])  # fmt: skip
def test_the_best_and_the_front(figures: list[tuple[float, float]], chosen: int | None, kept: list[int]) -> None:
    every = [*(tried(number, *one) for number, one in enumerate(figures)), LOST]
    found = best(every, GOAL)
    assert (None if found is None else found.number) == chosen
    assert [one.number for one in front(every, GOAL)] == kept


def test_caution_is_taken_off_what_is_compared() -> None:
    def judge(policy: Fusion) -> Judged:
        return Judged(np.array([0.5, 0.2]), caution=0.0 if policy is START else 0.125)

    found = list(search(Space(START, anchored=True), judge, GOAL, trials=6, method="cma", seed=0))
    assert [one.gain for one in found] == [0.5] + [0.375] * 5
    assert [one.note for one in found] == ["start", "click alone", "watch alone", "hate alone", "", ""]
    assert [one.number for one in found] == list(range(6))
    assert [one.policy.tasks for one in found[1:4]] == [("click",), ("watch",), ("hate",)]
    assert [name for name, _ in references(CLICK)] == ["start"]


def test_a_space_without_numbers_is_the_references_alone() -> None:
    found = list(search(Space(CLICK, anchored=True), lambda _: LOST.judged, GOAL, trials=50, method="cma", seed=0))
    assert [(one.note, one.loss) for one in found] == [("start", WORST + 3)]


def test_who_watches_is_told_each_time() -> None:
    seen: list[tuple[int, int]] = []
    asked = Asked(trials=5, primary="watch", bounds=("hate=1",))
    _, every, chosen = searched(
        lambda policy: Judged(np.array([float(len(policy.terms)), 0.2])), Space(START, anchored=True), AIMS, asked=asked,
        watch=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert seen == [(number, 5) for number in range(1, 6)]
    assert (len(every), chosen.number) == (5, 0), "of equals the first"


# Samplers


@pytest.mark.parametrize("method", METHODS)
def test_samplers_stay_in_reach_go_down_and_come_again(method: str) -> None:
    def run(seed: int) -> list[list[float]]:
        sampler = METHODS[method](2, seed)
        found: list[list[float]] = []
        while len(found) < 60:
            points = sampler.ask()
            found += [one.tolist() for one in points]
            sampler.tell(points, [float(np.square(one - 2.0).sum()) for one in points])
        return found

    first = run(1)
    assert first == run(1) != run(2)
    assert all(len(one) == 2 and max(map(abs, one)) <= REACH for one in first)
    losses = [sum((value - 2.0) ** 2 for value in one) for one in first]
    assert min(losses[30:]) < min(losses[:10])


@pytest.mark.parametrize(("method", "library", "said"), [
    ("cma", "cma", "umbel fuse: cma is not installed; pip install 'umbel[fuse]', or use --set method=tpe"),
    ("tpe", "optuna", "umbel fuse: optuna is not installed; pip install 'umbel[tune]', or use --set method=cma"),
])  # fmt: skip
def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, method: str, library: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError) as refused:
        METHODS[method](2, 0)
    assert str(refused.value) == said


# What is printed and left


def found(count: int) -> Found:
    """A search of so many policies, of which none beats another; the third is chosen; the last one misses its limit."""
    every = tuple(tried(number, 0.5 + number / 100, 0.1 + number / 100, note="start" if not number else "") for number in range(count))
    last = Tried(count, START, Judged(np.array([0.9, 0.5])), "", 1.0, 0.9)
    test = (
        Standing("chosen", {"watch": Interval(0.5, 0.4, 0.6), "hate": Undefined("no label")}, {"watch": Interval(0.0625, 0.01, 0.1)}),
        Standing("start", {"watch": Interval(0.4375, None, None, "3 users"), "hate": Undefined("no label")}, {}),
    )
    return Found(
        goal=GOAL, figure="the mean label", chosen=every[2], tried=(*every, last), front=(count, *reversed(range(count))), test=test,
        facts={"seed": "3"}, verdict="on test users better", better=True,
    )  # fmt: skip


@pytest.mark.parametrize(("count", "more"), [(4, None), (12, 5)])
def test_what_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, more: int | None) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_found(found(count))
    said = "".join(capsys.readouterr())
    assert "the front: the mean label, on the half that" in said
    assert f"policy {count}, misses a limit" in said
    assert "policy 2, chosen" in said, "the chosen one is shown though others stand before it"
    assert (f"{more} more" in said) if more else ("more" not in said)
    assert "+0.0625" in said
    assert "  hate: unwanted, weight 1" in said
    assert "on test users better; seed: 3" in said


def test_report_and_page_are_left_beside_the_policy(tmp_path: Path) -> None:
    assert leave(found(4), tmp_path / "policy.json") == tmp_path / "policy.html"
    content = json.loads((tmp_path / "policy.report.json").read_text())
    assert (content["primary"], content["chosen"], content["front"], content["better"]) == ("watch", 2, [4, 3, 2, 1, 0], True)
    assert content["tried"][4] == {"number": 4, "note": "", "values": {"watch": 0.9, "hate": 0.5}, "reason": "", "keeps limits": False}
    assert content["test"][0]["tasks"]["hate"] == {"value": None, "reason": "no label"}
    assert content["test"][1]["tasks"]["watch"] == {"value": 0.4375, "low": None, "high": None, "reason": "3 users"}
    page = (tmp_path / "policy.html").read_text()
    assert page == fuse_page(found(4))
    assert page.count("<circle") == 5
    assert "seed" in page
    assert sorted(one.name for one in tmp_path.iterdir()) == ["policy.html", "policy.report.json"]


@pytest.mark.parametrize(("name", "mend"), [("policy", "call it policy.json"), ("a/p.toml", "call it p.json"),
("p.JSON", "call it p.json")])
def test_a_policy_is_a_json_file(name: str, mend: str) -> None:
    with pytest.raises(UserError, match=mend):
        check(Path(name))
    check(Path("p.json"))
