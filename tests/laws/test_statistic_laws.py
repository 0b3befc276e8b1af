"""Laws of target statistics: what a row may know, against a plain loop; and that it cannot learn its own label from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from umbel.data.groups import MISSING
from umbel.data.ingest import ingest
from umbel.data.past import before, elsewhere, total
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.totals import Rule
from umbel.evaluate.metrics import auc
from umbel.schema import Field, FieldKind, Schema, Statistic, Task

TASKS = ("click", "like")
KEYS = st.one_of(st.integers(0, 3), st.just(MISSING))
LABEL = st.one_of(st.sampled_from([0.0, 1.0]), st.just(float("nan")))
ROW = st.tuples(KEYS, st.integers(0, 6), LABEL, LABEL)
LOGS = st.lists(ROW, min_size=1, max_size=25)
BINARY = np.array([True, True])
Row = tuple[int, int, float, float]


def arrays(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keys, times, *labels = zip(*rows, strict=True)
    return np.array(keys, np.int64), np.array(times, np.int64), np.array(labels, np.float32).T


def looped(labels: np.ndarray, own: list[int], whole: list[int], prior: float) -> list[float]:
    """The statistic of one row, from the numbers of the rows that it sees of its key and of any."""
    found = []
    for task in range(labels.shape[1]):
        seen = [float(labels[row, task]) for row in own if not np.isnan(labels[row, task])]
        every = [float(labels[row, task]) for row in whole if not np.isnan(labels[row, task])]
        mean = (sum(every) + 0.5) / (len(every) + 1)
        smooth = (sum(seen) + prior * mean) / (len(seen) + prior)
        found.append(log(smooth / (1 - smooth)) - log(mean / (1 - mean)) if seen else 0.0)
    return [*found, log(1 + len(own))]


@settings(max_examples=60, deadline=None)
@given(LOGS, st.integers(0, 3), st.floats(0.1, 50))
def test_before_is_the_plain_loop(rows: list[Row], window: int, prior: float) -> None:
    keys, times, labels = arrays(rows)
    own, whole = before(keys, times, labels, window=window)
    found = Rule(prior, BINARY).figures(own, whole)
    for row in range(len(rows)):
        past = [other for other in range(len(rows)) if times[other] < times[row] - window]
        mine = [other for other in past if keys[other] == keys[row] != MISSING]
        assert found[row] == pytest.approx(looped(labels, mine, past, prior), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(LOGS, st.integers(2, 4), st.floats(0.1, 50), st.integers(0, 2**32))
def test_elsewhere_is_the_plain_loop(rows: list[Row], count: int, prior: float, seed: int) -> None:
    keys, _, labels = arrays(rows)
    folds = np.random.default_rng(seed).integers(count, size=len(rows))
    own, whole = elsewhere(keys, folds, labels, count=count)
    found = Rule(prior, BINARY).figures(own, whole)
    for row in range(len(rows)):
        others = [other for other in range(len(rows)) if folds[other] != folds[row]]
        mine = [other for other in others if keys[other] == keys[row] != MISSING]
        assert found[row] == pytest.approx(looped(labels, mine, others, prior), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(LOGS)
def test_totals_are_the_plain_loop(rows: list[Row]) -> None:
    keys, _, labels = arrays(rows)
    distinct, counted = total(keys, labels)
    assert distinct.tolist() == sorted(set(keys.tolist()) - {MISSING})
    for place, key in enumerate(distinct):
        mine = labels[keys == key]
        assert counted.rows[place] == len(mine)
        assert counted.seen[place].tolist() == [int((~np.isnan(column)).sum()) for column in mine.T]
        assert counted.sums[place].tolist() == [float(np.nansum(column)) for column in mine.T]


@settings(max_examples=60, deadline=None)
@given(LOGS, st.integers(0, 3), st.integers(0, 6), st.data())
def test_no_label_at_or_after_a_row_reaches_it(rows: list[Row], window: int, now: int, data: st.DataObject) -> None:
    """Whatever is written over labels from `now` less the window on, no row up to `now` changes by a bit."""
    keys, times, labels = arrays(rows)
    late = times >= now - window
    others = labels.copy()
    others[late] = np.array(data.draw(st.lists(LABEL, min_size=2 * int(late.sum()), max_size=2 * int(late.sum())))).reshape(-1, 2)
    rule = Rule(20.0, BINARY)
    found, again = (rule.figures(*before(keys, times, one, window=window)) for one in (labels, others))
    np.testing.assert_array_equal(found[times <= now], again[times <= now])


def test_the_law_of_the_future_catches_a_window_that_looks_ahead() -> None:
    """The same check fails where rows see their own moment: it is a check that can fail."""
    keys, times, labels = arrays([(1, 0, 1.0, 0.0), (1, 1, 0.0, 0.0)])
    others = labels.copy()
    others[1] = 1.0
    rule = Rule(20.0, BINARY)
    found, again = (rule.figures(*before(keys, times, one, window=-1)) for one in (labels, others))
    assert not np.array_equal(found[1], again[1])


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=20), st.integers(0, 2**32), st.integers(2, 4))
def test_the_order_of_rows_does_not_matter(rows: list[Row], seed: int, count: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    keys, times, labels = arrays(rows)
    folds = (keys + times) % count
    rule = Rule(20.0, BINARY)
    straight, turned = (before(keys[rows], times[rows], labels[rows], window=1) for rows in (slice(None), order))
    np.testing.assert_allclose(rule.figures(*straight)[order], rule.figures(*turned), atol=1e-12)
    straight, turned = (elsewhere(keys[rows], folds[rows], labels[rows], count=count) for rows in (slice(None), order))
    np.testing.assert_allclose(rule.figures(*straight)[order], rule.figures(*turned), atol=1e-12)


def noise(rows: int, ids: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ids, and labels that depend on nothing."""
    draw = np.random.default_rng(seed)
    return draw.integers(ids, size=rows), (draw.random((rows, 1)) < 0.4).astype(np.float32)


def seen_by(mode: str, keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The statistic of training rows, and of none, as the modes make it; `leave_one_out` as they do not."""
    draw = np.random.default_rng(1)
    rule = Rule(20.0, np.array([True]))
    if mode == "time":
        return rule.figures(*before(keys, draw.integers(20, size=len(keys)), labels, window=0))
    if mode == "leave_one_out":
        return rule.figures(*elsewhere(keys, np.arange(len(keys)), labels, count=len(keys)))
    return rule.figures(*elsewhere(keys, draw.integers(5, size=len(keys)), labels, count=5))


def learned(keys: np.ndarray, figures: np.ndarray, labels: np.ndarray, later: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """AUC on training rows, and on later ones, of a logistic regression over the ids by heart and the statistic beside them."""
    own, new = later
    scale = figures.std(axis=0) + 1e-9
    ids = np.eye(keys.max() + 1)
    model = LogisticRegression(C=10, max_iter=1000).fit(np.hstack([ids[keys], figures / scale]), labels[:, 0])
    inside = auc(labels[:, 0].astype(np.float64), model.decision_function(np.hstack([ids[keys], figures / scale])))
    fresh = np.random.default_rng(5).integers(2, size=len(own)).astype(np.float64)
    outside = auc(fresh, model.decision_function(np.hstack([ids[own], new / scale])))
    assert isinstance(inside, float)
    assert isinstance(outside, float)
    return inside, outside


@pytest.mark.parametrize("mode", ["time", "folds"])
def test_a_statistic_of_noise_tells_nothing_of_its_rows(mode: str) -> None:
    keys, labels = noise(20_000, 500)
    alone = auc(labels[:, 0].astype(np.float64), seen_by(mode, keys, labels)[:, 0])
    assert alone == pytest.approx(0.5, abs=0.02)


def test_leave_one_out_tells_the_label_beside_the_id_and_the_modes_do_not() -> None:
    """On noise an id known by heart lifts the AUC of training rows to .69; leave-one-out beside it to 1, and later rows stay at chance.

    Ways of seeing other rows' labels are no leak of one's own, yet what they hold of the id can be learned by heart too: it lifts
    training rows by less than half of that (.79 by time), or little more (.86 by folds), which is what early stopping is for.
    """
    keys, labels = noise(3_000, 300)
    distinct, counted = total(keys, labels)
    _, whole = total(np.zeros(len(keys), np.int64), labels)
    own = np.random.default_rng(4).integers(300, size=4_000)
    new = Rule(20.0, np.array([True])).figures(counted.at(np.searchsorted(distinct, own)), whole)
    found = {mode: learned(keys, seen_by(mode, keys, labels), labels, (own, new)) for mode in ("time", "folds", "leave_one_out")}
    by_heart, _ = learned(keys, np.zeros((len(keys), 2)), labels, (own, np.zeros((len(own), 2))))
    assert found["leave_one_out"][0] > 0.999
    assert found["time"][0] - by_heart < (1 - by_heart) / 2
    assert found["folds"][0] - by_heart < 2 * (1 - by_heart) / 3
    for _, outside in found.values():
        assert outside == pytest.approx(0.5, abs=0.03)


def test_one_row_in_the_log_changes_only_rows_after_it(tmp_path: Path) -> None:
    """Through the whole ingest: a label turned at one moment leaves every statistic before standardising, up to that moment, as it was."""
    draw = np.random.default_rng(0)
    size = 300
    log = {
        "user": draw.integers(20, size=size), "item": draw.integers(9, size=size), "time": np.sort(draw.integers(60, size=size)),
        "click": draw.integers(2, size=size), "part": np.array(["train"] * 200 + ["valid", "test"] * 50),
    }  # fmt: skip
    turned = log["click"].copy()
    late = log["time"] >= 20
    turned[late] = 1 - turned[late]
    first, other = (past(tmp_path / str(n), {**log, "click": click}) for n, click in enumerate((log["click"], turned)))
    early = log["time"][:200] <= 20
    np.testing.assert_allclose(first[early], other[early], atol=1e-5)
    assert np.abs(first[~early] - other[~early]).max() > 0.01


def past(folder: Path, log: Mapping[str, np.ndarray]) -> np.ndarray:
    """The statistics of the training rows of a log, as they were before they were standardised."""
    folder.mkdir()
    pl.DataFrame(log).write_parquet(folder / "log.parquet")
    field = Field("past", FieldKind.STATISTIC, statistic=Statistic(("user", "item"), ("click",)))
    source = Source(str(folder / "log.parquet"), user="user", time="time")
    table = ingest(source, Schema((field,), (Task("click"),)), ByColumn("part", "valid", "test"), folder=folder / "table")
    standard = table.encoder.statistics["past"].standard
    return np.asarray(table.column("past", "train") * standard.sd + standard.mean)
