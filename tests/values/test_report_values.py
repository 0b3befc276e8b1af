"""report.json: what it says, that it is plain JSON, and that reading it back gives the same report."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from umbel.data.aside import Aside
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Linear, Platt
from umbel.evaluate.figures import Figures, Point
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import Predictions, TaskReport, calibrate_all, evaluate
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst
from umbel.learn.keep import Pareto
from umbel.run.kept import Kept
from umbel.run.page import page
from umbel.run.record import (
    figures_from_json,
    figures_to_json,
    measured_from_json,
    measured_to_json,
    task_from_json,
    task_to_json,
)
from umbel.run.report import Moment, Report, read_report
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

SCHEMA = Schema((Field("user", FieldKind.ID),), (Task("click"), Task("buy", given="click"), Task("seconds", REGRESSION)))


@cache
def tasks(count: int = 1500) -> tuple[TaskReport, ...]:
    """A small judged log; the slice `unknown` is too small, user 7's labels are of one class."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(count, 3))
    events = (draw.random((count, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    events[:, 1] *= events[:, 0]
    events[:, 2] = logits[:, 2] + draw.normal(size=count)
    log = Predictions(SCHEMA, logits, events, np.ones((count, 3), dtype=bool), draw.integers(0, 80, count))
    calibrators: dict[str, Calibrator] = {"click": Platt(), "buy": Platt(), "seconds": Linear()}
    seen = np.where(np.arange(count) < 30, "unknown", np.where(np.arange(count) % 2 == 0, "1-9", "10-99"))
    return evaluate(log, calibrate_all(SCHEMA, logits, calibrators), slices={"user": seen})


def report() -> Report:
    history = (Moment(1, (0.7, 0.3, None), 0.61, 90_000, 4.5), Moment(2, (0.6, 0.2, 1.5), None, 90_000, 4.25))
    return Report(
        recipe="stem",
        seed=3,
        rows={"train": 90_000, "valid": 1000, "test": 1500},
        tasks=tasks(),
        parameters=12_345,
        seconds=20.5,
        rows_per_second=20_000.0,
        peak_memory_bytes=2**30,
        validation=tasks(400),
        history=history,
        settings={"fit": {"epochs": 2}, "model": {"recipe": "stem"}},
        versions={"umbel": "0.1.0"},
        commit="abc",
        aside=Aside(12, 2000, {"click": 0, "buy": 3}, {"spent": 12.5}, {"shown_at": 2}),
    )


@pytest.mark.parametrize(
    ("measured", "saved"),
    [
        (Interval(0.7, 0.6, 0.8), {"value": 0.7, "low": 0.6, "high": 0.8}),
        (Interval(0.7, None, None, "9 users"), {"value": 0.7, "low": None, "high": None, "reason": "9 users"}),
        (Undefined("no positive row"), {"value": None, "low": None, "high": None, "reason": "no positive row"}),
    ],
)
def test_a_metric_is_value_low_high_or_null_with_a_reason(measured: Interval | Undefined, saved: dict[str, object]) -> None:
    assert measured_to_json(measured) == saved
    assert measured_from_json(json.loads(json.dumps(saved))) == measured


def test_figures_are_flat() -> None:
    metrics: dict[str, Interval | Undefined] = {"auc": Interval(0.7, 0.6, 0.8), "gauc": Undefined("no user with both classes")}
    saved = figures_to_json(Figures(10, 4, 3, metrics, (Point(0.1, 0.2, 10),)))
    assert saved == {
        "auc": {"value": 0.7, "low": 0.6, "high": 0.8},
        "gauc": {"value": None, "low": None, "high": None, "reason": "no user with both classes"},
        "rows": 10,
        "users": 4,
        "positives": 3,
        "curve": [{"predicted": 0.1, "observed": 0.2, "rows": 10}],
    }


def test_figures_survive_saving() -> None:
    for task in tasks():
        for figures in (task.figures, task.marginal, *task.slices["user"].values()):
            if figures is not None:
                assert figures_from_json(json.loads(json.dumps(figures_to_json(figures)))) == figures


def test_a_task_survives_saving() -> None:
    for task in tasks():
        assert task_from_json(task.name, json.loads(json.dumps(task_to_json(task)))) == task


def test_a_task_without_a_worst_slice_survives_saving() -> None:
    task = replace(tasks()[0], slices={}, worst=Undefined("no slice was asked for"))
    saved = json.loads(json.dumps(task_to_json(task)))
    assert saved["worst"] == {"slice": None, "reason": "no slice was asked for"}
    assert task_from_json("click", saved) == task


def test_the_worst_slice_is_named_with_its_interval() -> None:
    task = tasks()[0]
    assert isinstance(task.worst, Worst)
    worst = json.loads(json.dumps(task_to_json(task)))["worst"]
    assert worst == {
        "slice": "user",
        "label": task.worst.label,
        "metric": "auc",
        "value": task.worst.value.value,
        "low": task.worst.value.low,
        "high": task.worst.value.high,
    }


def test_a_slice_named_like_a_metric_confuses_nobody() -> None:
    task = tasks()[0]
    odd = replace(task, slices={"auc": {"value": task.figures, "low": task.figures}})
    assert task_from_json("click", json.loads(json.dumps(task_to_json(odd)))) == odd


def test_the_report_has_the_keys_the_design_names() -> None:
    saved = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert {"recipe", "seed", "rows", "tasks", "parameters", "seconds", "rows_per_second", "peak_memory_bytes"} <= set(saved)
    assert saved["rows"] == {"train": 90_000, "valid": 1000, "test": 1500}
    assert saved["label_spreads"] == {"spent": 12.5}
    assert saved["unknown_fields"] == {"shown_at": 2}
    assert (saved["dropped"], saved["without_user"], saved["contradictions"]) == (12, 2000, {"click": 0, "buy": 3})
    assert set(saved["tasks"]) == {"click", "buy", "seconds"}
    click = saved["tasks"]["click"]
    for name in ("auc", "gauc", "pr_auc", "logloss", "ne", "ece", "calibration_ratio"):
        assert set(click[name]) >= {"value", "low", "high"}
        assert click[name]["low"] <= click[name]["value"] <= click[name]["high"]
    assert (click["rows"], click["positives"] > 0, click["marginal"]) == (1500, True, None)
    assert click["slices"]["user"]["unknown"]["auc"]["reason"] == "30 rows: fewer than 100"
    buy = saved["tasks"]["buy"]
    assert buy["given"] == "click"
    assert buy["rows"] < buy["marginal"]["rows"] == 1500
    assert set(saved["tasks"]["seconds"]) >= {"rmse", "mae", "r2"}
    assert saved["tasks"]["seconds"]["positives"] is None


def test_the_report_survives_saving() -> None:
    before = report()
    assert Report.from_json(json.loads(json.dumps(before.to_json(), allow_nan=False))) == before


def test_draws_are_not_written() -> None:
    before = report()
    assert before.tasks[0].figures.draws
    again = Report.from_json(json.loads(json.dumps(before.to_json())))
    assert not again.tasks[0].figures.draws
    assert "draws" not in json.dumps(before.to_json())


def test_the_history_is_one_entry_an_epoch() -> None:
    saved = json.loads(json.dumps(report().to_json()))["history"]
    assert saved == [
        {"epoch": 1, "losses": [0.7, 0.3, None], "score": 0.61, "rows": 90_000, "seconds": 4.5},
        {"epoch": 2, "losses": [0.6, 0.2, 1.5], "score": None, "rows": 90_000, "seconds": 4.25},
    ]


def test_a_line_of_the_log_becomes_a_moment_and_what_is_not_finite_none() -> None:
    line = {"epoch": 4, "losses": [0.5, float("nan")], "score": float("nan"), "rows": 10, "seconds": 1}
    assert Moment.of(line) == Moment(4, (0.5, None), None, 10, 1.0)


def test_a_balancers_weights_are_told_and_read_back() -> None:
    moment = Moment.of({"epoch": 4, "losses": [0.5, 0.1], "score": 0.6, "rows": 10, "seconds": 1, "weights": [0.5, 1.5]})
    assert moment.weights == (0.5, 1.5)
    assert moment.to_json()["weights"] == [0.5, 1.5]
    assert Moment.of(moment.to_json()) == moment


def test_what_was_kept_survives_saving_and_older_reports_have_none() -> None:
    kept = Kept.of(Pareto(), [{"click": 0.61, "buy": None}, {"click": 0.6, "buy": 0.7}], train={"click": 0.9, "buy": 0.8})
    before = replace(report(), kept=kept)
    saved = json.loads(json.dumps(before.to_json(), allow_nan=False))
    assert saved["kept"]["tasks"] == {
        "click": {"best": 1, "valid": 0.6, "train": 0.9},
        "buy": {"best": 2, "valid": 0.7, "train": 0.8},
    }
    assert saved["kept"]["rule"] == "pareto"
    assert Report.from_json(saved) == before
    assert Report.from_json({key: one for key, one in saved.items() if key != "kept"}).kept is None


def test_every_tasks_score_is_told_and_read_back() -> None:
    line = {"epoch": 4, "losses": [0.5], "score": 0.6, "scores": {"click": 0.6, "buy": None}, "rows": 10, "seconds": 1}
    moment = Moment.of(line)
    assert moment.scores == {"click": 0.6, "buy": None}
    assert moment.to_json()["scores"] == line["scores"]


def test_compiling_is_told_apart_from_training() -> None:
    line = {"epoch": 1, "losses": [0.5, 0.4, 0.1], "score": 0.6, "rows": 10, "seconds": 1, "compile_seconds": 131.7}
    moments = Moment.of(line), Moment.of({**line, "epoch": 2, "compile_seconds": 2.3}), report().history[1]
    assert [moment.to_json().get("compile_seconds") for moment in moments] == [131.7, 2.3, None]
    before = replace(report(), history=moments)
    saved = json.loads(json.dumps(before.to_json(), allow_nan=False))
    assert saved["compile_seconds"] == pytest.approx(134.0)
    assert Report.from_json(saved) == before
    assert "of them compiling" in (shown := page(before))
    assert "134 s" in shown
    assert report().to_json()["compile_seconds"] == 0
    assert "compiling" not in page(report())


def test_a_report_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report().to_json()))
    assert read_report(path) == report()


def test_a_missing_report_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"report\.json: no such report"):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1, 2]",
        "nonsense",
        '{"recipe": "stem"}',
        '{"tasks": 3, "validation": {}, "history": []}',
        '{"tasks": {"click": 3}, "validation": {}, "history": []}',
        '{"tasks": {}, "validation": {}, "history": [{"epoch": 1}]}',
    ],
)
def test_a_broken_report_is_the_users_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"report\.json: .*; make it again with umbel train"):
        read_report(path)


@pytest.mark.parametrize("key", ["recipe", "rows", "tasks", "history", "parameters"])
def test_a_report_without_one_of_its_parts_is_the_users_error(key: str) -> None:
    saved = report().to_json()
    del saved[key]
    with pytest.raises(UserError, match="not one of ours"):
        Report.from_json(saved)
