"""Two processes on one folder: the second is told of the first; what a killed one left is swept away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.journeys.conftest import Job, say
from umbel import durable
from umbel.data.table import Table

LITTER = (".report.json.abcdefgh.umbel-part", ".run.toml.abcdefgh.umbel-part", ".umbel-lock", ".table.umbel-lock")


def littered(folder: Path) -> None:
    """What processes killed at work have left in a folder."""
    folder.mkdir(exist_ok=True)
    for name in LITTER:
        (folder / name).write_text("12345")
    (folder / ".table.k3v_x01a.umbel-part").mkdir()
    (folder / ".table.k3v_x01a.umbel-part" / "int32.npy").write_bytes(b"half a table")


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_folder_that_another_process_works_in_is_refused(run_file: Path, verb: str) -> None:
    run = run_file.parent / "run"
    with durable.hold(run):
        said = say(verb, run_file, "-o", run)
    assert said.code == 2
    assert said.line == f"umbel: {run}: another process ({os.getpid()}) works on it; wait until it ends, or name another folder"
    assert list(run.iterdir()) == []


def test_a_table_that_another_process_makes_is_refused(run_file: Path) -> None:
    table = run_file.parent / "table"
    with durable.sole(table):
        said = say("ingest", run_file, "-o", table)
    assert said.code == 2
    assert said.line == f"umbel: {table}: another process ({os.getpid()}) works on it; wait until it ends, or name another folder"
    assert not table.exists()


def test_the_demonstration_too(tmp_path: Path) -> None:
    with durable.hold(tmp_path / "demo"):
        said = say("demo", "-o", tmp_path / "demo")
    assert said.code == 2
    assert "works on it" in said.line


def test_a_training_at_work_is_named_by_its_process(run_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", str(run_file), "-o", str(run), "--set", "fit.epochs=500", "--set", "fit.patience=500"]
    first = subprocess.Popen([sys.executable, "-m", "umbel", *words], stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        for _ in range(2_000):
            if (run / "log.jsonl").exists():
                break
            time.sleep(0.02)
        second = say(*words)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert second.code == 2
    assert f"{run}: another process ({first.pid}) works on it" in second.line
    assert (run / durable.LOCK).read_text() == str(first.pid), "killed, it left its lock, which holds nobody off"
    with durable.hold(run):
        pass


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_new_run_goes_into_a_folder_of_leftovers_and_sweeps_it(run_file: Path, verb: str) -> None:
    """It gets as far as the recipe that does not exist: the folder is its own by then."""
    run = run_file.parent / "run"
    littered(run)
    said = say(verb, run_file, "-o", run, "--set", "model.recipe=stemm")
    assert "did you mean 'stem'?" in said.line
    assert sorted(path.name for path in run.iterdir()) == ["made.json", "run.toml"]


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_folder_of_something_else_stays_as_it_is(run_file: Path, verb: str) -> None:
    letters = run_file.parent / "letters"
    letters.mkdir()
    (letters / ".bashrc.old").write_text("dear")
    (letters / "a.txt").write_text("dear")
    said = say(verb, run_file, "-o", letters)
    assert said.code == 2
    assert "exists and is not a run" in said.line
    assert sorted(path.name for path in letters.iterdir()) == [".bashrc.old", "a.txt"]


def test_a_finished_run_is_swept_when_it_is_read_again(job: Job) -> None:
    littered(job.run)
    said = say("train", job.file, "-o", job.run)
    assert said.code == 0, said.err
    assert "finished" in said.err
    assert hidden(job.run) == []


def test_a_comparison_sweeps_what_it_was_writing_for_its_runs(run_file: Path) -> None:
    out = run_file.parent / "out"
    assert say("compare", run_file, "-o", out, "--set", "data.log=nowhere.parquet").code == 2
    half = out / "runs" / "alone" / ".rate=0.01 dim=4 seed=1.toml.abcdefgh.umbel-part"
    half.parent.mkdir(parents=True)
    half.touch()
    assert "nowhere.parquet: no such file" in say("compare", run_file, "-o", out, "--set", "data.log=nowhere.parquet").line
    assert list(half.parent.iterdir()) == []


def test_a_table_is_made_beside_leftovers_and_they_go(run_file: Path) -> None:
    folder = run_file.parent
    littered(folder)
    said = say("ingest", run_file, "-o", folder / "table")
    assert said.code == 0, said.err
    assert len(Table.open(folder / "table").parts["test"]) > 0
    assert hidden(folder) == [".report.json.abcdefgh.umbel-part", ".run.toml.abcdefgh.umbel-part", ".umbel-lock"], "only the table's own"
