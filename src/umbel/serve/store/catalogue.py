"""Users or items as the service knows them: raw id, attributes, and when they were last written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import sqlalchemy as sa

from umbel.serve.records import Known
from umbel.serve.store.append import MOST, chunks
from umbel.serve.store.facts import get, put_in
from umbel.serve.store.rows import known_row, to_known
from umbel.serve.store.session import Session

DELETED = "deleted"  # the fact whose content is another one after each deletion of a personal id


@final
@dataclass(frozen=True, slots=True)
class Catalogue:
    """One table of ids and attributes; `personal` ids leave no byte behind when they are deleted."""

    session: Session
    table: sa.Table
    personal: bool = False

    def put(self, known: Sequence[Known]) -> None:
        """Write them whole, durably; of two of one id the later in time stays, whichever comes first, and of one time the last."""
        place = self.session.place
        last = {one.id: one for one in sorted(known, key=lambda one: one.time)}
        rows = [known_row(last[one]) for one in sorted(last)]  # by id, so that two who write the same do not wait for each other
        insert = place.insert(self.table)
        given = insert.excluded
        statement = insert.on_conflict_do_update(
            index_elements=["id"], set_={"fields": given.fields, "time": given.time}, where=self.table.c.time <= given.time
        )
        if rows:
            self.session.write(lambda connection: connection.execute(statement, rows))

    def get(self, ids: Sequence[str]) -> dict[str, Known]:
        """Those of them that are known."""
        columns = self.table.c
        with self.session.reading() as connection:
            found = [
                row for some in chunks(ids) for row in connection.execute(sa.select(self.table).where(columns.id.in_(some), self._there))
            ]
        return {row.id: to_known(row) for row in found}

    def delete(self, known: str, *, time: int) -> bool:
        """Forget its attributes; whether it was known. Others who hold a copy learn by `changed` which it was, by `mark` that one was."""
        gone = sa.delete(self.table) if self.personal else sa.update(self.table).values(fields=None, time=time)

        def deleted(connection: sa.Connection) -> bool:
            found = connection.execute(gone.where(self.table.c.id == known, self._there)).rowcount > 0
            if found and self.personal:
                put_in(connection, self.session.place, name=DELETED, content={"last": secrets.token_hex(8)})
            return found

        found = self.session.write(deleted)
        if self.personal:
            self.session.place.write_back(self.session.engine)
        return found

    def all(self) -> Iterator[Known]:
        """All of them by id, streamed."""
        with self.session.reading() as connection:
            rows = connection.execute(sa.select(self.table).where(self._there).order_by(self.table.c.id).execution_options(yield_per=MOST))
            yield from map(to_known, rows)

    def changed(self, since: int) -> tuple[list[Known], list[str]]:
        """Those written at `since` or later, and the ids of those deleted then: none of personal ones."""
        with self.session.reading() as connection:
            rows = list(connection.execute(sa.select(self.table).where(self.table.c.time >= since)))
        return [to_known(row) for row in rows if row.fields is not None], [row.id for row in rows if row.fields is None]

    def mark(self) -> str:
        """What is another text after each deletion of a personal id: who holds copies then forgets all, since nothing says which it was."""
        if not self.personal:
            return ""
        found: str = (get(self.session, DELETED) or {"last": ""})["last"]
        return found

    @property
    def _there(self) -> sa.ColumnElement[bool]:
        return self.table.c.fields.is_not(None)
