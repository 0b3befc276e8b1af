"""Users as small learning problems: the rows that a model adapts to (support), and those that it is judged on (query)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Int, Int64

from umbel.data.groups import nobody
from umbel.data.lookup import mixed
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.schema import FieldKind

PADDING = -1
WINDOW = 8  # batches that are sorted by length together
Rows = Int64[np.ndarray, "episodes shots"]


class Scenario(StrEnum):
    """What training knew of a row: its user and its item, the item alone, the user alone, or neither."""

    WARM = "warm"
    USER_COLD = "user_cold"
    ITEM_COLD = "item_cold"
    BOTH_COLD = "both_cold"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a user's rows are divided, once they are shuffled (or stand in order of time).

    The query is the last `query` rows, or all after the support where that is None; the support is what comes before it, at most
    `support` rows. `skip` rows at least are kept out of the query, so that supports of different sizes meet one query: they
    are nested, since the order of a user's rows depends on the user and on `seed` alone. Users whose rows are fewer or more than
    `history` are left out, but with `longer` those of more stand by the first that are not too many; one with few rows may have a
    shorter support than asked. A row that stands twice counts twice, and may be support and query.

    The literature's two (MeLU's and CCML's) are `LAST_TEN` and `FIRST_TEN`.

    Example
    -------
    >>> LAST_TEN.cut(30), FIRST_TEN.cut(30), Protocol(support=3, query=None, skip=20, history=(30, 100)).cut(30)
    ((20, 20), (10, 10), (3, 20))
    """

    support: int | None = None
    query: int | None = 10
    skip: int = 0
    history: tuple[int, int] = (13, 100)
    by_time: bool = False
    seed: int = 0
    longer: bool = False

    def __post_init__(self) -> None:
        if self.support is None and self.query is None:
            raise UserError("episodes: neither support nor query has a size", mend="give one of them")
        if min(self.support or 0, self.skip) < 0 or (self.query is not None and self.query < 1):
            raise UserError("episodes: support and skip are at least 0, query at least 1", mend="raise them")
        least = self.query or max(self.support or 0, self.skip) + 1
        if not least <= self.history[0] <= self.history[1]:
            spans = f"history {self.history[0]} to {self.history[1]}, support {self.support}, query {self.query}, skip {self.skip}"
            what = f"episodes: {spans} do not go together"
            raise UserError(what, mend=f"let history begin at {least} or more")

    def cut(self, rows: int) -> tuple[int, int]:
        """Where the support ends, and where the query begins, among so many rows."""
        begin = rows - self.query if self.query is not None else max(self.support or 0, self.skip)
        return (begin if self.support is None else min(self.support, begin)), begin


LAST_TEN = Protocol()
FIRST_TEN = Protocol(support=10, query=None)


@dataclass(frozen=True, slots=True)
class Episodes:
    """Users, and the table rows of each one's support and query; -1 is padding, always last."""

    user: Int64[np.ndarray, "episodes"]
    support: Int64[np.ndarray, "episodes support"]
    query: Int64[np.ndarray, "episodes query"]

    def __len__(self) -> int:
        return len(self.user)

    def of(self, places: Int[np.ndarray, "some"]) -> Episodes:
        """Some of them, by place, without padding that they do not need."""
        return Episodes(self.user[places], _trim(self.support[places]), _trim(self.query[places]))

    @property
    def lengths(self) -> Int64[np.ndarray, "episodes"]:
        """Support rows of each."""
        found: Int64[np.ndarray, "episodes"] = (self.support != PADDING).sum(axis=1)
        return found

    @property
    def sizes(self) -> Int64[np.ndarray, "episodes"]:
        """Rows of each, support and query: what it takes to read one."""
        found: Int64[np.ndarray, "episodes"] = self.lengths + (self.query != PADDING).sum(axis=1)
        return found


def episodes(table: Table, part: str, protocol: Protocol, *, among: Bool[np.ndarray, "rows"] | None = None) -> Episodes:
    """The users of a part as episodes, in order of their raw id; `among` leaves rows of the part out beforehand.

    :raises UserError: if no user has as many rows as the protocol asks for, or the log has no user column.
    """
    if table.source.user is None:
        raise UserError("episodes: [data] names no user column", mend="add user = 'COLUMN' under [data]")
    groups = table.groups(part)
    somebody = ~nobody(groups)
    kept = np.flatnonzero(somebody if among is None else somebody & among)
    order = kept[np.lexsort((_rank(table, part, protocol)[kept], groups[kept]))]
    users, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    few, many = protocol.history
    counts = np.minimum(counts, many) if protocol.longer else counts
    fits = (counts >= few) & (counts <= many)
    if not fits.any():
        what = f"episodes: of {len(users)} users in the {part} part none has {few} to {many} rows"
        raise UserError(what, mend="widen [episodes] history, or give a longer log")
    cuts = np.array([protocol.cut(count) for count in counts[fits].tolist()])
    rows = order + table.parts[part].start
    ends = starts[fits] + counts[fits]
    first = starts[fits]
    return Episodes(users[fits], _padded(rows, first, first + cuts[:, 0]), _padded(rows, first + cuts[:, 1], ends))


def scenarios(table: Table, part: str) -> dict[Scenario, Bool[np.ndarray, "rows"]]:
    """Which rows of a part are warm, of new users, of new items, of both: new is what no training row has.

    Users who validate and do not train are in none of the test part's, since the model was chosen by them; rows without a user are in none.
    :raises UserError: if no id field is the log's item column.
    """
    users = table.groups(part)
    trained, somebody = np.isin(users, np.unique(table.groups("train"))), ~nobody(users)
    known_user, new_user = trained & somebody, ~trained & somebody
    if part != "valid":
        new_user &= ~np.isin(users, np.unique(table.groups("valid")))
    known_item = table.seen_counts(part, item_field(table)) > 0
    return {
        Scenario.WARM: known_user & known_item,
        Scenario.USER_COLD: new_user & known_item,
        Scenario.ITEM_COLD: known_user & ~known_item,
        Scenario.BOTH_COLD: new_user & ~known_item,
    }


def item_field(table: Table) -> str:
    """The id field that reads the log's item column; :raises UserError: if there is none."""
    found = _reading(table, table.source.item)
    if found is None:
        raise UserError("episodes: no id field reads the log's item column", mend="name it in [data] item, and give it an id field")
    return found


def user_field(table: Table) -> str | None:
    """The id field that reads the log's user column; None where the model knows users by their attributes alone."""
    return _reading(table, table.source.user)


@dataclass(frozen=True, slots=True)
class Drawer:
    """Batches of episodes, by place: every user once an epoch, users of like lengths (`Episodes.sizes`) together.

    Padding thirty rows to eighty would triple the work. Users are shuffled, sorted by length inside windows of `WINDOW` batches, and
    the batches shuffled; an epoch and `seed` decide, and starting at step s gives what a whole epoch gives from s on.
    """

    lengths: Int64[np.ndarray, "episodes"]
    size: int
    seed: int = 0

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Int64[np.ndarray, "some"]]:
        """The places of each batch."""
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.lengths))
        window = self.size * WINDOW
        pieces = [order[at : at + window] for at in range(0, len(order), window)]
        ordered = np.concatenate([piece[np.argsort(self.lengths[piece], kind="stable")] for piece in pieces])
        batches = [ordered[at : at + self.size] for at in range(0, len(ordered), self.size)]
        for place in generator.permutation(len(batches))[start:]:
            yield batches[place]


def afresh(protocol: Protocol, epoch: int) -> Protocol:
    """The protocol with another order of rows, as training draws one every epoch."""
    return replace(protocol, seed=protocol.seed * 1_000_003 + epoch + 1)


def _rank(table: Table, part: str, protocol: Protocol) -> Int64[np.ndarray, "rows"]:
    """What a user's rows are ordered by: time, or a number drawn by the user, the row's place among the user's, and the seed."""
    if protocol.by_time:
        return table.times(part)
    groups = table.groups(part)
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    place = np.empty(len(groups), np.int64)
    place[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    drawn = mixed(mixed(groups, protocol.seed).view(np.int64) ^ place, protocol.seed + 1)
    return (drawn >> np.uint64(1)).astype(np.int64)


def _padded(rows: Int64[np.ndarray, "rows"], starts: Int[np.ndarray, "episodes"], ends: Int[np.ndarray, "episodes"]) -> Rows:
    width = int((ends - starts).max(initial=0))
    places = starts[:, None] + np.arange(width)
    return np.where(places < ends[:, None], rows[np.minimum(places, len(rows) - 1)], PADDING)


def _trim(rows: Rows) -> Int64[np.ndarray, "episodes fewer"]:
    return rows[:, : int((rows != PADDING).sum(axis=1).max(initial=0))]


def _reading(table: Table, column: str | None) -> str | None:
    """The id field that reads a raw column."""
    ids = [field for field in table.schema.fields if field.kind is FieldKind.ID and field.sql is None]
    return next((field.name for field in ids if column is not None and (field.column or field.name) == column), None)
