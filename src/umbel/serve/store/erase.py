"""What is taken out of a store: all of one user, or all that is older than a moment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from umbel.serve.store.append import chunks
from umbel.serve.store.catalogue import Catalogue
from umbel.serve.store.facts import ERASED, get, put
from umbel.serve.store.rows import to_json
from umbel.serve.store.session import Session, now
from umbel.serve.store.tables import audit, candidates, decisions, events, shown, users

AT_ONCE = 2_000  # decisions or events of one transaction, so that the service is not kept waiting


@dataclass(frozen=True, slots=True)
class Erased:
    """How many decisions and events are gone; `busy` if a reader kept their bytes in the store's log of changes."""

    decisions: int = 0
    events: int = 0
    busy: bool = False


def erase(session: Session, user: str, *, actor: str = "umbel") -> Erased:
    """Remove a user's attributes, decisions with all that was shown, and events; the audit says that one was erased, not which.

    Events that are sent again afterwards are new. What was collected, ingested or trained before still holds the user: do it again.
    Their bytes are gone from an SQLite file unless somebody reads it meanwhile, and from any store's files after `Place.compact`.
    """
    own = sa.select(decisions.c.request).where(decisions.c.user == user)
    gone = Erased(*_gone(session, decisions.c.user == user, happened=sa.or_(events.c.user == user, events.c.request.in_(own))))
    Catalogue(session, users, personal=True).delete(user, time=now())
    _note(session, "erase", gone, actor=actor)
    return replace(gone, busy=not session.place.write_back(session.engine))


def forget(session: Session, before: int) -> Erased:
    """Remove the decisions and the events of before a moment (retention)."""
    gone = Erased(*_gone(session, decisions.c.time < before, happened=events.c.time < before))
    _note(session, "forget", gone, actor="umbel")
    return gone


def _gone(session: Session, decided: sa.ColumnElement[bool], *, happened: sa.ColumnElement[bool]) -> tuple[int, int]:
    """Remove some at a time; the numbers of decisions and events removed. Events first: they may be found by their decisions."""
    came = _repeated(session, [events], happened)
    return _repeated(session, [shown, candidates, decisions], decided), came


def _repeated(session: Session, tables: list[sa.Table], condition: sa.ColumnElement[bool]) -> int:
    """Remove, from each of the tables, the rows of the keys that satisfy a condition on the last of them."""
    last = tables[-1]
    (key,) = last.primary_key.columns

    def some_removed(connection: sa.Connection) -> int:
        chosen = list(connection.execute(sa.select(key).where(condition).limit(AT_ONCE)).scalars())
        for some in chunks(chosen):
            for table in tables:
                connection.execute(sa.delete(table).where(table.c[key.name].in_(some)))
        return len(chosen)

    total = 0
    while found := session.write(some_removed):
        total += found
    return total


def _note(session: Session, action: str, gone: Erased, *, actor: str) -> None:
    """Count it, so that what was collected before is known to be older; the audit names nobody."""
    known = get(session, ERASED) or {"times": 0}
    put(session, ERASED, {"times": known["times"] + 1})
    with session.writing() as connection:
        detail = to_json({"decisions": gone.decisions, "events": gone.events})
        connection.execute(sa.insert(audit).values(time=now(), actor=actor, action=action, detail=detail))
