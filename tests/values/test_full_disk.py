"""A disk that is really full, however the library that meets it says so: one line for the user, nothing half written left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tests import logs
from tests.toys import Batches, toy

from umbel import durable
from umbel.bundle import Built, Bundle
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Identity, Platt
from umbel.learn import checkpoint
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.nn.recommender import Sizes
from umbel.run.use import score_log

KIB = 1 << 10
PLAIN = Platt(slope=1.0, intercept=0.0)
CALIBRATORS: dict[str, Calibrator] = {"click": PLAIN, "buy": PLAIN, "spent": Identity()}
RANDOM = torch.randint(0, 1 << 60, (1 << 15,))  # 256 KiB that no format makes smaller
FRAME = pl.DataFrame({"a": RANDOM.numpy()})


def csv_to_a_file(path: Path) -> None:
    with path.open("wb") as file:
        FRAME.write_csv(file)


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: path.write_bytes(bytes(256 * KIB)),
    "csv": lambda path: FRAME.write_csv(path),
    "csv to a file": csv_to_a_file,
    "parquet": lambda path: FRAME.write_parquet(path),
    "parquet of arrow": lambda path: pq.write_table(FRAME.to_arrow(), path),
    "tensors": lambda path: save_file({"a": RANDOM}, path),
}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 KiB; the test skips, and says so, where none may be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk may be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def filled(disk: Path) -> Path:
    """The disk with few bytes left."""
    room = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(room.f_bavail * room.f_bsize - 8 * KIB))
    return disk


@pytest.mark.parametrize("writer", WRITERS)
def test_whoever_writes_a_full_disk_is_one_line(small: Path, writer: str) -> None:
    path = small / "a"
    with pytest.raises(UserError, match=r"small/a: the disk is full; free some space"), durable.file(path) as made:
        WRITERS[writer](made)
    assert list(small.iterdir()) == []


@pytest.mark.parametrize("told", [OSError("Disk quota exceeded (os error 122)"), RuntimeError("I/O error: No space left on device")])
def test_an_error_without_its_number_is_known_by_its_words(told: Exception) -> None:
    with pytest.raises(UserError, match="a: the disk is full"), durable.disk(Path("a")):
        raise told


@pytest.mark.parametrize("told", [OSError("os error 280"), ValueError("no space"), UserError("No space left", mend="wait")])
def test_other_words_pass_through(told: Exception) -> None:
    with pytest.raises(type(told)) as raised, durable.disk(Path("a")):
        raise told
    assert raised.value is told


def test_a_checkpoint(small: Path) -> None:
    running = fit(toy(), Batches(), plan=Plan(patience=9), judge=lambda _: 0.0)
    checkpoint.save(next(running).state, small / "kept")
    filled(small)
    with pytest.raises(UserError, match=r"the disk is full; free some space"):
        checkpoint.save(next(fit(toy(rows=9000), Batches(), plan=Plan(), judge=lambda _: 0.0)).state, small / "kept")
    assert [path.name for path in (small / "kept").iterdir()] == ["000001"]
    assert checkpoint.load(small / "kept") is not None


def untrained(table: Table) -> Bundle:
    sizes = Sizes({name: one.size for name, one in table.encoder.vocabularies.items()}, dim=64, expert=(64,), gate=(3,), tower=(3,))
    built = Built("mmoe", sizes)
    return Bundle(table.source, table.encoder, built, built(table.schema).eval(), CALIBRATORS, {})


def test_a_bundle_and_scores(small: Path, tmp_path: Path) -> None:
    long = {name: list(values) * 400 for name, values in logs.ROWS.items()}
    table = logs.table(tmp_path, long)
    bundle = untrained(table)
    with pytest.raises(UserError, match=r"small/bundle: the disk is full"):
        bundle.save(filled(small) / "bundle", golden=table.golden())
    bundle.save(tmp_path / "bundle", golden=table.golden())
    with pytest.raises(UserError, match=r"small/scores\.csv: the disk is full"):
        score_log(tmp_path / "bundle", table.source.log, small / "scores.csv")
    assert [path.name for path in small.iterdir()] == ["filling"]
