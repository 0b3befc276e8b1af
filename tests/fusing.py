"""Rows to fuse whose best fusion is known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from umbel.evaluate.slates import Slates
from umbel.fuse.drawn import Drawn
from umbel.fuse.goal import Aim
from umbel.fuse.ranked import Columns, Rows
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.serve.order import Order

COLUMNS = Columns(("click", "watch", "hate"), ("watch", "hate"), {"click": "click", "watch": "watch", "hate": "hate"})
AIMS = (Aim("watch", 1), Aim("hate", -1))
LOGGER = Fusion((Term("click", Linear(0.5)), Term("watch", Linear(0.5)), Term("hate", Linear(0.5), -1)))
START = Fusion((Term("click", Linear(1.0)), Term("watch", Linear(1.0)), Term("hate", Linear(1.0), -1)))


def planted(seed: int, *, users: int = 200, each: int = 20, useless: bool = False) -> Rows:
    """The label `watch` grows by 4 click + 1 watch of the predictions, `hate` by its own prediction; or nothing tells either."""
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each)
    predictions = draw.random((len(user), 3))
    worth = draw.random(len(user)) if useless else 0.8 * predictions[:, 0] + 0.2 * predictions[:, 1]
    hate = draw.random(len(user)) if useless else predictions[:, 2]
    labels = np.stack([draw.random(len(user)) < worth, draw.random(len(user)) < 0.5 * hate], axis=1).astype(np.float64)
    return Rows.of(COLUMNS, predictions, labels, group=user, user=user)


def loose(
    groups: int, seed: int
) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows tasks"], Int[np.ndarray, "rows"], Int[np.ndarray, "rows"]]:
    """Rows in no order, with ties, unseen labels and groups of one: predictions, labels, groups, users."""
    draw = np.random.default_rng(seed)
    group = draw.integers(0, groups, 12 * groups)
    labels = draw.choice([0.0, 1.0, 2.5, np.nan], (len(group), 2), p=[0.5, 0.3, 0.1, 0.1])
    return np.round(draw.random((len(group), 3)), 1), labels, group, group // 2


def rates(predictions: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, "rows 2"]:
    """How likely `watch` and `hate` are: of what is predicted, click counts four times as much as watch."""
    return np.stack([0.8 * predictions[:, 0] + 0.2 * predictions[:, 1], 0.5 * predictions[:, 2]], axis=1)


def drawn_log(
    seed: int, *, decisions: int = 4000, candidates: int = 10, shown: int = 2, temperature: float = 0.2, useless: bool = False
) -> Drawn:
    """Decisions drawn by `LOGGER`, three of each user, with labels at known rates; or at rates that have nothing to do with predictions."""
    draw = np.random.default_rng(seed)
    predictions = draw.random((decisions * candidates, 3))
    fused, order = LOGGER.score(predictions), Order(temperature)
    lists = [order.draw(fused[at : at + candidates], shown, seed=seed + at) for at in range(0, len(fused), candidates)]
    start = np.arange(decisions) * candidates
    places = np.stack([one.places for one in lists]) + start[:, None]
    rate = draw.random((len(predictions), 2)) if useless else rates(predictions)
    labels = (draw.random((decisions, shown, 2)) < rate[places]).astype(np.float64)
    slates = Slates(start, places, len(predictions))
    chances = np.stack([one.propensities for one in lists])
    return Drawn(COLUMNS, slates, predictions, np.full(decisions, temperature), chances, labels, np.arange(decisions) // 3)


def worth(policy: Fusion, *, seed: int = 99, decisions: int = 3000, candidates: int = 10, shown: int = 2) -> Float[np.ndarray, "2"]:
    """What a policy truly earns in such decisions: labels summed over what is shown."""
    draw = np.random.default_rng(seed)
    predictions = draw.random((decisions * candidates, 3))
    fused, rate = policy.score(predictions[:, [COLUMNS.predictions.index(task) for task in policy.tasks]]), rates(predictions)
    order, total = Order(0.2), np.zeros(2)
    for at in range(0, len(fused), candidates):
        places = order.draw(fused[at : at + candidates], shown, seed=at).places + at
        total += rate[places].sum(0)
    return total / decisions
