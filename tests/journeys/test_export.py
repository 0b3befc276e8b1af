"""A bundle leaves as ONNX: another runtime gives its predictions by name, or nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest

from tests.journeys.conftest import Job, say
from umbel.bundle import Bundle
from umbel.data.raw import rows
from umbel.manifest import name_of


def exported(bundle: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """By a process of its own, since the checks of shapes while tests run cannot be exported."""
    words = [sys.executable, "-W", "error", "-m", "umbel", "export", str(bundle), "-o", str(out)]
    return subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def written(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("onnx") / "model.onnx"
    ran = exported(job.run / "bundle", out)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return out, ran.stdout


def test_another_runtime_gives_the_predictions(written: tuple[Path, str], job: Job) -> None:
    """Of rows that the golden ones are not, at several sizes."""
    bundle = Bundle.load(job.run / "bundle")
    session = onnxruntime.InferenceSession(str(written[0]), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == list(bundle.columns)
    for size in (1, 7, 1000):
        _, batch = next(rows(bundle.source, bundle.encoder, size, labels=False))
        found = np.stack(session.run(None, {name: column.numpy() for name, column in batch.fields.items()}), axis=1)
        assert np.abs(found - bundle.predict(batch)).max() < 1e-6


def test_the_file_says_what_it_is(written: tuple[Path, str], job: Job) -> None:
    told = onnxruntime.InferenceSession(str(written[0])).get_modelmeta().custom_metadata_map
    assert json.loads(told["bundle"]) == name_of(job.run / "bundle")
    assert json.loads(told["columns"]) == ["click", "like", "buy", "buy_marginal"]
    assert [one["name"] for one in json.loads(told["schema"])["fields"]] == ["user", "item", "device", "region"]
    assert "user, item, device, region -> click, like, buy, buy_marginal" in written[1]


def test_what_scores_otherwise_is_not_written(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.onnx"
    out.write_text("the one before")
    monkeypatch.setattr("umbel.run.export._write", lambda bundle, golden, path, *, about: path.write_text("a model"))
    monkeypatch.setattr("umbel.run.export._worst", lambda path, golden, expected: 2e-5)
    said = say("export", job.run / "bundle", "-o", out)
    assert said.code == 2
    assert said.line.startswith(f"umbel: {out}: golden rows score otherwise as ONNX, by up to 2e-05")
    assert out.read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [out]


def test_weights_beyond_the_format_are_refused_before_anything_is_made(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.run.export.MOST", 1000)
    said = say("export", job.run / "bundle", "-o", tmp_path / "model.onnx")
    assert said.code == 2
    assert "an ONNX file holds 2 GiB" in said.line
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    said = say("export", tmp_path, "-o", tmp_path / "model.onnx")
    assert said.code == 2
    assert "not a bundle" in said.line


def test_scores_beside_those_of_the_verb(written: tuple[Path, str], job: Job, tmp_path: Path) -> None:
    """From a raw log, as a user would compare the two."""
    assert say("score", job.run / "bundle", job.log, "-o", tmp_path / "scores.parquet").code == 0
    bundle = Bundle.load(job.run / "bundle")
    session = onnxruntime.InferenceSession(str(written[0]))
    own = pl.read_parquet(tmp_path / "scores.parquet").select(bundle.columns).to_numpy()
    every = [session.run(None, {name: one.numpy() for name, one in batch.fields.items()})
             for _, batch in rows(bundle.source, bundle.encoder, 4096, labels=False)]
    found = np.concatenate([np.stack(one, axis=1) for one in every])
    np.testing.assert_allclose(found, own, atol=1e-6)
