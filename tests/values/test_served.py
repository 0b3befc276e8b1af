"""A bundle before it answers: what is checked, and what it knows of popularity."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.logs import CATEGORY, ID, ROWS, SCHEMA, SPLIT, changed, source
from tests.values.test_bundle import made

from umbel.data.ingest import ingest
from umbel.errors import UserError
from umbel.schema import Field, Schema, Task
from umbel.serve.reader import Reader
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
