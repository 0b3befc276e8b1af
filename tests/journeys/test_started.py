"""`torchrun` is for `umbel train`: what works alone says so in each of the processes, before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.conftest import say

ALONE = ("bench", "compare", "demo", "evaluate", "export", "ingest", "score", "serve", "transfer", "tune", "trial")
JOBS = ", and with --jobs for several runs at a time"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", ALONE)
def test_what_works_alone_says_so_and_leaves_nothing(verb: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    said = say(verb, "run.toml", "-o", "out")
    jobs = JOBS if verb in ("compare", "transfer", "tune") else ""
    assert (said.code, said.out) == (2, "")
    assert said.err == f"umbel: {verb}: torchrun is for `umbel train` alone; start `umbel {verb}` without it{jobs}\n"
    assert not list(place.iterdir())


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ()])
def test_help_is_for_all(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    said = say(*words)
    assert (said.code, said.err) == (0, "")
    assert "train" in said.out


def test_without_torchrun_it_works_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    said = say("compare", "run.toml", "-o", "out")
    assert said.code == 2
    assert said.err.startswith("umbel: run.toml: no such run file")


def test_each_process_of_torchrun_says_it(place: Path) -> None:
    engine = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "umbel", "demo", "-o", str(place / "out")]
    ended = subprocess.run([*engine, *words], capture_output=True, text=True, check=False, timeout=300, env=dict(os.environ))
    assert ended.returncode == 1
    assert "umbel: demo: torchrun is for `umbel train` alone; start `umbel demo` without it" in ended.stderr
    assert not list(place.iterdir())
