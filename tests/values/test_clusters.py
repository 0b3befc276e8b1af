"""Simulated users in clusters: the log says what was planted, and nothing of who belongs to whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from umbel.data import clusters
from umbel.data.clusters import Clustered
from umbel.data.episodes import episodes
from umbel.data.ingest import ingest
from umbel.errors import UserError

SMALL = Clustered(clusters=3, users=(12, 3, 6), support=5, query=4, width=4)


def test_equal_settings_give_equal_logs_and_another_seed_another(tmp_path: Path) -> None:
    for name, planted in (("one", SMALL), ("again", SMALL), ("other", replace(SMALL, seed=2))):
        clusters.simulate(planted, tmp_path / name)
    frames = [pl.read_parquet(tmp_path / name / "log.parquet") for name in ("one", "again", "other")]
    assert frames[0].equals(frames[1])
    assert not frames[0]["y"].equals(frames[2]["y"])


def test_every_user_has_its_rows_in_one_part_and_every_cluster_has_users(tmp_path: Path) -> None:
    clusters.simulate(SMALL, tmp_path)
    frame = pl.read_parquet(tmp_path / "log.parquet")
    assert frame.group_by("user").len()["len"].unique().to_list() == [9]
    assert frame["item"].is_unique().all()
    assert frame.group_by("part").agg(pl.col("user").n_unique()).sort("part")["user"].to_list() == [6, 12, 3]
    assert np.bincount(clusters.of_users(SMALL)).tolist() == [7, 7, 7]


def test_rows_obey_the_equation(tmp_path: Path) -> None:
    """Least squares on the rows of a cluster finds one w for all its users: what is left is the noise."""
    planted = Clustered(clusters=2, users=(40, 2, 2), support=30, query=20, width=4, noise=0.25)
    clusters.simulate(planted, tmp_path)
    frame = pl.read_parquet(tmp_path / "log.parquet")
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    cluster = clusters.of_users(planted)[frame["user"].to_numpy()]
    found = [np.linalg.lstsq(x[cluster == one], y[cluster == one], rcond=None)[0] for one in (0, 1)]
    for one in (0, 1):
        assert np.std(y[cluster == one] - x[cluster == one] @ found[one]) == pytest.approx(0.25, rel=0.05)
    assert np.linalg.norm(found[0] - found[1]) > 0.2, "clusters want different things"


def test_the_episodes_are_those_that_were_meant(tmp_path: Path) -> None:
    source = clusters.simulate(SMALL, tmp_path)
    table = ingest(source, clusters.schema(SMALL), clusters.SPLIT, folder=tmp_path / "table")
    for part, users in zip(("train", "valid", "test"), SMALL.users, strict=True):
        own = episodes(table, part, SMALL.protocol)
        assert (len(own), own.support.shape[1], own.query.shape[1]) == (users, 5, 4)
    assert (table.column("item", "train") == 0).all(), "no item tells anything"


def test_recovery_is_the_share_of_pairs_in_order() -> None:
    likeness = np.array([[np.nan, 0.9, 0.1, 0.2], [0.1, np.nan, 0.5, 0.5]])
    assert clusters.recovered(likeness, np.array([0, 0]), np.array([0, 0, 1, 1])) == pytest.approx((1.0 + 0.0) / 2)


def test_nothing_of_something_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        replace(SMALL, width=0)
