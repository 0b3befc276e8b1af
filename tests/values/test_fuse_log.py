"""A raw log as rows to order: predictions and labels in their columns, groups inside users, and what starts a search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from tests.logs import ROWS, write
from tests.untrained import POLICY, bundle

from umbel.bundle import Bundle
from umbel.errors import UserError
from umbel.fuse.asked import Asked, opened
from umbel.fuse.log import checksum, columns_of, predictions_of, read_rows
from umbel.fuse.tuned import tune
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("fuse"))


def test_rows_are_the_log_s_in_order_of_groups(folder: Path, tmp_path: Path) -> None:
    made = Bundle.load(folder)
    log = write(tmp_path, ROWS)
    rows = read_rows(made, log, columns_of(made.schema, POLICY), by=None, joins=())
    users = pl.Series(ROWS["user"]).to_numpy()
    order = np.argsort(users, kind="stable")
    assert rows.user.tolist() == rows.group.tolist() == users[order].tolist()
    scores = np.concatenate([one for _, one in made.score(replace(made.source, log=log))])[order]
    places = [made.columns.index(name) for name in POLICY.tasks]
    assert_allclose(rows.predictions, scores[:, places])
    assert_allclose(rows.score(POLICY), POLICY.score(scores[:, places]))
    assert_allclose(rows.labels[:, 0], np.array(ROWS["click"])[order])
    assert_allclose(rows.labels[:, 2], np.array([np.nan if one is None else one for one in ROWS["spent"]])[order])
    assert list(predictions_of(rows)) == list(POLICY.tasks)
    assert_allclose(predictions_of(rows)["spent"], rows.predictions[:, 2])


def test_groups_are_values_of_a_column_inside_users(folder: Path, tmp_path: Path) -> None:
    made = Bundle.load(folder)
    log = write(tmp_path, {**ROWS, "visit": ["x", "x", "y", "y", "x", "z", "z", "z", "y", "x"]})
    rows = read_rows(made, log, columns_of(made.schema, POLICY), by="visit", joins=())
    pairs = sorted(zip(["x", "x", "y", "y", "x", "z", "z", "z", "y", "x"], ROWS["user"], strict=True))
    assert len(rows.starts) == len(set(pairs))
    assert sorted(rows.sizes.tolist()) == sorted(pairs.count(one) for one in set(pairs))
    with pytest.raises(UserError, match="no column 'visits'"):
        read_rows(made, log, columns_of(made.schema, POLICY), by="visits", joins=())


def test_a_task_without_any_label_is_named(folder: Path, tmp_path: Path) -> None:
    made = Bundle.load(folder)
    log = write(tmp_path, {**ROWS, "spent": pl.Series([None] * 10, dtype=pl.Float64)})
    with pytest.raises(UserError, match="no label of spent; give a log that has one, or a policy without the task"):
        read_rows(made, log, columns_of(made.schema, POLICY), by=None, joins=())
    without = replace(POLICY, terms=POLICY.terms[:2])
    assert read_rows(made, log, columns_of(made.schema, without), by=None, joins=()).labels.shape == (10, 2)


def test_a_search_starts_at_the_bundle_s_own_or_at_a_file(folder: Path, tmp_path: Path) -> None:
    assert opened(folder, Asked())[1] == POLICY
    other = Fusion((Term("spent", Linear(3.0)), Term("click", Linear(), -1)), "other")
    other.save(tmp_path / "other.json")
    assert opened(folder, Asked(policy=str(tmp_path / "other.json")))[1] == other


def test_a_bundle_without_a_fusion_needs_one(tmp_path: Path) -> None:
    bare = bundle(tmp_path, fusion=None)
    with pytest.raises(UserError) as refused:
        opened(bare, Asked())
    assert str(refused.value) == f"{bare}: has no fusion to start at; give one with --set policy=FILE"


def test_the_checksum_is_the_manifest_s(folder: Path) -> None:
    assert checksum(folder) == json.loads((folder / "manifest.json").read_text())["checksum"]
    assert len(checksum(folder)) == 64


def test_a_watch_is_told_of_every_policy(folder: Path, tmp_path: Path) -> None:
    """From 1 to the budget; and nobody needs to listen."""
    draw = np.random.default_rng(0)
    many = {name: [values[at % 10] for at in range(400)] for name, values in ROWS.items()}
    log = write(tmp_path, {**many, "user": draw.integers(1, 60, 400).tolist()})
    told: list[tuple[int, int]] = []
    asked = Asked(trials=9, top=2)
    found = tune(folder, log, asked, watch=lambda done, of: told.append((done, of)))
    assert told == [(number, 9) for number in range(1, 10)]
    assert tune(folder, log, asked).to_json() == found.to_json()
    assert found.facts["policies"] == "9, cma"
