"""What the latest decisions of a bundle chose from: enough to choose again by another policy."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from umbel.serve.records import Decision
from umbel.serve.store.rows import to_decision
from umbel.serve.store.session import Session
from umbel.serve.store.tables import candidates, decisions


def chosen_lately(session: Session, bundle: str, *, most: int, rows: int) -> list[Decision]:
    """The latest decisions of a bundle that have candidates without masks of their own: `most`, with `rows` candidates in all.

    What they showed is left out.
    """
    return list(_within(_latest(session, bundle, most), rows))


def _within(found: Iterator[Decision], rows: int) -> Iterator[Decision]:
    for one in found:
        assert one.candidates is not None
        rows -= len(one.candidates.items)
        if rows < 0:
            return
        yield one


def _latest(session: Session, bundle: str, most: int) -> Iterator[Decision]:
    wanted = sa.select(decisions, candidates).join(candidates, candidates.c.request == decisions.c.request)
    wanted = wanted.where(decisions.c.bundle == bundle, candidates.c.masks.is_(None)).order_by(decisions.c.time.desc(), decisions.c.request)
    with session.reading() as connection:
        for row in connection.execute(wanted.limit(most).execution_options(yield_per=100)):
            yield to_decision(row, (), row)
