"""What one transaction adds: the decisions and events of many requests at once, each thing once, however often it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import sqlalchemy as sa

from umbel.serve.records import Decision, Event, Outcome, Result, wrong_event
from umbel.serve.store.engine import Place
from umbel.serve.store.held import held
from umbel.serve.store.rows import Row, candidates_row, decision_row, event_row, shown_rows, to_event
from umbel.serve.store.tables import candidates, decisions, events, shown

MOST = 500  # values that one statement names
ANOTHER = "another event has this event_id"


@dataclass(frozen=True, slots=True)
class Append:
    """What one request adds; `received` is when its events arrived, `skew` by how many milliseconds their clocks may be ahead."""

    decisions: tuple[Decision, ...] = ()
    events: tuple[Event, ...] = ()
    received: int = 0
    skew: int = 0

    @property
    def held(self) -> int:
        """The bytes that it takes while it waits, roughly."""
        return held(self.decisions, self.events)

    def judged(self) -> list[tuple[Event, str | None]]:
        """Each event, and why it is rejected if it is."""
        return [(event, wrong_event(event, now=self.received, skew=self.skew)) for event in self.events]


def append(connection: sa.Connection, place: Place, asked: Sequence[Append]) -> list[tuple[Outcome, ...]]:
    """Add all of it; the outcomes of each one's events.

    A decision whose request id is there already changes nothing. Nor does an event; it is a duplicate if it says the same, and
    rejected if it says something else under the id of another.
    """
    _add_decisions(connection, place, [one for each in asked for one in each.decisions])
    firsts: dict[str, Event] = {}
    rows: list[Row] = []
    judged = [each.judged() for each in asked]
    for each, sent in zip(asked, judged, strict=True):
        for event, wrong in sent:
            if wrong is None and event.id not in firsts:
                firsts[event.id] = event
                rows.append(event_row(event, each.received))
    new = _insert_new(connection, place, rows, table=events)
    known = firsts | {event.id: event for event in _stored(connection, [one for one in firsts if one not in new])}
    return [tuple(_outcomes(sent, known, new)) for sent in judged]


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Values, at most as many at a time as one statement may name."""
    for start in range(0, len(values), MOST):
        yield values[start : start + MOST]


def _outcomes(judged: list[tuple[Event, str | None]], known: dict[str, Event], new: set[str]) -> Iterator[Outcome]:
    for event, wrong in judged:
        if wrong is not None:
            yield Outcome(event.id, Result.REJECTED, wrong)
        elif event.id in new:
            new.discard(event.id)  # a second one is its duplicate
            yield Outcome(event.id, Result.ACCEPTED)
        elif known[event.id] == event:
            yield Outcome(event.id, Result.DUPLICATE)
        else:
            yield Outcome(event.id, Result.REJECTED, ANOTHER)


def _add_decisions(connection: sa.Connection, place: Place, made: Sequence[Decision]) -> None:
    by_id = {one.request: one for one in reversed(made)}
    new = _insert_new(connection, place, [decision_row(one) for one in by_id.values()], table=decisions)
    added = [one for one in by_id.values() if one.request in new]
    places = [row for one in added for row in shown_rows(one)]
    chosen = [candidates_row(one.request, one.candidates) for one in added if one.candidates is not None]
    if places:
        place.insert_many(connection, shown, places)
    if chosen:
        connection.execute(sa.insert(candidates), chosen)


def _insert_new(connection: sa.Connection, place: Place, rows: Sequence[Row], *, table: sa.Table) -> set[str]:
    """Insert the rows whose key is not there, and say which those were.

    They are inserted in the order of their keys: of two processes that add the same, the second waits, and neither for the other.
    """
    if not rows:
        return set()
    (key,) = table.primary_key.columns
    statement = place.insert(table).on_conflict_do_nothing().returning(key)
    return set(connection.execute(statement, sorted(rows, key=itemgetter(key.name))).scalars())


def _stored(connection: sa.Connection, ids: Sequence[str]) -> Iterator[Event]:
    for some in chunks(ids):
        yield from map(to_event, connection.execute(sa.select(events).where(events.c.id.in_(some))))
