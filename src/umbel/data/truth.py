"""The best any model could do on a simulated log: the AUC of the true probabilities."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from umbel.data.simulate import START, Planted


@dataclass(frozen=True, slots=True)
class Bayes:
    """The AUC of the true probability: against the labels that were drawn, and expected over all draws of them."""

    observed: float
    expected: float


def planted(folder: Path) -> Planted:
    """The settings a simulated log was made with."""
    settings = json.loads((folder / "planted.json").read_text())
    return Planted(**{**settings, "rates": tuple(settings["rates"])})


def bayes(folder: Path, *, slice_column: str | None = None) -> dict[str, Bayes]:
    """Exact Bayes AUC on the test day: `click`, `like`, `buy` (given click, where clicked) and `buy, marginal`.

    Only observed labels count. The expectation treats the click behind a conditional sale as drawn too.
    With `slice_column`, a boolean column of the truth (such as `conflicting`), only rows where it holds.
    """
    log = pl.read_parquet(folder / "log.parquet", columns=["time_ms", "click", "like", "buy"], glob=False)
    rows = log.hstack(pl.read_parquet(folder / "truth.parquet", glob=False))
    first = START + timedelta(days=planted(folder).days - 1)
    rows = rows.filter(pl.col("time_ms") >= int(first.timestamp() * 1000))
    if slice_column is not None:
        rows = rows.filter(pl.col(slice_column))
    sold = rows.with_columns(p_buy=pl.col("p_buy") * pl.col("p_click"))
    one = np.ones(rows.height)
    return {
        "click": _bayes(rows, "click", one),
        "like": _bayes(rows, "like", one),
        "buy": _bayes(rows, "buy", rows["p_click"].to_numpy()),
        "buy, marginal": _bayes(sold, "buy", one),
    }


def expected_auc(
    scores: Float[np.ndarray, "rows"], positive: Float[np.ndarray, "rows"], negative: Float[np.ndarray, "rows"]
) -> float:
    """The share of (positive, negative) pairs of different rows that scores put in order, each row being both in part.

    `sum_{i != j} positive_i negative_j ([s_i > s_j] + [s_i = s_j] / 2) / sum_{i != j} positive_i negative_j`, in the time of
    one sort. With a label y as `positive` and 1 - y as `negative` this is the AUC; with a probability p and 1 - p it is
    the ratio of the expected counts of pairs, were the labels drawn from p. NaN without such pairs.

    Example
    -------
    >>> scores = np.array([0.1, 0.4, 0.4, 0.8])
    >>> labels = np.array([0.0, 0.0, 1.0, 1.0])
    >>> expected_auc(scores, labels, 1 - labels)
    0.875
    """
    _, rank = np.unique(scores, return_inverse=True)
    rivals = np.bincount(rank, weights=negative)
    below = np.cumsum(rivals) - rivals
    # A row is no rival of itself: its own pair is taken out of the ties and out of the total.
    own = positive @ negative
    won = positive @ (below[rank] + rivals[rank] / 2) - own / 2
    pairs = positive.sum() * negative.sum() - own
    return float(won / pairs) if pairs > 0 else float("nan")


def _bayes(rows: pl.DataFrame, task: str, space: Float[np.ndarray, "rows"]) -> Bayes:
    chance, label = rows[f"p_{task}"].to_numpy(), rows[task]
    known = label.is_not_null().to_numpy()
    inside = known if np.all(space == 1) else known & (rows["click"] == 1).fill_null(value=False).to_numpy()
    event = label.to_numpy()[inside].astype(np.float64)
    chance_known, space_known = chance[known], space[known]
    return Bayes(
        observed=expected_auc(chance[inside], event, 1 - event),
        expected=expected_auc(chance_known, space_known * chance_known, space_known * (1 - chance_known)),
    )
