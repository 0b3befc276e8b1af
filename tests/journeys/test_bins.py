"""Bins from a run file to scored rows: the bundle alone reads them as the evaluation did, and they are explained."""

from __future__ import annotations

import json
import shutil
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
[fields.price]
kind = "number"
bins = 4
[fields.user_past]
kind = "statistic"
by = ["user"]
bins = 3
[tasks]
"""


@dataclass(frozen=True)
class Job:
    """A finished run, and the test rows of its log."""

    file: Path
    run: Path
    test: Path


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("bins")
    simulate(PLANTED, folder / "data")
    log = folder / "data" / "log.parquet"
    (folder / "run.toml").write_text(RUN.format(log=log).replace("[tasks]\n", FIELDS, 1).replace("epochs = 3", "epochs = 1"))
    said = say("train", folder / "run.toml", "-o", folder / "run")
    assert said.code == 0, said.err
    pl.read_parquet(log).filter(pl.col("time_ms") >= 1_704_499_200_000).write_parquet(folder / "test.parquet")
    return Job(folder / "run.toml", folder / "run", folder / "test.parquet")


def test_scored_rows_are_the_evaluated_ones(job: Job, tmp_path: Path) -> None:
    said = say("score", job.run / "bundle", job.test, "-o", tmp_path / "scores.parquet")
    assert said.code == 0, said.err
    scores = pl.read_parquet(tmp_path / "scores.parquet").select("click", "like", "buy").to_numpy()
    np.testing.assert_allclose(scores, np.load(job.run / "predictions.npz")["calibrated"], atol=1e-6)


def test_the_bundle_has_the_edges_of_the_table(job: Job) -> None:
    bundle, table = Bundle.load(job.run / "bundle"), Table.open(job.run / "table")
    assert set(bundle.encoder.edges) == {"price", "user_past"}
    assert bundle.encoder.edges == table.encoder.edges == bundle.built.sizes.edges
    assert [len(one) for one in bundle.encoder.edges["price"]] == [len(set(bundle.encoder.edges["price"][0]))]
    assert {tuple(one.shape) for name, one in bundle.model.named_parameters() if name == "views.vectors.0.weight"} == {
        (3 * 4 + 4, len(bundle.encoder.edges["price"][0]) - 1)
    }


def test_a_changed_edge_is_no_bundle(job: Job, tmp_path: Path) -> None:
    """They are under the checksum, as everything."""
    shutil.copytree(job.run / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / "encoder" / "edges.json"
    path.write_text(json.dumps({name: [[0.0, 1.0]] * len(own) for name, own in json.loads(path.read_text()).items()}))
    said = say("score", tmp_path / "bundle", job.test, "-o", tmp_path / "scores.parquet")
    assert said.code == 2
    assert "edges.json" in said.line


def test_they_are_explained(job: Job, tmp_path: Path) -> None:
    said = say("explain", job.run / "bundle", job.test, "-o", tmp_path / "why", "--rows", "60")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "why" / "explain.json").read_text())
    assert found["error"] < 1e-3  # what fields add comes out, bends and all
    named = {one["field"]: one["share"] for task in found["tasks"] for one in task["fields"]}
    assert named["price"] > 0
    assert named["user_past"] > 0
