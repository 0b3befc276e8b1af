"""Is one model better than another: differences on the same resamples, averaged over seeds, judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import atan2, cos, erfc, pi, sin, sqrt
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from umbel.errors import UserError
from umbel.evaluate.intervals import LEVEL, Interval, Sampled
from umbel.evaluate.metrics import Undefined

MARGIN = 0.002
Key = TypeVar("Key")


class Verdict(StrEnum):
    """What may be said of a difference."""

    HIGHER = "higher"
    LOWER = "lower"
    EQUAL = "equal"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Paired:
    """a minus b: the mean over seeds with its interval over users, each seed's difference, and their spread.

    `spread` is the Student-t interval of the seeds' differences (undefined with one seed); `p` the two-sided chance of
    such a mean under no difference, from the resamples.
    """

    mean: Interval
    seeds: tuple[float, ...]
    spread: Interval | Undefined
    p: float


def average(seeds: Sequence[Sampled]) -> Sampled:
    """One recipe over its seeds: the mean value, and the mean on every resample."""
    draws = np.mean([one.draws for one in seeds], axis=0)
    return Sampled(float(np.mean([one.value for one in seeds])), draws, min(one.users for one in seeds))


def paired(a: Sequence[Sampled], b: Sequence[Sampled]) -> Paired:
    """The differences of two recipes, seed by seed, draw by draw: both must have been judged on the same resamples.

    `d_s = a_s - b_s` on the rows and on every resample; the mean over seeds is followed over the resamples, which gives
    its percentile interval. `p` is that of a normal with the resamples' standard deviation: counting draws beyond 0
    could not fall under 1/201 with 200 of them, so that Holm's rule over many comparisons could never speak.

    :raises UserError: if seeds or resamples do not match.
    """
    if len(a) != len(b) or not a or len({len(one.draws) for one in (*a, *b)}) > 1:
        raise UserError("paired: seeds or resamples differ", mend="judge both recipes with the same seeds and the same resample(...)")
    each = tuple(left.value - right.value for left, right in zip(a, b, strict=True))
    track = np.mean([left.draws - right.draws for left, right in zip(a, b, strict=True)], axis=0)
    mean = Sampled(float(np.mean(each)), track, min(one.users for one in (*a, *b)))
    return Paired(mean.interval(), each, _spread(each), _p(mean))


def holm(p: Mapping[Key, float], *, level: float = 1 - LEVEL) -> dict[Key, bool]:
    """Which of several p-values are significant together (Holm, 1979): sorted, the k-th smallest of m must be at most level / (m - k + 1).

    Example
    -------
    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': True, 'b': False, 'c': False}
    """
    order = sorted(p, key=lambda key: p[key])
    kept: dict[Key, bool] = {}
    for place, key in enumerate(order):
        kept[key] = p[key] <= level / (len(order) - place) and all(kept.values())
    return {key: kept[key] for key in p}


def verdicts(pairs: Mapping[Key, Paired], *, margin: float = MARGIN, units: Mapping[Key, float] | None = None) -> dict[Key, Verdict]:
    """What may be said of each of the comparisons made together (tasks x recipes).

    *Higher* or *lower*: the interval over users and the spread over seeds both exclude 0, and Holm's rule over all of
    `pairs` holds. *Equal*: the interval over users lies inside `margin`, and it is not significant. Otherwise *open*.
    `units` are what a margin is of: 1 where none is given; of errors in the label's unit `unit.constant_error` of the same rows.
    """
    together = holm({key: pair.p for key, pair in pairs.items()})
    return {key: _verdict(pair, margin * (units or {}).get(key, 1.0), together=together[key]) for key, pair in pairs.items()}


def student_bound(freedom: int) -> float:
    """The t with P(|T| < t) = 95 % for Student's distribution, by bisection.

    Example
    -------
    >>> [round(student_bound(n), 3) for n in (1, 2, 4, 30)]
    [12.706, 4.303, 2.776, 2.042]
    """
    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_inside(middle, freedom) < LEVEL else (low, middle)
    return low


def _student_inside(t: float, freedom: int) -> float:
    """P(|T| < t) as a finite sum (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    angle = atan2(t, sqrt(freedom))
    term = cos(angle) if freedom % 2 else 1.0
    total = 0.0
    for k in range(freedom % 2, freedom - 1, 2):
        total += term
        term *= (k + 1) / (k + 2) * cos(angle) ** 2
    return 2 / pi * (angle + sin(angle) * total) if freedom % 2 else sin(angle) * total


def _verdict(pair: Paired, margin: float, *, together: bool) -> Verdict:
    if together and _side(pair.mean) and _side(pair.mean) == _side(pair.spread):
        return Verdict.HIGHER if pair.mean.value > 0 else Verdict.LOWER
    low, high = pair.mean.low, pair.mean.high
    inside = low is not None and high is not None and -margin < low and high < margin
    return Verdict.EQUAL if inside else Verdict.OPEN


def _side(interval: Interval | Undefined) -> int:
    """1 above 0, -1 below, 0 across it or unknown."""
    if isinstance(interval, Undefined) or interval.low is None or interval.high is None:
        return 0
    return int(interval.low > 0) - int(interval.high < 0)


def _spread(each: Sequence[float]) -> Interval | Undefined:
    if len(each) < 2:
        return Undefined("one seed")
    centre = float(np.mean(each))
    half = student_bound(len(each) - 1) * float(np.std(each, ddof=1)) / sqrt(len(each))
    return Interval(centre, centre - half, centre + half)


def _p(mean: Sampled) -> float:
    known: Float[np.ndarray, "draws"] = mean.draws[~np.isnan(mean.draws)]
    if mean.interval().low is None:
        return 1.0
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    if not deviation > 0:
        return 1.0 if mean.value == 0 else 0.0
    return erfc(abs(mean.value) / deviation / sqrt(2))
