"""What a value that training hardly met as unknown reads as: the mean of those it knows; what it learned stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import rated, rated_runs
from torch import Tensor

from umbel.coldstart.unknown import average_unknown
from umbel.data.ingest import ingest
from umbel.data.table import Table
from umbel.nn.recommender import Recommender
from umbel.run import resolve
from umbel.run.coldstart import learn
from umbel.run.settings import read
from umbel.run.watch import Silence
from umbel.schema import Schema

IDS = ("user", "item")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def mean_row(model: Recommender, table: Table, field: str) -> Tensor:
    """The mean of what a field's training values read, one by one; padding and unknown ones left out."""
    start = model.places.span(field).start
    codes = [code for code in table.column(field, "train").ravel().tolist() if code > 0]
    return torch.stack([model.table[start + code] for code in codes]).mean(0)


def unknown(model: Recommender, field: str) -> Tensor:
    return model.table[model.places.span(field).start]


def test_the_unknown_row_is_the_mean_of_what_training_read(table: Table) -> None:
    model = rated.model(table)
    before = model.table.detach().clone()
    assert average_unknown(model, table, learned=IDS) == ("age", "genres")
    for field in ("age", "genres"):
        torch.testing.assert_close(unknown(model, field), mean_row(model, table, field))
    changed = (model.table != before).any(1).nonzero().flatten().tolist()
    assert changed == sorted(model.places.span(field).start for field in ("age", "genres")), "and nothing else has changed"


def test_a_value_stands_by_how_often_it_does(table: Table) -> None:
    counts = np.bincount(table.column("genres", "train").ravel()[table.column("genres", "train").ravel() > 0])[1:]
    assert len(set(counts.tolist())) > 1
    model = rated.model(table)
    span = model.places.span("genres")
    average_unknown(model, table, learned=IDS)
    assert not torch.allclose(unknown(model, "genres"), model.table[span.start + 1 : span.stop].mean(0))


def test_what_training_met_as_unknown_often_enough_stays(tmp_path: Path) -> None:
    fields = tuple(replace(field, min_count=20) if field.name == "genres" else field for field in rated.SCHEMA.fields)
    made = rated.table(tmp_path, schema=Schema(fields, rated.SCHEMA.tasks))
    codes = made.column("genres", "train")
    assert (codes == 0).any()
    assert (codes > 0).any()
    model = rated.model(made)
    before = unknown(model, "genres").detach().clone()
    assert average_unknown(model, made, learned=IDS) == ("age",)
    assert torch.equal(unknown(model, "genres"), before)


@pytest.mark.parametrize("forget", [0.0, 0.5])
def test_training_ends_with_it_and_new_items_stay_what_they_were_learned_as(tmp_path: Path, forget: float) -> None:
    settings = read(rated_runs.write(tmp_path), ["fit.epochs=1", "episodes.method=dropoutnet", f"episodes.forget={forget}"])
    made = ingest(resolve.source(settings), resolve.schema(settings), resolve.split(settings), folder=tmp_path / "table")
    model = learn(settings, made, tmp_path / "run", watch=Silence()).newcomers.prepared.learner.model
    torch.testing.assert_close(unknown(model, "genres"), mean_row(model, made, "genres"))
    assert torch.allclose(unknown(model, "item"), mean_row(model, made, "item")) is (forget == 0.0)
    assert not torch.allclose(unknown(model, "user"), mean_row(model, made, "user"))
