"""Decisions that are looked at again: the latest of a bundle, and one in a hundred of all, the same ones for everybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from umbel.serve.records import Decision, Rung
from umbel.serve.store.labels import Cursor, behind
from umbel.serve.store.rows import to_decision
from umbel.serve.store.session import Session
from umbel.serve.store.tables import decisions, shown

SAMPLED = "029"  # the last three hexadecimal digits of a request's id lie below this: 41 of 4,096
PAGE = 200       # decisions at a time
NONE: Mapping[str, sa.Row[Any]] = {}
PREDICTED = decisions.c.rung.in_([Rung.FULL.value, Rung.FEWER.value])  # what the model was asked for


def latest(session: Session, bundle: str, most: int) -> list[Decision]:
    """The latest decisions that a bundle predicted for, the latest first; no more than one statement may name."""
    wanted = sa.select(decisions).where(decisions.c.bundle == bundle, PREDICTED)
    with session.reading() as connection:
        found = connection.execute(wanted.order_by(decisions.c.time.desc(), decisions.c.request.desc()).limit(most)).all()
        return whole(connection, found)


def sampled(session: Session, bundles: Sequence[str], *, after: Cursor, until: int) -> Iterator[list[Decision]]:
    """One in a hundred of the decisions behind `after` that these bundles predicted for, no later than `until`, in their order."""
    drawn = sa.func.substr(decisions.c.request, 30, 3) < SAMPLED
    while True:
        wanted = sa.select(decisions).where(behind(after), decisions.c.time <= until, drawn, decisions.c.bundle.in_(bundles), PREDICTED)
        with session.reading() as connection:
            found = connection.execute(wanted.order_by(decisions.c.time, decisions.c.request).limit(PAGE)).all()
            page = whole(connection, found)
        if not page:
            return
        after = page[-1].time, page[-1].request
        yield page


def whole(connection: sa.Connection, decided: Sequence[sa.Row[Any]], chosen: Mapping[str, sa.Row[Any]] = NONE) -> list[Decision]:
    """Decisions from their rows, with all that they showed, and the candidates that are given."""
    places: dict[str, list[sa.Row[Any]]] = {row.request: [] for row in decided}
    for row in connection.execute(sa.select(shown).where(shown.c.request.in_(list(places)))):
        places[row.request].append(row)
    return [to_decision(row, places[row.request], chosen.get(row.request)) for row in decided]
