"""Target statistics from a raw file to scored rows: the bundle alone reads them as the evaluation did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import PLANTED, RUN, say
from umbel.bundle import Bundle
from umbel.data.simulate import simulate
from umbel.data.table import Table

FIELDS = """
[fields.user_past]
kind = "statistic"
by = ["user"]
[fields.item_past]
kind = "statistic"
by = ["item"]
tasks = ["click", "buy"]
window = 3600000
prior = 10
[fields.pair_past]
kind = "statistic"
by = ["user", "genre"]
mode = "folds"
[tasks]
"""


@dataclass(frozen=True)
class Job:
    """A finished run, its log, and the test rows of that."""

    folder: Path
    log: Path
    test: Path


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("statistics")
    simulate(PLANTED, folder / "data")
    log = folder / "data" / "log.parquet"
    text = RUN.format(log=log).replace("[tasks]\n", FIELDS, 1)
    text = text.replace('recipe = "stem"', 'recipe = "shared_bottom"').replace("epochs = 3", "epochs = 1")
    (folder / "run.toml").write_text(text)
    said = say("train", folder / "run.toml", "-o", folder / "run")
    assert said.code == 0, said.err
    rows = pl.read_parquet(log)
    rows.filter(pl.col("time_ms") >= 1_704_499_200_000).write_parquet(folder / "test.parquet")
    return Job(folder / "run", log, folder / "test.parquet")


def evaluated(job: Job) -> np.ndarray:
    return np.asarray(np.load(job.folder / "predictions.npz")["calibrated"])


def test_scored_rows_are_the_evaluated_ones(job: Job, tmp_path: Path) -> None:
    said = say("score", job.folder / "bundle", job.test, "-o", tmp_path / "scores.parquet")
    assert said.code == 0, said.err
    scores = pl.read_parquet(tmp_path / "scores.parquet").select("click", "like", "buy").to_numpy()
    np.testing.assert_allclose(scores, evaluated(job), atol=1e-6)


def test_the_order_and_company_of_scored_rows_do_not_matter(job: Job) -> None:
    """A bundle counts nothing of what it scores: rows turned around, alone or twice score as they did."""
    bundle = Bundle.load(job.folder / "bundle")
    rows = pl.read_parquet(job.test)
    straight = bundle.encoder.encode(rows).numbers
    np.testing.assert_array_equal(bundle.encoder.encode(rows.reverse()).numbers, straight[::-1])
    np.testing.assert_array_equal(bundle.encoder.encode(pl.concat([rows, rows])).numbers, np.concatenate([straight, straight]))
    np.testing.assert_array_equal(bundle.encoder.encode(rows.head(1)).numbers, straight[:1])


def test_labels_of_scored_rows_are_not_read(job: Job) -> None:
    bundle = Bundle.load(job.folder / "bundle")
    rows = pl.read_parquet(job.test)
    bare = rows.drop("click", "like", "buy")
    np.testing.assert_array_equal(bundle.encoder.encode(bare).numbers, bundle.encoder.encode(rows).numbers)


def test_judging_the_test_rows_again_finds_the_same(job: Job, tmp_path: Path) -> None:
    said = say("evaluate", job.folder / "bundle", job.test, "-o", tmp_path / "judged.json")
    assert said.code == 0, said.err
    again, first = (json.loads(path.read_text()) for path in (tmp_path / "judged.json", job.folder / "report.json"))
    for task in ("click", "like", "buy"):
        assert again["tasks"][task]["auc"]["value"] == pytest.approx(first["tasks"][task]["auc"]["value"], abs=1e-9)


def test_a_bundle_whose_statistics_were_touched_is_refused(job: Job, tmp_path: Path) -> None:
    bundle = Bundle.load(job.folder / "bundle")
    bundle.save(tmp_path / "bundle", golden=Table.open(job.folder / "table").golden())
    np.testing.assert_array_equal(
        Bundle.load(tmp_path / "bundle").encoder.encode(pl.read_parquet(job.test)).numbers,
        bundle.encoder.encode(pl.read_parquet(job.test)).numbers,
    )
    file = tmp_path / "bundle" / "encoder" / "statistic" / "item_past.parquet"
    frame = pl.read_parquet(file)
    frame.with_columns(pl.col("sum:0") + 1).write_parquet(file)
    said = say("score", tmp_path / "bundle", job.test, "-o", tmp_path / "scores.parquet")
    assert said.code == 2
    assert "statistic/item_past.parquet" in said.line


def test_who_is_new_gets_the_mean_of_all(job: Job) -> None:
    """New, missing and unknown values read as no rows at all."""
    bundle = Bundle.load(job.folder / "bundle")
    rows = pl.read_parquet(job.test).head(3).with_columns(user=pl.Series([10**9, None, 7], dtype=pl.Int64))
    keys = bundle.encoder.keys(rows)
    totals = bundle.encoder.statistics["user_past"]
    found = totals.read(keys["user_past"]) * totals.standard.sd + totals.standard.mean
    np.testing.assert_allclose(found[:2], 0, atol=1e-6)
    assert found[2, -1] > 0


def test_trees_read_them_as_numbers(job: Job, tmp_path: Path) -> None:
    said = say("trees", "--table", job.folder / "table", "-o", tmp_path / "trees", "--rate", "0.1", "--seed", "1", "--means")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("fields.user_past.tasks=[]", "fields.user_past: tasks names none"),
        ('fields.user_past.tasks=["clik"]', "did you mean 'click'?"),
        ('fields.user_past.by=["usr"]', "fields.user_past.by: no column 'usr'"),
        ("fields.user_past.prior=0", "fields.user_past: prior = 0"),
        ('fields.user_past.mode="leave_one_out"', "tells its label"),
        ("fields.user_past.folds=100000", "leaks"),
        ('fields.pair_past.window=5', "window = 5 with folds"),
        ('fields.user.prior=5', "prior of a id"),
        ('fields.user_past.wndow=5', "did you mean 'window'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(job: Job, tmp_path: Path, change: str, words: str) -> None:
    said = say("train", job.folder.parent / "run.toml", "-o", tmp_path / "run", "--set", change)
    assert said.code == 2
    assert words in said.line
    assert not (tmp_path / "run" / "table").exists()


def test_without_a_time_column_a_window_is_refused(job: Job, tmp_path: Path) -> None:
    text = (job.folder.parent / "run.toml").read_text().replace('time = "time_ms"', "").replace('by = "time"', 'by = "user"')
    text = text.replace("valid = 2024-01-05", "valid = 0.2").replace("test = 2024-01-06", "test = 0.2")
    (tmp_path / "run.toml").write_text(text)
    said = say("train", tmp_path / "run.toml", "-o", tmp_path / "run")
    assert said.code == 2
    assert "fields.item_past: window = 3.6e+06, but [data] names no time column" in said.line


def test_statistics_are_explained_as_fields(job: Job, tmp_path: Path) -> None:
    """What a statistic adds is summed over its numbers; sums come out with it among the fields, over a log and in one row."""
    bundle = job.folder / "bundle"
    said = say("explain", bundle, job.test, "--rows", "100", "-o", tmp_path / "why")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "why" / "explain.json").read_text())
    assert found["error"] < 1e-3
    fields = {field.name for field in Bundle.load(bundle).schema.fields}
    for task in found["tasks"]:
        assert {one["field"] for one in task["fields"]} == fields
        assert sum(one["share"] for one in task["fields"] if one["field"].endswith("_past")) > 0
    assert say("explain", bundle, job.test, "--row", "3", "-o", tmp_path / "row").code == 0
    row = json.loads((tmp_path / "row" / "explain.json").read_text())
    assert row["values"]["item_past"] == str(pl.read_parquet(job.test)["item"][2])
