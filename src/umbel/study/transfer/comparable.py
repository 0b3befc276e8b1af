"""Users by which of two tasks they answer more: where neither leads, samples are comparable, and sharing is put to the test."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from umbel.data.table import Table
from umbel.schema import BINARY

TOLERANCE = float(np.log(2.0))  # a task leads where its relative activity is more than twice the other's
SMOOTHING = 0.5                 # of a mean user's positives, so that one event more or less does not decide
NEITHER = "neither"
COMPARABLE = "comparable"


@dataclass(frozen=True, slots=True)
class Lean:
    """How users lean between two tasks, from their positives in the training rows alone.

    `r_u = log((n_Au / m_A + s) / (n_Bu / m_B + s))`, with n the user's positives, m their mean over users and s = .5.
    STEM (https://arxiv.org/abs/2308.13537) splits samples by the relative amount of positive feedback and does not print
    the formula; this one is ours. Dividing by the means matters: where one event is far more frequent than the other,
    hardly anybody would be comparable without it. `users` are sorted raw users, `ratio` is NaN for those with neither.
    """

    first: str
    second: str
    users: Int[np.ndarray, "users"]
    ratio: Float[np.ndarray, "users"]

    def labels(self, groups: Int[np.ndarray, "rows"], *, tolerance: float = TOLERANCE) -> np.ndarray:
        """A label per row: who leads with its user, `comparable` where nobody does, `neither` for users without either event."""
        if not len(self.users):
            return np.full(len(groups), NEITHER)
        place = np.searchsorted(self.users, groups).clip(max=len(self.users) - 1)
        ratio = np.where(self.users[place] == groups, self.ratio[place], np.nan)
        names = np.array([f"mostly {self.second}", COMPARABLE, f"mostly {self.first}", NEITHER])
        side = np.where(np.isnan(ratio), 3, (ratio >= -tolerance).astype(int) + (ratio > tolerance))
        return np.asarray(names[side])


def lean(
    first: tuple[str, Float[np.ndarray, "rows"]], second: tuple[str, Float[np.ndarray, "rows"]], groups: Int[np.ndarray, "rows"]
) -> Lean:
    """From the positives (1 or 0 a training row) of two named tasks and the rows' raw users.

    Example
    -------
    >>> found = lean(("click", np.array([1.0, 0, 0, 1])), ("like", np.array([0.0, 1, 0, 1])), np.array([7, 8, 9, 5]))
    >>> found.users.tolist(), found.labels(np.array([5, 7, 8, 9, 6])).tolist()
    ([5, 7, 8, 9], ['comparable', 'mostly click', 'mostly like', 'neither', 'neither'])
    """
    users, code = np.unique(groups, return_inverse=True)
    counts = [np.bincount(code, weights=positives, minlength=len(users)) for _, positives in (first, second)]
    shares = [each / mean if (mean := each.mean() if len(each) else 0.0) > 0 else each for each in counts]
    ratio = np.log((shares[0] + SMOOTHING) / (shares[1] + SMOOTHING))
    return Lean(first[0], second[0], users, np.where((counts[0] + counts[1]) > 0, ratio, np.nan))


def leans(table: Table) -> dict[str, Lean]:
    """One for every pair of binary tasks, named `A against B`."""
    events, observed = table.events("train")
    groups = table.groups("train")
    tasks = [(at, task.name) for at, task in enumerate(table.schema.tasks) if task.kind == BINARY]
    binary = [(name, np.where(observed[:, at], events[:, at], 0.0)) for at, name in tasks]
    return {f"{first[0]} against {second[0]}": lean(first, second, groups) for first, second in combinations(binary, 2)}
