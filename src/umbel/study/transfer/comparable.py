"""Users (or items) by which of two tasks they answer more: where neither leads, samples are comparable, and sharing is put to the test."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run.sharing import TransferSection
from umbel.run.slicing import reading
from umbel.schema import BINARY

SMOOTHING = 0.5  # of a mean user's activity, so that one event more or less does not decide
NEITHER = "neither"
COMPARABLE = "comparable"
USUAL = TransferSection()


@dataclass(frozen=True, slots=True)
class Answers:
    """A task's positives (1 or 0 a training row) and where its label was seen."""

    name: str
    positives: Float[np.ndarray, "rows"]
    seen: Bool[np.ndarray, "rows"]


@dataclass(frozen=True, slots=True)
class Lean:
    """How users lean between two tasks, from their positives in the training rows alone.

    `r_u = log((x_Au / m_A + s) / (x_Bu / m_B + s))`, x the user's activity: positives, or (`by = "rate"`) positives a row with a
    label. m is the task's mean activity over users; with `center = "none"` both are divided by the mean of the two. s = .5.
    STEM (https://arxiv.org/abs/2308.13537) splits samples by the relative amount of positive feedback and does not print
    the formula; this one is ours. Dividing by the means matters: where one event is far more frequent than the other,
    hardly anybody would be comparable without it. `members` are sorted raw users (or codes of items), `ratio` is NaN for
    those with neither event; `lead` is how many times the other's activity leads.
    """

    first: str
    second: str
    members: Int[np.ndarray, "members"]
    ratio: Float[np.ndarray, "members"]
    lead: float = 2.0

    def labels(self, groups: Int[np.ndarray, "rows"]) -> np.ndarray:
        """A label per row: who leads with its user, `comparable` where nobody does, `neither` for users without either event."""
        if not len(self.members):
            return np.full(len(groups), NEITHER)
        place = np.searchsorted(self.members, groups).clip(max=len(self.members) - 1)
        ratio = np.where(self.members[place] == groups, self.ratio[place], np.nan)
        names = np.array([f"mostly {self.second}", COMPARABLE, f"mostly {self.first}", NEITHER])
        edge = np.log(self.lead)
        side = np.where(np.isnan(ratio), 3, (ratio >= -edge).astype(int) + (ratio > edge))
        return np.asarray(names[side])


def lean(first: Answers, second: Answers, groups: Int[np.ndarray, "rows"], *, how: TransferSection = USUAL) -> Lean:
    """From two tasks' answers and the rows' raw users.

    Example
    -------
    >>> seen = np.ones(4, bool)
    >>> clicks, likes = Answers("click", np.array([1.0, 0, 0, 1]), seen), Answers("like", np.array([0.0, 1, 0, 1]), seen)
    >>> found = lean(clicks, likes, np.array([7, 8, 9, 5]))
    >>> found.members.tolist(), found.labels(np.array([5, 7, 8, 9, 6])).tolist()
    ([5, 7, 8, 9], ['comparable', 'mostly click', 'mostly like', 'neither', 'neither'])
    """
    members, code = np.unique(groups, return_inverse=True)
    active = [_activity(own, code, len(members), by=how.by) for own in (first, second)]
    means = [float(np.mean(each)) if len(each) else 0.0 for each in active]
    scales = means if how.center == "global" else [sum(means) / 2] * 2
    shares = [each / scale if scale > 0 else each for each, scale in zip(active, scales, strict=True)]
    ratio = np.log((shares[0] + SMOOTHING) / (shares[1] + SMOOTHING))
    return Lean(first.name, second.name, members, np.where((active[0] + active[1]) > 0, ratio, np.nan), how.lead)


def leans(table: Table, *, how: TransferSection = USUAL) -> dict[str, Lean]:
    """One for every pair of binary tasks, named `A against B`; :raises UserError: if items are asked for and no field holds them."""
    events, observed = table.events("train")
    groups = members(table, "train", of=how.of)
    tasks = [(at, task.name) for at, task in enumerate(table.schema.tasks) if task.kind == BINARY]
    binary = [Answers(name, np.where(observed[:, at], events[:, at], 0.0), observed[:, at]) for at, name in tasks]
    return {f"{one.name} against {other.name}": lean(one, other, groups, how=how) for one, other in combinations(binary, 2)}


def members(table: Table, part: str, *, of: str) -> Int[np.ndarray, "rows"]:
    """The raw user of each row, or its item's code; :raises UserError: if no field holds the item."""
    if of == "user":
        return table.groups(part)
    field = reading(table.schema, table.source.item)
    if field is None:
        raise UserError("transfer.of = 'item': no field holds the items", mend="name data.item and a field that reads it, or take 'user'")
    return np.asarray(table.column(field.name, part), np.int64)


def leaning(table: Table, *, how: TransferSection = USUAL) -> dict[str, np.ndarray]:
    """Per pair of tasks the label of every test row."""
    rows = members(table, "test", of=how.of)
    return {name: one.labels(rows) for name, one in leans(table, how=how).items()}


def _activity(own: Answers, code: Int[np.ndarray, "rows"], count: int, *, by: str) -> Float[np.ndarray, "members"]:
    positives: Float[np.ndarray, "members"] = np.bincount(code, weights=own.positives, minlength=count).astype(float)
    if by == "count":
        return positives
    rate: Float[np.ndarray, "members"] = positives / np.bincount(code, weights=own.seen, minlength=count).clip(min=1)
    return rate
