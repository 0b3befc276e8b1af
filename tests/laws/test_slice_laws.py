"""Slices against plain loops: which rows a label marks, in which order they come, which slice is worst, and what a table's slices read."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.evaluate.figures import Figures
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import FALLS, Undefined
from umbel.evaluate.slices import FEWEST_OF_A_CLASS, FEWEST_ROWS, MOST_LABELS, OTHERS, Worst, cut, frequency_bins, too_small, worst
from umbel.run.slicing import check_slices, reading, slices
from umbel.schema import Field, FieldKind, Schema, Task

quick = settings(deadline=None, max_examples=40)
BINS = ["unknown", "1-9", "10-99", "100-999", "1000-9999", "10000+"]


def bin_of(count: int) -> str:
    return BINS[len(str(count)) if 0 < count < 10_000 else 0 if count == 0 else 5]


@quick
@given(st.lists(st.integers(0, 20_000) | st.sampled_from([0, 1, 9, 10, 99, 100, 999, 1000, 9999, 10_000]), max_size=20))
def test_bins_are_by_digits(counts: list[int]) -> None:
    labels = frequency_bins(np.array(counts, np.int64))
    assert labels.tolist() == [bin_of(count) for count in counts]
    assert list(cut(labels)) == [name for name in BINS if name in set(labels.tolist())]


LABELS = st.lists(st.integers(0, 40).map(str) | st.sampled_from(["others", "1-9", "unknown", "10000+", "é"]), max_size=120)


@quick
@given(LABELS)
def test_labels_by_falling_count_then_name_and_the_rest_as_others(labels: list[str]) -> None:
    masks = cut(np.array(labels, dtype=str))
    ranked = sorted(Counter(labels).items(), key=lambda one: (-one[1], one[0]))
    kept = [name for name, _ in ranked[:MOST_LABELS]]
    own = [name for name in BINS if name in kept] + [name for name in kept if name not in BINS]
    if len(ranked) > MOST_LABELS:
        own = [*(name for name in own if name != OTHERS), OTHERS]
    assert list(masks) == own
    for name, mask in masks.items():
        rest = len(ranked) > MOST_LABELS and name == OTHERS
        assert mask.tolist() == [label == name or (rest and label not in kept) for label in labels]
    assert not labels or (np.sum(list(masks.values()), axis=0) == 1).all()


@quick
@given(rows=st.integers(0, 300), share=st.none() | st.floats(0, 1))
def test_what_is_too_small_says_why(rows: int, share: float | None) -> None:
    positives = None if share is None else int(share * rows)
    found = too_small(rows, positives)
    rarer = rows if positives is None else min(positives, rows - positives)
    if rows >= FEWEST_ROWS and rarer >= FEWEST_OF_A_CLASS:
        assert found is None
        return
    assert isinstance(found, Undefined)
    expected = f"{rows} rows: fewer than 100" if rows < FEWEST_ROWS else f"{rarer} rows of the rarer class: fewer than 20"
    assert found.reason == expected


VALUE = st.none() | st.integers(0, 8).map(lambda one: one / 8)


@quick
@given(
    drawn=st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("xyz"), VALUE, max_size=3), max_size=3),
    metric=st.sampled_from(["auc", "rmse", "d2"]),
)
def test_the_worst_is_the_first_of_the_worst(drawn: dict[str, dict[str, float | None]], metric: str) -> None:
    """The lowest, or the highest of what is better when it falls; what cannot be had is never it."""

    def figures(value: float | None) -> Figures:
        one = Undefined("few") if value is None else Interval(value, value - 1, value + 1)
        return Figures(100, 10, None, {metric: one, "mae": Interval(9.0, 8.0, 10.0)})

    found = worst({name: {label: figures(value) for label, value in labels.items()} for name, labels in drawn.items()})
    known = [(name, label, value) for name, labels in drawn.items() for label, value in labels.items() if value is not None]
    if not known:
        assert found == Undefined("no slice has enough rows" if drawn else "no slice was asked for")
        return
    last = max(value for *_, value in known) if metric in FALLS else min(value for *_, value in known)
    name, label, value = next(one for one in known if one[2] == last)
    assert found == Worst(name, label, metric, Interval(value, value - 1, value + 1))


# of a table

ROW = st.tuples(st.integers(1, 4), st.sampled_from(["a", "b", None]), st.sampled_from(["train", "train", "v", "e"]))
USERS = st.lists(ROW, min_size=1, max_size=30)
ENDS = [(user, "a", part) for part in ("train", "v", "e") for user in (1, 2)]


@settings(deadline=None, max_examples=10)
@given(USERS)
def test_slices_of_a_table_are_the_loops(drawn: list[tuple[int, str | None, str]]) -> None:
    rows = [*ENDS, *drawn]
    with tempfile.TemporaryDirectory() as name:
        frame = pl.DataFrame(rows, schema=["user", "place", "part"], orient="row", strict=False)
        frame.with_columns(click=pl.int_range(pl.len()).over("part") % 2).write_parquet(Path(name) / "log.parquet")
        source = Source(str(Path(name) / "log.parquet"), user="user")
        fields = (Field("who", FieldKind.ID, column="user", min_count=1), Field("place", FieldKind.CATEGORY, min_count=2))
        table = ingest(source, Schema(fields, (Task("click"),)), ByColumn("part", valid="v", test="e"), folder=Path(name) / "t")
        seen = Counter(user for user, _, part in rows if part == "train")
        known = {place for place, count in Counter(place for _, place, part in rows if part == "train").items() if place and count >= 2}
        for part, mark in (("train", "train"), ("valid", "v"), ("test", "e")):
            own = [(user, place) for user, place, where in rows if where == mark]
            found = slices(table, part, names=("place",))
            assert found["user seen in training"].tolist() == [bin_of(seen[user]) for user, _ in own]
            assert found["place"].tolist() == [place if place in known else "unknown" for _, place in own]


FIELDS = (
    Field("u", FieldKind.ID, column="user"), Field("user", FieldKind.NUMBER), Field("twice", FieldKind.CATEGORY, sql="user * 2"),
    Field("seen", FieldKind.SEQUENCE, column="items", like="u"), Field("item", FieldKind.CATEGORY),
)  # fmt: skip
SCHEMA = Schema(FIELDS, (Task("click"),))


@pytest.mark.parametrize(
    ("column", "field"), [("user", "u"), ("item", "item"), ("items", None), ("twice", None), ("none", None), (None, None)]
)
def test_which_field_reads_a_column_as_an_id(column: str | None, field: str | None) -> None:
    """By its raw column, not by its own name; no number, no list and nothing derived does."""
    found = reading(SCHEMA, column)
    assert (None if found is None else found.name) == field


@pytest.mark.parametrize("name", ["user", "seen", "nobody", ""])
def test_what_is_no_id_or_category_is_named_with_where_it_was_asked(name: str) -> None:
    check_slices(SCHEMA, ["u", "twice", "item"], where="--slice")
    with pytest.raises(Exception, match=rf"--slice: '{name}' is no id or category"):
        check_slices(SCHEMA, ["u", name], where="--slice")
