"""The examples run, from an empty folder, as a reader would run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.run.settings import Settings, read

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_first_model(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    command = [sys.executable, "examples/first_model.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    for name in ("click", "like", "buy", "buy_marginal"):
        assert name in done.stdout
    assert (tmp_path / "runs" / "example" / "run" / "report.html").exists()


def test_it_is_notebook_sized() -> None:
    lines = [line for line in (EXAMPLES / "first_model.py").read_text().splitlines() if line and not line.startswith(('"""', "#"))]
    assert 10 <= len(lines) <= 15


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_run_files_are_read(path: Path) -> None:
    settings: Settings = read(str(path))
    assert settings == read(path)
    assert settings.tasks
    assert settings.fields
