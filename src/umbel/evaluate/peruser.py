"""One metric of every user, and the one figure made of them: users are what is averaged, resampled and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from umbel.evaluate.figures import divide
from umbel.evaluate.intervals import Interval, Resamples, Sampled, resampled_sums, user_sums
from umbel.evaluate.metrics import Undefined


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure with its interval over users, how many users it is of, and how many have no value, for each reason."""

    figure: Interval | Undefined
    users: int
    lost: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PerUser:
    """A metric's value for each user (NaN where it is undefined), and how users count in its figure.

    The figure is the power mean `(sum_u w_u v_u^p / sum_u w_u)^(1/p)` over users that have a value: with equal weights and p = 1 their
    mean; with a user's rows as weight what all rows pooled give (p = 2 where `v` is a root of a mean square). `lost` says why users
    have no value, and how many for each reason; `falls` whether less is better.

    Example
    -------
    >>> one = PerUser(np.array([1.0, 3.0, np.nan]), np.array([1.0, 1.0, 1.0]), {"no relevant row": 1})
    >>> one.value, one.users
    (2.0, 2)
    """

    values: Float[np.ndarray, "users"]
    weight: Float[np.ndarray, "users"]
    lost: Mapping[str, int]
    power: int = 1
    falls: bool = False

    @property
    def defined(self) -> Bool[np.ndarray, "users"]:
        """Which users have a value."""
        known: Bool[np.ndarray, "users"] = ~np.isnan(self.values)
        return known

    @property
    def users(self) -> int:
        """How many users have one."""
        return int(self.defined.sum())

    @property
    def value(self) -> float | Undefined:
        """The figure; undefined where no user has a value, with the commonest reason."""
        mass, weight = self.terms()
        if self.users:
            return float((mass.sum() / weight.sum()) ** (1 / self.power))
        return Undefined(max(self.lost, key=lambda reason: self.lost[reason], default="no user"))

    def terms(self) -> tuple[Float[np.ndarray, "users"], Float[np.ndarray, "users"]]:
        """What each user adds above and below the line of the figure; 0 where there is no value."""
        weight = np.where(self.defined, self.weight, 0.0)
        return weight * np.where(self.defined, self.values, 0.0) ** self.power, weight

    def summary(self, by: Resamples) -> Summary:
        """What a report says of it; `by` as for `sampled`."""
        drawn = self.sampled(by)
        return Summary(drawn if isinstance(drawn, Undefined) else drawn.interval(), self.users, self.lost)

    def sampled(self, by: Resamples) -> Sampled | Undefined:
        """The figure and its draws, users resampled: `by` is made of the users, one a row, in this order.

        Two methods judged on the same episodes share `by`, so that their differences are exact draw by draw.
        """
        value = self.value
        if isinstance(value, Undefined):
            return value
        mass, weight = resampled_sums(user_sums(self.terms(), by), by).T
        return Sampled(value, divide(mass, weight) ** (1 / self.power), self.users)


def per_user(
    values: Float[np.ndarray, "users"],
    lost: Mapping[str, Bool[np.ndarray, "users"]],
    *,
    weight: Float[np.ndarray, "users"] | None = None,
    power: int = 1,
    falls: bool = False,
) -> PerUser:
    """A metric without a value where a reason holds; a user is counted under the first of them."""
    counts: dict[str, int] = {}
    known = np.ones(len(values), dtype=bool)
    for reason, holds in lost.items():
        if (known & holds).any():
            counts[reason] = int((known & holds).sum())
        known &= ~holds
    weights = np.ones(len(values)) if weight is None else weight.astype(np.float64)
    return PerUser(np.where(known, values, np.nan), weights, counts, power, falls)
