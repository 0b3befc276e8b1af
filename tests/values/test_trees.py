"""The boosted-tree baseline: what it reads, that target means never tell a row its own label, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn, ByTime
from umbel.data.table import Table
from umbel.evaluate.metrics import auc
from umbel.run.settings import parse
from umbel.run.watch import Silence
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Statistic, Task
from umbel.study import compare, trees
from umbel.study.entrants import TREES
from umbel.study.trees import grow

ROWS = 3_000
USERS = 300


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Clicks that depend on the hour and the user; `noise` depends on nothing; `watch` is a number."""
    draw = np.random.default_rng(0)
    user = draw.integers(USERS, size=ROWS)
    hour = draw.integers(24, size=ROWS)
    taste = draw.normal(size=USERS)
    click = (draw.random(ROWS) < 1 / (1 + np.exp(-2.0 * taste[user] - (hour > 12)))).astype(int)
    frame = pl.DataFrame(
        {
            "user": user,
            "hour": hour,
            "age": np.where(draw.random(ROWS) < 0.1, np.nan, draw.normal(size=ROWS)),
            "history": [list(range(int(n))) for n in draw.integers(4, size=ROWS)],
            "click": click,
            "noise": draw.integers(2, size=ROWS),
            "watch": 3.0 * (hour > 12) + draw.normal(size=ROWS),
            "part": np.where(np.arange(ROWS) < 2_000, "train", np.where(np.arange(ROWS) < 2_500, "valid", "test")),
        }
    )
    folder = tmp_path_factory.mktemp("trees")
    frame.write_parquet(folder / "log.parquet")
    fields = (
        Field("user", FieldKind.ID, min_count=1),
        Field("hour", FieldKind.CATEGORY),
        Field("age", FieldKind.NUMBER),
        Field("history", FieldKind.SEQUENCE, like="user", target="user", length=4),
    )
    schema = Schema(fields, (Task("click"), Task("noise"), Task("watch", kind=REGRESSION)))
    split = ByColumn("part", train="train", valid="valid", test="test")
    return ingest(Source(str(folder / "log.parquet"), user="user"), schema, split, folder=folder / "table")


def few(table: Table, folder: Path, kind: FieldKind = FieldKind.ID) -> Table:
    """The same log without its users, of whom there are many."""
    fields = (Field("hour", FieldKind.CATEGORY), Field("far", kind, column="user", min_count=1, length=4))
    made = Schema(fields[: 1 + (kind is FieldKind.ID)], table.schema.tasks)
    return ingest(table.source, made, ByColumn("part", train="train", valid="valid", test="test"), folder=folder / kind)


def test_trees_with_target_means_stand_where_a_field_has_any(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 users have; 24 hours have none: there the two would be the same to the last bit, which is told."""
    hours = few(table, tmp_path, FieldKind.CATEGORY)
    assert trees.standing(table) == trees.standing(few(table, tmp_path)) == TREES
    assert trees.standing(hours) == ("trees",)
    plain, meant = (grow(hours, rate=0.1, means=means, seed=1).outputs["test"] for means in (False, True))
    np.testing.assert_array_equal(plain, meant)
    split = {"by": "user", "valid": 0.1, "test": 0.1}
    model: dict[str, object] = {"model": {"recipe": "stem"}, "fit": {"seed": 1}, "split": split}
    tree = {"data": {"log": "x"}, "fields": {"hour": {"kind": "id"}}, "tasks": {"click": {}}, **model}
    for asked, made, names in (({}, hours, ("trees",)), ({}, table, TREES), ({"trees": False}, hours, ())):
        told: list[str] = []
        monkeypatch.setattr(Silence, "stage", lambda _, name, told=told: told.append(name))
        assert compare._forest(parse({**tree, "compare": asked}, where="here"), made, Silence()) == names
        assert told == ([trees.ALIKE] if names == ("trees",) else [])


def test_what_trees_read(table: Table) -> None:
    columns = trees._columns(table)
    assert columns.parts["train"].shape == (2_000, 5)  # user, hour, age, length of the history, user in the history
    assert columns.categories.tolist() == [False, True, False, False, False]  # 300 users are too many to split as categories
    assert np.isnan(columns.parts["train"][:, 2]).any()
    history = table.column("history", "test")
    target = table.column("user", "test")
    np.testing.assert_array_equal(columns.parts["test"][:, 3], (history >= 0).sum(axis=1))
    np.testing.assert_array_equal(columns.parts["test"][:, 4], ((history == target[:, None]) & (target[:, None] > 0)).any(axis=1))


def test_target_means_by_hand() -> None:
    code = np.array([1, 1, 2])
    labels = np.array([[1.0], [0.0], [1.0]])
    seen = np.array([[True], [True], [False]])
    found = trees._statistics(code, labels, seen, size=4)
    mean = 0.5
    np.testing.assert_allclose(found[1], [(1 + 20 * mean) / 22, np.log(3)])
    np.testing.assert_allclose(found[2], [mean, np.log(2)])  # its only label was not seen
    np.testing.assert_allclose(found[3], [mean, 0.0])


def test_a_training_row_never_counts_its_own_label(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turning one row's label round may not move that row's own means."""
    field = table.schema.field("user")
    before = trees._means(table, field, 0)["train"]
    row = 5
    labels, seen = table.labels("train")
    labels[row, 0] = 1 - labels[row, 0]
    monkeypatch.setattr(Table, "labels", lambda *_: (labels, seen))
    after = trees._means(table, field, 0)["train"]
    np.testing.assert_array_equal(before[row, 1:], after[row, 1:])
    assert abs(before[row, 0] - after[row, 0]) < 1e-3  # only the global mean of its fold may have moved
    others = (table.column("user", "train") == table.column("user", "train")[row]) & (np.arange(2_000) != row)
    assert (np.abs(before[others, 0] - after[others, 0]) > 1e-3).any()


def test_means_elsewhere_come_from_all_training_rows(table: Table) -> None:
    field = table.schema.field("user")
    found = trees._means(table, field, 0)
    labels, _ = table.labels("train")
    train, test = table.column("user", "train"), table.column("user", "test")
    own = train == test[0]
    expected = (labels[own, 0].sum() + 20 * labels[:, 0].mean()) / (own.sum() + 20)
    assert found["test"][0, 0] == pytest.approx(expected)


def test_they_learn_what_is_there(table: Table) -> None:
    labels, _ = table.labels("test")
    plain, means = (grow(table, rate=0.1, means=flag, seed=1) for flag in (False, True))
    scores = [auc(labels[:, 0], grown.outputs["test"][:, 0]) for grown in (plain, means)]
    assert scores[0] > 0.55  # type: ignore[operator]
    assert scores[1] > scores[0] + 0.03  # type: ignore[operator]
    noise = auc(labels[:, 1], means.outputs["test"][:, 1])
    assert abs(noise - 0.5) < 0.06  # type: ignore[operator]
    watch = np.corrcoef(labels[:, 2], means.outputs["test"][:, 2])[0, 1]
    assert watch > 0.7
    assert means.score > plain.score
    assert plain.leaves > 0


def test_equal_seeds_give_equal_trees(table: Table) -> None:
    first, second = (grow(table, rate=0.1, means=True, seed=3) for _ in range(2))
    assert first.outputs["test"].tobytes() == second.outputs["test"].tobytes()


def test_a_field_with_a_statistic_of_its_own_gets_no_means_beside_it(tmp_path: Path) -> None:
    """Statistics are read as they are; only what they do not say already comes out of fold beside them."""
    draw = np.random.default_rng(2)
    size = 1_200
    frame = pl.DataFrame(
        {
            "user": np.arange(size) % 300, "item": draw.integers(300, size=size), "time": np.arange(size),
            "click": draw.integers(2, size=size), "like": draw.integers(2, size=size),
        }
    )  # fmt: skip
    frame.write_parquet(tmp_path / "log.parquet")
    source = Source(str(tmp_path / "log.parquet"), user="user", time="time")
    ids = (Field("user", FieldKind.ID, min_count=1), Field("item", FieldKind.ID, min_count=1))
    widths = {}
    for name, tasks in {"all": ("click", "like"), "one": ("click",), "none": ()}.items():
        past = [Field("past", FieldKind.STATISTIC, statistic=Statistic(("user",), tasks))] if tasks else []
        found = ingest(source, Schema((*ids, *past), (Task("click"), Task("like"))), ByTime(1_000, 1_100), folder=tmp_path / name)
        columns = trees._columns(found)
        if past:
            np.testing.assert_array_equal(columns.parts["test"][:, 2:], found.column("past", "test"))
        widths[name] = (columns.parts["train"].shape[1], trees._with_means(found, columns, 1).parts["train"].shape[1])
    assert widths == {"all": (5, 8), "one": (4, 10), "none": (2, 8)}
