"""A training under observation: the same training, every epoch once, and what was seen survives a stop."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.learn import checkpoint
from umbel.learn.fit import Epoch
from umbel.run.fitting import fit_model
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence
from umbel.schema import Field, FieldKind, Schema, Task
from umbel.study.transfer.witness import BATCHES, Witnessed, witness

ROWS = 1_500


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    draw, folder = np.random.default_rng(1), tmp_path_factory.mktemp("witness")
    users, items = draw.integers(40, size=ROWS), draw.integers(15, size=ROWS)
    click = draw.random(ROWS) < 0.2 + 0.6 * (users % 2)
    frame = pl.DataFrame({
        "user": users, "item": items, "click": click.astype(int), "like": (click ^ (draw.random(ROWS) < 0.3)).astype(int),
        "part": np.where(np.arange(ROWS) < 1_000, "train", np.where(np.arange(ROWS) % 2, "valid", "test")),
    })  # fmt: skip
    frame.write_parquet(folder / "log.parquet")
    schema = Schema((Field("user", FieldKind.ID), Field("item", FieldKind.ID)), (Task("click"), Task("like")))
    split = ByColumn("part", train="train", valid="valid", test="test")
    return ingest(Source(str(folder / "log.parquet"), user="user"), schema, split, folder=folder / "table")


def run(recipe: str = "stem", epochs: int = 3, dropout: float = 0.0) -> Settings:
    return parse(
        {
            "data": {"log": "log.parquet", "user": "user"},
            "fields": {"user": {"kind": "id"}, "item": {"kind": "id"}},
            "tasks": {"click": {}, "like": {}},
            "split": {"by": "column", "column": "part"},
            "model": {"recipe": recipe, "dim": 3, "expert": [8, 6], "tower": [4], "dropout": dropout},
            "fit": {"epochs": epochs, "patience": 9, "batch": 100, "rate": 0.01, "threads": 1},
        },
        where="run.toml",
    )


@dataclass
class Log:
    """A watch that keeps what it hears."""

    heard: list[str] = field(default_factory=list)

    def ingested(self, rows: int) -> None:
        self.heard.append("ingested")

    def learned(self, losses: tuple[float, ...]) -> None:
        self.heard.append("losses")

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        self.heard.append(f"step {epoch}")

    def finished(self, epoch: Epoch) -> None:
        self.heard.append(f"finished {epoch.number}")

    def stage(self, name: str) -> None:
        self.heard.append(name)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_training_is_the_same_to_the_byte(table: Table, tmp_path: Path, dropout: float) -> None:
    """With dropout too: whoever looks draws no random number of the training's."""
    witness(run(dropout=dropout), table, tmp_path / "seen", watch=Silence())
    fit_model(run(dropout=dropout), table, tmp_path / "alone", watch=Silence())
    one, other = (checkpoint.load(tmp_path / name / "checkpoint") for name in ("seen", "alone"))
    assert one is not None
    assert other is not None
    assert one.progress.scores == other.progress.scores
    assert all(torch.equal(tensor, other.weights[name]) for name, tensor in one.weights.items())


def test_every_epoch_is_seen_once_and_others_hear_of_it(table: Table, tmp_path: Path) -> None:
    log = Log()
    found = witness(run(), table, tmp_path, watch=log)
    assert [one.epoch for one in found.epochs] == [1, 2, 3]
    assert [one for one in log.heard if one.startswith("finished")] == ["finished 1", "finished 2", "finished 3"]
    assert sum(one == "step 2" for one in log.heard) == 10


def test_epochs_differ_for_the_model_has_learned(table: Table, tmp_path: Path) -> None:
    first, _, last = witness(run("mmoe"), table, tmp_path, watch=Silence()).epochs
    assert first.conflicts != last.conflicts
    assert first.gates != last.gates
    assert {one.layer for one in last.conflicts} == {"view", "layer 0 expert", "table user", "table item"}


def test_agreeing_labels_agree(table: Table, tmp_path: Path) -> None:
    """A like is a click in seven of ten rows: at the view that both teach they pull the same way."""
    last = witness(run("shared_bottom"), table, tmp_path, watch=Silence()).epochs[0]
    view = next(one for one in last.conflicts if one.layer == "view")
    assert view.cosine > 0.05
    assert view.conflicts == 0.0


def kept(folder: Path) -> list[int]:
    return [one["epoch"] for one in json.loads((folder / "probes.json").read_text())]


def test_what_was_seen_survives_a_stop(table: Table, tmp_path: Path) -> None:
    whole = witness(run(), table, tmp_path / "whole", watch=Silence())

    class Killed(Log):
        def finished(self, epoch: Epoch) -> None:
            if epoch.number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        witness(run(), table, tmp_path / "cut", watch=Killed())
    assert kept(tmp_path / "cut") == [1, 2]  # the second was seen, then the training fell back to the first's end
    assert same(witness(run(), table, tmp_path / "cut", watch=Silence()), whole)
    assert kept(tmp_path / "cut") == [1, 2, 3]


def test_a_finished_training_is_only_read(table: Table, tmp_path: Path) -> None:
    first = witness(run(), table, tmp_path, watch=Silence())
    before = (tmp_path / "probes.json").stat().st_mtime_ns
    log = Log()
    assert same(witness(run(), table, tmp_path, watch=log), first)
    assert (tmp_path / "probes.json").stat().st_mtime_ns == before
    assert log.heard == []


def test_lost_probes_are_not_made_up(table: Table, tmp_path: Path) -> None:
    witness(run(), table, tmp_path, watch=Silence())
    (tmp_path / "probes.json").unlink()
    assert witness(run(), table, tmp_path, watch=Silence()).epochs == ()
    shutil.rmtree(tmp_path)
    assert len(witness(run(), table, tmp_path, watch=Silence()).epochs) == 3


def same(one: Witnessed, other: Witnessed) -> bool:
    return one.epochs == other.epochs and one.tables == other.tables


def test_few_rows_give_few_batches(table: Table, tmp_path: Path) -> None:
    """A thousand rows are ten batches of a hundred, of which eight are looked at; with larger batches, all there are."""
    settings = run(epochs=1)
    assert len(table.parts["train"]) / settings.fit.batch > BATCHES
    large = settings.model_copy(update={"fit": settings.fit.model_copy(update={"batch": 600})})
    (probe,) = witness(large, table, tmp_path, watch=Silence()).epochs
    assert {one.conflicts for one in probe.conflicts} <= {0.0, 0.5, 1.0}
