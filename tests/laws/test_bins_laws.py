"""Bins change what a model reads and nothing else: edges come of training rows alone, and every recipe and view reads them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import everykind, logs
from tests.everykind import PAIRS, VOCABULARY, awake, fields
from tests.laws import test_data
from tests.laws.test_gradient_law import check
from tests.loops import look

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByTime
from umbel.data.table import Table
from umbel.nn.apart import Apart
from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import PARADIGMS
from umbel.nn.views import Places, Views
from umbel.recipes import RECIPES, stem
from umbel.schema import Field, FieldKind, Schema, Statistic, Task

TASKS = (Task("click"), Task("like"))
PAST = Field("picture", FieldKind.STATISTIC, statistic=Statistic(("user", "item"), ("click", "like")), bins=3)
EDGES = {"price": ((-1.5, -0.5, 0.0, 1.5),), "picture": ((-2.0, 0.0, 2.0), (-1.0, 1.0), (-1.0, -0.5, 0.5, 1.0))}


def model(recipe: str, paradigm: str | None) -> Recommender:
    """The everyday schema, its number and a statistic with bins."""
    torch.manual_seed(0)
    views = {} if paradigm is None else {"paradigm": PARADIGMS[paradigm]}
    sizes = Sizes(VOCABULARY, dim=3, expert=(10, 8), tower=(6,), edges=EDGES)
    made: Recommender = RECIPES[recipe](Schema((*everykind.binned().fields[:-1], PAST), TASKS), sizes, **views)
    return awake(made).eval()


@pytest.mark.parametrize(("recipe", "paradigm"), PAIRS)
def test_every_recipe_reads_pieces_in_every_view(recipe: str, paradigm: str | None) -> None:
    """Inside the edges a number moves the scores, beyond them no more; rows together score as rows alone."""
    made, rows = model(recipe, paradigm), fields(8, missing=False)
    for name, low, high in (("price", -1.5, 1.5), ("picture", -2.0, 2.0)):
        inside, below, above = (made({**rows, name: torch.full_like(rows[name], value)}) for value in (0.25, low, high))
        assert not torch.equal(inside, below)
        assert not torch.equal(inside, above)
        assert torch.equal(made({**rows, name: torch.full_like(rows[name], low - 5)}), below)
        assert torch.equal(made({**rows, name: torch.full_like(rows[name], high + 5)}), above)
        assert made({**rows, name: torch.full_like(rows[name], torch.nan)}).isfinite().all()
    alone = torch.cat([made({name: column[row : row + 1] for name, column in rows.items()}) for row in range(8)])
    torch.testing.assert_close(made(rows), alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("recipe", "paradigm"), PAIRS)
def test_tasks_reach_the_maps_of_pieces_as_declared(recipe: str, paradigm: str | None) -> None:
    check(model(recipe, paradigm))


def test_views_are_those_of_a_loop() -> None:
    """In every view, field by field and row by row, missing numbers among them."""
    made, batch = awake(stem(everykind.binned(), everykind.sizes())).eval(), fields(9)
    batch["price"][::4] = torch.nan
    seen = made.seen(batch)
    for view in range(made.views.views):
        torch.testing.assert_close(seen[:, view].flatten(1), look(made, made.table, batch, view), atol=1e-6, rtol=1e-6)


def test_fields_come_in_the_order_of_the_schema() -> None:
    """A number with bins stands in its own place between those that are looked up and those that are not."""
    made = Views(everykind.binned(), (1, 1))
    with torch.no_grad():
        for number, own in enumerate(made.vectors):
            own.get_parameter("missing").fill_(float(number + 1))
    batch = fields(2)
    batch |= {"price": torch.full((2,), torch.nan), "picture": torch.full((2, 3), torch.nan)}
    found = made({"table": torch.zeros(40, 1), "place": Places(everykind.binned(), VOCABULARY)(batch)}, batch)
    assert found[:, 0, [5, 7], 0].tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_what_rows_share_is_read_once() -> None:
    made, rows = model("stem", None), fields(4)
    apart = Apart(made, once=("user", "age", "price"), own=("item", "picture", "tags"))
    shared = {name: rows[name][:1] for name in ("user", "age", "price")}
    numbers = apart.keep({name: rows[name] for name in ("item", "picture", "tags")})
    rest = {name: column for name, column in rows.items() if name in ("watched", "hour")}
    whole = {**rows, **{name: one.expand(4) for name, one in shared.items()}}
    with torch.inference_mode():
        torch.testing.assert_close(apart.logits(numbers, shared, rest), made(whole), atol=1e-6, rtol=1e-6)


# Edges


def make(folder: Path, data: dict[str, pl.Series], *, bins: int = 5, out: str = "table") -> Table:
    """A log of a thousand rows in the order of `time`, with a number and a statistic."""
    folder.mkdir(exist_ok=True)
    pl.DataFrame(data).drop("history", "tags").write_parquet(folder / "log.parquet")
    past = Field("past", FieldKind.STATISTIC, statistic=Statistic(("user",), ("click",), mode="folds"), bins=bins)
    schema = Schema((Field("user", FieldKind.ID), Field("price", FieldKind.NUMBER, bins=bins), past), (Task("click"),))
    source = Source(str(folder / "log.parquet"), user="user", time="time")
    return ingest(source, schema, ByTime(700, 850), folder=folder / out)


def test_rows_that_do_not_train_change_no_edge(tmp_path: Path) -> None:
    data = test_data.columns()
    table = make(tmp_path / "one", data)
    later = data["time"] >= 700
    changed = pl.DataFrame(data).with_columns(
        price=pl.when(later).then(1e6).otherwise("price"), click=pl.when(later).then(1 - pl.col("click")).otherwise("click"),
    )  # fmt: skip
    other = make(tmp_path / "two", changed.to_dict())
    assert other.encoder.edges == table.encoder.edges
    assert not torch.equal(other.batch(np.arange(900, 901)).fields["price"], table.batch(np.arange(900, 901)).fields["price"])


def test_rows_that_train_do(tmp_path: Path) -> None:
    data = test_data.columns()
    table = make(tmp_path / "one", data)
    mine = (data["time"] < 700) & (data["time"] >= 350)
    changed = pl.DataFrame(data).with_columns(price=pl.when(mine).then(50.0).otherwise("price")).to_dict()
    assert make(tmp_path / "two", changed).encoder.edges["price"] != table.encoder.edges["price"]


def test_edges_are_the_quantiles_of_the_columns_that_train(tmp_path: Path) -> None:
    """Of what training rows read, the statistic's as well, and so that each piece holds as many rows."""
    table = make(tmp_path, test_data.columns())
    rows = table.batch(np.arange(len(table.parts["train"]))).fields
    columns = {"price": [rows["price"].numpy()], "past": list(rows["past"].numpy().T)}
    for name, own in columns.items():
        for column, found in zip(own, table.encoder.edges[name], strict=True):
            known = column[~np.isnan(column)]
            expected = np.unique(np.quantile(known, np.linspace(0, 1, 6)).astype(np.float32))
            np.testing.assert_array_equal(np.array(found, np.float32), expected)
    price = columns["price"][0]
    counts = [int(((price > low) & (price <= high)).sum()) for low, high in itertools.pairwise(table.encoder.edges["price"][0])]
    assert max(counts) - min(counts) <= 2


def test_bins_change_no_column(tmp_path: Path) -> None:
    """A table with bins is the one without, but for what its schema says, and the edges."""
    data = test_data.columns()
    plain, bent = (logs.contents(make(tmp_path / str(bins), data, bins=bins, out="table").folder) for bins in (0, 5))
    differ = {name for name in plain.keys() | bent.keys() if plain.get(name) != bent.get(name)}
    assert {Path(name).name for name in differ} == {"schema.json", "edges.json", "source.json"}


@pytest.mark.parametrize("chunk", [16, 1000])
def test_batches_of_any_size_give_the_same_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    whole = make(tmp_path, test_data.columns())
    monkeypatch.setattr("umbel.data.ingest.CHUNK", chunk)
    found = make(tmp_path, test_data.columns(), out="again")
    for name, own in whole.encoder.edges.items():
        for one, other in zip(own, found.encoder.edges[name], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_other_weights_of_tasks_keep_the_edges(tmp_path: Path) -> None:
    table = make(tmp_path, test_data.columns())
    assert table.under(tuple(replace(task, weight=2.0) for task in table.schema.tasks)).encoder.edges == table.encoder.edges
