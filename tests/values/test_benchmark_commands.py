"""Every benchmark starts: it says what it measures, where its figures go, and what it can be told."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PARTS = {"__main__", "measured", "table", "meta_loops", "ccml_loops", "products", "published"}  # what benchmarks are made of
SCRIPTS = [*FOLDER.glob("*.py"), FOLDER / "heads" / "marginals.py"]


@pytest.mark.parametrize("script", sorted(path for path in SCRIPTS if path.stem not in PARTS), ids=lambda path: path.stem)
def test_it_says_what_it_can_be_told(script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "-o" in said
    assert "usage: " in said
