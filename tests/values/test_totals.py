"""Counts by key, the rule that makes numbers of them, and their file."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from umbel.data.groups import MISSING
from umbel.data.keys import Key
from umbel.data.past import before, elsewhere, total
from umbel.data.totals import Counted, Rule, Standard, Totals, keys_of
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Statistic, Task

NAN = float("nan")
FIELD = Field("past", FieldKind.STATISTIC, statistic=Statistic(("user", "tag"), ("click", "seconds"), prior=4.0))
SCHEMA = Schema((FIELD,), (Task("click"), Task("seconds", kind=REGRESSION)))
KINDS = (Key.INTEGER, Key.TEXT)


def labels(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


def counted(rows: list[int], seen: list[list[int]], sums: list[list[float]]) -> Counted:
    return Counted(np.array(rows), np.array(seen), np.array(sums))


def totals() -> Totals:
    """Users 1 and 2 with tags a and b: three rows of one pair, one of another."""
    values = pl.DataFrame({"user": [1, 1, 2, 1], "tag": ["a", "a", "b", "a"]})
    keys = keys_of(values, KINDS)
    known = labels((1, 3), (0, 5), (1, NAN), (NAN, 1))
    found, sets = total(keys, known)
    _, whole = total(np.zeros(4, np.int64), known)
    standard = Standard(np.array([0.5, 1.0, 0.0]), np.array([2.0, 1.0, 0.5]))
    return Totals(Rule.of(SCHEMA, FIELD.statistic or Statistic((), ())), KINDS, keys=found, counted=sets, whole=whole, standard=standard)


def test_one_integer_column_is_its_own_key() -> None:
    keys = keys_of(pl.DataFrame({"user": [5, -3, None, 2**62]}), [Key.INTEGER])
    assert keys.tolist() == [5, -3, MISSING, 2**62]


def test_keys_of_text_and_pairs_are_the_same_everywhere() -> None:
    """Fixed numbers: another machine, version or process must find what this one wrote."""
    text = keys_of(pl.DataFrame({"tag": ["a", "b", None, "a"]}), [Key.TEXT])
    assert text[0] == text[3] != text[1]
    assert text[2] == MISSING
    assert text[0] == 3405396810240292928
    pair = keys_of(pl.DataFrame({"user": [1, 1, 2], "tag": ["a", "b", "a"]}), KINDS)
    assert len(set(pair.tolist())) == 3
    assert pair[0] == -1954943765866925528


def test_a_pair_is_not_its_mirror_and_wants_both() -> None:
    values = pl.DataFrame({"one": [1, 2, None, 3], "two": [2, 1, 3, None]})
    keys = keys_of(values, [Key.INTEGER, Key.INTEGER])
    assert keys[0] != keys[1]
    assert keys[2:].tolist() == [MISSING, MISSING]


def test_pairs_of_many_numbers_stay_apart() -> None:
    grid = np.arange(300)
    values = pl.DataFrame({"one": np.repeat(grid, 300), "two": np.tile(grid, 300)})
    assert len(np.unique(keys_of(values, [Key.INTEGER, Key.INTEGER]))) == 90_000


def test_numbers_are_compared_as_training_had_them() -> None:
    whole = keys_of(pl.DataFrame({"user": [1, 2]}), [Key.INTEGER])
    decimal = keys_of(pl.DataFrame({"user": [1.0, 2.5]}), [Key.INTEGER])
    assert decimal.tolist() == [whole[0], MISSING]
    zero = keys_of(pl.DataFrame({"x": [0.0, -0.0, NAN]}), [Key.FLOAT])
    assert zero[0] == zero[1]
    assert zero[2] == MISSING


def test_the_rule_by_hand() -> None:
    rule = Rule(4.0, np.array([True, False]))
    own = counted([3, 0], [[3, 2], [0, 0]], [[2.0, 8.0], [0.0, 0.0]])
    whole = counted([10], [[9, 5]], [[4.0, 15.0]])
    found = rule.figures(own, whole)
    smooth, mean = (2 + 4 * 0.45) / 7, 4.5 / 10
    assert found[0] == pytest.approx([log(smooth / (1 - smooth)) - log(mean / (1 - mean)), (8 - 2 * 3.0) / 6, log(4)])
    assert found[1].tolist() == [0.0, 0.0, 0.0]


def test_a_mean_of_all_or_none_stays_finite() -> None:
    rule = Rule(0.5, np.array([True]))
    for events in (0.0, 5.0):
        found = rule.figures(counted([5], [[5]], [[events]]), counted([5], [[5]], [[events]]))
        assert np.isfinite(found).all()
        assert abs(found[0, 0]) < 3


def test_more_events_and_more_rows_weigh_more() -> None:
    """Rising in the events of as many rows, and further from the mean with as large a share of more rows."""
    rule = Rule(20.0, np.array([True]))
    whole = counted([1000], [[1000]], [[300.0]])
    events = np.arange(11)
    rising = rule.figures(counted([10] * 11, [[10]] * 11, [[float(one)] for one in events]), whole)[:, 0]
    assert (np.diff(rising) > 0).all()
    assert rising[3] == pytest.approx(0.0, abs=0.02)
    further = rule.figures(counted([10, 100], [[10], [100]], [[9.0], [90.0]]), whole)[:, 0]
    assert further[1] > further[0] > 0


def test_what_never_varies_is_not_blown_up() -> None:
    standard = Standard.of(np.array([[0.0, 2.0], [0.0, 2.0]]), counted([2, 2], [[0], [0]], [[0.0], [0.0]]))
    assert standard.sd.tolist() == [1.0, log(2)]
    assert standard(np.array([[1.0, 2.0 + log(2)]])).tolist() == [[1.0, 1.0]]


def test_a_pair_that_few_rows_have_does_not_tower() -> None:
    """Of a hundred rows one sees a label: its number is 1, and the count no more than its distance from 0 in steps of one row."""
    figures = np.zeros((100, 2))
    figures[7] = [0.04, log(2)]
    rows = (np.arange(100) == 7).astype(np.int64)
    standard = Standard.of(figures, Counted(rows, rows[:, None], np.zeros((100, 1))))
    scaled = standard(figures)
    assert scaled[7].tolist() == pytest.approx([1.0, 0.99])
    assert scaled[0].tolist() == pytest.approx([0.0, -0.01])


def test_reading_by_hand() -> None:
    found = totals()
    rows = pl.DataFrame({"user": [1, 2, 1, None], "tag": ["a", "b", "b", "a"]})
    read = found.read(found.find(rows)) * found.standard.sd + found.standard.mean
    mean, smooth = 2.5 / 4, (1 + 4 * 2.5 / 4) / 6
    assert read[0] == pytest.approx([log(smooth / (1 - smooth)) - log(mean / (1 - mean)), (9 - 3 * 3) / 7, log(4)], abs=1e-6)
    assert read[1, 1:] == pytest.approx([0.0, log(2)], abs=1e-6)  # its seconds were not seen
    np.testing.assert_allclose(read[2:], 0, atol=1e-6)             # a new pair, and a missing user


def test_the_file_comes_back(tmp_path: Path) -> None:
    found = totals()
    found.save(tmp_path / "past.parquet")
    again = Totals.load(SCHEMA, FIELD, tmp_path / "past.parquet", beside=found.beside())
    keys = np.concatenate([found.keys, [7, MISSING]])
    np.testing.assert_array_equal(again.read(keys), found.read(keys))
    assert again.kinds == found.kinds
    assert again.beside() == found.beside()


def test_nothing_counted_is_nothing_known() -> None:
    empty = Totals.none(SCHEMA, FIELD, KINDS)
    np.testing.assert_array_equal(empty.read(np.array([1, MISSING, 3])), np.zeros((3, 3), np.float32))


def test_sets_are_taken_and_emptied() -> None:
    sets = counted([3, 1], [[3], [1]], [[2.0], [0.0]])
    taken = sets.and_none().at(np.array([1, -1, 0]))
    assert taken.rows.tolist() == [1, 0, 3]
    assert taken.sums[:, 0].tolist() == [0.0, 0.0, 2.0]
    left = sets.but(np.array([True, False]))
    assert (left.rows.tolist(), left.seen[:, 0].tolist(), left.sums[:, 0].tolist()) == ([0, 1], [0, 1], [0.0, 0.0])


def test_ties_in_time_do_not_see_each_other() -> None:
    keys, times = np.array([7, 7, 7, 7]), np.array([3, 1, 3, 5])
    own, whole = before(keys, times, labels((1, 0), (1, 0), (0, 0), (1, 0)), window=0)
    assert own.rows.tolist() == [1, 0, 1, 3]
    assert own.sums[:, 0].tolist() == [1.0, 0.0, 1.0, 2.0]
    assert whole.rows.tolist() == [1, 0, 1, 3]


def test_a_window_as_long_as_the_log_hides_all() -> None:
    keys, times = np.zeros(5, np.int64), np.arange(5)
    own, whole = before(keys, times, labels(*[(1, 1)] * 5), window=5)
    assert own.rows.tolist() == whole.rows.tolist() == [0] * 5


def test_negative_and_large_times_are_in_order() -> None:
    times = np.array([-(2**60), 2**60, 0])
    own, _ = before(np.ones(3, np.int64), times, labels((1, 0), (1, 0), (1, 0)), window=1)
    assert own.rows.tolist() == [0, 2, 1]


def test_rows_without_a_key_are_seen_by_none_yet_count_in_the_whole() -> None:
    keys = np.array([MISSING, MISSING, 7])
    own, whole = before(keys, np.arange(3), labels((1, 0), (1, 0), (0, 0)), window=0)
    assert own.rows.tolist() == [0, 0, 0]
    assert whole.rows.tolist() == [0, 1, 2]
    own, whole = elsewhere(keys, np.array([0, 1, 1]), labels((1, 0), (1, 0), (0, 0)), count=2)
    assert own.rows.tolist() == [0, 0, 0]
    assert whole.rows.tolist() == [2, 1, 1]


def test_a_fold_of_all_rows_leaves_nothing() -> None:
    own, whole = elsewhere(np.array([1, 1]), np.zeros(2, np.int64), labels((1, 0), (0, 0)), count=2)
    assert own.rows.tolist() == whole.rows.tolist() == [0, 0]
