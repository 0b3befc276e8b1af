"""What is refused before anything is encoded, against a plain loop over the rows; and raw values of every kind, against plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data.audit import LIMIT, Audit
from umbel.data.labels import conditional, contradictions
from umbel.data.split import PARTS
from umbel.data.values import as_float, as_lists, lists, numbers, vectors
from umbel.errors import UserError
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

unhurried = settings(deadline=None, max_examples=60)
FIELD = (Field("user", FieldKind.ID),)
SCHEMA = Schema(FIELD, (Task("click"), Task("buy", given="click"), Task("spent", REGRESSION, given="buy")))
NAN = float("nan")
EVENT = st.sampled_from([0.0, 1.0, NAN])
ROW = st.tuples(EVENT, EVENT, st.sampled_from([0.0, 1.5, NAN]), st.integers(-1, 2), st.integers(-9, 9))
Row = tuple[float, float, float, int, int]


def audited(rows: Sequence[Row], schema: Schema = SCHEMA, *, size: int = 1000) -> Audit:
    """The audit of those rows, taken so many at a time."""
    found = Audit(schema)
    for start in range(0, len(rows), size):
        *labels, parts, times = zip(*rows[start : start + size], strict=True)
        found.add(np.array(labels, np.float32).T, np.array(parts, np.int8), np.array(times, np.int64))
    return found


def refused(rows: Sequence[Row], *, ordered: bool) -> str | None:
    """What the first fault of the rows is, found by looking at each: a part, a task, a border."""
    kept = [row for row in rows if row[3] >= 0]
    for part, name in enumerate(PARTS):
        if not any(row[3] == part for row in kept):
            return f"no row falls into {name}"
    for task, name in enumerate(("click", "buy", "spent")):
        for part, where in enumerate(PARTS):
            seen = [row[task] for row in kept if row[3] == part and not math.isnan(row[task])]
            if not seen:
                return f"tasks.{name}: no label is seen in {where}"
            if task < 2 and len(set(seen)) == 1:
                return f"tasks.{name}: every label in {where} is {seen[0]:g}"
        learned = [row[task] for row in kept if row[3] == 0 and not math.isnan(row[task]) and all(above == 1 for above in row[:task])]
        if task and not learned:
            return f"tasks.{name}: no label is seen in train where"
        if task == 1 and len(set(learned)) == 1:
            return f"tasks.{name}: every label in train where 'click' holds is {learned[0]:g}"
        against = sum(task == 1 and row[1] == 1 and row[0] == 0 for row in kept)
        if against > LIMIT * len(kept):
            return f"tasks.{name}: {against} of {len(kept)} rows hold it although 'click' does not hold"
    train, test = ([row[4] for row in kept if row[3] == part] for part in (0, 2))
    return f"a training row has time {max(train)}" if ordered and max(train) > min(test) else None


GOOD: list[Row] = [(one, two, spent, part, part) for part in range(3) for one, two, spent in ((1, 1, 2.0), (1, 0, 0.0), (0, 0, 0.0))]


@unhurried
@given(rows=st.lists(ROW, min_size=1, max_size=14), whole=st.booleans(), ordered=st.booleans(), size=st.integers(1, 9))
def test_the_audit_is_the_plain_loop(rows: list[Row], *, whole: bool, ordered: bool, size: int) -> None:
    """Rows alone are nearly always refused; beside good ones they are refused for what they add."""
    every = [*GOOD, *rows] if whole else rows
    fault = refused(every, ordered=ordered)
    found = audited(every, size=size)
    if fault is None:
        found.check(ordered=ordered)
        return
    with pytest.raises(UserError) as caught:
        found.check(ordered=ordered)
    assert fault in str(caught.value)


@unhurried
@given(st.lists(ROW, min_size=1, max_size=14), st.integers(1, 5))
def test_counts_do_not_depend_on_batches(rows: list[Row], size: int) -> None:
    found = audited(rows, size=size)
    kept = [row for row in rows if row[3] >= 0]
    assert found.rows == len(rows)
    assert found.dropped == len(rows) - len(kept)
    assert found.sizes == [sum(row[3] == part for row in rows) for part in range(3)]
    assert found.against == {"click": 0, "buy": sum(row[0] == 0 and row[1] == 1 for row in kept), "spent": 0}


def test_good_rows_pass_and_each_fault_is_named() -> None:
    audited(GOOD).check(ordered=True)
    for change, says in (
        (GOOD[3:], "no row falls into train"),
        ([row for row in GOOD if row[3] != 2], "no row falls into test"),
        ([(NAN, two, spent, part, at) for _, two, spent, part, at in GOOD], "tasks.click: no label is seen in train"),
        ([(one, 0.0, spent, part, at) for one, _, spent, part, at in GOOD], "tasks.buy: every label in train is 0"),
        ([*GOOD, (0, 1, 0.0, 1, 1)], "tasks.buy: 1 of 10 rows hold it although 'click' does not hold; drop given = 'click'"),
        ([(1, 1, 2.0, 0, 0), (0, 0, 0.0, 0, 0), *GOOD[3:]], "tasks.buy: every label in train where 'click' holds is 1"),
        ([(1, 1, NAN, 0, 0), (1, 0, 2.0, 0, 0), (0, 0, 0.0, 0, 0), *GOOD[3:]], "tasks.spent: no label is seen in train where 'buy' holds"),
        ([*GOOD, (0, 0, 0.0, 0, 3)], "a training row has time 3, a test row 2"),
    ):
        with pytest.raises(UserError) as caught:
            audited(change).check(ordered=True)
        assert says in str(caught.value)
    audited([*GOOD, (0, 0, 0.0, 0, 3)]).check(ordered=False)
    audited([*GOOD, (0, 0, 0.0, 0, 2)]).check(ordered=True)


@pytest.mark.parametrize(("against", "passes"), [(2, True), (3, False)])
def test_a_thousandth_may_contradict(against: int, passes: bool) -> None:
    """Labels of different systems disagree now and then; more than that is no sample space."""
    rows = [*GOOD * 223, *[(0.0, 1.0, 0.0, 1, 1)] * against]
    rows = rows[: 2000 - against] + rows[-against:]
    assert len(rows) == 2000
    if passes:
        audited(rows).check(ordered=True)
    else:
        with pytest.raises(UserError, match="3 of 2000 rows hold it although 'click' does not hold"):
            audited(rows).check(ordered=True)


@unhurried
@given(st.lists(ROW, min_size=1, max_size=30), st.sampled_from([1, 3, 1000]))
def test_the_spread_of_labels_is_that_of_what_is_learned_from(rows: list[Row], size: int) -> None:
    """Of the one task whose labels can be any number: training rows where what it is given holds."""
    own = [row[2] for row in rows if row[3] == 0 and row[0] == row[1] == 1 and not math.isnan(row[2])]
    expected = {"spent": pytest.approx(np.std(own), abs=1e-7)} if own else {}
    assert audited(rows, size=size).label_spreads == expected


def test_rows_of_no_part_may_hold_anything() -> None:
    audited([*GOOD, *[(0.0, 1.0, NAN, -1, 99)] * 50]).check(ordered=True)


@unhurried
@given(st.lists(st.tuples(EVENT, EVENT, EVENT), min_size=1, max_size=10))
def test_the_conditional_is_seen_where_all_before_it_happened(rows: list[tuple[float, float, float]]) -> None:
    labels = np.array(rows, np.float32)
    found = conditional(labels, SCHEMA)
    for row, own in zip(rows, found.tolist(), strict=True):
        for task in range(3):
            holds = all(above == 1 for above in row[:task])
            assert own[task] == row[task] if holds and not math.isnan(row[task]) else math.isnan(own[task])
    assert contradictions(labels, SCHEMA) == [0, sum(row[0] == 0 and row[1] == 1 for row in rows), 0]


# raw values

BAG = Field("tags", FieldKind.BAG, length=3)
PLAIN = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=4)


@unhurried
@given(st.lists(st.none() | st.lists(PLAIN, max_size=5), min_size=1, max_size=6), st.sampled_from([*" |;,", ", "]), st.booleans())
def test_text_is_cut_as_it_was_joined(rows: list[list[str] | None], mark: str, bracketed: bool) -> None:
    texts = [None if row is None else f"[{mark.join(row)}]" if bracketed else mark.join(row) for row in rows]
    raw = pl.Series("tags", texts, dtype=pl.String)
    assert lists(raw, BAG).to_list() == rows
    assert as_lists(raw, BAG).to_list() == [None if row is None else row[-3:] for row in rows]


@unhurried
@given(st.lists(st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=6), min_size=1, max_size=6), st.integers(1, 5))
def test_the_last_values_of_a_list_are_kept(rows: list[list[int | None] | None], length: int) -> None:
    raw = pl.Series("tags", rows, dtype=pl.List(pl.Int64))
    assert as_lists(raw, Field("tags", FieldKind.BAG, length=length)).to_list() == [None if row is None else row[-length:] for row in rows]


WRITTEN = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6)


@unhurried
@given(st.lists(WRITTEN, min_size=1, max_size=8))
def test_numbers_as_text_are_the_numbers(values: list[float | int | None]) -> None:
    price = Field("price", FieldKind.NUMBER)
    plain = numbers(pl.Series("price", values, dtype=pl.Float64, strict=False), price)
    text = numbers(pl.Series("price", [None if value is None else repr(value) for value in values], dtype=pl.String), price)
    expected = np.array([NAN if value is None else float(value) for value in values])
    assert np.array_equal(plain, expected, equal_nan=True)
    assert np.array_equal(text, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (pl.Series(["1", "x", "y"]), "fields.p: 'x' is no number; use kind"),
        (pl.Series(["1", ""]), "fields.p: '' is no number"),
        (pl.Series(["1,5"]), "fields.p: '1,5' is no number"),
        (pl.Series([[1.0]]), "no number can be read from List(Float64)"),
        (pl.Series([1]).cast(pl.Date), "no number can be read from Date"),
        (pl.Series([b"1"]), "no number can be read from Binary"),
    ],
)
def test_what_is_no_number_is_named(raw: pl.Series, says: str) -> None:
    with pytest.raises(UserError) as caught:
        as_float(raw, "fields.p", mend="use kind = 'category'")
    assert says in str(caught.value)


def test_truth_values_and_nothing_are_numbers() -> None:
    assert as_float(pl.Series([True, None, False]), "x", mend="").tolist() == [1.0, pytest.approx(NAN, nan_ok=True), 0.0]
    assert np.isnan(as_float(pl.Series([None, None]), "x", mend="")).tolist() == [True, True]


PAIRS = st.lists(st.none() | st.lists(st.none() | st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2), min_size=1, max_size=6)


@unhurried
@given(PAIRS, st.sampled_from(["list", "text", "array"]))
def test_a_vector_is_its_numbers_or_a_row_of_none(rows: list[list[float | None] | None], form: str) -> None:
    if form == "text":
        whole = [None if row is None else [0.0 if one is None else one for one in row] for row in rows]
        raw = pl.Series("v", [None if row is None else " ".join(map(repr, row)) for row in whole], dtype=pl.String)
    else:
        whole = rows  # type: ignore[assignment]
        raw = pl.Series("v", rows, dtype=pl.List(pl.Float32) if form == "list" else pl.Array(pl.Float32, 2))
    found = vectors(raw, Field("v", FieldKind.VECTOR, width=2))
    expected = [[NAN, NAN] if row is None else [NAN if one is None else one for one in row] for row in whole]
    assert found.dtype == np.float32
    assert np.array_equal(found, np.array(expected, np.float32), equal_nan=True)


@unhurried
@given(st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=6), st.integers(1, 4))
def test_vectors_of_another_width_are_counted(rows: list[list[int]], width: int) -> None:
    raw, field = pl.Series("v", rows, dtype=pl.List(pl.Int64)), Field("v", FieldKind.VECTOR, width=width)
    wrong = [row for row in rows if len(row) != width]
    if not wrong:
        assert vectors(raw, field).tolist() == rows
        return
    with pytest.raises(UserError) as caught:
        vectors(raw, field)
    assert str(caught.value) == f"fields.v: {len(wrong)} vectors are not {width} wide; set width = {len(wrong[0])}, or drop them"


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39, -1e39])
def test_a_vector_beyond_float32_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"fields\.v: infinite in 1 rows"):
        vectors(pl.Series("v", [[0.0, value], [1.0, NAN]]), Field("v", FieldKind.VECTOR, width=2))


@unhurried
@given(st.lists(ROW, min_size=1, max_size=14), st.integers(0, 2))
def test_what_goes_further_may_lack_a_task_and_those_given_it_alone(rows: list[Row], gone: int) -> None:
    """Every other fault is still one."""
    some = [tuple(NAN if place == gone else value for place, value in enumerate(row)) for row in [*GOOD, *rows]]
    found = audited(some)  # type: ignore[arg-type]
    names = ["click", "buy", "spent"]
    assert found.unlabelled == names[gone:]
    with pytest.raises(UserError, match=f"tasks.{names[gone]}: no label is seen in train"):
        audited([tuple(NAN if place == gone else value for place, value in enumerate(row)) for row in GOOD]).check(ordered=True)  # type: ignore[misc]
    fault = refused(some, ordered=False)  # type: ignore[arg-type]
    assert fault is not None
    if any(f"tasks.{name}:" in fault for name in names[gone:]):
        found.check(ordered=False, further=True)
        return
    with pytest.raises(UserError) as caught:
        found.check(ordered=False, further=True)
    assert fault in str(caught.value)


def test_what_goes_further_may_not_lack_a_label_in_one_part_alone() -> None:
    some: list[Row] = [(NAN if part == 2 else one, two, spent, part, at) for one, two, spent, part, at in GOOD]
    assert audited(some).unlabelled == []
    with pytest.raises(UserError, match=r"tasks.click: no label is seen in test"):
        audited(some).check(ordered=True, further=True)
