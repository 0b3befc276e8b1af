"""A small rated log with users that come and go, and everything a cold-start method starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from umbel.bundle import Built, Bundle
from umbel.coldstart.method import Setup
from umbel.coldstart.prior import ItemMeans
from umbel.coldstart.source import Reader
from umbel.data.episodes import Protocol
from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.evaluate.calibrate import Calibrator, Linear, Platt
from umbel.learn.ladder import Ladder
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

FIELDS = (
    Field("user", FieldKind.ID, min_count=1),
    Field("item", FieldKind.ID, min_count=1),
    Field("age", FieldKind.CATEGORY, min_count=1),
    Field("genres", FieldKind.BAG, length=3, min_count=1),
    Field("year", FieldKind.NUMBER),
)
TASKS = (Task("rating", REGRESSION), Task("click"))
SCHEMA = Schema(FIELDS, TASKS)
SHORT = Protocol(support=4, query=None, history=(7, 100))


def log(*, users: int = 12, items: int = 15, seed: int = 0) -> pl.DataFrame:
    """Users of 8 to 15 ratings; two in three train, the next validates, the last test; items from 12 on are in the test part alone."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[object, ...]] = []
    for user in range(users):
        part = ("train", "train", "valid", "test")[user % 4]
        known = items if part == "test" else items - 3
        for item in rng.permutation(known)[: 8 + user % 4 if part != "test" else items]:
            rating = float(np.clip(round(3 + (user % 3 - 1) * (item % 2) + rng.normal()), 1, 5))
            rows.append((user, f"i{item}", f"a{user % 3}", [f"g{item % 2}", f"g{item % 5}"], 1990.0 + item, rating, int(rating > 3), part))
    names = ["user", "item", "age", "genres", "year", "rating", "click", "part"]
    return pl.DataFrame(rows, schema=names, orient="row", strict=False).with_row_index("time")


def table(folder: Path, frame: pl.DataFrame | None = None, schema: Schema = SCHEMA) -> Table:
    """That log, ingested."""
    folder.mkdir(parents=True, exist_ok=True)
    (log() if frame is None else frame).write_parquet(folder / "log.parquet")
    source = Source(str(folder / "log.parquet"), user="user", item="item", time="time")
    return ingest(source, schema, ByColumn("part", "valid", "test"), folder=folder / "table")


def sizes(made: Table, *, dim: int = 3, expert: tuple[int, ...] = (6, 5), tower: tuple[int, ...] = ()) -> Sizes:
    """Small widths over the table's vocabularies."""
    rows = {name: vocabulary.size for name, vocabulary in made.encoder.vocabularies.items()}
    return Sizes(rows, dim=dim, expert=expert, tower=tower)


def model(made: Table, recipe: str = "shared_bottom", *, schema: Schema | None = None, seed: int = 0) -> Recommender:
    """A model with embeddings large enough to matter."""
    torch.manual_seed(seed)
    found = RECIPES[recipe](schema or made.schema, sizes(made))
    with torch.no_grad():
        found.table.normal_(std=0.5)
    return found


def setup(made: Table, *, recipe: str = "shared_bottom", protocol: Protocol = SHORT, items: bool = True) -> Setup:
    """What a method starts from, over that table."""
    return Setup(Reader(made, ItemMeans.of(made, items=items)), lambda schema: model(made, recipe, schema=schema), protocol, size=3)


def bundle(made: Table, ladder: Ladder | None = None, *, recipe: str = "shared_bottom", tower: tuple[int, ...] = ()) -> Bundle:
    """A bundle over that table: a model with item means as offsets and embeddings large enough to matter, calibrated."""
    built = Built(recipe, sizes(made, tower=tower), offset="item")
    torch.manual_seed(0)
    model = built(made.schema)
    with torch.no_grad():
        model.table.normal_(std=0.5)
    assert model.offsets is not None
    model.offsets.values.copy_(torch.from_numpy(ItemMeans.of(made)(np.arange(made.encoder.vocabularies["item"].size))))
    calibrators: dict[str, Calibrator] = {"rating": Linear(slope=0.9, intercept=0.3), "click": Platt(slope=0.8, intercept=-0.1)}
    return Bundle(made.source, made.encoder, built, model.eval(), calibrators, {}, ladder=ladder)
