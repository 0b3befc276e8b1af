"""The table of benchmarks in small: goals reached and not, both ways; who was absent; a script that fails stops no other."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from benchmarks import measured
from benchmarks.measured import Ratio
from benchmarks.table import Script, bench
from rich.console import Console

from umbel.cli import main

SCRIPT = """
import json, sys
from pathlib import Path
print("measuring", *sys.argv[1:3])
ratios = {ratios}
Path(sys.argv[sys.argv.index("-o") + 1]).write_text(json.dumps({{
    "ratios": [dict(zip(("what", "value", "low", "high", "goal", "most"), one)) for one in ratios],
    "absent": {{"another": "could not be installed"}}, "machine": {{"load_at_start": 1.5}},
}}))
"""
FOUND = [
    ("faster", 2.5, 2.0, 3.0, 2.0, False),
    ("too slow", 1.23456, 1.0, 1.5, 2.0, False),
    ("small", 1.1, 1.0, 1.2, 1.25, True),
    ("too large", 1.3, 1.2, 1.4, 1.25, True),
    ("nobody asked", 7.0, 7.0, 7.0, None, False),
]


SCRIPTS = [Script("good", ("--rows", "3"), ("--rows", "300")), Script("bad"), Script("late")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(SCRIPT.format(ratios=FOUND))
    (tmp_path / "bad.py").write_text("print('first')\nraise ValueError('no [such] number')")
    (tmp_path / "late.py").write_text(SCRIPT.format(ratios=FOUND[:1]))
    (tmp_path / "results").mkdir()
    return tmp_path


def told(folder: Path, scripts: list[Script], *, full: bool = False) -> tuple[list[str], int]:
    printed = io.StringIO()
    code = bench(scripts, folder, results=folder / "results", full=full, console=Console(width=160, file=printed))
    return printed.getvalue().splitlines(), code


def line(told: list[str], part: str) -> str:
    (found,) = (one for one in told if part in one)
    return found


def test_every_ratio_stands_beside_its_goal(folder: Path) -> None:
    lines, code = told(folder, SCRIPTS[:1])
    assert code == 0
    assert all(part in line(lines, " faster ") for part in ("good", "2.5 (2 to 3)", "≥ 2", "reached"))
    assert all(part in line(lines, "too slow") for part in ("1.23 (1 to 1.5)", "≥ 2", "not reached"))
    assert "≤ 1.25" in line(lines, " small ")
    assert "not" not in line(lines, " small ")
    assert "not reached" in line(lines, "too large")
    assert "reached" not in line(lines, "nobody asked")
    assert "could not be installed" in line(lines, "left out")


def test_a_script_that_fails_is_told_and_the_rest_still_run(folder: Path) -> None:
    lines, code = told(folder, SCRIPTS)
    assert code == 1
    assert "ValueError: no [such] number" in line(lines, "│ failed")
    assert sum(" faster " in one for one in lines) == 2


def test_what_is_kept_names_commands_machine_and_versions(folder: Path) -> None:
    told(folder, SCRIPTS)
    kept = json.loads((folder / "results" / "bench.json").read_text())
    assert kept["command"] == "make bench"
    assert kept["machine"]["cores"] >= 1
    assert "torch" in kept["versions"]
    good = kept["benchmarks"]["good"]
    assert good["command"].endswith("good.py --rows 3")
    assert good["load_at_start"] == 1.5
    assert 0 < good["cpu_seconds"] < 60
    assert [Ratio(**one) for one in good["ratios"]] == [Ratio(*one) for one in FOUND]
    assert kept["benchmarks"]["bad"]["failed"] == "ValueError: no [such] number"


def test_only_a_full_run_leaves_the_files_of_its_scripts(folder: Path) -> None:
    told(folder, SCRIPTS[:1])
    assert [path.name for path in (folder / "results").iterdir()] == ["bench.json"]
    told(folder, SCRIPTS[:1], full=True)
    assert {path.name for path in (folder / "results").iterdir()} == {"bench.json", "bench-full.json", "good.json"}
    kept = json.loads((folder / "results" / "bench-full.json").read_text())
    assert kept["benchmarks"]["good"]["command"].endswith("good.py --rows 300")


@pytest.mark.parametrize("words", [[], ["--full"]])
def test_the_verb_ends_as_the_benchmarks_do(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "measures").mkdir()
    (tmp_path / "measures" / "__main__.py").write_text(f"import sys; sys.exit(3 if sys.argv[1:] == {words} else 0)")
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(tmp_path / "measures"), *words])
    assert ended.value.code == 3


def test_a_ratio_is_the_median_of_its_rounds() -> None:
    assert measured.ratio("", measured.over([2.0, 9.0, 6.0], [1.0, 2.0, 2.0])) == Ratio("", 3.0, 2.0, 4.5, None)
    with pytest.raises(ValueError, match="shorter"):
        measured.over([1.0, 2.0], [1.0])


def test_a_command_names_neither_file_nor_password() -> None:
    words = ["/somewhere/benchmarks/store.py", "--store", "postgresql://me:secret@there/db", "--events", "10", "-o", "/somewhere/x.json"]
    assert measured.command(words) == "python benchmarks/store.py --store URL --events 10"


def test_figures_are_written_with_where_they_come_from(tmp_path: Path) -> None:
    out = tmp_path / "made" / "some.json"
    measured.write(out, {"rows": 3}, [measured.ratio("x", [1.0], goal=2)], threads=2, absent={"peer": "why"})
    told = json.loads(out.read_text())
    assert told["rows"] == 3
    assert told["machine"]["threads"] == 2
    assert told["absent"] == {"peer": "why"}
    assert Ratio(**told["ratios"][0]).reached is False
