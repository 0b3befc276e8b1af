"""What another fusion would do: the latest decisions chosen again, their first items then and now, and what one weight trades for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, final

import numpy as np
from jaxtyping import Float, Int
from msgspec import Meta, Struct

from umbel.errors import UserError, nearest
from umbel.evaluate.intervals import Sampled, resample, resampled_sums, user_sums
from umbel.fusion import Fusion
from umbel.fusion.shapes import Shape
from umbel.serve.http.answers import SentPolicy
from umbel.serve.records import Decision
from umbel.serve.requests import Name

MOST, ROWS, EXAMPLES = 300, 60_000, 5
FACTORS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


class PreviewRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/fusion:preview`: a policy, how many items stand on top, and the task whose weight is swept (none by default)."""

    policy: SentPolicy
    top: Annotated[int, Meta(ge=1, le=50)] = 5
    sweep: Name | None = None


class Shift(Struct, frozen=True, kw_only=True):
    """The mean prediction of the first items by the policy in force and by the one sent, and the change with its 95 % over users."""

    now: float
    then: float
    change: float
    low: float | None
    high: float | None
    reason: str


class Example(Struct, frozen=True, kw_only=True):
    """The first items of one request, by the policy in force and by the one sent."""

    request_id: str
    user_id: str | None
    now: list[str]
    then: list[str]


class Point(Struct, frozen=True, kw_only=True):
    """The mean predictions with the swept weight times `factor`; `best` unless another point is better in one task and worse in none."""

    factor: float
    tasks: dict[str, float]
    best: bool


class Preview(Struct, frozen=True, kw_only=True):
    """What a policy would do with the latest `decisions` of the stable bundle; `changed` is the share of them with other first items.

    Orders are by the fused score alone: neither temperature nor diversity. Figures are of predictions, not of what will happen.
    """

    bundle: str
    now: str
    then: str
    decisions: int
    candidates: int
    top: int
    changed: float | None
    tasks: dict[str, Shift]
    examples: list[Example]
    front: list[Point]


@final
@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of some decisions, one after the other: which decision each is of, and where that begins."""

    decisions: Sequence[Decision]
    predictions: Float[np.ndarray, "candidates outputs"]
    group: Int[np.ndarray, "candidates"]
    starts: Int[np.ndarray, "decisions"]

    @staticmethod
    def of(decisions: Sequence[Decision]) -> Pool:
        """Those of decisions that have some."""
        chosen = [one.candidates for one in decisions if one.candidates is not None]
        sizes = np.array([len(one.items) for one in chosen], np.int64)
        predictions = np.concatenate([one.predictions for one in chosen]) if chosen else np.empty((0, 0))
        return Pool(decisions, predictions.astype(np.float64), np.repeat(np.arange(len(sizes)), sizes), np.cumsum(sizes) - sizes)

    def first(self, policy: Fusion, columns: Sequence[str], top: int) -> Int[np.ndarray, "shown"]:
        """The places of the first `top` candidates of each decision, from the top; of equal scores, in the order sent."""
        score = policy.score(self.predictions[:, policy.places(columns)])
        order = np.lexsort((-score, self.group))
        rank = np.arange(len(order)) - self.starts[self.group[order]]
        places: Int[np.ndarray, "shown"] = order[rank < top]
        return places


def preview(pool: Pool, asked: PreviewRequest, *, bundle: tuple[str, Sequence[str]], policies: tuple[Fusion, Fusion]) -> Preview:
    """The policy in force and another on the same candidates; `bundle` is a name and its columns.

    :raises UserError: for a task that the bundle does not predict, or a swept one that the policy does not read.
    """
    (name, columns), (now, then) = bundle, policies
    then.places(columns)
    if asked.sweep is not None and asked.sweep not in then.tasks:
        raise UserError(f"sweep: {asked.sweep!r} is no task of the policy", mend=nearest(asked.sweep, then.tasks))
    told = partial(
        Preview, bundle=name, now=_name(now), then=_name(then), decisions=len(pool.decisions), candidates=len(pool.group), top=asked.top,
    )  # fmt: skip
    if not pool.decisions:
        return told(changed=None, tasks={}, examples=[], front=[])
    before, after = (pool.first(one, columns, asked.top) for one in (now, then))
    differ = np.add.reduceat(before != after, np.flatnonzero(np.diff(pool.group[before], prepend=-1))) > 0
    return told(
        changed=float(differ.mean()), tasks=_shifts(pool, columns, (before, after), policy=then),
        examples=[_example(pool, at, (before, after)) for at in np.flatnonzero(differ)[:EXAMPLES].tolist()],
        front=[] if asked.sweep is None else _front(pool, columns, then, asked=asked),
    )  # fmt: skip


def weighed(policy: Fusion, task: str, factor: float) -> Fusion:
    """The policy with one task's gains times a factor.

    Example
    -------
    >>> from umbel.fusion import Term
    >>> from umbel.fusion.shapes import Log
    >>> weighed(Fusion((Term("click", Log(1.0, 0.5)),)), "click", 3.0).terms[0].shape
    Log(weight=3.0, scale=0.5)
    """
    terms = [replace(term, shape=_times(term.shape, factor)) if term.task == task else term for term in policy.terms]
    return replace(policy, terms=tuple(terms))


def _times(shape: Shape, factor: float) -> Shape:
    name = shape.moved[0]  # its weight, or the steps of its line
    value = getattr(shape, name)
    changed: Shape = replace(shape, **{name: tuple(factor * one for one in value) if isinstance(value, tuple) else factor * value})  # type: ignore[type-var]
    return changed


def _shifts(
    pool: Pool, columns: Sequence[str], places: tuple[Int[np.ndarray, "shown"], Int[np.ndarray, "shown"]], *, policy: Fusion
) -> dict[str, Shift]:
    users = np.unique([one.user or one.request for one in pool.decisions], return_inverse=True)[1]
    by = resample(users[pool.group[places[0]]])
    found = {}
    for task, at in zip(policy.tasks, policy.places(columns), strict=True):
        now, then = (pool.predictions[one, at] for one in places)
        sums = resampled_sums(user_sums([then - now, np.ones(len(now))], by), by)
        change = float((then - now).mean())
        interval = Sampled(change, sums[:, 0] / np.maximum(sums[:, 1], 1.0), by.users).interval()
        found[task] = Shift(
            now=float(now.mean()), then=float(then.mean()), change=change, low=interval.low, high=interval.high, reason=interval.reason,
        )  # fmt: skip
    return found


def _front(pool: Pool, columns: Sequence[str], policy: Fusion, *, asked: PreviewRequest) -> list[Point]:
    assert asked.sweep is not None
    means = []
    for factor in FACTORS:
        first = pool.first(weighed(policy, asked.sweep, factor), columns, asked.top)
        means.append(pool.predictions[first][:, policy.places(columns)].mean(0))
    good = np.array(means) * [term.direction for term in policy.terms]
    best = [not any((other >= own).all() and (other > own).any() for other in good) for own in good]
    return [
        Point(factor=factor, tasks=dict(zip(policy.tasks, mean.tolist(), strict=True)), best=one)
        for factor, mean, one in zip(FACTORS, means, best, strict=True)
    ]  # fmt: skip


def _example(pool: Pool, at: int, places: tuple[Int[np.ndarray, "shown"], Int[np.ndarray, "shown"]]) -> Example:
    one = pool.decisions[at]
    assert one.candidates is not None
    items = one.candidates.items
    now, then = ([items[place - pool.starts[at]] for place in own[pool.group[own] == at].tolist()] for own in places)
    return Example(request_id=one.request, user_id=one.user, now=now, then=then)


def _name(policy: Fusion) -> str:
    return f"{policy.name}@{policy.version}"
