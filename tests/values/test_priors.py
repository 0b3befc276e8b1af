"""What is known of an item before anyone is asked: shrunk means by hand, and no row that knows its own label."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests import rated

from umbel.coldstart.prior import FOLDS, SHRINK, ItemMeans, fold
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.kinds import Poisson
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

TASKS = (Task("rating", REGRESSION), Task("click"), Task("views", Poisson()))


def means(*, shrink: float = SHRINK) -> ItemMeans:
    """Two folds of users over three items; item 0 is unknown.

    Fold 0 rated item 1 with 5 and 3, clicked once in two; fold 1 rated item 1 with 1 and item 2 with 4, and clicked both.
    """
    sums = np.zeros((2, 3, 3))
    counts = np.zeros((2, 3, 3))
    sums[0, 1], counts[0, 1] = (8, 1, 7), (2, 2, 2)
    sums[1, 1], counts[1, 1] = (1, 1, 3), (1, 1, 1)
    sums[1, 2], counts[1, 2] = (4, 1, 2), (1, 1, 1)
    return ItemMeans(TASKS, sums, counts, shrink)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_mean_of_all_is_over_rows() -> None:
    assert means().overall.tolist() == pytest.approx([13 / 4, 3 / 4, 12 / 4])


def test_an_items_offset_is_its_shrunk_mean() -> None:
    found = means()(np.array([1, 2]))
    assert found[:, 0].tolist() == pytest.approx([(9 + 10 * 3.25) / 13, (4 + 10 * 3.25) / 11])
    assert found[:, 1].tolist() == pytest.approx([logit((2 + 7.5) / 13), logit((1 + 7.5) / 11)])


def test_a_kind_that_is_neither_rating_nor_event_has_none() -> None:
    assert (means()(np.array([0, 1, 2]))[:, 2] == 0).all()


def test_an_unknown_item_has_the_mean_of_all() -> None:
    found = means()(np.array([0]))
    assert found[0].tolist() == pytest.approx([3.25, logit(0.75), 0.0])


def test_whatever_stands_at_the_unknown_code_is_nobodys_mean() -> None:
    """Rows of rare items share code 0: they count in the mean of all, and are no item of their own."""
    made = means()
    made.sums[0, 0], made.counts[0, 0] = (100, 5, 0), (20, 20, 20)
    assert made(np.array([0]))[0, 0] == pytest.approx(113 / 24)


def test_without_shrinkage_it_is_the_mean() -> None:
    assert means(shrink=0.0)(np.array([1, 2]))[:, 0].tolist() == pytest.approx([3.0, 4.0])


def test_much_shrinkage_is_the_mean_of_all() -> None:
    assert means(shrink=1e9)(np.array([1, 2]))[:, 0] == pytest.approx(3.25, abs=1e-6)


def test_a_fold_leaves_out_what_it_said_itself() -> None:
    found = means()(np.array([1, 1, 2]), folds=np.array([0, 1, 1]))
    assert found[:, 0].tolist() == pytest.approx([(1 + 32.5) / 11, (8 + 32.5) / 12, 3.25])


def test_an_event_of_certainty_is_finite() -> None:
    made = ItemMeans(TASKS[1:2], np.array([[[0.0], [5.0]]]), np.array([[[0.0], [5.0]]]), shrink=0.0)
    assert np.isfinite(made(np.array([1]))).all()
    assert made(np.array([1]))[0, 0] == pytest.approx(logit(1 - 1e-6), rel=1e-3)


def test_a_task_that_nobody_saw_is_zero_and_finite() -> None:
    made = ItemMeans(TASKS[:1], np.zeros((2, 3, 1)), np.zeros((2, 3, 1)))
    assert made.overall.tolist() == [0.0]
    assert made(np.array([0, 1])).tolist() == [[0.0], [0.0]]


def test_folds_are_users_and_stay_as_they_are() -> None:
    users = np.arange(20_000)
    found = fold(users)
    assert set(found.tolist()) == set(range(FOLDS))
    assert np.bincount(found).tolist() == pytest.approx([4_000] * FOLDS, rel=0.06)
    assert fold(users[::-1].copy()).tolist() == found[::-1].tolist()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def test_sums_and_counts_are_those_of_the_training_rows(table: Table) -> None:
    """Against a group-by of the raw log."""
    found = ItemMeans.of(table)
    train = rated.log().filter(pl.col("part") == "train")
    vocabulary = table.encoder.vocabularies["item"]
    items = table.encoder.decode("item", np.arange(vocabulary.size, dtype=np.int32)).to_list()
    for item, rows in train.group_by("item"):
        code = items.index(item[0])
        assert found.sums.sum(0)[code].tolist() == [rows["rating"].sum(), rows["click"].sum()]
        assert found.counts.sum(0)[code].tolist() == [rows.height] * 2
    assert found.counts.sum() == 2 * train.height


def test_every_fold_holds_its_own_users(table: Table) -> None:
    found, groups = ItemMeans.of(table), table.groups("train")
    by_fold = np.bincount(fold(groups), minlength=FOLDS)
    assert found.counts[..., 0].sum(1).tolist() == by_fold.tolist()


def test_without_items_every_item_has_the_mean_of_all(table: Table) -> None:
    found = ItemMeans.of(table, items=False)
    codes = np.arange(table.encoder.vocabularies["item"].size)
    offsets = found(codes)
    assert np.ptp(offsets, axis=0).tolist() == [0.0, 0.0]
    train = rated.log().filter(pl.col("part") == "train")
    assert offsets[0, 0] == pytest.approx(train["rating"].mean())


def test_means_know_nothing_of_validation_and_test(tmp_path: Path, table: Table) -> None:
    other = rated.log().with_columns(rating=pl.when(pl.col("part") == "train").then("rating").otherwise(6 - pl.col("rating")))
    turned = ItemMeans.of(rated.table(tmp_path, other))
    plain = ItemMeans.of(table)
    assert np.array_equal(turned.sums, plain.sums)
    assert np.array_equal(turned.counts, plain.counts)


def test_unseen_labels_are_no_labels(tmp_path: Path) -> None:
    """A missing rating is not counted; the click of the same row is."""
    frame = rated.log()
    holes = frame.with_columns(rating=pl.when(pl.col("time") % 3 == 0).then(None).otherwise("rating"))
    found = ItemMeans.of(rated.table(tmp_path, holes))
    train = holes.filter(pl.col("part") == "train")
    assert found.counts[..., 0].sum() == train["rating"].drop_nulls().len()
    assert found.counts[..., 1].sum() == train.height
    assert found.sums[..., 0].sum() == pytest.approx(train["rating"].sum())


def test_a_log_without_an_id_of_its_items_is_told(tmp_path: Path) -> None:
    schema = Schema((Field("user", FieldKind.ID, min_count=1), Field("age", FieldKind.CATEGORY, min_count=1)), rated.TASKS)
    with pytest.raises(UserError, match="no id field reads the log's item column"):
        ItemMeans.of(rated.table(tmp_path, schema=schema))


def test_an_id_that_is_computed_is_not_the_item(tmp_path: Path) -> None:
    """A field named like the item column, made by an expression of something else, is another thing."""
    item = Field("item", FieldKind.ID, sql="year", min_count=1)
    schema = Schema((rated.FIELDS[0], item, *rated.FIELDS[2:]), rated.TASKS)
    with pytest.raises(UserError, match="no id field reads the log's item column"):
        ItemMeans.of(rated.table(tmp_path, schema=schema))
