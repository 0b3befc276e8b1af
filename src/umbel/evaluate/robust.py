"""For whom a model is worst: one metric by groups of users, the worst group, and how far groups lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from umbel.evaluate.intervals import Interval, Resamples, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import average
from umbel.evaluate.peruser import PerUser

FEWEST = 30
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Group:
    """Some users: how many of them have a value, and their figure (undefined where they are too few)."""

    name: str
    users: int
    figure: Interval | Undefined


@dataclass(frozen=True, slots=True)
class Robustness:
    """The groups by name, the worst of those that are large enough, and the spread: the best figure less the worst, as a size.

    The worst group is chosen by the same users that its interval is of, so it looks a little worse than it is. So does the spread: groups
    that are alike lie apart by noise. Its low bound is therefore the spread less what resampling moves groups apart, and 0 says that
    nothing but noise need be there.
    """

    groups: tuple[Group, ...]
    worst: Group | Undefined
    spread: Interval | Undefined


def robustness(found: PerUser, labels: Sequence[object], by: Resamples, *, fewest: int = FEWEST) -> Robustness:
    """A metric by group: `labels` names each user's (None or NaN: unknown), `by` resamples the users, one a row, in this order.

    Groups of fewer than `fewest` users with a value are named, counted and not judged.

    Example
    -------
    >>> from umbel.evaluate.intervals import resample
    >>> found = PerUser(np.array([0.2, 0.4, 0.9, 0.7, 0.1]), np.ones(5), {})
    >>> told = robustness(found, ["f", "f", "m", "m", None], resample(np.arange(5)), fewest=2)
    >>> [(group.name, group.users) for group in told.groups], round(told.spread.value, 3), told.worst.name
    ([('f', 2), ('m', 2), ('unknown', 1)], 0.5, 'f')
    """
    return over_seeds([found], labels, by, fewest=fewest)


def over_seeds(seeds: Sequence[PerUser], labels: Sequence[object], by: Resamples, *, fewest: int = FEWEST) -> Robustness:
    """The same of a model that was trained several times: a group's figure is the mean over `seeds`, which know the same users."""
    names = np.array(named(labels))
    parts = {str(name): [_part(one, names == name) for one in seeds] for name in np.unique(names)}
    users = {name: min(one.users for one in each) for name, each in parts.items()}
    known = {name: one for name, each in parts.items() if users[name] >= max(fewest, 1) and (one := _mean(each, by)) is not None}
    groups = tuple(Group(name, count, _figure(count, known.get(name), fewest)) for name, count in users.items())
    if not known:
        none = Undefined(f"no group of {fewest} users")
        return Robustness(groups, none, none)
    sign = -1 if seeds[0].falls else 1
    last = min(known, key=lambda name: sign * known[name].value)
    return Robustness(groups, next(group for group in groups if group.name == last), _spread(list(known.values())))


def named(labels: Sequence[object]) -> list[str]:
    """Groups by name: what a label says, or that it is unknown.

    Example
    -------
    >>> named(["f", 25, None, float("nan")])
    ['f', '25', 'unknown', 'unknown']
    """
    return [UNKNOWN if label is None or label != label else str(label) for label in labels]


def quarters(values: Float[np.ndarray, "users"]) -> list[str | None]:
    """Which quarter of the users each belongs to by a number of theirs, named with its bounds; None for NaN.

    Users of equal values stay together, so that quarters of a coarse number may be unequal, or missing.

    Example
    -------
    >>> quarters(np.array([1.0, 2.0, 3.0, 4.0, np.nan]))
    ['quarter 1: 1 to 1', 'quarter 2: 2 to 2', 'quarter 3: 3 to 3', 'quarter 4: 4 to 4', None]
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return [None] * len(values)
    edges = np.quantile(known, [0.25, 0.5, 0.75])
    place, own = (np.searchsorted(edges, one, side="left") for one in (values, known))
    names = {int(at): f"quarter {at + 1}: {known[own == at].min():.3g} to {known[own == at].max():.3g}" for at in np.unique(own)}
    return [None if np.isnan(value) else names[int(at)] for value, at in zip(values, place, strict=True)]


def _part(found: PerUser, members: Bool[np.ndarray, "users"]) -> PerUser:
    return replace(found, values=np.where(members, found.values, np.nan), lost={})


def _mean(seeds: Sequence[PerUser], by: Resamples) -> Sampled | None:
    drawn = [one.sampled(by) for one in seeds]
    known = [one for one in drawn if isinstance(one, Sampled)]
    return average(known) if len(known) == len(drawn) else None


def _figure(users: int, drawn: Sampled | None, fewest: int) -> Interval | Undefined:
    return Undefined(f"{users} users with a value, fewer than {fewest}") if drawn is None else drawn.interval()


def _spread(groups: Sequence[Sampled]) -> Interval | Undefined:
    """The range of the groups' figures; what a draw moves them apart, whatever it moves all of them, is its noise."""
    if len(groups) < 2:
        return Undefined("one group of enough users")
    values, draws = np.array([one.value for one in groups]), np.array([one.draws for one in groups])
    noise = np.ptp(draws - values[:, None], axis=0)
    return Sampled(float(np.ptp(values)), np.ptp(draws, axis=0), min(one.users for one in groups), noise).interval()
