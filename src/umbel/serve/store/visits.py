"""Answers in the order in which they were given, a page at a time: to whom, by which arm, on which rung."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from umbel.serve.records import Rung
from umbel.serve.store.labels import Cursor, behind
from umbel.serve.store.session import Session
from umbel.serve.store.tables import decisions

PAGE = 10_000


class Answered(NamedTuple):
    """One answer to a known user."""

    time: int
    request: str
    user: str
    arm: str
    rung: Rung


def answered(session: Session, after: Cursor, until: int) -> Iterator[list[Answered]]:
    """The answers to known users behind `after`, no later than `until`; a page is closed when it is handed out."""
    columns = [decisions.c[name] for name in Answered._fields]
    while True:
        wanted = sa.select(*columns).where(behind(after), decisions.c.time <= until, decisions.c.user.is_not(None))
        with session.reading() as connection:
            rows = connection.execute(wanted.order_by(decisions.c.time, decisions.c.request).limit(PAGE)).all()
        if not rows:
            return
        page = [Answered(row.time, row.request, row.user, row.arm, Rung(row.rung)) for row in rows]
        after = page[-1].time, page[-1].request
        yield page
