"""A comparison on the terminal: which columns it has, and what stands in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Paired, Verdict
from umbel.evaluate.robust import Group, Robustness
from umbel.study import show
from umbel.study.new_users import Grouped, NewUsers, Shown
from umbel.study.seeds import Line, Seeds
from umbel.study.trial import Trial
from umbel.study.verdict import Comparison, Difference, Standing

Tasks = dict[str, dict[str, float]]


def shown(monkeypatch: pytest.MonkeyPatch, tasks: Tasks) -> dict[str, list[str]]:
    """The first table's columns, of one entrant with these metrics by task."""
    tables: list[Table] = []
    monkeypatch.setattr(show, "show", tables.append)
    judged = {task: {name: Interval(value, value - 0.01, value + 0.01) for name, value in own.items()} for task, own in tasks.items()}
    one = Standing("stem", {"rate": 0.01, "dim": 8}, judged, {}, Trial(0.7, 1200, 1.0, 1.0, 10**9), {})
    show.standings(Comparison({"test": 100}, (one,), ()))
    return {str(column.header): [str(cell) for cell in column.cells] for column in tables[0].columns}


def test_the_mean_over_tasks_of_one_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(monkeypatch, {"click": {"auc": 0.7, "logloss": 0.5}, "like": {"auc": 0.8, "logloss": 0.2}})
    assert found["mean"] == ["0.7500"]
    assert list(found)[:4] == ["recipe", "click", "like", "mean"]


@pytest.mark.parametrize("other", ["mae", "rmse", "spearman"])
def test_there_is_none_over_different_metrics(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """An error and an AUC, or two metrics of other units, have no mean that says anything."""
    found = shown(monkeypatch, {"rating": {other: 0.8}, "click": {"auc": 0.7}})
    assert list(found)[:4] == ["recipe", "rating", "click", "rate"]
    assert (found["rate"], found["dim"], found["parameters"]) == (["0.01"], ["8"], ["1,200"])


def test_inner_steps_that_were_lost_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(show, "show", lambda _: None)
    monkeypatch.setattr(show, "tell", said.append)
    rated = {"rating": {"mae": Interval(0.8, 0.7, 0.9)}}
    found = [Standing(name, {}, rated, {}, Trial(0.7, 1, 1.0, 1.0, 1, lost), {}) for name, lost in (("melu", 1234), ("base", 0))]
    show.standings(Comparison({"test": 100}, (*found,), ()))
    assert said == ["warning: melu: 1,234 inner steps were no finite numbers and were not taken: lower its rate"]


@pytest.mark.parametrize(("verdicts", "line"), [
    ((Verdict.OPEN, Verdict.HIGHER, Verdict.OPEN), ["2 open differences are on the page alone"]),
    ((Verdict.OPEN,), ["1 open difference is on the page alone"]),
    ((Verdict.EQUAL,), []),
])  # fmt: skip
def test_open_differences_are_counted_under_the_others(
    monkeypatch: pytest.MonkeyPatch, verdicts: tuple[Verdict, ...], line: list[str]
) -> None:
    tables: list[Table] = []
    said: list[str] = []
    monkeypatch.setattr(show, "show", tables.append)
    monkeypatch.setattr(show, "tell", said.append)
    one = Standing("stem", {}, {"click": {"auc": Interval(0.7, 0.6, 0.8)}}, {}, Trial(0.7, 1, 1.0, 1.0, 1), {})
    gap = Paired(Interval(0.01, -0.01, 0.03), (0.01,), Undefined("one seed"), 0.4)
    pairs = tuple(Difference("click", "stem", "mmoe", "auc", gap, verdict) for verdict in verdicts)
    show.standings(Comparison({"test": 100}, (one,), pairs))
    assert tables[1].row_count == len(verdicts) - sum(verdict is Verdict.OPEN for verdict in verdicts)
    assert said == line


@pytest.fixture
def new() -> NewUsers:
    """Ten new users with no row and with five, who are worse known in one group."""
    line = Line("melu", (Path("nowhere"),))

    def size(mae: float) -> Shown:
        return Shown(10, 70, {"rating": {"mae": Seeds.of(line, [Sampled(mae, np.full(20, mae), 10)]), "rmse": Seeds(())}})

    group = Group("young", 40, Interval(0.9, 0.8, 1.0))
    none = Undefined("no group of 30 users")
    by = {"age": Robustness((group,), group, Interval(0.1, 0.0, 0.3)), "town": Robustness((), none, none)}
    return NewUsers({0: size(0.8), 5: size(0.7), 20: Undefined("too few")}, {"rating": Grouped("mae", by)})


def test_methods_have_a_table_of_sizes_and_one_of_worst_groups(monkeypatch: pytest.MonkeyPatch, new: NewUsers) -> None:
    tables: list[Table] = []
    monkeypatch.setattr(show, "show", tables.append)
    rated = {"rating, user cold": {"mae": Interval(0.8, 0.7, 0.9)}}
    one = Standing("melu", {}, rated, {}, Trial(0.7, 1, 1.0, 1.0, 1), {}, new=new)
    show.standings(Comparison({"test": 100}, (one,), ()))
    told = [{str(column.header): [*column.cells] for column in table.columns} for table in tables]
    assert told[1] == {"method": ["melu"], "0": ["0.8000 ±0.0000"], "5": ["0.7000 ±0.0000"]}
    assert str(tables[1].title) == "rating: mae of 10 new users by rows known of them"
    worst = ["young\n0.9000 ±0.1000\nspread 0.1000 ±0.1500"]
    assert told[2] == {"method": ["melu"], "age": worst, "town": ["none: no group of 30 users"]}


def test_methods_whose_curve_nobody_is_for_have_no_such_table(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[Table] = []
    monkeypatch.setattr(show, "show", tables.append)
    rated = {"rating, user cold": {"mae": Interval(0.8, 0.7, 0.9)}}
    found = NewUsers({0: Undefined("too few")}, {})
    show.standings(Comparison({"test": 100}, (Standing("melu", {}, rated, {}, Trial(0.7, 1, 1.0, 1.0, 1), {}, new=found),), ()))
    assert len(tables) == 2
