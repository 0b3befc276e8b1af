"""Lifetime value from the example: simulated customers whose worth is known, a model of both tasks, its report and its scores."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import content, say
from umbel.bundle import Bundle
from umbel.data.source import Source
from umbel.evaluate import amounts

EXAMPLES = Path(__file__).parents[2] / "examples"
COUNT = 12_000
Customers = Callable[[int, int], tuple[pl.DataFrame, np.ndarray]]


@dataclass(frozen=True)
class Done:
    """The example, run; its log and what each customer is worth."""

    folder: Path
    out: str
    log: pl.DataFrame
    worth: np.ndarray

    @property
    def report(self) -> dict[str, Any]:
        return content(self.folder / "run" / "report.json")


@pytest.fixture(scope="module")
def customers() -> Customers:
    found: Customers = runpy.run_path(str(EXAMPLES / "lifetime.py"))["customers"]
    return found


@pytest.fixture(scope="module")
def done(customers: Customers, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("lifetime")
    shutil.copytree(EXAMPLES, folder / "examples")
    command = [sys.executable, "examples/lifetime.py", "--customers", str(COUNT)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    log, worth = customers(COUNT, 1)
    return Done(folder / "runs" / "lifetime", ran.stdout, log, worth)


def test_the_log_is_what_it_says(customers: Customers) -> None:
    """The same for a seed; most are worth nothing; what is spent comes to what is expected; who opens letters comes back more often."""
    log, worth = customers(50_000, 1)
    again, other = customers(50_000, 1)[0], customers(50_000, 2)[0]
    assert log.equals(again)
    assert not log.equals(other)
    value = log["value"].to_numpy()
    assert 0.6 < (value == 0).mean() < 0.9
    assert value.sum() == pytest.approx(worth.sum(), rel=0.06)
    assert (log["day"].diff().drop_nulls() >= 0).all()
    opened = log["opened"].to_numpy() == 1
    assert (value[opened] > 0).mean() > 1.2 * (value[~opened] > 0).mean()


def test_the_known_worth_is_calibrated(customers: Customers) -> None:
    """Nobody ranks amounts perfectly who knows all but chance; and the tenths of what is expected happen."""
    log, worth = customers(50_000, 1)
    best = amounts.gini(log["value"].to_numpy(), worth)
    assert isinstance(best, float)
    assert 0.4 < best < 0.8
    assert amounts.decile_slope(log["value"].to_numpy(), worth) == pytest.approx(1.0, abs=0.1)


def test_the_example_says_what_came_of_it(done: Done) -> None:
    for words in ("gini Interval", "decile_error", "decile_slope", "rmse", "expected", "worth"):
        assert words in done.out
    assert (done.folder / "run" / "report.html").exists()


def test_the_report_has_the_figures_of_amounts(done: Done) -> None:
    value, opened = (done.report["tasks"][name] for name in ("value", "opened"))
    assert value["kind"] == "zero_inflated"
    assert opened["kind"] == "binary"
    assert value["gini"]["low"] > 0.2
    assert value["gini"]["low"] < value["gini"]["value"] < value["gini"]["high"]
    assert value["decile_slope"]["low"] < 1.0 < value["decile_slope"]["high"]
    assert value["rmse"]["value"] > 0
    assert value["decile_error"]["value"] < 0.6
    page = (done.folder / "run" / "report.html").read_text()
    for title in ("Gini", "decile error", "decile slope", "RMSE"):
        assert title in page


def test_scores_are_near_the_known_worth(done: Done, tmp_path: Path) -> None:
    """Of customers that no training saw: ranks go with the known worth, which the labels themselves do not tell as well."""
    new, worth = _later(done)
    new.drop("value", "opened").write_parquet(tmp_path / "new.parquet")
    assert say("score", done.folder / "run" / "bundle", tmp_path / "new.parquet", "-o", tmp_path / "scores.parquet").code == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores.columns == ["customer", "day", "opened", "value"]
    ranks = [np.argsort(np.argsort(column)) for column in (scores["value"].to_numpy(), worth, new["value"].to_numpy())]
    model, luck = (np.corrcoef(one, ranks[1])[0, 1] for one in (ranks[0], ranks[2]))
    assert model > 0.6
    assert model > luck + 0.2
    assert scores["value"].sum() == pytest.approx(worth.sum(), rel=0.25)


def test_the_price_moves_the_amount(done: Done, tmp_path: Path) -> None:
    """The explanation finds what was planted: product and price move the amount; of the letters it is told apart."""
    _later(done)[0].write_parquet(tmp_path / "new.parquet")
    said = say("explain", done.folder / "run" / "bundle", tmp_path / "new.parquet", "--rows", "300", "-o", tmp_path / "why")
    assert said.code == 0, said.err
    tasks = {task["task"]: task for task in json.loads((tmp_path / "why" / "explain.json").read_text())["tasks"]}
    shares = {name: {field["field"]: field["share"] for field in task["fields"]} for name, task in tasks.items()}
    assert shares["value"]["country"] > shares["opened"]["country"]
    assert tasks["value"]["check"]["gain"]["low"] > 0


def test_a_negative_amount_is_refused_in_one_line(done: Done, tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    done.log.with_columns(value=pl.when(pl.col("customer") == 7).then(-1.0).otherwise("value")).write_parquet(log)
    said = say("train", EXAMPLES / "lifetime.toml", "-o", tmp_path / "run", "--set", f'data.log="{log}"')
    assert said.code == 2
    assert "tasks.value: label -1 in row 8" in said.line


def _later(done: Done) -> tuple[pl.DataFrame, np.ndarray]:
    """Customers of the test days, and what they are worth."""
    later = done.log["day"].to_numpy() >= 310
    return done.log.filter(pl.Series(later)), done.worth[later]


def test_the_bundle_reads_python_rows(done: Done, tmp_path: Path) -> None:
    done.log.head(50).write_parquet(tmp_path / "few.parquet")
    bundle = Bundle.load(done.folder / "run" / "bundle")
    _, scores = next(bundle.score(Source(str(tmp_path / "few.parquet"), user="customer", time="day")))
    assert scores.shape == (50, 2)
    assert (scores[:, 1] > 0).all()
