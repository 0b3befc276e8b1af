"""Target statistics by hand: from a raw log to columns, to a bundle's encoder, and what is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.logs import contents, source, table

from umbel.data.ingest import ingest
from umbel.data.source import Join, Source
from umbel.data.split import ByTime, ByUser, Split
from umbel.data.storage import schema_from_json, schema_to_json
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.kinds import MultiClass
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Statistic, Task

ID, STATISTIC = FieldKind.ID, FieldKind.STATISTIC

# Twelve rows: eight train (times 0 to 5, of which 2 and 4 stand twice), two validate, two test.
ROWS: dict[str, list[Any]] = {
    "user": [1, 1, 2, 1, 2, None, 1, 2, 1, 9, 2, None],
    "item": ["a", "b", "a", "a", "b", "a", "a", "a", "a", "b", "z", "a"],
    "time": [0, 1, 2, 2, 3, 4, 4, 5, 6, 7, 8, 9],
    "click": [1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0],
    "like": [1, 0, 0, 1, None, 0, 0, 1, 1, 0, 1, 0],
}
SPLIT = ByTime(6, 8)
TASKS = (Task("click"), Task("like"))


def statistic(by: tuple[str, ...] = ("item",), tasks: tuple[str, ...] = ("click",), **keys: object) -> Field:
    return Field("past", STATISTIC, statistic=replace(Statistic(by, tasks), **keys))  # type: ignore[arg-type]


def made(
    folder: Path, field: Field, *, tasks: tuple[Task, ...] = TASKS, split: Split = SPLIT, rows: Mapping[str, Any] = ROWS
) -> Table:
    """A table of one id and the statistic."""
    schema = Schema((Field("user", ID, min_count=1), field), tasks)
    return table(folder, rows, schema, split=split)


def plain(found: Table, part: str) -> np.ndarray:
    """The statistic before it was standardised."""
    standard = found.encoder.statistics["past"].standard
    return np.asarray(found.column("past", part) * standard.sd + standard.mean)


def odds(events: float, rows: float, mean: float, prior: float = 20.0) -> float:
    """The smoothed log-odds of `events` in `rows`, above those of the mean."""
    smooth = (events + prior * mean) / (rows + prior)
    return log(smooth / (1 - smooth)) - log(mean / (1 - mean))


def test_training_rows_see_what_was_before_them(tmp_path: Path) -> None:
    found = plain(made(tmp_path, statistic()), "train")
    # item a at times 0, 2, 2, 4, 4, 5 with clicks 1, 1, 0, 1, 0, 1; of all rows before: 0, -, 2 (1 click), 2, -, 5 (3), 5 (3), 7 (4)
    expected = {
        0: (0, 0.0), 1: (0, 0.0), 2: (1, odds(1, 1, 1.5 / 3)), 3: (1, odds(1, 1, 1.5 / 3)), 4: (1, odds(0, 1, 2.5 / 5)),
        5: (3, odds(2, 3, 3.5 / 6)), 6: (3, odds(2, 3, 3.5 / 6)), 7: (5, odds(3, 5, 4.5 / 8)),
    }  # fmt: skip
    for row, (rows, value) in expected.items():
        assert found[row] == pytest.approx([value, log(1 + rows)], abs=1e-6), row


def test_a_window_hides_labels_that_are_not_known_yet(tmp_path: Path) -> None:
    found = plain(made(tmp_path, statistic(window=2)), "train")
    # row 7 at time 5 sees what was before 3: item a at 0, 2, 2; of all rows 4 with 2 clicks
    assert found[7] == pytest.approx([odds(2, 3, 2.5 / 5), log(4)], abs=1e-6)
    assert found[2] == pytest.approx([0.0, 0.0], abs=1e-6)  # at 2 it sees what was before 0


@pytest.mark.parametrize("part", ["valid", "test"])
def test_later_rows_see_all_training_rows(tmp_path: Path, part: str) -> None:
    found = plain(made(tmp_path, statistic()), part)
    a = [odds(4, 6, 5.5 / 9), log(7)]
    rest = {"valid": [odds(1, 2, 5.5 / 9), log(3)], "test": [0.0, 0.0]}[part]  # b; z is not in training
    for row, expected in zip(found, {"valid": [a, rest], "test": [rest, a]}[part], strict=True):
        assert row == pytest.approx(expected, abs=1e-6)


def test_two_columns_make_one_key_and_a_missing_value_none(tmp_path: Path) -> None:
    found = made(tmp_path, statistic(("user", "item")))
    train = plain(found, "train")
    assert train[3] == pytest.approx([odds(1, 1, 0.5), log(2)], abs=1e-6)  # user 1, item a, at 2: one before
    assert train[4] == pytest.approx([0.0, 0.0], abs=1e-6)                  # user 2, item b: new
    assert train[5] == pytest.approx([0.0, 0.0], abs=1e-6)                  # no user
    assert train[7] == pytest.approx([odds(1, 1, 4.5 / 8), log(2)], abs=1e-6)
    test = plain(found, "test")
    assert test[1] == pytest.approx([0.0, 0.0], abs=1e-6)                   # no user again
    assert plain(found, "valid")[0] == pytest.approx([odds(1, 3, 5.5 / 9), log(4)], abs=1e-6)
    turned = made(tmp_path / "turned", statistic(("item", "user")))
    np.testing.assert_array_equal(turned.column("past", "train"), found.column("past", "train"))


def test_unseen_labels_count_nowhere_but_in_the_rows(tmp_path: Path) -> None:
    found = plain(made(tmp_path, statistic(("user",), ("like",))), "valid")
    # user 1 with likes 1, 0, 1, 0, and of all 7 seen likes 3; user 9 is new
    assert found[0] == pytest.approx([odds(2, 4, 3.5 / 8), log(5)], abs=1e-6)
    test = plain(made(tmp_path / "more", statistic(("user",), ("like",))), "test")
    assert test[0] == pytest.approx([odds(1, 2, 3.5 / 8), log(4)], abs=1e-6)  # user 2 has three rows, of which two are seen


def test_a_label_counts_only_where_what_it_is_given_holds(tmp_path: Path) -> None:
    rows = {**ROWS, "like": [1, 0, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0]}
    found = plain(made(tmp_path, statistic(("item",), ("like",)), tasks=(Task("click"), Task("like", given="click")), rows=rows), "valid")
    # clicked rows of a: times 0, 2, 4, 5 with likes 1, 0, 0, 1; of all five clicked rows 3 are liked
    assert found[0] == pytest.approx([odds(2, 4, 3.5 / 6), log(7)], abs=1e-6)


def test_a_number_is_as_far_from_its_mean_as_few_rows_allow(tmp_path: Path) -> None:
    rows = {**ROWS, "seconds": [4.0, 1.0, 2.0, 6.0, None, 3.0, 5.0, 7.0, 1.0, 2.0, 3.0, 4.0]}
    tasks = (Task("click"), Task("seconds", kind=REGRESSION))
    found = plain(made(tmp_path, statistic(("item",), ("seconds",), prior=2.0), tasks=tasks, rows=rows), "valid")
    mean = 28 / 7
    assert found[0] == pytest.approx([(27 - 6 * mean) / 8, log(7)], abs=1e-5)
    assert found[1] == pytest.approx([(1 - mean) / 3, log(3)], abs=1e-5)  # b: one of its two rows was seen


def test_the_columns_are_scaled_by_training_rows(tmp_path: Path) -> None:
    found = made(tmp_path, statistic(("item",), ("click", "like")))
    train = found.column("past", "train")
    assert train.shape == (8, 3)
    sees = plain(found, "train")[:, 2] > 1e-6
    np.testing.assert_allclose(np.square(train[sees, :2]).mean(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(train[~sees, :2], 0)
    assert train[:, 2].mean() == pytest.approx(0, abs=1e-6)


def test_without_a_time_folds_that_do_not_hold_the_row(tmp_path: Path) -> None:
    """With two folds a row sees of its item what lies in the other: each row's count is the size of the other fold's share."""
    rows = {**ROWS, "item": ["a"] * 12}
    schema = Schema((Field("user", ID, min_count=1), statistic(folds=2)), TASKS)
    log_file = source(tmp_path, rows)
    untimed = Source(log_file.log, user="user")
    found = ingest(untimed, schema, ByTime(6, 8, column="time"), folder=tmp_path / "table")
    counts = np.rint(np.expm1(plain(found, "train")[:, 1])).astype(int)
    sizes = set(counts.tolist())
    assert len(sizes) <= 2
    assert sum(sizes) == (8 if len(sizes) == 2 else counts[0])
    assert (counts < 8).all()
    assert plain(found, "valid")[0] == pytest.approx([odds(5, 8, 5.5 / 9), log(9)], abs=1e-6)


def test_folds_follow_the_seed_and_not_the_order_of_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    size = 400
    rows = {
        "user": draw.integers(40, size=size), "item": draw.integers(8, size=size), "time": np.arange(size),
        "click": draw.integers(2, size=size), "like": draw.integers(2, size=size),
    }  # fmt: skip
    order = draw.permutation(size)
    split = ByTime(300, 350)
    field = statistic(mode="folds")
    found = made(tmp_path / "a", field, rows=rows, split=split)
    turned = made(tmp_path / "b", field, rows={name: column[order] for name, column in rows.items()}, split=split)
    times = found.times("train"), turned.times("train")
    same = [column.column("past", "train")[np.argsort(time)] for column, time in zip((found, turned), times, strict=True)]
    np.testing.assert_allclose(same[0], same[1], atol=1e-5)
    other = made(tmp_path / "c", statistic(mode="folds", seed=1), rows=rows, split=split)
    assert not np.allclose(other.column("past", "train"), found.column("past", "train"))


def test_a_split_by_user_leaves_the_time_in_force(tmp_path: Path) -> None:
    size = 240
    rows = {
        "user": [n % 11 for n in range(size)], "item": ["a"] * size, "time": list(range(size)),
        "click": [n % 2 for n in range(size)], "like": [n % 5 // 4 for n in range(size)],
    }  # fmt: skip
    found = made(tmp_path, statistic(), rows=rows, split=ByUser(0.25, 0.25))
    counts = np.rint(np.expm1(plain(found, "train")[:, 1]))
    assert counts.tolist() == list(range(len(counts)))  # every earlier training row, and no other


def test_dates_take_a_window_in_seconds(tmp_path: Path) -> None:
    days = [dt.datetime(2025, 1, 1) + dt.timedelta(hours=int(hours)) for hours in ROWS["time"]]
    split = ByTime(dt.datetime(2025, 1, 1, 6), dt.datetime(2025, 1, 1, 8))
    found = made(tmp_path, statistic(window=2 * 3600), rows={**ROWS, "time": days}, split=split)
    assert plain(found, "train")[7] == pytest.approx([odds(2, 3, 2.5 / 5), log(4)], abs=1e-6)


def test_what_it_is_by_may_be_derived_or_joined(tmp_path: Path) -> None:
    """The field `half` is an expression, `maker` a column of a joined table that is no field."""
    users = tmp_path / "items.parquet"
    pl.DataFrame({"item": ["a", "b"], "maker": ["m", "m"]}).write_parquet(users)
    fields = (Field("half", FieldKind.CATEGORY, sql="FLOOR(time / 4)", min_count=1), statistic(("half", "maker")))
    found = ingest(source(tmp_path, ROWS, (Join(str(users), "item"),)), Schema(fields, TASKS), SPLIT, folder=tmp_path / "table")
    counts = np.rint(np.expm1(plain(found, "train")[:, 1]))
    assert counts.tolist() == [0, 1, 2, 2, 4, 0, 0, 2]
    assert np.rint(np.expm1(plain(found, "valid")[:, 1])).tolist() == [3, 3]


def test_the_encoder_comes_back_and_reads_alike(tmp_path: Path) -> None:
    found = made(tmp_path, statistic(("user", "item"), ("click", "like"), window=1, prior=3))
    again = Encoder.load(found.folder)
    assert again.schema == found.schema
    frame = pl.DataFrame(ROWS, strict=False).filter(pl.col("time") >= 6)
    numbers = again.encode(frame).numbers
    np.testing.assert_array_equal(numbers, np.concatenate([found.column("past", part) for part in ("valid", "test")]))
    written = {name for name in contents(found.folder) if "statistic" in name or name.startswith("key")}
    assert written == {"statistics.json", "statistic/past.parquet"}


def test_a_schema_comes_back_from_json() -> None:
    schema = Schema((statistic(("user", "item"), ("click", "like"), window=60.5, mode="time", folds=3, seed=2),), TASKS)
    assert schema_from_json(schema_to_json(schema)) == schema


def test_a_table_without_its_statistics_is_refused(tmp_path: Path) -> None:
    found = made(tmp_path, statistic())
    (found.folder / "statistics.json").unlink()
    with pytest.raises(UserError, match="statistics are damaged"):
        Table.open(found.folder)


def test_text_of_csv_and_numbers_find_each_other(tmp_path: Path) -> None:
    """An integer id written 1.0 is the same id: keys are compared as the training log's type."""
    found = made(tmp_path, statistic(("user",)))
    frame = pl.DataFrame({"user": [1.0, 2.0, None, 9.0]})
    straight = found.encoder.encode(pl.DataFrame({"user": [1, 2, None, 9]}, schema={"user": pl.Int64})).numbers
    np.testing.assert_array_equal(found.encoder.encode(frame).numbers, straight)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (statistic(()), r"fields\.past: by names none"),
        (statistic(tasks=()), r"fields\.past: tasks names none"),
        (statistic(tasks=("clik",)), r"did you mean 'click'\?"),
        (statistic(("item", "item")), "names one twice"),
        (statistic(prior=0.0), "prior = 0"),
        (statistic(prior=-1.0), "prior = -1"),
        (statistic(window=-1), "window = -1"),
        (statistic(mode="leave_one_out"), "tells its label"),
        (statistic(mode="folds", folds=1), "leaks"),
        (statistic(folds=1000), "leaks"),
        (statistic(mode="fold"), "did you mean 'folds'"),
        (statistic(mode="folds", window=3), "with folds"),
        (Field("past", STATISTIC), "said by 'by'"),
        (Field("past", ID, statistic=Statistic(("user",), ("click",))), "said by 'by'"),
    ],
)
def test_what_no_statistic_can_be(field: Field, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        Schema((field,), TASKS)
    assert "\n" not in str(caught.value)


def test_a_task_of_classes_has_no_mean() -> None:
    with pytest.raises(UserError, match="has classes"):
        Schema((statistic(tasks=("genre",)),), (Task("click"), Task("genre", kind=MultiClass(3))))


def test_by_a_list_is_refused() -> None:
    with pytest.raises(UserError, match="several values a row"):
        Schema((Field("tags", FieldKind.BAG), statistic(("tags",))), TASKS)


def test_an_unknown_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fields\.past\.by: no column 'itm' .* did you mean 'item'\?"):
        made(tmp_path, statistic(("itm",)))


def test_a_column_of_lists_is_refused_when_it_is_met(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of a column of List"):
        made(tmp_path, statistic(("tags",)), rows={**ROWS, "tags": [["x"]] * 12})


@pytest.mark.parametrize("keys", [{"window": 5}, {"mode": "time"}])
def test_time_is_asked_for_where_it_is_needed(tmp_path: Path, keys: dict[str, Any]) -> None:
    untimed = Source(source(tmp_path, ROWS).log, user="user")
    with pytest.raises(UserError, match="no time column"):
        ingest(untimed, Schema((statistic(**keys),), TASKS), ByTime(6, 8, column="time"), folder=tmp_path / "table")


def test_a_window_over_days_written_as_numbers_is_refused(tmp_path: Path) -> None:
    days = [20250101 + int(n) for n in ROWS["time"]]
    with pytest.raises(UserError, match="YYYYMMDD"):
        made(tmp_path, statistic(window=1), rows={**ROWS, "time": days}, split=ByTime(20250107, 20250109))


def test_the_first_day_knows_nothing(tmp_path: Path) -> None:
    """One moment for all training rows: none is before another, and every count is 0."""
    found = made(tmp_path, statistic(), rows={**ROWS, "time": [0] * 8 + [6, 7, 8, 9]})
    np.testing.assert_array_equal(plain(found, "train"), np.zeros((8, 2)))
    assert plain(found, "valid")[0] == pytest.approx([odds(4, 6, 5.5 / 9), log(7)], abs=1e-6)


def test_rows_of_the_same_log_in_another_order_have_the_same_statistics(tmp_path: Path) -> None:
    order = [3, 1, 7, 0, 5, 2, 6, 4, 9, 8, 11, 10]
    turned = {name: [column[row] for row in order] for name, column in ROWS.items()}
    logs = {"a": ROWS, "b": turned}
    straight, other = (plain(made(tmp_path / name, statistic(("user", "item")), rows=rows), "train") for name, rows in logs.items())
    np.testing.assert_allclose(other, straight[order[:8]], atol=1e-6)


def test_other_rows_of_a_log_change_nothing_that_training_rows_see(tmp_path: Path) -> None:
    """Labels of validation and test rows are in no statistic."""
    turned = {**ROWS, "click": [*ROWS["click"][:8], 0, 1, 0, 1]}
    straight, other = (made(tmp_path / str(n), statistic(), rows=rows) for n, rows in enumerate((ROWS, turned)))
    for part in ("train", "valid", "test"):
        np.testing.assert_array_equal(straight.column("past", part), other.column("past", part))


def test_a_log_read_in_small_pieces_gives_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, folds and totals are of the whole log, however it is cut into batches."""
    draw = np.random.default_rng(3)
    size = 200
    rows: dict[str, list[Any]] = {
        "user": draw.integers(12, size=size).tolist(), "item": draw.choice(["a", "b", "c"], size=size).tolist(),
        "time": (np.arange(size) // 3).tolist(),
        "click": draw.integers(2, size=size).tolist(), "like": draw.integers(2, size=size).tolist(),
    }  # fmt: skip
    rows["item"][::9] = [None] * len(rows["item"][::9])
    fields = (
        Field("user", ID, min_count=1), statistic(("item",), ("click", "like")),
        replace(statistic(("user", "item"), mode="folds"), name="pair"),
    )  # fmt: skip
    schema, split = Schema(fields, TASKS), ByTime(40, 50)
    whole = contents(table(tmp_path / "whole", rows, schema, split=split).folder)
    monkeypatch.setattr("umbel.data.ingest.CHUNK", 1 << 6)
    monkeypatch.setattr("umbel.data.statistics.STEP", 7)
    pieces = contents(table(tmp_path / "pieces", rows, schema, split=split).folder)
    assert pieces.keys() == whole.keys()
    assert pieces["float32.npy"] == whole["float32.npy"]
    assert pieces["statistics.json"] == whole["statistics.json"]
    assert pieces["statistic/past.parquet"] == whole["statistic/past.parquet"]


def test_a_log_of_text_csv_is_read_with_the_types_of_training(tmp_path: Path) -> None:
    """Ids that are numbers in training find the same rows in a CSV that writes them otherwise."""
    frame = pl.DataFrame(ROWS, strict=False)
    frame.write_csv(tmp_path / "log.csv")
    schema = Schema((Field("user", ID, min_count=1), statistic(("user",))), TASKS)
    made_of_csv = ingest(Source(str(tmp_path / "log.csv"), user="user", time="time"), schema, SPLIT, folder=tmp_path / "csv")
    made_of_parquet = made(tmp_path / "parquet", statistic(("user",)))
    for part in ("train", "valid", "test"):
        np.testing.assert_array_equal(made_of_csv.column("past", part), made_of_parquet.column("past", part))
