"""Training by several processes: what one would have found, though a worker was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import ProcessGroup

from tests.journeys.conftest import Job, say
from umbel.bundle import Bundle

QUICK = ("--set", "fit.batch=256", "--set", "fit.epochs=4", "--set", "fit.patience=4", "--set", "fit.minutes=0.005")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # see the README on restarts


def start(*words: str | Path) -> subprocess.Popen[str]:
    engine = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    return subprocess.Popen(
        [*engine, "-m", "umbel", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How it ended, and what was said; it does not outlive the test."""
    try:
        out, err = process.communicate(timeout=300)
        return process.returncode, out + err
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def losses(run: Path) -> list[list[float]]:
    return [json.loads(line)["losses"] for line in (run / "log.jsonl").read_text().splitlines()]


def worker(process: subprocess.Popen[str], rank: int) -> int:
    """Of the processes that it started, the one of that rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = (child for child in children if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"))
    return int(found)


def finished_epochs(run: Path) -> int:
    """By the newest checkpoint, which is there until two newer ones are."""
    newest = sorted((run / "checkpoint").glob("[0-9]*/state.json"))[-1:]
    return max((int(json.loads(one.read_text())["progress"]["epoch"]) for one in newest), default=0)


@pytest.fixture(scope="module")
def one(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    run = tmp_path_factory.mktemp("one") / "run"
    assert say("train", job.file, "-o", run, *QUICK).code == 0
    return run


@pytest.mark.parametrize(("tables", "killed"), [("replicas", 0), ("shards", 1)])
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_a_killed_worker_costs_nothing_and_the_model_is_that_of_one_process(
    tables: str, killed: int, one: Path, job: Job, tmp_path: Path
) -> None:
    """The first process writes and judges, the other follows: each dies once."""
    run = tmp_path / "run"
    process = start("train", job.file, "-o", run, *QUICK, "--set", f"fit.tables={tables}")
    while not finished_epochs(run) and process.poll() is None:
        time.sleep(0.02)
    os.kill(worker(process, killed), signal.SIGKILL)
    before = (run / "log.jsonl").read_text().splitlines()
    code, said = finished(process)
    assert code == 0, said
    after = (run / "log.jsonl").read_text().splitlines()
    assert after[0] == before[0], "an epoch that was trained again would have taken other seconds"
    assert len(before) < len(after) == 4
    for own, expected in zip(losses(run), losses(one), strict=True):
        assert own == pytest.approx(expected, abs=1e-4)
    report, expected = (json.loads((folder / "report.json").read_text()) for folder in (run, one))
    assert report["tasks"]["click"]["auc"]["value"] == pytest.approx(expected["tasks"]["click"]["auc"]["value"], abs=2e-3)
    assert report["parameters"] == expected["parameters"]
    ours, theirs = (load_file(folder / "bundle" / "weights.safetensors") for folder in (run, one))
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: tensor.shape for name, tensor in theirs.items()}
    torch.testing.assert_close(ours["table"], theirs["table"], rtol=0, atol=1e-3)
    Bundle.load(run / "bundle")
    assert said.count("report.html") == 1, "one process speaks"


def test_a_finished_run_is_read(job: Job, tmp_path: Path) -> None:
    shutil.copytree(job.run, tmp_path / "run")
    code, said = finished(start("train", job.file, "-o", tmp_path / "run"))
    assert code == 0, said
    assert "this run is finished" in said


def test_the_report_tells_the_memory_of_the_process_that_held_the_most(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training of one process, whom another is made up beside."""
    told = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    asked = []

    def most(group: ProcessGroup | None, here: int) -> int:
        asked.append((group is not None, here))
        return 10**15

    monkeypatch.setattr("umbel.run.run.most", most)
    said = say("train", job.file, "-o", tmp_path / "run", *QUICK, "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    ((started, here),) = asked
    assert started
    assert 10**8 < here < 10**15
    assert json.loads((tmp_path / "run" / "report.json").read_text())["peak_memory_bytes"] == 10**15
