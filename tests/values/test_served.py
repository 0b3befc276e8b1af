"""A bundle before it answers: what is checked, and what it knows of popularity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.coldserve import HEAD
from tests.coldserve import bundle as cold_bundle
from tests.logs import CATEGORY, ID, ROWS, SCHEMA, SPLIT, changed, source
from tests.values.test_bundle import made

from umbel.data.batch import Batch
from umbel.data.ingest import ingest
from umbel.errors import UserError
from umbel.learn.ladder import Ladder, Rung, UserState
from umbel.nn.recommender import Recommender
from umbel.schema import Field, Schema, Task
from umbel.serve.reader import Raw, Reader
from umbel.serve.served import Served, load


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    table = ingest(source(folder), SCHEMA, SPLIT, folder=folder / "table")
    made(table).save(folder / "bundle", golden=table.golden())
    return folder / "bundle"


def test_its_name_is_that_of_its_content(saved: Path, tmp_path: Path) -> None:
    served = load(saved)
    manifest = json.loads((saved / "manifest.json").read_text())
    assert served.name == manifest["checksum"][:12]
    shutil.copytree(saved, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").name == served.name
    assert served.folder == saved


def test_a_changed_file_is_refused(saved: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(saved, broken)
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(UserError, match=r"weights.safetensors: is truncated or changed"):
        load(broken)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a bundle"):
        load(tmp_path)


def test_golden_rows_are_scored_as_requests_too(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Reader.predict

    def slightly_off(self: Reader, shared: dict[str, object], items: list[dict[str, object]]) -> np.ndarray:
        found = honest(self, shared, items)  # type: ignore[arg-type]
        found[-1, 0] += 2e-6
        return found

    monkeypatch.setattr(Reader, "predict", slightly_off)
    with pytest.raises(UserError, match="golden rows score otherwise as requests, by up to 2e-06"):
        load(saved)


def test_a_bundle_of_times_and_odd_values_can_be_served(tmp_path: Path) -> None:
    moments = [datetime(2024, 1, 1 + at, tzinfo=UTC).replace(tzinfo=None) for at in range(10)]
    rows = changed(when=pl.Series(moments), price=[float("inf") if at == 9 else float(at) for at in range(10)])
    schema = Schema(
        (Field("user", ID, min_count=1), Field("late", CATEGORY, sql="CASE WHEN price > 4 THEN 'dear' ELSE 'cheap' END", min_count=1)),
        (Task("click"),),
    )
    table = ingest(source(tmp_path, rows), schema, SPLIT, folder=tmp_path / "table")
    made(table).save(tmp_path / "bundle", golden=table.golden())
    served = load(tmp_path / "bundle")
    found = served.reader.predict({"user": 1}, [{"price": 5.0}, {"price": 3.0}])
    assert np.abs(found[0] - found[1]).max() > 1e-6


def test_popularity_counts_training_rows(saved: Path) -> None:
    served = load(saved)
    train = list(ROWS["item"])[:6]
    assert served.popularity(["a", "b", "c", "z", "no"]).tolist() == [train.count("a"), train.count("b"), train.count("c"), 0, 0]
    assert served.popularity([]).tolist() == []


def test_popularity_of_ids_that_are_numbers(tmp_path: Path) -> None:
    rows = changed(item=[7, 8, 7, 9, 7, 8, 1, 2, 3, 4], watched=[[7]] * 10)
    table = ingest(source(tmp_path, rows), SCHEMA, SPLIT, folder=tmp_path / "table")
    made(table).save(tmp_path / "bundle", golden=table.golden())
    assert load(tmp_path / "bundle").popularity(["7", "8", "09", "x", "1"]).tolist() == [3, 2, 1, 0, 0]


def test_where_no_item_is_read_all_are_equally_popular(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID, min_count=1),), (Task("click"),))
    table = ingest(source(tmp_path), schema, SPLIT, folder=tmp_path / "table")
    made(table).save(tmp_path / "bundle", golden=table.golden())
    served: Served = load(tmp_path / "bundle")
    assert served.popularity(["a", "b"]).tolist() == [0, 0]


@pytest.mark.parametrize(("head", "steps_from", "rungs"), [
    (1, None, [Rung.HEAD]), (3, 40, [Rung.HEAD, Rung.STEPS]), (5, 2, [Rung.STEPS]), (None, None, []),
])  # fmt: skip
def test_a_bundle_has_adapted_before_it_answers(
    head: int | None, steps_from: int | None, rungs: list[Rung], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every rung that it can, so that no user waits for what is slow the first time."""
    adapted, answered, honest = [], [], Reader.predict

    def adapt(self: Ladder, model: Recommender, support: Batch) -> UserState:
        names = [name for name, _ in model.named_parameters() if name.startswith(("layers.", "head."))]
        adapted.append(honestly(replace(self, steps=1, rates=dict.fromkeys(names, torch.tensor(0.1))), model, support))
        return adapted[-1]

    def predict(self: Reader, shared: Raw, items: Sequence[Raw], state: UserState | None = None) -> np.ndarray:
        answered.extend([] if state is None else [state.rung])
        return honest(self, shared, items, state)

    honestly = Ladder.adapt
    monkeypatch.setattr(Ladder, "adapt", adapt)
    monkeypatch.setattr(Reader, "predict", predict)
    load(cold_bundle(tmp_path, replace(HEAD, head=head, steps_from=steps_from)))
    assert [one.rung for one in adapted] == answered == rungs
    assert all(not one.shared for one in adapted)
