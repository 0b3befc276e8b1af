"""Which epoch a run keeps, from the run file to the log of epochs, the report, its page and a resumed run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.journeys.conftest import Job, content, say
from tests.journeys.test_interrupted import LONG, start, wait_for_epochs
from umbel.learn.keep import Keep, Mean, Pareto, Primary

GUARDED = "fit.keep={ name = 'primary', task = 'like', guards = { click = 0.02 } }"


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def report(run: Path) -> dict[str, Any]:
    return content(run / "report.json")


def test_the_log_tells_every_tasks_score_and_the_report_which_epoch_was_kept(job: Job) -> None:
    told, saved = lines(job.run), report(job.run)
    assert all(list(line["scores"]) == ["click", "like", "buy"] for line in told)
    assert all(line["score"] == pytest.approx(np.mean(list(line["scores"].values()))) for line in told)
    kept = saved["kept"]
    assert kept["rule"] == {"name": "mean", "weights": {}}
    assert kept["epoch"] == 1 + int(np.argmax([line["score"] for line in told]))
    for task, fared in kept["tasks"].items():
        values = [line["scores"][task] for line in told]
        assert fared["best"] == 1 + int(np.argmax(values))
        assert fared["valid"] == values[kept["epoch"] - 1]
        assert fared["valid"] == pytest.approx(saved["validation"][task]["auc"]["value"])
        assert fared["train"] > fared["valid"]  # it was trained on these
    assert saved["history"] == [{**line, "seconds": line["seconds"]} for line in told]
    assert f"The weights of epoch {kept['epoch']} of {len(told)} were kept: the highest mean" in (job.run / "report.html").read_text()


@pytest.mark.parametrize(("change", "rule"), [
    (GUARDED, Primary("like", {"click": 0.02})),
    ("fit.keep=pareto", Pareto()),
    ("fit.keep={ name = 'mean', weights = { buy = 4.0 } }", Mean({"buy": 4.0})),
])  # fmt: skip
def test_a_declared_rule_keeps_its_epoch(job: Job, tmp_path: Path, change: str, rule: Keep) -> None:
    said = say("train", job.file, "-o", tmp_path / "run", "--set", change, "--set", "fit.rate=0.03", "--set", "fit.epochs=4")
    assert said.code == 0, said.err
    seen = [line["scores"] for line in lines(tmp_path / "run")]
    kept = report(tmp_path / "run")["kept"]
    assert kept["epoch"] == rule.best(seen) + 1
    assert kept["why"] == rule.why(seen)
    assert [task["valid"] for task in kept["tasks"].values()] == list(seen[kept["epoch"] - 1].values())


def test_a_killed_run_keeps_what_a_whole_one_does(run_file: Path, tmp_path: Path) -> None:
    run_file.write_text(run_file.read_text().replace("[fit]", "[fit]\nkeep = 'pareto'"))
    process = start(run_file, tmp_path / "killed")
    wait_for_epochs(tmp_path / "killed", 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for name in ("killed", "whole"):
        said = say("train", run_file, "-o", tmp_path / name, *LONG)
        assert said.code == 0, said.err
    killed, whole = (np.load(tmp_path / name / "predictions.npz")["logits"] for name in ("killed", "whole"))
    assert killed.tobytes() == whole.tobytes()
    assert report(tmp_path / "killed")["kept"] == report(tmp_path / "whole")["kept"]


def test_a_task_nobody_judges_is_said_before_the_log_is_read(run_file: Path) -> None:
    change = "fit.keep={ name = 'primary', task = 'lik' }"
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", change, "--set", "data.log=nowhere.parquet")
    assert said.code == 2
    assert said.line == "umbel: fit.keep: no judged task 'lik'; did you mean 'like'?"
