"""Training users who are like a user on paper: equal attributes, of which rare ones count more, and items in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from umbel.data.episodes import PADDING, Episodes, Rows, item_field
from umbel.data.table import Table

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CHUNK = 256  # users whose scores are held at a time
NOBODY = -1
Places = Int64[np.ndarray, "users near"]


class Described(NamedTuple):
    """What is known of users without their labels: raw ids, codes of their attributes, the items they met."""

    user: Int64[np.ndarray, "users"]
    profile: Int[np.ndarray, "users fields"]
    items: csr_matrix


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates among training users, who are named by their place among them.

    `score(u, w) = sum over equal attributes of log(users / users who have that value) + Jaccard of their items`; unknown values and
    items are equal to nothing. The best `size` are candidates, equals in an order drawn by `seed`; with 0 all are. With `exact` only
    users equal in every attribute are, which is the closest reading of the "same profile" of CCML's published code.
    """

    among: Described
    size: int = 128
    exact: bool = False
    seed: int = 0

    def near(self, users: Described) -> Places:
        """The candidates of each user, the likeliest first; -1 where there are fewer. Nobody is a candidate of their own."""
        width = min(self.size or len(self.among.user), len(self.among.user))
        found = np.full((len(users.user), width), NOBODY, np.int64)
        for start in range(0, len(found), CHUNK):
            found[start : start + CHUNK] = self._nearest(_some(users, slice(start, start + CHUNK)), width)
        return found

    def _nearest(self, users: Described, width: int) -> Places:
        score, barred = self._scores(users)
        score[barred] = -np.inf
        order = np.argsort(-score, axis=1, kind="stable")[:, :width]
        return np.where(np.take_along_axis(barred, order, 1), NOBODY, order)

    def _scores(self, users: Described) -> tuple[Float[np.ndarray, "users among"], Bool[np.ndarray, "users among"]]:
        common = np.asarray((users.items @ self.among.items.T).todense(), np.float64)
        either = _sizes(users)[:, None] + _sizes(self.among)[None] - common
        score = common / np.maximum(either, 1.0)
        barred = users.user[:, None] == self.among.user[None]
        for field in range(self.among.profile.shape[1]):
            own, other = users.profile[:, field], self.among.profile[:, field]
            equal = (own[:, None] == other[None]) & (own > 0)[:, None]
            score += equal * self._rarity(own, other)[:, None]
            if self.exact:
                barred |= ~equal
        # A draw far below the least difference, so that equals are no one's favourites.
        return score + 1e-9 * np.random.default_rng([self.seed]).random(len(self.among.user)), barred

    def _rarity(self, own: Int[np.ndarray, "users"], other: Int[np.ndarray, "among"]) -> Float[np.ndarray, "users"]:
        counts = np.bincount(other, minlength=int(own.max(initial=0)) + 1)
        rarity: Float[np.ndarray, "users"] = np.log(len(other) / np.maximum(counts[own], 1))
        return rarity


def described(table: Table, own: Episodes, fields: tuple[str, ...], *, query: bool) -> Described:
    """Users by the rows of their support, and with `query` of their query too (their labels are not read)."""
    rows = np.concatenate([own.support, own.query], axis=1) if query else own.support
    first = np.where(own.support[:, 0] == PADDING, own.query[:, 0], own.support[:, 0]) if own.support.shape[1] else own.query[:, 0]
    batch = table.batch(first)
    profile = np.stack([batch.fields[name].numpy() for name in fields], 1) if fields else np.zeros((len(own), 0), np.int64)
    return Described(own.user, profile, _met(table, rows))


def _met(table: Table, rows: Rows) -> csr_matrix:
    """1 where a user has rows of an item."""
    from scipy.sparse import csr_matrix

    name = item_field(table)
    size = table.encoder.vocabularies[table.schema.field(name).table].size
    user, place = (rows != PADDING).nonzero()
    codes = table.batch(rows[user, place]).fields[name].numpy()
    known = codes > 0
    found = csr_matrix((np.ones(int(known.sum())), (user[known], codes[known])), shape=(len(rows), size))
    found.data[:] = 1.0  # an item met twice is met once
    return found


def _some(users: Described, which: slice) -> Described:
    return Described(users.user[which], users.profile[which], users.items[which])


def _sizes(users: Described) -> Float[np.ndarray, "users"]:
    return np.asarray(users.items.sum(axis=1)).ravel()
