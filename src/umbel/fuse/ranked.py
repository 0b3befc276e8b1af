"""How well a fusion orders what was shown: the labels that stand on top of each request, or of each user's rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.data.lookup import mixed
from umbel.errors import UserError
from umbel.evaluate.intervals import Resamples, Sampled, resampled_sums, user_sums
from umbel.evaluate.ranking import run_starts, user_aucs
from umbel.fuse.search import Judged
from umbel.fusion import Fusion

Terms = tuple[Float[np.ndarray, "groups"], Float[np.ndarray, "groups"]]


@dataclass(frozen=True, slots=True)
class Columns:
    """What is fused and what is judged: the predictions by their names, and the task that each one is of, among the labels' columns."""

    predictions: tuple[str, ...]
    tasks: tuple[str, ...]
    task: Mapping[str, str]


@final
@dataclass(frozen=True)
class Rows:
    """Rows with predictions, labels (NaN unseen), the group that each is ordered in, and the user it belongs to: sorted by group."""

    columns: Columns
    predictions: Float[np.ndarray, "rows columns"]
    labels: Float[np.ndarray, "rows tasks"]
    group: Int[np.ndarray, "rows"]
    user: Int[np.ndarray, "rows"]

    @staticmethod
    def of(
        columns: Columns, predictions: Float[np.ndarray, "rows columns"], labels: Float[np.ndarray, "rows tasks"], *,
        group: Int[np.ndarray, "rows"], user: Int[np.ndarray, "rows"],
    ) -> Rows:
        """Any rows, put in order of their groups; a group is one user's (of two users' rows under one name it is two)."""
        order = np.lexsort((user, group))
        return Rows(columns, predictions[order], labels[order], group[order], user[order])

    def where(self, rows: Bool[np.ndarray, "rows"]) -> Rows:
        """Some of them."""
        return Rows(self.columns, self.predictions[rows], self.labels[rows], self.group[rows], self.user[rows])

    @cached_property
    def starts(self) -> Int[np.ndarray, "groups"]:
        """Where each group begins."""
        return run_starts(self.group, self.user)

    @cached_property
    def number(self) -> Int[np.ndarray, "rows"]:
        """The number of each row's group."""
        return np.repeat(np.arange(len(self.starts)), self.sizes)

    @property
    def sizes(self) -> Int[np.ndarray, "groups"]:
        """How many rows each group has."""
        return np.diff(np.append(self.starts, len(self.group)))

    @cached_property
    def chance(self) -> Int[np.ndarray, "rows"]:
        """What decides between equal scores: a number that has nothing to do with the order of the log."""
        return mixed(np.arange(len(self.group)), 0).view(np.int64)

    def score(self, policy: Fusion) -> Float[np.ndarray, "rows"]:
        """The fused score of every row."""
        return policy.score(self.predictions[:, policy.places(self.columns.predictions)])


@final
@dataclass(frozen=True)
class Scored:
    """Rows with the scores that order them."""

    rows: Rows
    scores: Float[np.ndarray, "rows"]

    @cached_property
    def rank(self) -> Int[np.ndarray, "rows"]:
        """The place of each row in its group by falling score, from 0."""
        rows = self.rows
        order = np.lexsort((rows.chance, -self.scores, rows.number))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(rows.starts, rows.sizes)
        return rank


class Metric(ABC):
    """A task's figure as a ratio of sums over groups, given the rows' scores; `orders` says which groups it reads."""

    name: ClassVar[str]

    @abstractmethod
    def said(self, group: str) -> str:
        """What a figure is, in words."""

    def orders(self, rows: Rows) -> Bool[np.ndarray, "rows"]:
        """Which rows are of a group that the metric reads."""
        return np.repeat(rows.sizes > 1, rows.sizes)

    @abstractmethod
    def terms(self, scored: Scored, labels: Float[np.ndarray, "rows"]) -> Terms:
        """Of each group what stands above and below the line."""


@final
@dataclass(frozen=True, slots=True)
class Top(Metric):
    """The mean label of the first `count` rows of each group, of groups that have more; rows unseen are left out."""

    name: ClassVar[str] = "top"
    count: int = 5

    def said(self, group: str) -> str:
        """In words."""
        return f"the mean label of the first {self.count} of each {group}"

    def orders(self, rows: Rows) -> Bool[np.ndarray, "rows"]:
        """Groups of more rows than stand on top."""
        return np.repeat(rows.sizes > self.count, rows.sizes)

    def terms(self, scored: Scored, labels: Float[np.ndarray, "rows"]) -> Terms:
        """The sum of labels on top, and how many they are."""
        counted = (scored.rank < self.count) & ~np.isnan(labels)
        return _sums(scored.rows, np.where(counted, labels, 0.0)), _sums(scored.rows, 1.0 * counted)


@final
@dataclass(frozen=True, slots=True)
class Ndcg(Metric):
    """nDCG by the value of labels: `sum_i y_i / log2(1 + rank_i)` over that of the best order, the mean of groups with a label above 0."""

    name: ClassVar[str] = "ndcg"

    def said(self, group: str) -> str:
        """In words."""
        return f"nDCG by the labels' values in each {group}"

    def terms(self, scored: Scored, labels: Float[np.ndarray, "rows"]) -> Terms:
        """Each group's nDCG, and whether it has one; labels under 0 and rows unseen count as 0."""
        gains = np.maximum(np.nan_to_num(labels), 0.0)
        reached, most = (_sums(one.rows, gains / np.log2(2.0 + one.rank)) for one in (scored, Scored(scored.rows, gains)))
        held = most > 0
        return np.divide(reached, most, out=np.zeros(len(most)), where=held), 1.0 * held


@final
@dataclass(frozen=True, slots=True)
class Auc(Metric):
    """AUC inside each group between labels above 0 and the others, averaged by rows, over groups that have both."""

    name: ClassVar[str] = "auc"

    def said(self, group: str) -> str:
        """In words."""
        return f"AUC in each {group}, averaged by rows"

    def terms(self, scored: Scored, labels: Float[np.ndarray, "rows"]) -> Terms:
        """Each group's AUC by its rows, and the rows; 0 without both classes."""
        seen = ~np.isnan(labels)
        found = user_aucs(1.0 * (labels[seen] > 0), scored.scores[seen], scored.rows.number[seen])
        above, below = np.zeros((2, len(scored.rows.starts)))
        above[found.user], below[found.user] = found.rows * found.auc * found.both, 1.0 * found.rows * found.both
        return above, below


METRICS: Mapping[str, Callable[[int], Metric]] = {Top.name: Top, Ndcg.name: lambda _: Ndcg(), Auc.name: lambda _: Auc()}


@final
@dataclass(frozen=True, slots=True)
class Ranked:
    """A judge of fusions by one metric over rows; :raises UserError: where no group can be ordered."""

    rows: Rows
    metric: Metric

    @staticmethod
    def of(rows: Rows, metric: Metric, *, where: str) -> Ranked:
        """Of the groups that the metric reads."""
        kept = rows.where(metric.orders(rows))
        if not len(kept.group):
            raise UserError(f"{where}: no request or user has rows enough to order", mend="give a longer log, or a smaller top")
        return Ranked(kept, metric)

    def __call__(self, policy: Fusion) -> Judged:
        """The figure of every task."""
        ratios = [_ratio(above.sum(), below.sum()) for above, below in self._terms(policy)]
        return Judged(np.array(ratios))

    def sampled(self, policy: Fusion, by: Resamples) -> list[Sampled]:
        """The figures with their draws; `by` is made of the user of each group."""
        found = []
        for above, below in self._terms(policy):
            sums = resampled_sums(user_sums([above, below], by), by)
            draws = np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)
            found.append(Sampled(_ratio(above.sum(), below.sum()), draws, by.users))
        return found

    @property
    def users(self) -> Int[np.ndarray, "groups"]:
        """The user of each group."""
        users: Int[np.ndarray, "groups"] = self.rows.user[self.rows.starts]
        return users

    def _terms(self, policy: Fusion) -> list[Terms]:
        scored = Scored(self.rows, self.rows.score(policy))
        return [self.metric.terms(scored, labels) for labels in self.rows.labels.T]


def _sums(rows: Rows, values: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "groups"]:
    total: Float[np.ndarray, "groups"] = np.add.reduceat(values, rows.starts)
    return total


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
