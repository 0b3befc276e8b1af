"""What the labels alone say, before any model: how much each task has to learn from, and which tasks are one task twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.data.table import Table
from umbel.schema import BINARY, Schema

DUPLICATE = 0.95  # normalised mutual information, or correlation, from which two labels are one
SUBSET = 0.999    # share of B's positives that are A's from which B looks like a step after A
FEW_USERS = 100


@dataclass(frozen=True, slots=True)
class Supply:
    """What a binary task has to learn from in the training rows.

    `users` is Kish's effective number of users behind the positives, `(sum n_u)^2 / sum n_u^2`: a thousand likes of three
    fans are three users' worth. `seen` is the share of rows with a label.
    """

    task: str
    rows: int
    seen: float
    positives: int
    rate: float
    users: float

    @property
    def sparse(self) -> bool:
        """Whether so few users stand behind it that its figures will be noise."""
        return self.users < FEW_USERS


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two binary tasks on the rows where both are seen.

    `correlation` is phi, `information` their mutual information over the smaller entropy (1: one label tells the other);
    `second_in_first` the share of the second's positives that are the first's too, and the other way round. `later` is the one
    that is already given the other, directly or not.
    """

    first: str
    second: str
    correlation: float
    information: float
    second_in_first: float
    first_in_second: float
    later: str | None = None

    @property
    def duplicate(self) -> bool:
        """Whether the two are one task, or one and its opposite."""
        return max(self.information, abs(self.correlation)) >= DUPLICATE

    @property
    def funnel(self) -> tuple[str, str, float] | None:
        """(B, A, share of B's positives that are A's) where B is `given` A, directly or not; None where neither is."""
        if self.later is None:
            return None
        if self.later == self.second:
            return self.second, self.first, self.second_in_first
        return self.first, self.second, self.first_in_second

    @property
    def new_step(self) -> tuple[str, str] | None:
        """(B, A) where B happens only where A does, so that B could be `given` A; None where neither, or they are one or chained."""
        if self.duplicate or self.later is not None:
            return None
        if self.second_in_first >= SUBSET:
            return self.second, self.first
        return (self.first, self.second) if self.first_in_second >= SUBSET else None


@dataclass(frozen=True, slots=True)
class Labels:
    """Every binary task's supply, and the overlap of every pair of them."""

    supplies: tuple[Supply, ...]
    overlaps: tuple[Overlap, ...]

    def sentences(self) -> tuple[str, ...]:
        """What somebody should do about them."""
        sparse = [f"{one.task} rests on {one.users:,.0f} users' worth of positives: its figures are noise."
                  for one in self.supplies if one.sparse]  # fmt: skip
        twice = [f"{one.second} is a duplicate of {one.first} (correlation {one.correlation:.2f}): drop one."
                 for one in self.overlaps if one.duplicate]  # fmt: skip
        steps = [f"{later} happens only where {first} does: consider given = {first!r}."
                 for later, first in filter(None, (one.new_step for one in self.overlaps))]  # fmt: skip
        leaks = [f"{1 - share:.2%} of the {later} have no {first}, though {later} is given {first}: its sample space is wrong there."
                 for later, first, share in filter(None, (one.funnel for one in self.overlaps)) if share < 1]  # fmt: skip
        return (*sparse, *twice, *steps, *leaks)


def look(table: Table) -> Labels:
    """At the training rows of a table."""
    return Labels(supplies(table), overlaps(table))


def supplies(table: Table) -> tuple[Supply, ...]:
    """Every binary task's, in order."""
    events, observed = table.events("train")
    groups = table.groups("train")
    binary = [(table.schema.tasks[at].name, events[:, at], observed[:, at]) for at in _binary(table)]
    return tuple(_supply(name, positives * seen, seen, groups=groups) for name, positives, seen in binary)


def overlaps(table: Table) -> tuple[Overlap, ...]:
    """Every pair of binary tasks, in order; a pair never seen together is left out."""
    events, observed = table.events("train")
    found = []
    for one, other in combinations(_binary(table), 2):
        both = observed[:, one] & observed[:, other]
        if both.any():
            names = table.schema.tasks[one].name, table.schema.tasks[other].name
            found.append(replace(overlap(names, events[both, one] > 0, events[both, other] > 0), later=_later(table.schema, names)))
    return tuple(found)


def overlap(names: tuple[str, str], first: Bool[np.ndarray, "rows"], second: Bool[np.ndarray, "rows"]) -> Overlap:
    """From two labels of the same rows.

    Example
    -------
    >>> overlap(("click", "buy"), np.array([1, 1, 1, 0]) > 0, np.array([1, 0, 0, 0]) > 0).new_step
    ('buy', 'click')
    """
    joint = np.array([[np.mean(first & second), np.mean(first & ~second)], [np.mean(~first & second), np.mean(~first & ~second)]])
    rates = joint.sum(1)[0], joint.sum(0)[0]
    spread = np.sqrt(rates[0] * (1 - rates[0]) * rates[1] * (1 - rates[1]))
    entropies = _entropy(joint.sum(1)), _entropy(joint.sum(0))
    shared = entropies[0] + entropies[1] - _entropy(joint.ravel())
    return Overlap(
        *names,
        correlation=float((joint[0, 0] - rates[0] * rates[1]) / spread) if spread > 0 else 0.0,
        information=float(max(0.0, shared) / min(entropies)) if min(entropies) > 0 else 0.0,
        second_in_first=float(joint[0, 0] / rates[1]) if rates[1] > 0 else 0.0,
        first_in_second=float(joint[0, 0] / rates[0]) if rates[0] > 0 else 0.0,
    )


def _later(schema: Schema, names: tuple[str, str]) -> str | None:
    return next((name for name, other in (names, names[::-1]) if other in schema.chain(name)), None)


def _binary(table: Table) -> list[int]:
    return [at for at, task in enumerate(table.schema.tasks) if task.kind == BINARY]


def _supply(
    name: str, positives: Float[np.ndarray, "rows"], seen: Bool[np.ndarray, "rows"], *, groups: Int[np.ndarray, "rows"]
) -> Supply:  # fmt: skip
    _, code = np.unique(groups, return_inverse=True)
    each = np.bincount(code, weights=positives)
    total, square, known = float(each.sum()), float((each**2).sum()), int(seen.sum())
    return Supply(name, len(seen), float(seen.mean()), int(total), total / known if known else 0.0, total**2 / square if square else 0.0)


def _entropy(shares: Float[np.ndarray, "cells"]) -> float:
    known = shares[shares > 0]
    return float(-(known * np.log(known)).sum())
