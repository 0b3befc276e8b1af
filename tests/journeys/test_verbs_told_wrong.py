"""Every verb told wrong: a folder that is no bundle, a log that is none, a table with holes; one line, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.journeys.conftest import Job, say

Damage = Callable[[Path], None]


@pytest.fixture
def bundle(job: Job, tmp_path: Path) -> Path:
    """A bundle of its own for a test to break."""
    return Path(shutil.copytree(job.run / "bundle", tmp_path / "bundle"))


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def list_for_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def short_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def more_files(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def no_report(folder: Path) -> None:
    (folder / "report.json").unlink()


DAMAGES: dict[str, tuple[Damage, str]] = {
    "no manifest": (no_manifest, "not a bundle (no manifest.json)"),
    "a list": (list_for_manifest, "manifest.json: not readable"),
    "short weights": (short_weights, "weights.safetensors: is truncated or changed"),
    "a foreign file": (more_files, "notes.txt: was not part of it"),
    "no report": (no_report, "report.json: is missing"),
}
READERS = ("score", "evaluate", "explain", "monitor")


def words(verb: str, bundle: Path, log: Path, out: Path) -> list[str | Path]:
    return [verb, bundle, log, "-o", out]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("verb", READERS)
def test_a_broken_bundle_is_told_by_its_file(verb: str, damage: str, bundle: Path, job: Job, tmp_path: Path) -> None:
    change, said = DAMAGES[damage]
    change(bundle)
    found = say(*words(verb, bundle, job.log, tmp_path / "out.parquet"))
    assert found.code == 2
    assert said in found.line
    assert str(bundle) in found.line
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_gate_refuses_a_broken_bundle_on_either_side(damage: str, bundle: Path, job: Job) -> None:
    change, said = DAMAGES[damage]
    change(bundle)
    good = job.run / "bundle"
    for pair in ((bundle, good), (good, bundle)):
        found = say("promote", *pair, job.log)
        assert found.code == 2
        assert said in found.line


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_training_goes_on_from_a_broken_bundle(damage: str, bundle: Path, job: Job, tmp_path: Path) -> None:
    change, said = DAMAGES[damage]
    change(bundle)
    found = say("train", job.file, "-o", tmp_path / "run", "--from", bundle)
    assert found.code == 2
    assert said in found.line


@pytest.mark.parametrize("verb", READERS)
def test_a_log_that_is_not_there_is_told(verb: str, job: Job, tmp_path: Path) -> None:
    found = say(*words(verb, job.run / "bundle", tmp_path / "nowhere.parquet", tmp_path / "out.parquet"))
    assert found.code == 2
    assert "nowhere.parquet" in found.line


@pytest.mark.parametrize("verb", READERS)
def test_a_log_that_is_none_is_told(verb: str, job: Job, tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"PAR1 but not really")
    found = say(*words(verb, job.run / "bundle", tmp_path / "log.parquet", tmp_path / "out.parquet"))
    assert found.code == 2
    assert "log.parquet" in found.line


@pytest.mark.parametrize("column", ["user", "item", "device"])
@pytest.mark.parametrize("verb", READERS)
def test_a_column_that_is_missing_is_named(verb: str, column: str, job: Job, tmp_path: Path) -> None:
    pl.read_parquet(job.log).drop(column).write_parquet(tmp_path / "log.parquet")
    found = say(*words(verb, job.run / "bundle", tmp_path / "log.parquet", tmp_path / "out.parquet"))
    assert found.code == 2
    assert repr(column) in found.line


@pytest.mark.parametrize("verb", ["evaluate", "monitor"])
def test_a_label_out_of_its_range_is_told_with_its_row(verb: str, job: Job, tmp_path: Path) -> None:
    frame = pl.read_parquet(job.log).head(50)
    wrong = frame.with_columns(click=pl.when(pl.int_range(pl.len()) == 17).then(3).otherwise("click"))
    wrong.write_parquet(tmp_path / "log.parquet")
    found = say(*words(verb, job.run / "bundle", tmp_path / "log.parquet", tmp_path / "out.parquet"))
    assert found.code == 2
    assert "click" in found.line
    assert "18" in found.line or "17" in found.line


@pytest.mark.parametrize("verb", ["evaluate", "promote"])
def test_a_log_without_labels_cannot_judge(verb: str, job: Job, tmp_path: Path) -> None:
    pl.read_parquet(job.log).head(100).drop("click", "like", "buy").write_parquet(tmp_path / "log.parquet")
    bundles = [job.run / "bundle"] * (2 if verb == "promote" else 1)
    found = say(verb, *bundles, tmp_path / "log.parquet")
    assert found.code == 2
    assert "no label to judge by" in found.line


@pytest.mark.parametrize(("given", "said"), [
    (["promote"], "CANDIDATE STABLE"),
    (["monitor"], "BUNDLE"),
    (["monitor", "a"], "LOG"),
    (["collect"], "STORE"),
    (["serve"], "BUNDLE"),
    (["promot", "a", "b", "c"], "promot"),
    (["monitor", "a", "b", "--every"], "--every"),
])
def test_a_wrong_command_line_is_one_line(given: list[str], said: str) -> None:
    found = say(*given)
    assert found.code == 2
    assert said.lower() in found.err.lower()


def test_an_output_that_cannot_be_written_is_told_and_nothing_is_left(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for verb in ("score", "monitor", "evaluate"):
        found = say(*words(verb, job.run / "bundle", job.log, tmp_path / "file" / "below"))
        assert found.code == 2, verb
        assert "file" in found.line
    assert (tmp_path / "file").read_text() == "in the way"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_monitor_and_promote_leave_is_json_that_agrees_with_what_they_say(job: Job, tmp_path: Path) -> None:
    bundle = job.run / "bundle"
    watched = say("monitor", bundle, job.log, "--all", "-o", tmp_path / "monitor.json")
    saved = json.loads((tmp_path / "monitor.json").read_text())
    assert watched.code == (3 if saved["alarms"] else 0)
    assert [line[6:] for line in watched.out.splitlines()[:-1]] == [one["says"] for one in saved["findings"]]
    gate = say("promote", bundle, bundle, job.log, "--bound", "milliseconds=100000", "-o", tmp_path / "gate.json")
    told = json.loads((tmp_path / "gate.json").read_text())
    assert gate.code == (0 if told["promote"] else 3)
    assert [line.partition(" ")[2].strip() for line in gate.out.splitlines()[:-1]] == [one["says"] for one in told["checks"]]
