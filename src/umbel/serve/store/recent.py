"""The latest of what a store holds, for somebody who looks: bounded, newest first."""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa
from msgspec import Struct

from umbel.serve.store.session import Session
from umbel.serve.store.tables import decisions, shown

TOP = 3  # items of a decision that a glance names


class Decided(Struct, frozen=True, kw_only=True):
    """What is told of every decision: who asked, when (milliseconds since 1970, UTC), what answered, and how many items it showed.

    A user is named by the id to a key of scope admin, to others by a pseudonym that begins with `~`.
    """

    request_id: str
    user_id: str | None
    time: int
    bundle: str
    fusion: str
    rung: str
    arm: str
    shown: int


class Glance(Decided, frozen=True, kw_only=True):
    """A decision at a glance, with the first items."""

    top: tuple[str, ...]


def glances(session: Session, most: int) -> list[Glance]:
    """The latest decisions, the latest first; no more than one statement may name."""
    with session.reading() as connection:
        found = connection.execute(sa.select(decisions).order_by(decisions.c.time.desc(), decisions.c.request.desc()).limit(most)).all()
        of_them = shown.c.request.in_([row.request for row in found])
        counted = sa.select(shown.c.request, sa.func.count()).where(of_them).group_by(shown.c.request)
        counts = {row[0]: int(row[1]) for row in connection.execute(counted)}
        top: dict[str, list[str]] = defaultdict(list)
        first = sa.select(shown.c.request, shown.c.item).where(of_them, shown.c.position < TOP).order_by(shown.c.position)
        for request, item in connection.execute(first):
            top[request].append(item)
    return [
        Glance(
            request_id=row.request, user_id=row.user, time=row.time, bundle=row.bundle, fusion=row.fusion, rung=row.rung, arm=row.arm,
            shown=counts.get(row.request, 0), top=tuple(top[row.request]),
        )
        for row in found
    ]  # fmt: skip
