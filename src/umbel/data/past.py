"""What a training row may know of the labels of other training rows: those before its own time, or those of other folds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from umbel.data.groups import MISSING
from umbel.data.totals import Counted

Labels = Shaped[np.ndarray, "rows tasks"]  # NaN where a label was not seen


def total(keys: Int64[np.ndarray, "rows"], labels: Labels) -> tuple[Int64[np.ndarray, "keys"], Counted]:
    """The distinct keys in order, and what all rows of each come to; rows without a key belong to none.

    Example
    -------
    >>> keys, counted = total(np.array([7, 7, 3]), np.array([[1.0], [np.nan], [0.0]]))
    >>> keys.tolist(), counted.rows.tolist(), counted.seen.tolist(), counted.sums.tolist()
    ([3, 7], [1, 2], [[1], [1]], [[0.0], [1.0]])
    """
    known = keys != MISSING
    found, place = np.unique(keys[known], return_inverse=True)
    return found, _counted(place, labels[known], len(found))


def before(
    keys: Int64[np.ndarray, "rows"], times: Int64[np.ndarray, "rows"], labels: Labels, *, window: int
) -> tuple[Counted, Counted]:
    """For each row, the rows of its key with a time below its own less `window`, and the rows of any key with such a time.

    One sort; at its peak about `100 + 72 tasks` bytes of memory a row. A row's own time is never below itself: ties do not see
    each other.

    Example
    -------
    >>> own, whole = before(np.array([7, 7, 3, 7]), np.array([1, 2, 2, 2]), np.array([[1.0], [0.0], [1.0], [1.0]]), window=0)
    >>> own.rows.tolist(), own.sums[:, 0].tolist(), whole.rows.tolist()
    ([0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], [0, 1, 1, 1])
    """
    moments, moment = np.unique(times, return_inverse=True)
    border = np.searchsorted(moments, times - window)
    _, key = np.unique(keys, return_inverse=True)
    step = len(moments) + 1
    stamp = key * step + moment
    order = np.argsort(stamp, kind="stable")
    sorted_stamps = stamp[order]
    first, last = (np.searchsorted(sorted_stamps, key * step + end) for end in (0, border))
    seen, sums = _running(labels[order])
    own = Counted(last - first, seen[last] - seen[first], sums[last] - sums[first]).but(keys == MISSING)
    day = _counted(moment, labels, len(moments))
    rows = np.concatenate([[0], np.cumsum(day.rows)])
    seen, sums = (np.concatenate([np.zeros((1, labels.shape[1]), one.dtype), np.cumsum(one, axis=0)]) for one in (day.seen, day.sums))
    return own, Counted(rows, seen, sums).at(border)


def elsewhere(
    keys: Int64[np.ndarray, "rows"], folds: Int64[np.ndarray, "rows"], labels: Labels, *, count: int
) -> tuple[Counted, Counted]:
    """For each row, the rows of its key in the other of `count` folds, and the rows of any key there.

    Example
    -------
    >>> own, whole = elsewhere(np.array([7, 7, 7, 3]), np.array([0, 1, 1, 1]), np.array([[1.0], [0.0], [1.0], [1.0]]), count=2)
    >>> own.rows.tolist(), own.sums[:, 0].tolist(), whole.rows.tolist()
    ([2, 1, 1, 0], [1.0, 1.0, 1.0, 0.0], [3, 1, 1, 1])
    """
    distinct, key = np.unique(keys, return_inverse=True)
    own = _without(key, key * count + folds, labels, sizes=(len(distinct), len(distinct) * count))
    return own.but(keys == MISSING), _without(np.zeros_like(folds), folds, labels, sizes=(1, count))


def _without(
    sets: Int64[np.ndarray, "rows"], parts: Int64[np.ndarray, "rows"], labels: Labels, *, sizes: tuple[int, int]
) -> Counted:
    """For each row, its set less its part of it."""
    whole, part = _counted(sets, labels, sizes[0]).at(sets), _counted(parts, labels, sizes[1]).at(parts)
    return Counted(whole.rows - part.rows, whole.seen - part.seen, whole.sums - part.sums)


def _counted(place: Int64[np.ndarray, "rows"], labels: Labels, size: int) -> Counted:
    seen, known = ~np.isnan(labels), np.nan_to_num(labels).astype(np.float64)
    tasks = range(labels.shape[1])
    return Counted(
        np.bincount(place, minlength=size),
        np.stack([np.bincount(place[seen[:, task]], minlength=size) for task in tasks], axis=1),
        np.stack([np.bincount(place, known[:, task], minlength=size) for task in tasks], axis=1).astype(np.float64),  # of none: integers
    )


def _running(labels: Labels) -> tuple[Int64[np.ndarray, "more tasks"], Float64[np.ndarray, "more tasks"]]:
    """Of the first 0, 1, ... rows: labels seen, and their sum."""
    start = ((1, 0), (0, 0))
    seen = np.cumsum(np.pad(~np.isnan(labels), start), axis=0, dtype=np.int64)
    return seen, np.cumsum(np.pad(np.nan_to_num(labels), start), axis=0, dtype=np.float64)
