"""nDCG as the code of some cold-start papers computes it: to be set beside their tables, and for nothing else.

None of them is the metric that bears the name (`umbel.evaluate.rated.ndcg`), and a random ranking gets .66 to .79 by the definition alone.
Ties, which their sorting leaves open, are broken here by the order in which rows stand, or counted in expectation where that can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from jaxtyping import Bool

from umbel.evaluate.peruser import PerUser, per_user
from umbel.evaluate.rated import Mask, Metric, Queries, Ratings, discounted

POSITIVES = 7  # the largest of the four tops that CCML asks for


def metahin_ndcg(ratings: Ratings, predictions: Ratings, mask: Mask, *, k: int) -> PerUser:
    """Of MetaHIN and PAML: the predicted *scores* of the k best-rated rows, as gains, in the order in which the rows happen to stand.

    `sum_{i<=k} p_i / log2(i + 1)` over the same sum of those rows' ratings, largest first. Not a metric of a ranking: a larger score is
    always better, and no score of another row counts.
    """
    query = Queries.of(ratings, predictions, mask)
    best = _first(query, query.ratings, k)
    standing = np.argsort(~best, axis=1, kind="stable")
    gain = np.take_along_axis(np.where(best, query.predictions, 0.0), standing, axis=1)
    ideal = discounted(query.placed(query.ratings, query.ratings), k)
    lost = {**query.lost, "no rating above 0": ideal <= 0}
    return per_user(discounted(gain, k) / np.where(ideal > 0, ideal, 1.0), lost)


def mamo_ndcg(ratings: Ratings, predictions: Ratings, mask: Mask, *, k: int) -> PerUser:
    """Of MAMO: the gains `2^r - 1` of the k rows ranked first, *sorted by rating* before they are discounted, over the ideal.

    Where inside the first k a row was ranked does not matter. Its predictions are classes, so those of another model are rounded to whole
    ratings first, which ties many rows.
    """
    query = Queries.of(ratings, predictions, mask)
    gain = np.exp2(query.ratings) - 1
    chosen = np.where(_first(query, np.rint(query.predictions), k), gain, 0.0)
    ideal = discounted(query.placed(gain, query.ratings), k)
    lost = {**query.lost, "no rating above 0": ideal <= 0}
    return per_user(discounted(query.placed(chosen, chosen), k) / np.where(ideal > 0, ideal, 1.0), lost)


def recbole_ndcg(ratings: Ratings, predictions: Ratings, mask: Mask, *, k: int, positives: int = POSITIVES) -> PerUser:
    """Of RecBole-MetaRec and CCML: rows are good or bad, and good are the `positives` best-rated of the user, whatever their rating.

    Undefined for users with fewer query rows than `positives` (their code fails there).
    """
    query = Queries.of(ratings, predictions, mask)
    placed = query.placed(query.chance(query.ratings, positives), query.predictions)
    ideal = discounted(np.ones((len(mask), min(k, positives))), k)
    lost = {**query.lost, f"fewer than {positives} query rows": mask.sum(axis=1) < positives}
    return per_user(discounted(placed, k) / ideal, lost)


COMPAT: Mapping[str, Metric] = {
    "metahin_ndcg@5": partial(metahin_ndcg, k=5),
    "mamo_ndcg@3": partial(mamo_ndcg, k=3),
    **{f"recbole_ndcg@{k}": partial(recbole_ndcg, k=k) for k in (1, 3, 5, 7)},
}


def _first(query: Queries, scores: Ratings, k: int) -> Bool[np.ndarray, "users shots"]:
    """The k rows of each user with the largest scores."""
    order = query.order(scores)[:, :k]
    chosen = np.zeros(query.mask.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.take_along_axis(query.mask, order, axis=1), axis=1)
    return chosen
