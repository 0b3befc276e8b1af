"""Simulated users in clusters that want the same: a log on which it is known who can help whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int64

from umbel.data.episodes import Protocol
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.errors import UserError
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task


@dataclass(frozen=True, slots=True)
class Clustered:
    """`y = x . (common w_0 + w_c) + noise e`, x and e standard normal, every w of `width` normals of variance `1 / width`.

    c is the cluster of the user, one of `clusters`, all as large as can be. Nothing in the log tells it: users have no attributes, and no
    two rows an item in common. A user has `support + query` rows. `users` are counted by part: training, validation, test.
    """

    clusters: int = 8
    users: tuple[int, int, int] = (512, 128, 256)
    support: int = 20
    query: int = 20
    width: int = 16
    common: float = 0.5
    noise: float = 0.5
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.clusters, *self.users, self.support, self.query, self.width) < 1:
            raise UserError("clusters: every count is at least 1", mend="raise it")

    @property
    def protocol(self) -> Protocol:
        """Episodes of all its users, as they were meant."""
        rows = self.support + self.query
        return Protocol(support=self.support, query=self.query, history=(rows, rows))


TASKS = (Task("y", REGRESSION),)
SPLIT = ByColumn("part", "valid", "test")


def simulate(planted: Clustered, folder: Path) -> Source:
    """Write `log.parquet` (`user, item, x, y, part`) into a folder, and say where it lies; equal settings give equal rows."""
    draw = np.random.default_rng([planted.seed])
    cluster = of_users(planted)
    rows = planted.support + planted.query
    user = np.repeat(np.arange(len(cluster)), rows)
    tastes = draw.normal(size=(1 + planted.clusters, planted.width)) / np.sqrt(planted.width)
    x = draw.normal(size=(len(user), planted.width)).astype(np.float32)
    wanted = planted.common * tastes[0] + tastes[1:][cluster[user]]
    y = (x * wanted).sum(1) + planted.noise * draw.normal(size=len(user))
    part = np.repeat(np.array(("train", "valid", "test")), planted.users)[user]
    frame = pl.DataFrame({"user": user, "item": np.arange(len(user)), "y": y, "part": part, "time": np.arange(len(user))})
    folder.mkdir(parents=True, exist_ok=True)
    frame.with_columns(pl.Series("x", x)).write_parquet(folder / "log.parquet")
    return Source(str(folder / "log.parquet"), user="user", item="item", time="time")


def schema(planted: Clustered) -> Schema:
    """Its fields and its task."""
    fields = (Field("user", FieldKind.ID, min_count=1), Field("item", FieldKind.ID), Field("x", FieldKind.VECTOR, width=planted.width))
    return Schema(fields, TASKS)


def of_users(planted: Clustered) -> Int64[np.ndarray, "users"]:
    """The cluster of each user: users are numbered in turn."""
    return np.arange(sum(planted.users), dtype=np.int64) % planted.clusters


def recovered(likeness: Float[np.ndarray, "users others"], own: Int64[np.ndarray, "users"], other: Int64[np.ndarray, "others"]) -> float:
    """AUC of a likeness for being of one cluster: the chance that a user of the same is more alike than one of another.

    Every user is ranked apart, and the mean is taken; likenesses with oneself have to be NaN.
    """
    from sklearn.metrics import roc_auc_score

    found = []
    for row, cluster in zip(likeness, own, strict=True):
        there = ~np.isnan(row)
        found.append(roc_auc_score(other[there] == cluster, row[there]))
    return float(np.mean(found))
