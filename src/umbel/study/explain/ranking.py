"""Which fields move a task most, on the rows of a log, and which way their values push."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from umbel.evaluate.figures import divide
from umbel.evaluate.intervals import Interval, Resamples, Sampled, resampled_sums, user_sums

FEWEST = 20  # rows of a value before it is said which way it pushes
CLEAR = 0.5  # a correlation from which a direction is named


@dataclass(frozen=True, slots=True)
class Push:
    """The values of a field that raise and lower a prediction most, by mean contribution; empty where too few rows tell."""

    up: str = ""
    down: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """How much a field moves a task: the mean over rows (and answers) of `|contribution|`, and its share of all fields'."""

    field: str
    moves: Interval
    share: float
    push: Push


def ranking(
    contributions: Float[np.ndarray, "rows answers fields"], names: Sequence[str], *, raw: pl.DataFrame, by: Resamples
) -> tuple[Weight, ...]:
    """The fields of one task, the weightiest first, with 95 % intervals over users; `raw` are the values of the fields."""
    sizes = np.abs(contributions).mean(axis=1)
    moves = mean_intervals(sizes, by)
    total = max(sum(one.value for one in moves), np.finfo(np.float64).tiny)
    pushes = [_push(raw[name], contributions[:, 0, at]) if contributions.shape[1] == 1 else Push() for at, name in enumerate(names)]
    found = [Weight(name, one, one.value / total, push) for name, one, push in zip(names, moves, pushes, strict=True)]
    return tuple(sorted(found, key=lambda one: (-one.moves.value, one.field)))


def mean_intervals(columns: Float[np.ndarray, "rows columns"], by: Resamples) -> list[Interval]:
    """The mean of each column over rows, 95 % over users."""
    count, *sums = resampled_sums(user_sums([np.ones(len(columns)), *columns.T], by), by).T
    return [Sampled(float(column.mean()), divide(total, count), by.users).interval() for column, total in zip(columns.T, sums, strict=True)]


def _push(raw: pl.Series, contributions: Float[np.ndarray, "rows"]) -> Push:
    """Of a number "higher" or "lower" values, of any other single value the values themselves."""
    if raw.dtype.is_nested():
        return Push()
    if raw.dtype.is_numeric() and raw.n_unique() * FEWEST > len(raw):
        return _slope(raw.cast(pl.Float64).to_numpy(), contributions)
    means = (
        pl.DataFrame({"value": raw.cast(pl.String).fill_null("missing"), "adds": contributions})
        .group_by("value").agg(pl.len().alias("rows"), pl.col("adds").mean())
        .filter(pl.col("rows") >= FEWEST).sort("adds", "value")
    )  # fmt: skip
    if means.height < 2:
        return Push()
    down, up = means.row(0, named=True), means.row(-1, named=True)
    return Push(up["value"] if up["adds"] > 0 else "", down["value"] if down["adds"] < 0 else "")


def _slope(values: Float[np.ndarray, "rows"], contributions: Float[np.ndarray, "rows"]) -> Push:
    known = ~np.isnan(values)
    if known.sum() < FEWEST or np.ptp(values[known]) == 0 or np.ptp(contributions[known]) == 0:
        return Push()
    r = float(np.corrcoef(values[known], contributions[known])[0, 1])
    if abs(r) < CLEAR:
        return Push()
    return Push("higher values", "lower values") if r > 0 else Push("lower values", "higher values")
