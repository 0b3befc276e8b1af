"""The spread that a bundle keeps of its training rows: one number or code a row for each field, in bins of the training rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import logs
from tests.logs import BAG, CATEGORY, ID, NUMBER, SEQUENCE, VECTOR

from umbel.data.table import Table
from umbel.run.profile import profile, spread
from umbel.schema import Field, Schema, Task

FIELDS = (
    Field("user", ID, min_count=1),
    Field("device", CATEGORY, min_count=1),
    Field("age", NUMBER),
    Field("watched", SEQUENCE, like="user", length=3),
    Field("tags", BAG, length=2, min_count=1),
    Field("vector", VECTOR, width=2),
)
SCHEMA = Schema(FIELDS, (Task("click"),))
ROWS = {
    **logs.ROWS,
    "device": ["a", "a", "b", "a", "c", None, "a", "z", "b", "a"],
    "watched": [[1, 2], [], None, [2, 1, 1, 2], [1], [2, 2], [9], [1, None], [], [2]],
    "tags": [["x"], ["x", "y"], [], None, ["y", "x", "x"], ["x"], [], ["q"], ["x"], ["y"]],
    "vector": [[1.0, 2.0]] * 10,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return logs.table(tmp_path_factory.mktemp("profile"), ROWS, SCHEMA)


def values(table: Table) -> dict[str, np.ndarray]:
    return spread(SCHEMA, table.batch(torch.arange(len(table.parts["train"]))))


def test_an_id_and_a_category_are_their_codes(table: Table) -> None:
    found = values(table)
    assert found["user"].tolist() == table.column("user", "train").tolist()
    assert found["device"].tolist() == table.column("device", "train").tolist()
    assert (found["device"] == 0).sum() == 1, "the row without a device"


def test_a_number_is_its_standardised_self_and_missing_where_it_is(table: Table) -> None:
    found = values(table)["age"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(found), np.isnan(table.column("age", "train")))
    known = found[~np.isnan(found)]
    assert float(known.mean()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("name", "counts"), [
    ("watched", [2, 0, 0, 3, 1, 2]),
    ("tags", [1, 2, 0, 0, 2, 1]),
])
def test_a_list_is_how_many_values_it_holds(table: Table, name: str, counts: list[int]) -> None:
    assert values(table)[name].tolist() == counts


def test_vectors_are_left_out(table: Table) -> None:
    assert set(values(table)) == {"user", "device", "age", "watched", "tags"}


def test_a_profile_counts_every_training_row_once(table: Table) -> None:
    predictions = np.linspace(0, 1, 2 * 2).reshape(2, 2)
    found = profile(table, ["click", "click_marginal"], predictions)
    rows = len(table.parts["train"])
    assert {name: one.rows for name, one in found.fields.items()} == dict.fromkeys(values(table), rows)
    assert {name: one.rows for name, one in found.predictions.items()} == {"click": 2, "click_marginal": 2}
    assert found.fields["age"].counts[-1] == int(np.isnan(table.column("age", "train")).sum())
    assert found.fields["device"].missing == pytest.approx(1 / rows)


def test_lists_have_edges_and_codes_have_none(table: Table) -> None:
    found = profile(table, ["click"], np.zeros((3, 1)))
    assert found.fields["watched"].edges
    assert not found.fields["watched"].codes
    assert found.fields["user"].codes
    assert not found.fields["user"].edges


def test_another_log_in_the_same_bins(table: Table, tmp_path: Path) -> None:
    """All rows of one device: its bin holds them all."""
    other = logs.table(tmp_path, {**ROWS, "device": ["a"] * 10}, SCHEMA)
    found = profile(table, ["click"], np.zeros((3, 1))).fields["device"]
    code = int(table.encoder.vocabularies["device"].encode(pl.Series(["a"]))[0])
    batch = other.batch(torch.arange(len(other.parts["train"])))
    again = found.again(np.full(len(batch.index), code))
    assert again.counts[found.codes.index(code)] == len(batch.index)


def test_a_profile_reads_no_row_but_those_that_train(table: Table) -> None:
    sealed = table.seal("valid", "test")
    assert profile(sealed, ["click"], np.zeros((1, 1))).fields == profile(table, ["click"], np.zeros((1, 1))).fields
