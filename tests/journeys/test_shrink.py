"""A bundle in fewer bytes: what it keeps, what it says that was lost, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import Job, say
from umbel.bundle import Bundle
from umbel.errors import UserError
from umbel.evaluate.intervals import Interval
from umbel.run.export import export
from umbel.run.shrink import Shrunk, figures, shrink
from umbel.run.use import judge_rows


@pytest.fixture(scope="module", params=["float16", "int8"])
def shrunk(request: pytest.FixtureRequest, job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shrunk]:
    out = tmp_path_factory.mktemp("shrunk") / "bundle"
    return out, shrink(job.run / "bundle", out, request.param, log=str(job.log))


def test_it_is_smaller_and_scores_nearly_alike(shrunk: tuple[Path, Shrunk], job: Job, tmp_path: Path) -> None:
    out, told = shrunk
    assert told.before > told.after
    assert 0 < told.moved < 0.05
    for name in (job.run / "bundle", out):
        assert say("score", name, job.log, "-o", tmp_path / f"{name.parent.name}.parquet").code == 0
    before, after = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in (job.run.name, out.parent.name))
    assert before.columns == after.columns
    assert 0 < np.abs(before["click"].to_numpy() - after["click"].to_numpy()).max() < 0.05


def test_what_it_says_was_lost_is_what_judging_finds(shrunk: tuple[Path, Shrunk], job: Job) -> None:
    out, told = shrunk
    alone = [judge_rows(Bundle.load(name), str(job.log)) for name in (job.run / "bundle", out)]
    for (before, after), own, other in zip(told.judged, *alone, strict=True):
        assert (before.figures, after.figures) == (own.figures, other.figures)
    auc = told.judged[0][1].figures.metrics["auc"]
    assert isinstance(auc, Interval)
    lines = [[str(cell) for cell in column.cells] for column in figures(told).columns]
    assert f"{auc.value:.5f}" in lines[3]
    assert all(difference[0] in "+-" for difference in lines[4])


def test_all_else_stays(shrunk: tuple[Path, Shrunk], job: Job) -> None:
    before, after = (Bundle.load(name) for name in (job.run / "bundle", shrunk[0]))
    assert after.columns == before.columns
    assert after.report == before.report
    assert after.calibrators.keys() == before.calibrators.keys()
    for name, tensor in before.model.state_dict().items():
        assert name == "table" or tensor.equal(after.model.state_dict()[name])


def test_training_goes_on_from_it(shrunk: tuple[Path, Shrunk], job: Job, tmp_path: Path) -> None:
    """In float32, from the rows that it has."""
    said = say("train", job.file, "-o", tmp_path / "run", "--from", shrunk[0], "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    assert Bundle.load(tmp_path / "run" / "bundle").built.tables == "float32"


def test_what_is_refused(shrunk: tuple[Path, Shrunk], job: Job, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its tables are (float16|int8)"):
        export(shrunk[0], tmp_path / "model.onnx")
    with pytest.raises(UserError, match="already"):
        shrink(shrunk[0], tmp_path / "out", "int8")
    for name in ("float32", "int9"):
        with pytest.raises(UserError, match=f"no '{name}'"):
            shrink(job.run / "bundle", tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_the_verb_says_how_many_bytes_and_what_was_lost(job: Job, tmp_path: Path) -> None:
    said = say("shrink", job.run / "bundle", "-o", tmp_path / "small", "--log", job.log)
    assert said.code == 0, said.err
    assert re.search(r"tables [0-9.]+ KiB -> [0-9.]+ KiB", said.out)
    assert "what the log's figures lost" in said.out
    assert say("shrink", job.run / "bundle", "-o", tmp_path / "half", "--tables", "float16").out.count("\n") == 1
