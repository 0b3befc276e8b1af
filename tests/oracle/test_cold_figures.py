"""Figures of new users against plain loops over users, and what stands where a figure cannot be had."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Bool, Float
from sklearn.metrics import ndcg_score, roc_auc_score

from umbel.coldstart.answers import Answers
from umbel.coldstart.figures import OF_EVENTS, OF_RATINGS, by_groups, figures, per_user
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.kinds import Poisson
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

SCHEMA = Schema((Field("item", FieldKind.ID),), (Task("rating", REGRESSION), Task("click"), Task("views", Poisson())))
Loop = Callable[[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]], float | None]


def drawn(users: int = 40, shots: int = 12, seed: int = 0) -> Answers:
    """Ratings and clicks of ragged users; some users saw one class alone, a few nothing at all."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((users, shots, 3), np.float32)
    labels[..., 0] = rng.integers(1, 6, size=(users, shots))
    labels[..., 1] = rng.random((users, shots)) < rng.random((users, 1))
    labels[:4, :, 1] = 1
    logits = rng.normal(size=(users, shots, 3)).astype(np.float32)
    logits[..., 0] += 3 + 0.5 * (labels[..., 0] - 3)
    seen: Bool[np.ndarray, "users shots tasks"] = np.repeat((np.arange(shots) < rng.integers(5, shots + 1, (users, 1)))[..., None], 3, 2)
    seen[5:6] = False
    seen[6:7, :, 1] = False
    return Answers(SCHEMA, np.arange(users), logits, labels, seen)


def looped(told: Answers, task: int, loop: Loop) -> list[float]:
    """A metric of each user who has one."""
    found = []
    for user in range(len(told.users)):
        own = told.seen[user, :, task]
        if own.any():
            value = loop(told.labels[user, own, task].astype(float), told.logits[user, own, task].astype(float))
            if value is not None:
                found.append(value)
    return found


def ndcg(k: int) -> Loop:
    def of(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | None:
        return float(ndcg_score([2**labels - 1], [predictions], k=k)) if labels.max() > 0 else None

    return of


def precision(k: int, relevant: float) -> Loop:
    def of(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | None:
        first = np.argsort(-predictions, kind="stable")[:k]
        return float((labels[first] >= relevant).sum() / min(k, len(labels)))

    return of


def recall(k: int, relevant: float) -> Loop:
    def of(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | None:
        first = np.argsort(-predictions, kind="stable")[:k]
        total = (labels >= relevant).sum()
        return float((labels[first] >= relevant).sum() / total) if total else None

    return of


LOOPS: dict[str, Loop] = {
    "mae": lambda labels, predictions: float(np.abs(labels - predictions).mean()),
    "rmse": lambda labels, predictions: float(np.sqrt(np.square(labels - predictions).mean())),
    "ndcg@1": ndcg(1), "ndcg@3": ndcg(3), "ndcg@5": ndcg(5),
    "precision@5": precision(5, 4.0), "recall@5": recall(5, 4.0),
}  # fmt: skip
EVENTS: dict[str, Loop] = {
    "auc": lambda labels, predictions: float(roc_auc_score(labels, predictions)) if len(set(labels.tolist())) > 1 else None,
    "ndcg@1": ndcg(1), "ndcg@3": ndcg(3), "ndcg@5": ndcg(5),
    "precision@5": precision(5, 1.0), "recall@5": recall(5, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("metric", LOOPS)
def test_a_ratings_metric_is_the_mean_of_a_plain_loop(metric: str) -> None:
    told = drawn()
    found = figures(told, relevant=4.0, resamples=10).tasks["rating"][metric]
    assert isinstance(found, Interval)
    assert found.value == pytest.approx(np.mean(looped(told, 0, LOOPS[metric])), rel=1e-6)


@pytest.mark.parametrize("metric", EVENTS)
def test_an_events_metric_is_the_mean_of_a_plain_loop(metric: str) -> None:
    told = drawn()
    found = figures(told, relevant=4.0, resamples=10).tasks["click"][metric]
    assert isinstance(found, Interval)
    assert found.value == pytest.approx(np.mean(looped(told, 1, EVENTS[metric])), rel=1e-6)


def test_pooled_errors_are_over_rows() -> None:
    told = drawn()
    own = told.seen[..., 0]
    errors = (told.logits[..., 0] - told.labels[..., 0])[own].astype(float)
    found = figures(told, relevant=4.0, resamples=10).tasks["rating"]
    for name, value in {"mae_pooled": np.abs(errors).mean(), "rmse_pooled": math.sqrt(np.square(errors).mean())}.items():
        one = found[name]
        assert isinstance(one, Interval)
        assert one.value == pytest.approx(value, rel=1e-5)


def test_every_kind_has_its_metrics_and_no_other() -> None:
    found = figures(drawn(), relevant=4.0, resamples=5)
    assert tuple(found.tasks["rating"]) == OF_RATINGS
    assert tuple(found.tasks["click"]) == OF_EVENTS
    assert found.tasks["views"] == {}, "a count has no figure of episodes"


def test_users_and_rows_are_counted() -> None:
    told = drawn()
    found = figures(told, relevant=4.0, resamples=5)
    assert found.users == 40
    assert found.rows == int(told.seen.any(2).sum())


def test_relevance_is_what_the_run_says_of_ratings_and_one_of_events() -> None:
    told = drawn()
    low, high = (per_user(told, relevant=one) for one in (2.0, 5.0))
    low_value, high_value = low["rating"]["precision@5"].value, high["rating"]["precision@5"].value
    assert isinstance(low_value, float)
    assert isinstance(high_value, float)
    assert low_value > high_value
    assert low["click"]["precision@5"].value == high["click"]["precision@5"].value


def test_users_without_a_value_are_left_out_and_counted() -> None:
    told = drawn()
    found = per_user(told, relevant=4.0)
    assert found["rating"]["mae"].users == 39
    assert found["click"]["auc"].users == len(looped(told, 1, EVENTS["auc"])) < 38
    assert sum(found["click"]["auc"].lost.values()) == 40 - found["click"]["auc"].users


def test_nobody_is_undefined_and_no_half() -> None:
    told = drawn(users=3)
    nothing = Answers(SCHEMA, told.users, told.logits, told.labels, np.zeros_like(told.seen))
    found = figures(nothing, relevant=4.0, resamples=5)
    for task in ("rating", "click"):
        for name, one in found.tasks[task].items():
            assert isinstance(one, Undefined), name
            assert one.reason
    one_class = Answers(SCHEMA, told.users, told.logits, np.ones_like(told.labels), told.seen)
    assert isinstance(figures(one_class, relevant=4.0, resamples=5).tasks["click"]["auc"], Undefined)


def test_intervals_are_over_users() -> None:
    """Of one user there is no interval; more users, a narrower one; the same users, the same one."""
    alone = figures(drawn(users=1), relevant=4.0, resamples=50).tasks["rating"]["mae"]
    assert isinstance(alone, Interval)
    assert alone.low is None
    assert alone.reason
    few, many, again = (figures(drawn(users=count), relevant=4.0, resamples=200).tasks["rating"]["mae"] for count in (30, 300, 300))
    widths = []
    for one in (few, many):
        assert isinstance(one, Interval)
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
        widths.append(one.high - one.low)
    assert widths[1] < widths[0]
    assert many == again


def test_groups_are_the_users_of_each_name() -> None:
    told = drawn(users=80, seed=3)
    names = [f"g{user % 2}" for user in range(80)]
    found = by_groups([told], {"side": names}, relevant=4.0, resamples=20)
    assert set(found) == {"rating", "click"}
    assert list(found["rating"]) == ["spread of labels", "side"]
    side = {group.name: group for group in found["rating"]["side"].groups}
    for place, name in enumerate(("g0", "g1")):
        users = [user for user in range(80) if user % 2 == place]
        part = Answers(SCHEMA, told.users[users], told.logits[users], told.labels[users], told.seen[users])
        figure = side[name].figure
        assert isinstance(figure, Interval)
        assert figure.value == pytest.approx(np.mean(looped(part, 0, LOOPS["mae"])), rel=1e-6)
    worst = found["rating"]["side"].worst
    assert not isinstance(worst, Undefined)
    values = {name: group.figure.value for name, group in side.items() if isinstance(group.figure, Interval)}
    assert worst.name == max(values, key=lambda name: values[name]), "of an error the worst is the largest"


def test_the_worst_group_of_an_event_is_the_least_auc() -> None:
    told = drawn(users=160, seed=4)
    found = by_groups([told], {"side": ["a" if user % 2 else "b" for user in range(160)]}, relevant=4.0, resamples=20)["click"]["side"]
    assert not isinstance(found.worst, Undefined)
    values = {group.name: group.figure.value for group in found.groups if isinstance(group.figure, Interval)}
    assert found.worst.name == min(values, key=lambda name: values[name])


def test_users_are_grouped_by_how_far_their_labels_lie_apart() -> None:
    """Quarters of their standard deviations; who saw fewer than two labels is unknown."""
    told = drawn(users=60, seed=5)
    told.seen[7, 1:] = False
    found = by_groups([told], {}, relevant=4.0, resamples=5)["rating"]["spread of labels"]
    spreads = [float(told.labels[user, told.seen[user, :, 0], 0].std()) for user in range(60) if told.seen[user, :, 0].sum() > 1]
    edges = np.quantile(spreads, [0.25, 0.5, 0.75])
    counts = np.bincount(np.searchsorted(edges, spreads, side="left"), minlength=4)
    groups = {group.name.split(":")[0]: group.users for group in found.groups}
    assert [groups[f"quarter {one}"] for one in (1, 2, 3, 4)] == counts.tolist()
    assert groups["unknown"] == 1, "the user of one row; who saw none has no figure"
