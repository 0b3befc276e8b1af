"""What a log will hold, found before its first row is written: the types of its columns, for memory that does not grow with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from umbel.data.columns import Types
from umbel.serve.store.forms import NOTHING, Form, all_whole, widen
from umbel.serve.store.session import Session
from umbel.serve.store.tables import decisions, shown

SOME = 10_000  # rows fetched at a time
EMPTY = "{}"   # no fields


@dataclass(frozen=True, slots=True)
class Survey:
    """The logged fields with their types, the names of predictions, and whether ids are whole numbers.

    `untold` are the columns that a training reads and nobody told a value of, in the types of the training before.
    """

    forms: dict[str, Form] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    users_whole: bool = True
    items_whole: bool = True
    untold: Types = field(default_factory=dict)


def survey(session: Session, until: int, *, columns: Types | None = None) -> Survey:
    """The log of the decisions up to a time, which has those columns whatever was told."""
    before = decisions.c.time <= until
    of_shown = sa.select(shown.c.item, shown.c.fields).join(decisions, decisions.c.request == shown.c.request).where(before)
    forms: dict[str, Form] = {}
    outputs: dict[str, None] = {}
    with session.reading() as connection:
        users = sa.select(decisions.c.user).where(before, decisions.c.user.is_not(None)).distinct()
        users_whole = all_whole(user for (user,) in _streamed(connection, users))
        for (text,) in _streamed(connection, sa.select(decisions.c.outputs).where(before).distinct()):
            outputs |= dict.fromkeys(json.loads(text))
        for (text,) in _streamed(connection, sa.select(decisions.c.fields).where(before)):
            widen(forms, json.loads(text))
        items_whole = True
        for item, text in _streamed(connection, of_shown):
            items_whole = items_whole and all_whole([item])
            if text != EMPTY:
                widen(forms, json.loads(text))
    untold = {name: kind for name, kind in (columns or {}).items() if forms.get(name, NOTHING) == NOTHING}
    told = {name: form for name, form in sorted(forms.items()) if name not in untold}
    return Survey(told, tuple(sorted(outputs)), users_whole, items_whole, untold)


def _streamed(connection: sa.Connection, wanted: sa.Select[Any]) -> Iterator[tuple[str, ...]]:
    with connection.execute(wanted.execution_options(yield_per=SOME)) as rows:
        for row in rows:
            yield tuple(row)
