"""One run with a task of every kind, from its TOML to scored rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest

from tests.journeys.conftest import Said, content, say
from tests.journeys.test_export import exported
from tests.runs import written
from umbel.bundle import Bundle
from umbel.kinds import TASK_KINDS

MORE = """user = { kind = "id" }
item = { kind = "id" }
[tasks]
click = { kind = "binary" }
spent = { kind = "regression", loss = { name = "huber", delta = 2.0 } }
watch = { kind = "lognormal", given = "click" }
value = { kind = "zero_inflated" }
visits = { kind = "poisson" }
claim = { kind = "tweedie" }
stars = { kind = { name = "ordinal", grades = 4 } }
shelf = { kind = { name = "multiclass", classes = 3 } }
[tasks.wait]
kind = { name = "quantile", levels = [0.1, 0.5, 0.9] }
[split]
by = "time"
valid = 2400
test = 3000
[model]
recipe = "mmoe"
dim = 4
expert = [16]
tower = [8]
[fit]
epochs = 4
batch = 256
rate = 0.02
threads = 1
[evaluate]
resamples = 30
"""
COLUMNS = (
    "click", "spent", "watch", "value", "visits", "claim", "stars_0", "stars_1", "stars_2", "stars_3", "shelf_0", "shelf_1", "shelf_2",
    "wait_q10", "wait_q50", "wait_q90",
)  # fmt: skip


def made(rows: int = 3600) -> pl.DataFrame:
    """A log whose labels of every kind follow a taste of the user and a worth of the item."""
    draw = np.random.default_rng(5)
    user, item = draw.integers(40, size=rows), draw.integers(30, size=rows)
    pull = draw.normal(size=40)[user] + draw.normal(size=30)[item]
    click = (draw.random(rows) < 1 / (1 + np.exp(-pull))).astype(float)
    labels = {
        "click": click,
        "spent": 3 + 2 * pull + draw.normal(size=rows),
        "watch": np.where(click == 1, np.exp(0.5 * pull + 0.3 * draw.normal(size=rows)), np.nan),
        "value": np.where(draw.random(rows) < 0.3, np.exp(0.6 * pull + 0.5 * draw.normal(size=rows)), 0.0),
        "visits": draw.poisson(np.exp(0.4 * pull)).astype(float),
        "claim": np.where(draw.random(rows) < 0.5, draw.gamma(2.0, np.exp(0.4 * pull)), 0.0),
        "stars": np.digitize(pull + draw.normal(size=rows), [-1.0, 0.0, 1.0]).astype(float),
        "shelf": (np.stack([pull, -pull, np.zeros(rows)], axis=1) + draw.gumbel(size=(rows, 3))).argmax(axis=1).astype(float),
        "wait": 5 + pull + (1 + 0.2 * (user % 5)) * draw.normal(size=rows),
    }
    return pl.DataFrame({"user": user, "item": item, "time": np.arange(rows), **labels}).with_columns(pl.col("watch").fill_nan(None))


@dataclass(frozen=True)
class Done:
    """A finished run beside its log."""

    log: Path
    run: Path
    said: Said

    @property
    def report(self) -> dict[str, Any]:
        return content(self.run / "report.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("kinds")
    file = written(folder, made(), MORE)
    return Done(folder / "log.parquet", folder / "run", say("train", file, "-o", folder / "run"))


def test_every_kind_is_in_the_run(done: Done) -> None:
    assert done.said.code == 0, done.said.err
    assert {task["kind"] for task in done.report["tasks"].values()} == set(TASK_KINDS)


FIRST = {
    "click": ("auc", 0.7), "spent": ("r2", 0.4), "watch": ("gini", 0.4), "value": ("gini", 0.2), "visits": ("d2", 0.1),
    "claim": ("d2", 0.0), "stars": ("d2", 0.1), "shelf": ("d2", 0.1), "wait": ("d2", 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST)
def test_every_task_learns(done: Done, name: str) -> None:
    metric, least = FIRST[name]
    assert done.report["tasks"][name][metric]["value"] > least


@pytest.mark.parametrize("name", ["watch", "value", "visits", "claim"])
def test_amounts_add_up(done: Done, name: str) -> None:
    assert done.report["tasks"][name]["calibration_ratio"]["value"] == pytest.approx(1.0, abs=0.25)


def test_intervals_cover(done: Done) -> None:
    wait = done.report["tasks"]["wait"]
    assert wait["coverage"]["value"] == pytest.approx(0.8, abs=0.06)
    assert wait["coverage_gap"]["value"] == pytest.approx(wait["coverage"]["value"] - 0.8)
    assert [point["predicted"] for point in wait["curve"]] == [0.1, 0.5, 0.9]


def test_what_a_kind_does_not_have_is_not_there(done: Done) -> None:
    for name, task in done.report["tasks"].items():
        assert ("auc" in task) == (name == "click")
        assert (task["positives"] is None) == (name != "click")
        assert task["marginal"] is None


def test_the_page_and_the_terminal_show_every_task(done: Done) -> None:
    page = (done.run / "report.html").read_text()
    for name in FIRST:
        assert name in page
        assert name in done.said.out
    for title in ("Gini", "D²", "pinball", "coverage", "accuracy", "decile error"):
        assert title in page


def test_rows_are_scored_with_every_answer(done: Done, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    assert say("score", done.run / "bundle", done.log, "-o", out).code == 0
    scores = pl.read_parquet(out)
    assert scores.columns == ["user", "item", "time", *COLUMNS]
    found = scores.select(COLUMNS).to_numpy()
    assert np.isfinite(found).all()
    for names in (("stars_0", "stars_1", "stars_2", "stars_3"), ("shelf_0", "shelf_1", "shelf_2")):
        np.testing.assert_allclose(scores.select(names).to_numpy().sum(axis=1), 1.0, rtol=1e-9)
    assert (np.diff(scores.select("wait_q10", "wait_q50", "wait_q90").to_numpy(), axis=1) >= 0).all()
    assert (scores.select("watch", "value", "visits", "claim").to_numpy() > 0).all()


def test_the_bundle_knows_its_kinds_and_losses(done: Done) -> None:
    schema = Bundle.load(done.run / "bundle").schema
    assert {task.kind.name for task in schema.tasks} == set(TASK_KINDS)
    assert schema.task("spent").loss.name == "huber"


def test_evaluating_the_log_gives_the_same_columns(done: Done) -> None:
    said = say("evaluate", done.run / "bundle", done.log)
    assert said.code == 0, said.err
    assert all(name in said.out for name in FIRST)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("tasks.wait.kind.levels=[0.9, 0.1]", "tasks.wait.kind: quantile: levels = [0.9, 0.1]; write them in rising order, each once"),
        ("tasks.wait.kind.levels=[0.0, 0.5]", "tasks.wait.kind: quantile: levels = [0.0, 0.5]; each lies between 0 and 1, without them"),
        ("tasks.wait.kind.level=[0.5]", "tasks.wait.kind: 'quantile' has no parameter 'level'; did you mean 'levels'?"),
        ("tasks.stars.kind.grades=1", "tasks.stars.kind: ordinal: grades = 1; give 2 or more"),
        ("tasks.stars.kind=ordinal", "tasks.stars.kind.grades is missing; write { name = ..., grades = ... }"),
        ("tasks.stars.kind=ordnal", "tasks.stars.kind: no 'ordnal'; did you mean 'ordinal'?"),
        ("tasks.watch.given=visits", "tasks.watch: given 'visits' is not binary; a sample space must be a binary task"),
        ("tasks.wait.loss=focal", "tasks.wait: loss 'focal' is for a binary task, this one is quantile; choose among likelihood"),
        ("tasks.spent.loss.delta=0", "tasks.spent.loss: huber: delta = 0; give a number above 0"),
        ("tasks.spent.negatives=0.5", "tasks.spent: negatives of a regression task; only a binary task has rows without the event"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(done: Done, tmp_path: Path, change: str, says: str) -> None:
    said = say("train", done.log.parent / "run.toml", "-o", tmp_path / "run", "--set", change)
    assert said.code == 2
    assert said.line == f"umbel: {says}"


@pytest.mark.parametrize(
    ("name", "label", "says"),
    [
        ("watch", 0.0, "tasks.watch: label 0 in row 8 of the log, column 'watch' of LOG; a lognormal label is above 0"),
        ("value", -1.0, "tasks.value: label -1 in row 8 of the log, column 'value' of LOG; a zero_inflated label is at least 0"),
        ("visits", 1.5, "tasks.visits: label 1.5 in row 8 of the log, column 'visits' of LOG; a poisson label is whole and at least 0"),
        ("stars", 4.0, "tasks.stars: label 4 in row 8 of the log, column 'stars' of LOG; an ordinal label is whole and in [0, 3]"),
        ("shelf", -1.0, "tasks.shelf: label -1 in row 8 of the log, column 'shelf' of LOG; a multiclass label is whole and in [0, 2]"),
    ],
)
def test_a_label_outside_its_kind_is_shown_with_its_place(tmp_path: Path, name: str, label: float, says: str) -> None:
    rows = made().with_columns(pl.when(pl.col("time") == 7).then(label).otherwise(pl.col(name)).alias(name))
    said = say("train", written(tmp_path, rows, MORE), "-o", tmp_path / "run")
    assert said.code == 2
    assert said.line == f"umbel: {says.replace('LOG', str(tmp_path / 'log.parquet'))}"


def test_every_kind_is_explained(done: Done, tmp_path: Path) -> None:
    """Each on its scale, a column an answer; what the fields of a row add comes to each column's prediction."""
    said = say("explain", done.run / "bundle", done.log, "--rows", "80", "-o", tmp_path / "why")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "why" / "explain.json").read_text())
    assert [task["task"] for task in found["tasks"]] == list(done.report["tasks"])
    assert found["error"] < 1e-3
    units = {task["task"]: task["unit"] for task in found["tasks"]}
    assert units["click"] == "logit"
    assert units["value"] == units["watch"] == "log of the expected amount"
    assert units["visits"] == units["claim"] == "log of the mean"
    assert units["stars"] == units["shelf"] == "logit of each chance"
    assert units["spent"] == units["wait"] == "the label's unit"
    for task in found["tasks"]:
        assert {field["field"] for field in task["fields"]} == {"user", "item"}
        assert sum(field["share"] for field in task["fields"]) == pytest.approx(1.0)
        assert len(task["base"]) == sum(name == task["task"] or name.startswith(f"{task['task']}_") for name in COLUMNS)
        assert task["says"]


def test_one_row_of_every_kind_is_explained(done: Done, tmp_path: Path) -> None:
    said = say("explain", done.run / "bundle", done.log, "--row", "6", "-o", tmp_path / "row")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "row" / "explain.json").read_text())
    assert tuple(found["columns"]) == COLUMNS
    assert say("score", done.run / "bundle", done.log, "-o", tmp_path / "scores.parquet").code == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet")[5]
    for name, column in found["columns"].items():
        change = column["value"] - column["base"]
        assert abs(sum(column["contributions"].values()) - change) <= 1e-3 * abs(change) + 1e-9, name
        assert column["calibrated"]["value"] == pytest.approx(scores[name][0], rel=1e-5, abs=1e-6), name
        assert np.isfinite(column["calibrated"]["base"])


def test_every_kind_leaves_as_onnx(done: Done, tmp_path: Path) -> None:
    """Its golden rows are compared by the verb itself, to 1e-5 of what they are."""
    out = tmp_path / "model.onnx"
    ran = exported(done.run / "bundle", out)
    assert ran.returncode == 0, ran.stderr
    assert [one.name for one in onnxruntime.InferenceSession(str(out)).get_outputs()] == list(COLUMNS)
