"""A run that is killed or interrupted goes on to the same bytes; the verbs start quickly because nothing heavy is imported."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.journeys.conftest import say

HEAVY = "[name for name in ('torch', 'polars', 'numpy', 'sklearn', 'pyarrow') if name in sys.modules]"
LONG = ("--set", "fit.epochs=8", "--set", "fit.patience=8", "--set", "fit.minutes=0.0005", "--set", "fit.batch=128")


def start(run_file: Path, run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "umbel", "train", str(run_file), "-o", str(run), *LONG]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def wait_for_epochs(run: Path, count: int) -> None:
    log = run / "log.jsonl"
    for _ in range(15_000):  # minutes, on a busy machine
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("the run made no epoch")


def test_killed_runs_end_on_the_same_bytes(run_file: Path, tmp_path: Path) -> None:
    for epochs in (1, 2, 4):
        process = start(run_file, tmp_path / "killed")
        wait_for_epochs(tmp_path / "killed", epochs)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    resumed = say("train", run_file, "-o", tmp_path / "killed", *LONG)
    assert resumed.code == 0, resumed.err
    assert "epoch   1" not in resumed.err
    assert say("train", run_file, "-o", tmp_path / "whole", *LONG).code == 0
    killed, whole = (np.load(tmp_path / name / "predictions.npz") for name in ("killed", "whole"))
    assert killed["logits"].tobytes() == whole["logits"].tobytes()
    logs = [len((tmp_path / name / "log.jsonl").read_text().splitlines()) for name in ("killed", "whole")]
    assert logs[0] == logs[1]


def test_a_run_whose_log_is_gone_after_the_ingest_goes_on_to_its_bundle(run_file: Path, log: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.parquet"
    shutil.copy(log, copy)
    run_file.write_text(run_file.read_text().replace(str(log), str(copy)))
    process = start(run_file, tmp_path / "run")
    wait_for_epochs(tmp_path / "run", 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    copy.unlink()
    said = say("train", run_file, "-o", tmp_path / "run", *LONG)
    assert said.code == 0, said.err
    assert say("score", tmp_path / "run" / "bundle", log, "-o", tmp_path / "scores.parquet").code == 0


def test_an_interrupt_says_how_to_go_on(run_file: Path, tmp_path: Path) -> None:
    process = start(run_file, tmp_path / "run")
    wait_for_epochs(tmp_path / "run", 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted; the same command goes on from the last checkpoint" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("verb", "where", "goes_on"),
    [
        ("ingest", "umbel.run.run.prepare", False),
        ("train", "umbel.run.run.train", True),
        ("compare", "umbel.study.compare.run_compare", True),
        ("transfer", "umbel.study.transfer.transfer.run_transfer", True),
        ("demo", "umbel.study.demo.run_demo", True),
        ("score", "umbel.run.use.score_log", False),
        ("evaluate", "umbel.run.use.judge_log", False),
    ],
)
def test_only_what_keeps_checkpoints_goes_on(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, verb: str, where: str, goes_on: bool
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    words = {"demo": (), "score": (run_file, "log.parquet"), "evaluate": (run_file, "log.parquet")}.get(verb, (run_file,))
    out = () if verb == "evaluate" else ("-o", tmp_path / "out")
    said = say(verb, *words, *out)
    assert said.code == 130
    expected = "goes on from the last checkpoint" if goes_on else "starts anew: nothing was left half done"
    assert said.line == f"umbel: interrupted; the same command {expected}"


def test_help_imports_nothing_heavy() -> None:
    program = f"import sys, umbel.cli\ntry: umbel.cli.main(['--help'])\nexcept SystemExit: print({HEAVY})"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_importing_does_nothing() -> None:
    program = f"import sys, umbel; print({HEAVY})"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_small_training_imports_no_compiler(run_file: Path, tmp_path: Path) -> None:
    """Torch's takes longer to import than a small model to train."""
    program = "import sys, umbel.cli\ntry: umbel.cli.main(sys.argv[1:])\nexcept SystemExit: print('torch._dynamo' in sys.modules)"
    words = ["train", str(run_file), "-o", str(tmp_path / "run"), "--set", "fit.epochs=1"]
    out = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True).stdout
    assert (tmp_path / "run" / "report.json").exists()
    assert out.splitlines()[-1] == "False"
