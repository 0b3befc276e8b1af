"""A comparison on the terminal: which columns it has, and what stands in them."""

from __future__ import annotations

import pytest
from rich.table import Table

from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Paired, Verdict
from umbel.study import show
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
