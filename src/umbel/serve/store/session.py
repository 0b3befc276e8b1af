"""The connections of one open store: transactions that write, and snapshots to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, final

import sqlalchemy as sa

from umbel.serve.store.engine import ConflictError, Place, place
from umbel.serve.store.migrate import migrate

AGAIN = 4  # times that a transaction is done again which others were in the way of
Done = TypeVar("Done")


@final
class Session:
    """A place, opened and brought to this version's schema.

    :raises UserError: if it is no store or a newer one's; UnavailableError: if it cannot be reached now.
    """

    def __init__(self, store: str) -> None:
        self.place: Place = place(store)
        self.engine = self.place.engine()
        self._writes = self.engine.execution_options(writes=True)
        self._reads = self.place.snapshots(self.engine)
        try:
            with self.writing() as connection:
                self.place.begin_migration(connection)
                migrate(connection, where=self.place.where)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction; durable after the block, undone if that fails.

        :raises UnavailableError: if it cannot be done now.
        """
        with self.place.failures(), self._writes.begin() as connection:
            yield connection

    def write(self, work: Callable[[sa.Connection], Done]) -> Done:
        """Do all of some work in a transaction, again where other processes' were in its way; durable when it returns.

        :raises UnavailableError: if it cannot be done now.
        """
        for _ in range(AGAIN):
            with suppress(ConflictError), self.writing() as connection:
                return work(connection)
        with self.writing() as connection:
            return work(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A view of one moment, whatever others write meanwhile.

        :raises UnavailableError: if it cannot be read now.
        """
        with self.place.failures(), self._reads.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections; one that is still at work, for somebody who no longer waits for it, as soon as it comes back."""
        sa.event.listen(self.engine, "checkin", _closed)
        self.engine.dispose()


def now() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def _closed(connection: Any, _: object) -> None:  # noqa: ANN401
    if connection is not None:
        connection.close()
