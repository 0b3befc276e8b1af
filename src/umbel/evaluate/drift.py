"""Whether rows come from where they used to: each field's shares of bins then and now, by two measures that know of chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

BINS = 10
LEVEL = 0.99      # of quiet windows so many stay under each bound
FAR = 1.628       # the same for the largest difference of two empirical distributions, times sqrt(n m / (n + m)) (Smirnov, 1948)
PSI, SHIFT = 0.1, 0.05
FEWEST = 200      # rows that a window must have to be judged


@dataclass(frozen=True, slots=True)
class Shares:
    """How the values of one field or prediction were spread over bins: rows in each, of rows in all.

    `edges` are a number's inner bin edges; of a coded field the bins are its `codes`, then all others. A missing or unknown value has
    the last bin to itself.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    codes: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts)

    @property
    def missing(self) -> float:
        """The share that is missing or unknown."""
        return self.counts[-1] / max(self.rows, 1)

    @staticmethod
    def of_numbers(values: Float[np.ndarray, "rows"], bins: int = BINS) -> Shares:
        """Bins of equal mass, fewer where quantiles coincide; NaN is missing."""
        known = values[~np.isnan(values)]
        edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="lower")) if len(known) else np.empty(0)
        return Shares((), edges=tuple(edges.tolist())).again(values)

    @staticmethod
    def of_votes(votes: Float[np.ndarray, "choices"]) -> Shares:
        """Rows that have one vote each and may split it: a bin for each choice, rounded.

        Sums of parts vary less than those of whole votes, so that bounds made for whole ones are wide.
        """
        return Shares((*np.rint(votes).astype(int).tolist(), 0), codes=tuple(range(1, len(votes) + 1)))

    @staticmethod
    def of_codes(values: Int[np.ndarray, "rows"], bins: int = BINS) -> Shares:
        """The most frequent codes a bin each, then all others; code 0 is unknown."""
        codes, counts = np.unique(values[values > 0], return_counts=True)
        most = codes[np.argsort(-counts, kind="stable")[: bins - 1]]
        return Shares((), codes=tuple(most.tolist())).again(values)

    def again(self, values: Float[np.ndarray, "rows"] | Int[np.ndarray, "rows"]) -> Shares:
        """The same bins of other rows."""
        if self.codes or not np.issubdtype(values.dtype, np.floating):
            place = np.full(len(values), len(self.codes))
            for number, code in enumerate(self.codes):
                place[values == code] = number
            lost, count = values <= 0, len(self.codes) + 1
        else:
            lost, count = np.isnan(values), len(self.edges) + 1
            place = np.searchsorted(np.array(self.edges), np.where(lost, 0.0, values), side="left")
        counts = np.bincount(np.where(lost, count, place), minlength=count + 1)
        return Shares(tuple(counts.tolist()), self.edges, self.codes)

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Shares:
        """What `to_json` gave."""
        return Shares(tuple(saved["counts"]), tuple(saved["edges"]), tuple(saved["codes"]))


@dataclass(frozen=True, slots=True)
class Moved:
    """How far shares moved: the stability index and the largest difference of cumulated shares, each with what so many rows may show."""

    psi: float
    psi_bound: float
    shift: float
    shift_bound: float
    rows: int

    @property
    def enough(self) -> bool:
        """Whether there were rows enough to judge."""
        return self.rows >= FEWEST

    @property
    def drifted(self) -> bool:
        """One of the two beyond its bound: more than chance, and large enough to matter."""
        return self.enough and (self.psi > self.psi_bound or self.shift > self.shift_bound)


def moved(before: Shares, now: Shares) -> Moved:
    """The population stability index and the effect size of Kolmogorov and Smirnov, of bins.

    `PSI = sum_b (q_b - p_b) log(q_b / p_b)`, shares with half a row added to every bin; `shift = max_b |sum_{c<=b} (q_c - p_c)|`.
    Without any change PSI is close to `(1/n + 1/m) chi^2` with one degree less than there are bins, so that a fixed bound cries wolf
    in small windows; and a p-value calls any difference drift in large ones. So the bounds are
    `max(0.1, chi^2_0.99(bins - 1) (1/n + 1/m))` and `max(0.05, 1.63 sqrt(1/n + 1/m))`: what chance may show, or what matters, whichever is
    more. A number that moves by .3 standard deviations has a PSI of .09 and a shift of .12: the second sees it.
    """
    from scipy.special import chdtri  # most who judge or train never ask this

    then, here = np.array(before.counts, float), np.array(now.counts, float)
    used = then + here > 0
    p, q = ((one[used] + 0.5) / (one[used] + 0.5).sum() for one in (then, here))
    few = float(1 / max(then.sum(), 1.0) + 1 / max(here.sum(), 1.0))
    chance = float(chdtri(max(int(used.sum()) - 1, 1), 1 - LEVEL)) * few
    index, shift = float(((q - p) * np.log(q / p)).sum()), float(np.abs(np.cumsum(q - p)).max(initial=0.0))
    return Moved(index, max(PSI, chance), shift, max(SHIFT, FAR * few**0.5), int(here.sum()))


@dataclass(frozen=True, slots=True)
class Profile:
    """How a model's training rows were spread, field by field, and its predictions of validation rows, column by column.

    `gates` are the votes of training rows for the experts that each task hears; none in older bundles.
    """

    fields: Mapping[str, Shares]
    predictions: Mapping[str, Shares]
    gates: Mapping[str, Shares] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        parts = (("fields", self.fields), ("predictions", self.predictions), ("gates", self.gates))
        return {part: {name: one.to_json() for name, one in of.items()} for part, of in parts}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Profile:
        """What `to_json` gave."""
        parts = ({name: Shares.from_json(one) for name, one in saved.get(part, {}).items()} for part in ("fields", "predictions", "gates"))
        return Profile(*parts)
