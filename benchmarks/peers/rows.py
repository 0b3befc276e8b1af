"""The model and the rows that everyone gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from umbel.data.batch import Batch
from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.nn.holder import HERE, Holder
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.schema import Field, FieldKind, Schema, Task

COLUMNS, DIM, BATCH, EXPERTS, EXPERT, TOWER = 16, 16, 4096, 8, (128, 64), (32,)
SMALL, LARGE, SKEW = 10**5, 10**7, 1.05


def schema() -> Schema:
    """Sixteen ids, two binary tasks."""
    fields = tuple(Field(f"c{column}", FieldKind.ID, min_count=1) for column in range(COLUMNS))
    return Schema(fields, (Task("a"), Task("b")))


def model(recipe: str, ids: int, holder: Holder = HERE) -> Recommender:
    """A recipe over `ids` ids in all, whose rows are with the holder; where it mixes experts, eight of them."""
    torch.manual_seed(0)
    vocabulary = {f"c{column}": ids // COLUMNS + 1 for column in range(COLUMNS)}
    sizes = Sizes(vocabulary, dim=DIM, expert=EXPERT, tower=TOWER, specific=1, shared=EXPERTS - 2)
    return RECIPES[recipe](schema(), sizes, parts=Parts(holder=holder))


def draw(rows: int, ids: int, *, skew: float, seed: int = 0) -> np.ndarray:
    """Codes of one column: uniform, or by Zipf's law."""
    random = np.random.default_rng(seed)
    if not skew:
        return random.integers(1, ids + 1, rows, dtype=np.int32)
    shares = np.cumsum(np.arange(1, ids + 1, dtype=np.float64) ** -skew)
    codes: np.ndarray = np.searchsorted(shares, random.random(rows) * shares[-1]).astype(np.int32) + np.int32(1)
    return codes


def packed(rows: int, ids: int, skew: float) -> np.ndarray:
    """All columns; a frequent id has any code, so that its row may lie anywhere in the table."""
    columns = []
    for column in range(COLUMNS):
        places = np.random.default_rng(column).permutation(ids // COLUMNS).astype(np.int32) + 1
        columns.append(places[draw(rows, ids // COLUMNS, skew=skew, seed=column) - 1])
    return np.stack(columns, 1)


def ready(codes: np.ndarray) -> list[Batch]:
    """Batches in memory, as the loader gives them."""
    batches = []
    labels = torch.from_numpy((np.random.default_rng(1).random((len(codes), 2)) < 0.3).astype(np.float32))
    for start in range(0, len(codes), BATCH):
        rows = torch.from_numpy(codes[start : start + BATCH])
        fields = {f"c{column}": rows[:, column] for column in range(COLUMNS)}
        own = labels[start : start + BATCH]
        batches.append(Batch(fields, own, torch.ones_like(own, dtype=torch.bool), torch.arange(start, start + len(own))))
    return batches


def table(folder: Path, rows: int) -> Table:
    """A log of Zipf-distributed ids, ingested."""
    columns = {f"c{column}": draw(rows, SMALL // COLUMNS, skew=SKEW, seed=column) for column in range(COLUMNS)}
    random = np.random.default_rng(2)
    labels = {task: (random.random(rows) < 0.3).astype(np.float32) for task in "ab"}
    part = np.where(np.arange(rows) < rows - 200, "train", np.where(np.arange(rows) % 2, "valid", "test"))
    pl.DataFrame({**columns, **labels, "part": part}).write_parquet(folder / "log.parquet")
    split = ByColumn("part", "valid", "test")
    return ingest(Source(str(folder / "log.parquet"), user="c0"), schema(), split, folder=folder / "table")
