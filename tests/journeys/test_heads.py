"""Heads from the command line: a chain of three events, trained, judged, balanced, taken away and scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import say
from umbel.bundle import Bundle

HEADS = ['{ name = "escm2_dr", counterfactual = 0.5 }',
         '{ name = "aitm", calibrator = 1.0 }',
         '{ name = "dbmtl", edges = [["click", "buy"], ["like", "buy"]] }']


@pytest.mark.parametrize("head", HEADS)
def test_a_run_under_heads_with_parameters(head: str, run_file: Path, log: Path, tmp_path: Path) -> None:
    """Auxiliary outputs are in nobody's way: not in calibration, the report, the predictions, the bundle or its scores."""
    run = tmp_path / "run"
    said = say("train", run_file, "-o", run, "--set", f"model.head={head}", "--set", "fit.epochs=2", "--set", "evaluate.slices=[]")
    assert said.code == 0, said.err
    report = json.loads((run / "report.json").read_text())
    assert set(report["tasks"]) == {"click", "like", "buy"}
    assert report["tasks"]["buy"]["given"] == "click"
    assert report["tasks"]["buy"]["marginal"]["auc"]["value"] > 0.5
    assert report["tasks"]["click"]["auc"]["value"] > 0.5
    bundle = Bundle.load(run / "bundle")
    assert bundle.columns == ("click", "like", "buy", "buy_marginal")
    assert say("score", run / "bundle", log, "-o", tmp_path / "scores.parquet").code == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet").select("click", "like", "buy", "buy_marginal").to_numpy()
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_allclose(scores[:, 3], scores[:, 0] * scores[:, 2], rtol=1e-5)
    assert say("evaluate", run / "bundle", log).code == 0


@pytest.mark.parametrize(("head", "recipe", "at"), [
    ("escm2_dr", "mmoe", "experts"), ("aitm", "shared_bottom", "views"),
])  # fmt: skip
def test_a_balanced_run_under_a_head_with_outputs_of_its_own(head: str, recipe: str, at: str, run_file: Path, tmp_path: Path) -> None:
    changes = [f"model.head={head}", f"model.recipe={recipe}", "fit.balancer=pcgrad", f"balance.at={at}", "fit.epochs=1"]
    said = say("train", run_file, "-o", tmp_path / "run", *(word for change in changes for word in ("--set", change)))
    assert said.code == 0, said.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [len(moment["weights"]) for moment in report["history"]] == [3]


@pytest.mark.usefixtures("here")
def test_published_recipes_are_compared(run_file: Path, tmp_path: Path) -> None:
    """Heads with auxiliary outputs beside trees, which have none."""
    names = ["escm2", "aitm"]
    changes = ["compare.seeds=1", "compare.controls=false", "fit.epochs=1", "evaluate.slices=[]"]
    words = [*(word for name in names for word in ("--recipe", name)), *(word for change in changes for word in ("--set", change))]
    said = say("compare", run_file, "-o", tmp_path / "compare", *words)
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "compare" / "compare.json").read_text())
    assert set(names) <= set(found["recipes"])
    assert any(name.startswith("trees") for name in found["recipes"])


@pytest.mark.parametrize(("change", "told"), [
    ("model.head=aimt", "model.head: no 'aimt'; did you mean 'aitm'?"),
    ('model.head={ name = "dbmtl", edges = [["click", "bye"]] }', "model.head.edges: no task 'bye'; did you mean 'buy'?"),
    ('model.head={ name = "escm2_dr", leest = 0.1 }', "'escm2_dr' has no parameter 'leest'; did you mean 'least'?"),
    ("model.head=3", "model.head"),
])  # fmt: skip
def test_a_wrong_head_is_one_line(change: str, told: str, run_file: Path, tmp_path: Path) -> None:
    said = say("train", run_file, "-o", tmp_path / "run", "--set", change)
    assert said.code == 2
    assert told in said.line


def test_a_head_of_chains_without_one_is_one_line(run_file: Path, tmp_path: Path) -> None:
    run_file.write_text(run_file.read_text().replace('given = "click"', ""))
    said = say("train", run_file, "-o", tmp_path / "run", "--set", "model.head=escm2_dr")
    assert said.code == 2
    assert "model.head: 'escm2_dr' needs a binary task given another" in said.line


def test_a_parent_without_a_label_is_one_line(run_file: Path, log: Path, tmp_path: Path) -> None:
    """The click was never observed: nothing can be given it."""
    blind = tmp_path / "blind.parquet"
    pl.read_parquet(log).with_columns(click=pl.lit(None, pl.Float64)).write_parquet(blind)
    said = say("train", run_file, "-o", tmp_path / "run", "--set", f"data.log={blind}", "--set", "model.head=escm2_dr")
    assert said.code == 2
    assert "click" in said.line
