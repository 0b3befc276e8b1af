"""One small simulated log, and one finished run on it, for all journeys."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest

from umbel.cli import main
from umbel.data.simulate import Planted, simulate

PLANTED = Planted(users=60, items=30, rows=6_000, days=6, conflict=0.0, strength=4.0, seed=3)
RUN = """
[data]
log = "{log}"
user = "user"
item = "item"
time = "time_ms"
[fields]
user = {{ kind = "id" }}
item = {{ kind = "id" }}
device = {{ kind = "category" }}
region = {{ kind = "category" }}
[tasks]
click = {{ }}
like = {{ }}
buy = {{ given = "click" }}
[split]
by = "time"
valid = 2024-01-05
test = 2024-01-06
[model]
recipe = "stem"
dim = 4
expert = [16, 8]
tower = [8]
[fit]
epochs = 3
batch = 512
rate = 0.01
threads = 1
[evaluate]
resamples = 40
slices = ["device"]
"""
RULES = {name: f"feedback = {{{{ window = \"1s\", positive_when = \"kind = '{name}'\" }}}}" for name in ("click", "like", "buy")}
SIMULATED = (
    RUN.replace("click = {{ }}", f"click = {{{{ {RULES['click']} }}}}")
    .replace("like = {{ }}", f"like = {{{{ {RULES['like']} }}}}")
    .replace('buy = {{ given = "click" }}', f'buy = {{{{ given = "click", {RULES["buy"]} }}}}')
    + "[feedback]\nlateness = \"0s\"\n"
)


@dataclass(frozen=True)
class Said:
    """What a verb answered."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error."""
        lines = [line for line in self.err.splitlines() if line.startswith("umbel: ")]
        assert len(lines) == 1, self.err
        return lines[0]


Say = Callable[..., Said]


def say(*words: str | Path) -> Said:
    """Run one verb in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return Said(int(str(ended.value.code)), out.getvalue(), err.getvalue())


@contextmanager
def runs_here() -> Iterator[None]:
    """The runs of a comparison are made in this process, one at a time; that a process of its own makes each is for others to test."""
    one = Lock()

    def run(command: list[str], *, env: Mapping[str, str], stderr: int, text: bool, check: bool) -> subprocess.CompletedProcess[str]:
        with one, pytest.raises(SystemExit) as ended:
            main(command[3:])
        return subprocess.CompletedProcess(command, int(str(ended.value.code)), stderr="no word of it was kept")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("umbel.study.compare.subprocess", SimpleNamespace(run=run, PIPE=subprocess.PIPE))
        yield


@pytest.fixture
def here() -> Iterator[None]:
    """`runs_here`, for as long as a test lasts."""
    with runs_here():
        yield


def content(path: Path) -> dict[str, Any]:
    """What a JSON file says."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def laid_out(folder: Path, text: str = RUN, *, planted: Planted = PLANTED) -> Path:
    """A simulated log in a folder, and beside it the run file that `text` makes over it; the path of the file."""
    simulate(planted, folder)
    path = folder / "run.toml"
    path.write_text(text.format(log=folder / "log.parquet"))
    return path


@dataclass(frozen=True)
class Job:
    """A run file beside its log, and where its finished run lies."""

    file: Path
    log: Path
    run: Path
    said: Said


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log."""
    return laid_out(tmp_path_factory.mktemp("log")).parent / "log.parquet"


@pytest.fixture
def run_file(log: Path, tmp_path: Path) -> Path:
    """A run file of its own for a test to change."""
    path = tmp_path / "run.toml"
    path.write_text(RUN.format(log=log))
    return path


@pytest.fixture(scope="session")
def job(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A finished run; tests read it and leave it alone."""
    folder = tmp_path_factory.mktemp("job")
    file = folder / "run.toml"
    file.write_text(RUN.format(log=log))
    said = say("train", file, "-o", folder / "run")
    return Job(file, log, folder / "run", said)
