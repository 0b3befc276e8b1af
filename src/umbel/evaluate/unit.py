"""What an error in the label's own unit is measured by: that of the best constant, so that a margin means the same in any unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "rows"]


def constant_error(metric: str, labels: Numbers, weight: Numbers | None = None) -> float:
    """The error of the best constant on these rows, by RMSE or MAE; 1 by a metric that has no unit, and of no rows.

    The constant is the labels' mean by RMSE, their median by MAE. `weight` says how much each row counts (all alike if None).

    Example
    -------
    >>> labels = np.array([1.0, 2.0, 9.0, 4.0])
    >>> [round(constant_error(metric, labels), 3) for metric in ("rmse", "mae", "auc")]
    [3.082, 2.5, 1.0]
    """
    if metric not in CONSTANTS or not len(labels):
        return 1.0
    return CONSTANTS[metric](labels.astype(np.float64), np.ones(len(labels)) if weight is None else weight.astype(np.float64))


def _deviation(labels: Numbers, weight: Numbers) -> float:
    return float(np.sqrt(np.average(np.square(labels - np.average(labels, weights=weight)), weights=weight)))


def _spread(labels: Numbers, weight: Numbers) -> float:
    order = np.argsort(labels)
    mass = np.cumsum(weight[order])
    middle = labels[order][np.searchsorted(mass, mass[-1] / 2)]
    return float(np.average(np.abs(labels - middle), weights=weight))


CONSTANTS: Mapping[str, Callable[[Numbers, Numbers], float]] = {"rmse": _deviation, "mae": _spread}
