"""The user+item bias model of rated episodes, in plain loops, and the episodes of MovieLens-1M that its published figures are of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

SHARED = Path(__file__).parents[1] / "../shared/data/movielens-1m"
QUERY, FEWEST, MOST = 10, 13, 100
ITEM_SHRINK, USER_SHRINK = 10, 5


@dataclass(frozen=True)
class Episode:
    """One user's rows in one scenario: (movie, rating) to adapt on, and to be judged by."""

    user: int
    support: tuple[tuple[int, float], ...]
    query: tuple[tuple[int, float], ...]


class Bias:
    """r(u, i) = item mean + user offset: `(sum r + 10 m) / (n + 10)` over training rows, and `sum of support residuals / (n + 5)`."""

    def __init__(self, rows: Sequence[tuple[int, int, float]]) -> None:
        total: dict[int, float] = defaultdict(float)
        count: dict[int, int] = defaultdict(int)
        for _, item, rating in rows:
            total[item] += rating
            count[item] += 1
        self.mean = sum(total.values()) / len(rows)
        self.items = {item: (total[item] + ITEM_SHRINK * self.mean) / (count[item] + ITEM_SHRINK) for item in total}

    def item(self, item: int) -> float:
        """An unseen item has the mean of all."""
        return self.items.get(item, self.mean)

    def predict(self, episode: Episode) -> list[float]:
        """What it says of the query rows."""
        offset = sum(rating - self.item(item) for item, rating in episode.support) / (len(episode.support) + USER_SHRINK)
        return [self.item(item) + offset for item, _ in episode.query]


def episodes(rows: Sequence[tuple[int, int, float]], seed: int) -> Iterator[Episode]:
    """Users with 13 to 100 rows, in rising order: shuffled, the last 10 are the query, the rest is support."""
    draw = np.random.default_rng(seed)
    theirs: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for user, item, rating in rows:
        theirs[user].append((item, rating))
    for user in sorted(theirs):
        if FEWEST <= len(theirs[user]) <= MOST:
            mixed = [theirs[user][place] for place in draw.permutation(len(theirs[user]))]
            yield Episode(user, tuple(mixed[:-QUERY]), tuple(mixed[-QUERY:]))


@cache
def scenarios() -> Mapping[str, Sequence[tuple[int, int, float]]]:
    """The rows of each published scenario."""
    frame = pl.read_parquet(SHARED / "scenarios.parquet").with_columns(pl.col("rating").cast(pl.Float64))
    parted = frame.partition_by("scenario", as_dict=True, maintain_order=True)
    return {str(name): part.select("user_id", "movie_id", "rating").rows() for (name,), part in parted.items()}


@cache
def trained() -> Bias:
    """The model of the published training rows."""
    return Bias(scenarios()["train"])


@dataclass(frozen=True)
class Judged:
    """Ratings, what three predictors say of them, and the mask, as the metrics take them."""

    ratings: Float[np.ndarray, "users shots"]
    bias: Float[np.ndarray, "users shots"]
    item: Float[np.ndarray, "users shots"]
    constant: Float[np.ndarray, "users shots"]
    mask: Bool[np.ndarray, "users shots"]


@cache
def judged(scenario: str, seed: int = 0) -> Judged:
    """The query rows of every episode of a published scenario."""
    model, found = trained(), list(episodes(scenarios()[scenario], seed))
    ratings = np.array([[rating for _, rating in one.query] for one in found])
    bias = np.array([model.predict(one) for one in found])
    item = np.array([[model.item(movie) for movie, _ in one.query] for one in found])
    return Judged(ratings, bias, item, np.full(ratings.shape, model.mean), np.ones(ratings.shape, dtype=bool))
