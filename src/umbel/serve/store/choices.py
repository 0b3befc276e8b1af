"""What every decision chose from, as the file that a fusion is learned from: streamed, a page of decisions at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import sqlalchemy as sa

from umbel import durable
from umbel.fuse.choices import CHOICES
from umbel.serve.records import Candidates, Decision
from umbel.serve.store.sampled import whole
from umbel.serve.store.session import Session
from umbel.serve.store.tables import candidates, decisions

SOME = 500  # decisions at a time


def write_choices(session: Session, out: Path) -> int:
    """Write the file whole or not at all; how many decisions are in it: those that have candidates, without masks of their own.

    :raises UserError: if the place is not writable.
    """
    rows = 0
    with durable.file(out) as made, pq.ParquetWriter(made, CHOICES.to_frame().to_arrow().schema) as writer:
        for page in _pages(session):
            frame = pl.DataFrame([_row(one, one.candidates) for one in page if one.candidates is not None], schema=CHOICES, orient="row")
            writer.write_table(frame.to_arrow())
            rows += frame.height
    return rows


def _row(one: Decision, chosen: Candidates) -> tuple[object, ...]:
    places = {item: place for place, item in enumerate(chosen.items)}
    predictions, fused = chosen.predictions.ravel().tolist(), chosen.fused.tolist()
    at, chances = [places[each.item] for each in one.shown], [each.propensity for each in one.shown]
    return one.request, one.bundle, one.temperature, list(one.outputs), predictions, fused, at, chances


def _pages(session: Session) -> Iterator[list[Decision]]:
    last = ""
    while True:
        wanted = sa.select(candidates).where(candidates.c.request > last, candidates.c.masks.is_(None)).order_by(candidates.c.request)
        with session.reading() as connection:
            chosen = {row.request: row for row in connection.execute(wanted.limit(SOME))}
            if not chosen:
                return
            last = max(chosen)
            decided = connection.execute(sa.select(decisions).where(decisions.c.request.in_(list(chosen)))).all()
            page = whole(connection, sorted(decided, key=lambda row: str(row.request)), chosen)
        yield page
