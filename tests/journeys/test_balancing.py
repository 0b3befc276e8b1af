"""Balancing from the command line: a run with a balancer, what it leaves, and how it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Job, say


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("name", "recipe", "more"), [
    ("pcgrad", "mmoe", ()),
    ("gradnorm", "stem", ("--set", "balance.at=views", "--set", "balance.alpha=0.5")),
    ("static", "ple", ("--set", "balance.weights.like=2.0", "--set", "balance.scalar=true")),
])
def test_a_balanced_run(name: str, recipe: str, more: tuple[str, ...], run_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = ["--set", f"fit.balancer={name}", "--set", f"model.recipe={recipe}", "--set", "fit.epochs=2", *more]
    said = say("train", run_file, "-o", run, *changes)
    assert said.code == 0, said.err
    told = lines(run)
    assert [len(line["weights"]) for line in told] == [3, 3]
    assert all(weight > 0 for line in told for weight in line["weights"])
    if name == "static":
        assert told[0]["weights"] == [1.0, 2.0, 1.0]
    report = json.loads((run / "report.json").read_text())
    assert report["settings"]["fit"]["balancer"] == name
    assert [moment["weights"] for moment in report["history"]] == [line["weights"] for line in told]
    assert report["tasks"]["click"]["auc"]["value"] > 0.5


def test_a_run_without_a_balancer_tells_no_weights(job: Job) -> None:
    assert all("weights" not in line for line in lines(job.run))
    report = json.loads((job.run / "report.json").read_text())
    assert "balancer" not in report["settings"]["fit"]


@pytest.mark.parametrize(("change", "told"), [
    ("fit.balancer=pcgard", "did you mean 'pcgrad'?"),
    ("balance.c=0.5", "balance: there is no balancer to take it"),
    ("balance.at=towers", "balance.at = 'towers'"),
])
def test_a_wrong_balancer_is_one_line(change: str, told: str, run_file: Path, tmp_path: Path) -> None:
    said = say("train", run_file, "-o", tmp_path / "run", "--set", change)
    assert said.code == 2
    assert told in said.line
