"""From the owners' files of MovieLens and Book-Crossing, by their commands, to a judged model: on a sample of the rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.journeys.conftest import say
from umbel.data.sources import bookcrossing, movielens
from umbel.data.sources.convert import Convert, door

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/data"
CONVERTERS: list[Convert] = [movielens.convert, bookcrossing.convert]


@pytest.mark.parametrize(
    ("module", "folder", "example"),
    [("movielens", "movielens-1m", "movielens.toml"), ("bookcrossing", "book-crossing", "book-crossing.toml")],
)
def test_a_run_file_reads_what_the_command_left(
    module: str, folder: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = SHARED / folder
    if not owners.is_dir():
        pytest.skip(f"needs ../shared/data/{folder}")
    made = tmp_path / "data" / folder
    command = [sys.executable, "-m", f"umbel.data.sources.{module}", str(owners), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == sorted(map(str, made.glob("*.parquet")))
    log = pl.read_parquet(made / "log.parquet")
    few = log.filter(pl.col("user_id").hash(seed=0) % 25 == 0)
    few.write_parquet(made / "log.parquet")
    monkeypatch.chdir(tmp_path)
    small = ("--set", "fit.epochs=2", "--set", "fit.threads=1", "--set", "evaluate.resamples=20")
    said = say("train", ROOT / "examples" / example, "-o", "run", *small)
    assert said.code == 0, said.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert sum(report["rows"].values()) == few.height
    assert report["tasks"]["rating"]["mae"]["value"] > 0


@pytest.mark.parametrize("convert", CONVERTERS)
def test_a_folder_that_is_not_there_is_one_line(convert: Convert, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door(convert, [str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"umbel: {tmp_path}/none/")
    assert not (tmp_path / "out").exists()


def test_a_command_without_a_place_to_leave_its_files_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        door(movielens.convert, ["folder"])
    assert ended.value.code == 2
    assert "-o" in capsys.readouterr().err
