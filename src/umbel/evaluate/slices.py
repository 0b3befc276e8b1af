"""Parts of a log that deserve a look of their own: by a column, or by how often a user or item was seen in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from umbel.evaluate.figures import Figures
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import FALLS, Undefined

MOST_LABELS = 20
FEWEST_ROWS = 100
FEWEST_OF_A_CLASS = 20
OTHERS = "others"
_BOUNDS = (1, 10, 100, 1000, 10000)
_NAMES = ("unknown", "1-9", "10-99", "100-999", "1000-9999", "10000+")


@dataclass(frozen=True, slots=True)
class Worst:
    """The slice a task is worst on, by which metric, and its value there."""

    slice: str
    label: str
    metric: str
    value: Interval


def frequency_bins(counts: Int[np.ndarray, "rows"]) -> np.ndarray:
    """A label per row for how often its value was seen in training.

    Example
    -------
    >>> frequency_bins(np.array([0, 9, 10, 123456])).tolist()
    ['unknown', '1-9', '10-99', '10000+']
    """
    return np.asarray(_NAMES)[np.searchsorted(_BOUNDS, counts, side="right")]


def cut(labels: np.ndarray) -> dict[str, Bool[np.ndarray, "rows"]]:
    """A mask per label: frequency bins in their own order, other labels by falling count, all beyond the 20 most frequent as `others`."""
    values, code, count = np.unique(labels, return_inverse=True, return_counts=True)
    names = values.astype(str)
    known = {name: place for place, name in enumerate(_NAMES)}
    by_count = sorted(range(len(names)), key=lambda at: (-count[at], names[at]))
    kept = sorted(by_count[:MOST_LABELS], key=lambda at: known.get(str(names[at]), len(known)))
    masks: dict[str, Bool[np.ndarray, "rows"]] = {str(names[at]): code == at for at in kept}
    if len(names) > MOST_LABELS:
        rest: Bool[np.ndarray, "rows"] = ~np.isin(code, kept)
        masks[OTHERS] = rest | masks.pop(OTHERS, rest)  # a label may bear that name itself
    return masks


def too_small(rows: int, positives: int | None) -> Undefined | None:
    """Why a slice is too small to judge: under 100 rows, or under 20 of either class (`positives` None: no event)."""
    if rows < FEWEST_ROWS:
        return Undefined(f"{rows} rows: fewer than {FEWEST_ROWS}")
    rarer = rows if positives is None else min(positives, rows - positives)
    return Undefined(f"{rarer} rows of the rarer class: fewer than {FEWEST_OF_A_CLASS}") if rarer < FEWEST_OF_A_CLASS else None


def worst(slices: Mapping[str, Mapping[str, Figures]]) -> Worst | Undefined:
    """The label with the worst first metric (lowest AUC, highest RMSE) among slices with enough rows; the first of equals."""
    found = [one for name, labels in slices.items() for one in _judged(name, labels.items())]
    if not found:
        return Undefined("no slice was asked for" if not slices else "no slice has enough rows")
    return min(found, key=lambda one: -one.value.value if one.metric in FALLS else one.value.value)


def _judged(name: str, labels: Iterable[tuple[str, Figures]]) -> Iterable[Worst]:
    for label, figures in labels:
        metric, value = next(iter(figures.metrics.items()))
        if isinstance(value, Interval):
            yield Worst(name, label, metric, value)
