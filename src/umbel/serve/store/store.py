"""The store as the service uses it: add what happened, durably; read what is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from operator import attrgetter
from pathlib import Path
from typing import final

import sqlalchemy as sa

from umbel.data.columns import Types
from umbel.feedback import SKEW, Feedback
from umbel.serve.records import Decision, Event, Outcome, Value, wrong_decision
from umbel.serve.store.append import Append, append
from umbel.serve.store.catalogue import Catalogue
from umbel.serve.store.erase import Erased, erase, forget
from umbel.serve.store.facts import declare, declared, note_in
from umbel.serve.store.rows import to_decision, to_event
from umbel.serve.store.session import Session, now
from umbel.serve.store.tables import audit, candidates, decisions, events, items, shown, users
from umbel.serve.store.writer import WINDOW, Writer

Answer = tuple[Outcome, ...]


@final
class Store:
    """An open store: a path makes or opens an SQLite file, a `postgresql://` URL a database.

    What is added is durable when its future has a result: requests of one moment share a transaction. Threads may share a store;
    processes open one each.

    :raises UserError: if it is no store or a newer one's; UnavailableError: if it cannot be reached now.

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, Store(f"{folder}/umbel.db") as store:
    ...     sent = Event(id="e1", kind="click", item="i1", user="u1", time=5)
    ...     [store.record([sent]).result()[0].result.value for _ in range(2)]
    ['accepted', 'duplicate']
    """

    def __init__(self, store: str | Path, *, window: float = WINDOW) -> None:
        self._session = Session(str(store))
        where, size = self._session.place.where, attrgetter("held")
        self._writer: Writer[Append, Answer] = Writer(self._write, where=where, window=window, size=size)
        self.users = Catalogue(self._session, users, personal=True)
        self.items = Catalogue(self._session, items)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def where(self) -> str:
        """Its path, or its URL without the password."""
        return self._session.place.where

    @property
    def session(self) -> Session:
        """Its connections, for what reads or writes much at once."""
        return self._session

    @property
    def busy(self) -> float:
        """The seconds that what is being written has taken so far; 0 where nothing is."""
        return self._writer.busy

    def log(self, decision: Decision) -> Future[Answer]:
        """Keep a decision; one of the same request id that is there already stays as it is.

        :raises ValueError: if it cannot be kept: its maker should have refused the request.
        """
        if wrong := wrong_decision(decision):
            raise ValueError(f"decision {decision.request!r}: {wrong}")
        return self._writer.add(Append(decisions=(decision,)))

    def record(self, sent: Sequence[Event], *, received: int | None = None, skew: int = SKEW) -> Future[Answer]:
        """Keep events that arrived at `received` (now): in any order, late, again; one outcome for each, in their order.

        Their clocks may be ahead by `skew` milliseconds. An event of a request that is not known is kept, since that may come later.
        """
        arrived = now() if received is None else received
        return self._writer.add(Append(events=tuple(sent), received=arrived, skew=skew))

    def decision(self, request: str) -> Decision | None:
        """A decision as it was logged."""
        with self._session.reading() as connection:
            row = connection.execute(sa.select(decisions).where(decisions.c.request == request)).one_or_none()
            if row is None:
                return None
            places = connection.execute(sa.select(shown).where(shown.c.request == request)).all()
            chosen = connection.execute(sa.select(candidates).where(candidates.c.request == request)).one_or_none()
        return to_decision(row, places, chosen)

    def history(self, user: str, *, since: int = 0, most: int = 1_000) -> list[Event]:
        """A user's events from `since` on, the latest first: those that name the user, or one of the user's `most` latest decisions."""
        own = sa.select(decisions.c.request).where(decisions.c.user == user).order_by(decisions.c.time.desc()).limit(most)
        found: dict[str, Event] = {}
        with self._session.reading() as connection:
            for whose in (events.c.user == user, events.c.request.in_(own)):  # each by an index of its own
                wanted = sa.select(events).where(whose, events.c.time >= since).order_by(events.c.time.desc(), events.c.id).limit(most)
                found |= {row.id: to_event(row) for row in connection.execute(wanted)}
        return sorted(found.values(), key=lambda one: (-one.time, one.id))[:most]

    def seen(self, user: str, *, since: int = 0) -> set[str]:
        """The items that were shown to a user from `since` on."""
        joined = shown.join(decisions, shown.c.request == decisions.c.request)
        wanted = sa.select(shown.c.item).select_from(joined).where(decisions.c.user == user, decisions.c.time >= since)
        with self._session.reading() as connection:
            return set(connection.execute(wanted).scalars())

    def popular(self, kinds: Sequence[str], *, since: int, most: int) -> list[tuple[str, int]]:
        """The items with the most events of these kinds from `since` on, with their number; of equally many, by id."""
        count = sa.func.count().label("number")
        wanted = sa.select(events.c.item, count).where(events.c.kind.in_(kinds), events.c.time >= since).group_by(events.c.item)
        with self._session.reading() as connection:
            return [(row.item, row.number) for row in connection.execute(wanted.order_by(count.desc(), events.c.item).limit(most))]

    def declare(self, feedback: Feedback, columns: Types | None = None) -> None:
        """Tell the store the rules of its labels, and the raw columns that a log of it is to have.

        :raises UserError: for a rule that cannot be computed.
        """
        declare(self._session, feedback, columns)

    @property
    def feedback(self) -> Feedback:
        """The rules of its labels; :raises UserError: if none were given yet."""
        return declared(self._session)

    def erase(self, user: str, *, actor: str = "umbel") -> Erased:
        """Remove all of a user; the audit says who asked for it. `compact` makes their bytes go from any store's files."""
        return erase(self._session, user, actor=actor)

    def forget(self, before: int) -> Erased:
        """Remove the decisions and the events of before a moment."""
        return forget(self._session, before)

    def compact(self) -> None:
        """Rewrite the files without what was deleted; :raises UnavailableError: if someone reads them for too long."""
        self._session.place.compact(self._session.engine)

    def note(self, actor: str, action: str, detail: Mapping[str, Value]) -> None:
        """Add a line to the audit: who did what, and why."""
        with self._session.writing() as connection:
            note_in(connection, actor, action, detail=detail)

    def notes(self, most: int = 100) -> list[tuple[int, str, str, dict[str, Value]]]:
        """The latest lines of the audit, the latest first: time, actor, action, detail."""
        with self._session.reading() as connection:
            rows = connection.execute(sa.select(audit).order_by(audit.c.number.desc()).limit(most)).all()
        return [(row.time, row.actor, row.action, json.loads(row.detail)) for row in rows]

    def close(self) -> None:
        """Write what was asked for, then give all connections back."""
        self._writer.close()
        self._session.close()

    def _write(self, asked: Sequence[Append]) -> list[Answer]:
        return self._session.write(lambda connection: append(connection, self._session.place, asked))
