"""Rows to fuse whose best fusion is known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from umbel.fuse.goal import Aim
from umbel.fuse.ranked import Columns, Rows
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear

COLUMNS = Columns(("click", "watch", "hate"), ("watch", "hate"), {"click": "click", "watch": "watch", "hate": "hate"})
AIMS = (Aim("watch", 1), Aim("hate", -1))
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
