"""One user's shown items with what is known of their labels by now, settled or not, and a cheap sign of whether that has changed."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

from umbel.feedback import Feedback
from umbel.serve.store.labels import DECIDED, SHOWN, Cursor, Extent, events_of, frame_of, label_column, labelled, places_of
from umbel.serve.store.tables import decisions, events, shown

DECISIONS = 100  # the latest ones of a user, that are looked at
PLACES = 2_000   # the latest items shown in them
ROWS = 200       # the latest of those that have a label


@dataclass(frozen=True, slots=True)
class Sign:
    """What the labels of a user rest on; while it stays, so do they.

    The number of the user's events and when the latest arrived; and for each rule, when the latest decision was made whose window has
    closed (-1: none).
    """

    events: int
    received: int
    settled: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether there is no label at all."""
        return not self.events and max(self.settled, default=-1) < 0


def sign(connection: sa.Connection, feedback: Feedback, user: str, *, clock: int, before: Cursor) -> Sign:
    """That of a user's decisions before a cursor, by a clock of the events."""
    own = connection.execute(_decided(user, before, ["time", "request"])).all()
    times = [int(row.time) for row in own]
    settled = [max((one for one in times if one + rule.window + feedback.lateness <= clock), default=-1) for rule in feedback.rules]
    if not own:
        return Sign(0, -1, tuple(settled))
    whose = sa.or_(events.c.user == user, events.c.request.in_([row.request for row in own]))
    wanted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(events.c.received), -1))
    came, received = connection.execute(wanted.where(whose, events.c.time >= times[-1] - feedback.skew)).one()
    return Sign(int(came), int(received), tuple(settled))


def recent(connection: sa.Connection, feedback: Feedback, user: str, *, extent: Extent, before: Cursor) -> pl.DataFrame:
    """A user's latest labelled items, the oldest first, in the columns of a `Page`: a function of user, extent and cursor.

    A label whose window has closed is that of `umbel.serve.store.labels.pages`. Before, it is known where an event came that no later
    one undoes (any, or the latest); that nothing came is not known yet, and a sum or a maximum may still grow.
    """
    decided = frame_of(connection.execute(_decided(user, before, DECIDED.columns)), DECIDED)
    if decided.is_empty():
        return decided.join(SHOWN, on="request").with_columns(pl.lit(None, pl.Float64).alias(label_column(r.task)) for r in feedback.rules)
    first = (int(decided["time"][-1]), str(decided["request"][-1]))
    within = sa.and_(decisions.c.user == user, ~_earlier(first), _earlier(before))
    came = events_of(connection, within, extent.until, longest=max(rule.window for rule in feedback.rules), before=before)
    closing = extent.clock - feedback.lateness - min(rule.window for rule in feedback.rules)
    told = decided.filter((pl.col("time") <= closing) | pl.col("request").is_in(came["request"].implode()))
    places = places_of(decisions.c.request.in_(told["request"].to_list()))
    places = places.order_by(decisions.c.time.desc(), decisions.c.request.desc(), shown.c.position).limit(PLACES)
    frame = labelled(told, frame_of(connection.execute(places), SHOWN), came, feedback=feedback, extent=extent, early=True)
    return frame.filter(pl.any_horizontal(pl.col(label_column(rule.task)).is_not_null() for rule in feedback.rules)).tail(ROWS)


def _decided(user: str, before: Cursor, columns: list[str]) -> sa.Select[tuple[object, ...]]:
    wanted = sa.select(*(decisions.c[name] for name in columns)).where(decisions.c.user == user, _earlier(before))
    return wanted.order_by(decisions.c.time.desc(), decisions.c.request.desc()).limit(DECISIONS)


def _earlier(cursor: Cursor) -> sa.ColumnElement[bool]:
    return sa.tuple_(decisions.c.time, decisions.c.request) < sa.tuple_(*cursor)
