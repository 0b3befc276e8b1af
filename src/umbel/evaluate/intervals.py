"""How sure a number is: users are drawn again with replacement, once for all recipes and seeds, and the metric follows."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

LEVEL = 0.95
FEWEST_USERS = 10
FEWEST_DEFINED = 0.9
_CHUNK = 8192
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Interval:
    """A value between two bounds; bounds are None, with the `reason`, where resampling cannot give them."""

    value: float
    low: float | None
    high: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resamples:
    """How often each user is drawn in each resample: `count` is resamples x users, a row of `code` the user it belongs to.

    Draws are multinomial: as many users as there are, each equally likely (Efron's bootstrap, clusters = users). They
    depend on the set of users and the seed alone, so two recipes judged on the same rows share them. One byte each.
    """

    count: UInt8[np.ndarray, "resamples users"]
    code: Int[np.ndarray, "rows"]

    def of(self, rows: Int[np.ndarray, "some"]) -> Resamples:
        """The same draws for some of the rows, by number."""
        return Resamples(self.count, self.code[rows])

    @property
    def users(self) -> int:
        """How many users own the rows."""
        return int(np.count_nonzero(np.bincount(self.code)))


@dataclass(frozen=True, slots=True)
class Sampled:
    """A metric on the rows as they are and on every resample (NaN where undefined); differences are taken draw by draw.

    `noise` is given for a sum of absolute gaps, which noise can only raise: how far the gaps of each draw moved in all.
    """

    value: float
    draws: Float[np.ndarray, "resamples"]
    users: int
    noise: Float[np.ndarray, "resamples"] | None = None

    def interval(self) -> Interval:
        """The central 95 % of the draws (percentile interval).

        Without bounds where fewer than 10 users own the rows or more than a tenth of the draws are undefined. With
        `noise` the low bound is the value less what 97.5 % of the draws moved, at least 0: the gaps of a model without
        any are noise in the value and noise once more in every draw, so the draws' own quantile would lie above 0.
        """
        known = self.draws[~np.isnan(self.draws)]
        lacking = self._lacking(len(known))
        if lacking:
            return Interval(self.value, None, None, lacking)
        low, high = (float(bound) for bound in np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        if self.noise is None:
            return Interval(self.value, low, high)
        moved = float(np.nanquantile(self.noise, (1 + LEVEL) / 2))
        return Interval(self.value, max(0.0, self.value - moved), max(self.value, high))

    def _lacking(self, known: int) -> str:
        """Why there are no bounds; empty if there are."""
        if not len(self.draws):
            return "no resamples were asked for"
        if self.users < FEWEST_USERS:
            return f"{self.users} users are too few to resample"
        return "" if known >= FEWEST_DEFINED * len(self.draws) else f"defined in {known} of {len(self.draws)} resamples only"


def resample(groups: Int[np.ndarray, "rows"], *, resamples: int = 200, seed: int = 0) -> Resamples:
    """Draw users with replacement `resamples` times; `groups` are raw users, one a row.

    Example
    -------
    >>> draws = resample(np.array([7, 7, 9]), resamples=4, seed=1)
    >>> draws.count.shape, draws.code.tolist(), set(draws.count.sum(axis=1).tolist())
    ((4, 2), [0, 0, 1], {2})
    """
    users, code = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(seed)
    count = np.zeros((resamples, len(users)), dtype=np.uint8)
    for row in count if len(users) else ():
        row[:] = np.minimum(np.bincount(generator.integers(len(users), size=len(users)), minlength=len(users)), 255)
    return Resamples(count, code.reshape(-1).astype(np.int64))


def follow(
    metrics: Callable[[UInt8[np.ndarray, "rows"]], tuple[float, ...]], by: Resamples, *, count: int
) -> Float[np.ndarray, "resamples metrics"]:
    """`count` metrics under each resample's row weights, a resample at a time on each core: memory stays at a few arrays of rows a core."""
    draws = np.empty((len(by.count), count))

    def draw(place: int) -> None:
        draws[place] = metrics(by.count[place].take(by.code, mode="clip"))

    # numpy lets go of the interpreter while it gathers and sums, so threads are enough
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        deque(pool.map(draw, range(len(by.count))), maxlen=0)
    return draws


def user_sums(columns: Sequence[Num[np.ndarray, "rows"]], by: Resamples) -> Float[np.ndarray, "users columns"]:
    """Each user's sum of each column.

    What is a function of sums (a mean loss, a ratio, calibration gaps) needs these once, and then a matrix product.
    """
    users = by.count.shape[1]
    return np.stack([np.bincount(by.code, column, minlength=users) for column in columns], axis=1)


def resampled_sums(sums: Float[np.ndarray, "users columns"], by: Resamples) -> Float[np.ndarray, "resamples columns"]:
    """Sums over users under each resample, float64, in chunks of users."""
    total = np.zeros((len(by.count), sums.shape[1]))
    for start in range(0, len(sums), _CHUNK):
        total += by.count[:, start : start + _CHUNK].astype(np.float64) @ sums[start : start + _CHUNK]
    return total
