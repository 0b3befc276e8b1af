"""What is asked of retrieval by rows that came later: to bring the item of a positive, of those that the user has not met before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Int64

from umbel.data.table import Table

MOST = 20_000  # rows asked about, drawn where there are more
RECENT = 50    # items that item-to-item starts from: a user's latest positives
CHUNK = 512    # rows at a time
Scores = Float[np.ndarray, "rows items"]


def positives(table: Table, part: str, tasks: Sequence[str]) -> Bool[np.ndarray, "rows"]:
    """The rows of a part in which one of these events happened."""
    columns = [place for place, task in enumerate(table.schema.tasks) if task.name in tasks]
    happened, observed = table.events(part)
    found: Bool[np.ndarray, "rows"] = ((happened[:, columns] > 0) & observed[:, columns]).any(1)
    return found


def placed(codes: Int[np.ndarray, "rows"], among: Int32[np.ndarray, "items"]) -> Int64[np.ndarray, "rows"]:
    """The place of each code among sorted ones, -1 where it is not."""
    at = np.searchsorted(among, codes).clip(max=max(len(among) - 1, 0))
    return np.where(among[at] == codes, at, -1) if len(among) else np.full(len(codes), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Positive rows of a part: their numbers in the table, users, and the place of the item to be brought.

    `met` are the places of each user's items in training, whatever came of them, which are not to be brought again; `recent` those of the
    latest positives, the latest last. `lost` counts positive rows that ask for nothing: of items that training had not, and of items
    that the user had met.
    """

    rows: Int64[np.ndarray, "rows"]
    user: Int64[np.ndarray, "rows"]
    wanted: Int64[np.ndarray, "rows"]
    met: Mapping[int, Int64[np.ndarray, "_"]]
    recent: Mapping[int, Int64[np.ndarray, "_"]]
    lost: Mapping[str, int]

    @staticmethod
    def of(table: Table, part: str, *, item: str, tasks: Sequence[str], codes: Int32[np.ndarray, "items"]) -> Queries:
        """Those of validation or test, over the items of training by code."""
        rows = np.flatnonzero(positives(table, part, tasks))
        user, wanted = table.groups(part)[rows], placed(table.column(item, part)[rows], codes)
        then, had = table.groups("train"), placed(table.column(item, "train"), codes)
        mine = np.isin(then, user) & (had >= 0)
        met = _by_user(then[mine], had[mine])
        liked = mine & positives(table, "train", tasks)
        recent = {one: places[-RECENT:] for one, places in _by_user(then[liked], had[liked]).items()}
        again = np.array([place in set(met[one]) if one in met else False for one, place in zip(user.tolist(), wanted, strict=True)], bool)
        asked = (wanted >= 0) & ~again
        lost = {"the item is new": int((wanted < 0).sum()), "the user had met the item": int(((wanted >= 0) & again).sum())}
        kept = np.flatnonzero(asked)
        if len(kept) > MOST:
            kept = np.sort(np.random.default_rng(0).choice(kept, MOST, replace=False))
        return Queries(rows[kept] + table.parts[part].start, user[kept], wanted[kept], met, recent, lost)

    def chunks(self) -> Iterator[slice]:
        """Parts of the rows that fit in memory beside their scores."""
        for start in range(0, len(self.rows), CHUNK):
            yield slice(start, start + CHUNK)

    def unmet(self, scores: Scores, some: slice) -> Scores:
        """Scores (changed in place), minus infinity for what the row's user had met."""
        for row, one in enumerate(self.user[some].tolist()):
            if one in self.met:
                scores[row, self.met[one]] = -np.inf
        return scores


def _by_user(user: Int64[np.ndarray, "rows"], place: Int64[np.ndarray, "rows"]) -> dict[int, Int64[np.ndarray, "_"]]:
    """The places of each user, in the order of the rows."""
    order = np.argsort(user, kind="stable")
    users, start = np.unique(user[order], return_index=True)
    return dict(zip(users.tolist(), np.split(place[order], start[1:]), strict=True))
