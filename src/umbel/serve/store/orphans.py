"""Events that belong to nothing that was shown: kept, since what they belong to may come, and counted."""

from __future__ import annotations

import sqlalchemy as sa

from umbel.serve.store.session import Session
from umbel.serve.store.tables import decisions, events, shown


def orphans(session: Session, until: int) -> int:
    """How many of the events that had come until then name a request that did not show their item, or an item never shown to their user."""
    named = sa.select(sa.literal(1)).where(shown.c.request == events.c.request, shown.c.item == events.c.item)
    touching = (
        sa.select(sa.literal(1)).select_from(decisions).join(shown, shown.c.request == decisions.c.request)
        .where(decisions.c.user == events.c.user, decisions.c.time <= events.c.time, shown.c.item == events.c.item)
    )  # fmt: skip
    lost = sa.or_(
        sa.and_(events.c.request.is_not(None), sa.not_(named.exists())), sa.and_(events.c.request.is_(None), sa.not_(touching.exists()))
    )
    with session.reading() as connection:
        wanted = sa.select(sa.func.count()).select_from(events).where(events.c.received <= until, lost)
        return int(connection.execute(wanted).scalar_one())
