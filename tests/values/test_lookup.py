"""Keys to places: dense and hashed lookups, finders of raw values, and counts, against plain dictionaries."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data import frequency
from umbel.data.frequency import Frequencies, in_order, text_order
from umbel.data.keys import Finder, Key, canonical, common, key_of
from umbel.data.lookup import Hashed, Span, lookup, mixed

LOW, HIGH = -(2**63), 2**63 - 1
unhurried = settings(deadline=None)
integers = st.integers(LOW, HIGH)


@unhurried
@given(keys=st.lists(integers, unique=True, max_size=60), asked=st.lists(integers, max_size=60))
def test_hashed_is_a_dictionary(keys: list[int], asked: list[int]) -> None:
    table = Hashed()
    half = len(keys) // 2
    table.add(np.array(keys[:half], np.int64))
    table.add(np.array(keys[half:], np.int64))
    expected = {key: place for place, key in enumerate(keys)}
    every = [*keys, *asked]
    assert table.find(np.array(every, np.int64)).tolist() == [expected.get(key, -1) for key in every]
    assert table.keys.tolist() == keys
    assert table.size == len(keys)


@unhurried
@given(
    keys=st.lists(st.integers(-300, 300), unique=True, max_size=60),
    shift=st.sampled_from([0, LOW + 300, HIGH - 300]),
    asked=st.lists(integers),
)
def test_span_is_a_dictionary_up_to_the_ends_of_int64(keys: list[int], shift: int, asked: list[int]) -> None:
    moved = [key + shift for key in keys]
    table = Span(np.array(moved, np.int64))
    expected = {key: place for place, key in enumerate(moved)}
    every = [*moved, *asked, LOW, LOW + 1, HIGH - 1, HIGH, -1, 0, 1]
    assert table.find(np.array(every, np.int64)).tolist() == [expected.get(key, -1) for key in every]


@pytest.mark.parametrize("step", [1, 2**12, 2**32 + 1, 10**9 + 7])
def test_many_keys_in_a_row_of_steps(step: int) -> None:
    keys = np.arange(5000) * step
    table = Hashed()
    for part in np.array_split(keys, 7):
        table.add(part)
    assert np.array_equal(table.find(keys), np.arange(5000))
    assert (table.find(keys + 5001 * step) == -1).all()


def test_close_keys_take_an_array_far_ones_a_table() -> None:
    assert isinstance(lookup(np.arange(10)), Span)
    assert isinstance(lookup(np.array([0, 2**40])), Hashed)
    assert isinstance(lookup(np.array([LOW, HIGH])), Hashed)
    assert isinstance(lookup(np.zeros(0, np.int64)), Span)


def test_an_empty_lookup_finds_nothing() -> None:
    assert lookup(np.zeros(0, np.int64)).find(np.array([0, -1, 5])).tolist() == [-1, -1, -1]
    assert Hashed().find(np.array([0, -1])).tolist() == [-1, -1]


def test_mixing_depends_on_the_seed_and_spreads() -> None:
    keys = np.arange(1000)
    first, second = mixed(keys, 0), mixed(keys, 1)
    assert len(set(first.tolist())) == 1000
    assert not (first == second).any()
    assert 0.4 < float((first >> np.uint64(63)).mean()) < 0.6
    assert mixed(np.array([0]), 0)[0] == 0xE220A8397B1DCDAF  # the first output of splitmix64 from state 0


@pytest.mark.parametrize(
    ("column", "key"),
    [
        (pl.Series([1], dtype=pl.Int8), Key.INTEGER),
        (pl.Series([1], dtype=pl.UInt32), Key.INTEGER),
        (pl.Series([1], dtype=pl.UInt64), Key.UNSIGNED),
        (pl.Series([True]), Key.INTEGER),
        (pl.Series([None]), Key.INTEGER),
        (pl.Series([1.0], dtype=pl.Float32), Key.FLOAT),
        (pl.Series(["a"]), Key.TEXT),
        (pl.Series(["a"], dtype=pl.Categorical), Key.TEXT),
        (pl.Series([[1]]), Key.INTEGER),
        (pl.Series([0]).cast(pl.Date), Key.TEXT),
    ],
)
def test_the_type_of_keys(column: pl.Series, key: Key) -> None:
    assert key_of(column) is key


def test_one_type_for_several_fields() -> None:
    assert common([Key.INTEGER, Key.INTEGER]) is Key.INTEGER
    assert common([Key.INTEGER, Key.FLOAT]) is Key.FLOAT
    assert common([Key.INTEGER, Key.UNSIGNED]) is Key.TEXT
    assert common([Key.INTEGER, Key.TEXT]) is Key.TEXT


@pytest.mark.parametrize(
    ("raw", "key", "expected"),
    [
        (pl.Series([1.0, 1.5, float("nan"), None, -0.0]), Key.INTEGER, [1, None, None, None, 0]),
        (pl.Series([1.0, -1.0, 2.0**64]), Key.UNSIGNED, [1, None, None]),
        (pl.Series(["7", "x", "", None, "7.5"]), Key.INTEGER, [7, None, None, None, None]),
        (pl.Series([7, None]), Key.TEXT, ["7", None]),
        (pl.Series([7, None]), Key.FLOAT, [7.0, None]),
        (pl.Series([True, False]), Key.INTEGER, [1, 0]),
        (pl.Series([2**63], dtype=pl.UInt64), Key.INTEGER, [None]),
    ],
)
def test_values_in_the_type_of_keys(raw: pl.Series, key: Key, expected: list[object]) -> None:
    assert canonical(raw, key).to_list() == expected


@pytest.mark.parametrize(
    "known",
    [
        pl.Series([5, -3, 2**40]),
        pl.Series([2**64 - 1, 0, 7], dtype=pl.UInt64),
        pl.Series([1.5, 0.0, -2.25]),
        pl.Series(["b", "", "é", "a" * 100]),
    ],
)
def test_a_finder_finds_its_values_and_no_others(known: pl.Series) -> None:
    finder = Finder(known)
    asked = pl.concat([known.reverse(), pl.Series([None], dtype=known.dtype), known.head(0)])
    assert finder.find(asked).tolist() == [*reversed(range(len(known))), -1]


def test_a_finder_over_other_types() -> None:
    finder = Finder(pl.Series([10, 20]))
    assert finder.find(pl.Series(["20", "x", None])).tolist() == [1, -1, -1]
    assert finder.find(pl.Series([10.0, 10.5])).tolist() == [0, -1]
    assert Finder(pl.Series(["1", "2"])).find(pl.Series([2, 3])).tolist() == [1, -1]


def test_a_finder_over_nothing() -> None:
    assert Finder(pl.Series([], dtype=pl.String)).find(pl.Series(["a", None])).tolist() == [-1, -1]
    assert Finder(pl.Series([], dtype=pl.Int64)).find(pl.Series([0, None])).tolist() == [-1, -1]


def test_text_that_hashes_alike_is_not_taken_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were all hashes of an unknown text equal to a known one's, the comparison would still tell them apart."""
    finder = Finder(pl.Series(["a", "b"]))
    hashes = pl.Series(["b", "b", "a"]).hash(0)
    monkeypatch.setattr(pl.Series, "hash", lambda _self, _seed: hashes)
    assert finder.find(pl.Series(["b", "z", "a"])).tolist() == [1, -1, 0]


@unhurried
@given(st.lists(integers, unique=True, max_size=50))
def test_integers_in_the_order_of_their_text(values: list[int]) -> None:
    order = text_order(np.array(values, np.int64))
    assert [values[place] for place in order] == sorted(values, key=lambda value: str(value).encode())


@unhurried
@given(st.lists(st.sampled_from([0, 1, 10, 100, 1000, 11, 101, 2, 20, -1, -10, -2, 9, 99, -9, -99, 10**18, -(10**18)]), unique=True))
def test_numbers_that_begin_alike(values: list[int]) -> None:
    order = text_order(np.array(values, np.int64))
    assert [values[place] for place in order] == sorted(values, key=lambda value: str(value).encode())


@unhurried
@given(st.lists(st.tuples(st.integers(1, 3), st.text(max_size=3)), unique_by=lambda pair: pair[1], max_size=20))
def test_text_in_order_of_count_then_bytes(pairs: list[tuple[int, str]]) -> None:
    columns = {"value": [text for _, text in pairs], "count": [count for count, _ in pairs]}
    frame = pl.DataFrame(columns, schema={"value": pl.String, "count": pl.Int64})
    expected = sorted(pairs, key=lambda pair: (-pair[0], pair[1].encode()))
    assert in_order(frame)["value"].to_list() == [text for _, text in expected]


def counted(batches: list[pl.Series]) -> dict[object, int]:
    frequencies = Frequencies()
    for batch in batches:
        frequencies.add(batch)
    frame = frequencies.counted()
    assert frame["count"].dtype == pl.Int64
    return dict(frame.iter_rows())


@settings(max_examples=50, deadline=None)
@given(
    batches=st.lists(st.lists(st.one_of(st.none(), st.integers(-20, 20), st.integers(LOW, HIGH)), max_size=30), min_size=1, max_size=6),
)
def test_counts_of_integers_near_and_far(batches: list[list[int | None]]) -> None:
    found = counted([pl.Series(batch, dtype=pl.Int64) for batch in batches])
    assert found == Counter(value for batch in batches for value in batch if value is not None)


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(st.lists(st.one_of(st.none(), st.sampled_from("abcdé")), max_size=30), min_size=1, max_size=6),
    limit=st.integers(1, 20),
)
def test_counts_of_text_however_often_they_are_merged(batches: list[list[str | None]], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequency, "FRESH", limit)
        found = counted([pl.Series(batch, dtype=pl.String) for batch in batches])
    assert found == Counter(value for batch in batches for value in batch if value is not None)


def test_counts_of_floats_and_unsigned() -> None:
    assert counted([pl.Series([0.5, -0.0, 0.0, float("nan"), None]), pl.Series([0.5])]) == {0.5: 2, 0.0: 2}
    big = pl.Series([2**64 - 1, 2**64 - 1, 3], dtype=pl.UInt64)
    assert counted([big, big]) == {2**64 - 1: 4, 3: 2}


def test_counts_move_from_an_array_to_a_table_when_values_spread() -> None:
    near = pl.Series(np.arange(100))
    assert counted([near, pl.Series([10**12, 5]), near, pl.Series([-(10**12)])])[5] == 3


def test_counts_of_nothing() -> None:
    assert counted([]) == {}
    assert counted([pl.Series([None, None])]) == {}
    assert counted([pl.Series([], dtype=pl.String)]) == {}


def test_counts_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars counts in 32 bits; sums of such counts must not wrap."""
    monkeypatch.setattr(frequency, "FRESH", 0)
    texts = frequency._Texts()
    texts._merged = pl.DataFrame({"value": ["a"], "count": [2**32 - 1]}, schema={"value": pl.String, "count": pl.Int64})
    texts.add(pl.Series(["a", "a"]), 1)
    assert texts.counted()[1].tolist() == [2**32 + 1]


@pytest.mark.parametrize(("values", "kept"), [
    (pl.Series([5, None, 3, 5, 2**40]), {3: 30, 5: 50, 2**40: 50}),
    (pl.Series([5, None, 3, 5, 7]), {3: 30, 5: 50, 7: 50}),
    (pl.Series([0.5, None, -0.0, 0.5, 0.0]), {0.0: 80, 0.5: 50}),
    (pl.Series(["b", None, "a", "b", "c"]), {"a": 30, "b": 50, "c": 50}),
])
def test_values_that_occur_so_many_times(values: pl.Series, kept: dict[object, int]) -> None:
    """A value counted with its times is the value that often; the times of missing ones count nothing."""
    times = np.array([10, 20, 30, 40, 50])
    at_once, one_by_one = frequency.Frequencies(), frequency.Frequencies()
    at_once.add(values, times)
    for value, often in zip(values, times, strict=True):
        one_by_one.add(pl.Series([value] * int(often), dtype=values.dtype))
    found = [dict(counted["value", "count"].iter_rows()) for counted in (at_once.counted(), one_by_one.counted())]
    assert found == [kept, kept]


def test_times_add_up_over_batches() -> None:
    counts = frequency.Frequencies()
    for _ in range(3):
        counts.add(pl.Series([1, 2]), np.array([2**33, 1]))
        counts.add(pl.Series([2, 2]))
    assert dict(counts.counted().iter_rows()) == {1: 3 * 2**33, 2: 9}
