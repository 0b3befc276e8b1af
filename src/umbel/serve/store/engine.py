"""Where a store lies: an SQLite file or a PostgreSQL database, opened, and their failures in one line."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from umbel import durable
from umbel.errors import UserError
from umbel.lock import HeldError
from umbel.serve.store.tables import METADATA

Insert = sqlite.Insert | postgresql.Insert
WAIT = 10_000       # milliseconds that a write waits for another process's, and anything for a server that says nothing
HANGS = 60_000      # milliseconds after which a statement that writes is given up
MIGRATION = 0x756D  # the number of the lock that two servers of one database take in turn when they open it
OTHER = "stop that one, or give this one a store of its own or a PostgreSQL database"
EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"
LOCKED, CANCELLED = "55P03", "57014"  # PostgreSQL's SQLSTATE of a lock, and of a statement, that was waited for too long
CONFLICTS = ("40P01", "40001")        # of a deadlock, and of transactions that cannot both have been
UNLESS_LIMITED = "SELECT set_config('{0}', '{1}', {2}) WHERE current_setting('{0}') = '0'"  # by database, user or URL
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",            # a commit is on the disk
    "secure_delete = ON",            # what is deleted is overwritten
    "cache_size = -65536",           # KiB
    "wal_autocheckpoint = 8192",     # pages: fewer, larger write-backs than by default
    "journal_size_limit = 67108864",  # bytes that the log keeps of the disk once it is written back
)
BUSY = "another process writes to it, for too long", "try again when it has ended"
MENDS = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space; all that was acknowledged is there"),
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_READONLY: ("not writable", "choose a file you may write to"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "name a file in a folder you may write to"),
    sqlite3.SQLITE_NOTADB: ("is no store", "name the file that `umbel serve` made, or a new one"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "restore it from a copy"),
}


class UnavailableError(UserError):
    """The store cannot be read or written now; nothing that was acknowledged is lost."""


class ConflictError(UnavailableError):
    """A transaction that others were in the way of: it was undone, and may be done again."""


class Place(ABC):
    """One kind of database: how it is opened, and what only it does."""

    where: str           # for messages; without password
    mark: ClassVar[str]  # of a value in the driver's own SQL

    @abstractmethod
    def engine(self) -> sa.Engine:
        """Connections; a transaction under the option `writes` may write."""

    @abstractmethod
    def snapshots(self, engine: sa.Engine) -> sa.Engine:
        """The same connections; a transaction sees one moment."""

    @abstractmethod
    def insert(self, table: sa.Table) -> Insert:
        """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""

    def insert_many(self, connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert plain rows in the order of the table's columns, past what SQLAlchemy does for each."""
        quote = connection.dialect.identifier_preparer.quote
        names, marks = ", ".join(quote(column.name) for column in table.columns), ", ".join(self.mark for _ in table.columns)
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(rows))

    @abstractmethod
    def begin_migration(self, connection: sa.Connection) -> None:
        """Let nobody else change the schema until this transaction ends."""

    @abstractmethod
    def write_back(self, engine: sa.Engine) -> bool:
        """Leave no byte of what was deleted in a log of changes beside the tables; False where somebody still reads it."""

    @abstractmethod
    def compact(self, engine: sa.Engine) -> None:
        """Rewrite the files, so that no byte of what was deleted is left in them."""

    @abstractmethod
    def why(self, error: DBAPIError) -> tuple[str, str] | None:
        """What is wrong and its mend, if the user or the surroundings can be to blame."""

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn the failures of a database under the block into `UnavailableError`."""
        try:
            yield
        except DBAPIError as error:
            why = self.why(error)
            if why is None:
                raise
            kind = ConflictError if _state(error) in CONFLICTS else UnavailableError
            raise kind(f"{self.where}: {why[0]}", mend=why[1]) from error
        except sa.exc.TimeoutError as error:
            raise UnavailableError(f"{self.where}: every connection is in use", mend="see what else it is asked to do") from error


@final
class Sqlite(Place):
    """One file, with its write-ahead log beside it; an acknowledged write is on the disk."""

    mark = "?"

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)

    def engine(self) -> sa.Engine:
        """Connections that begin their transactions themselves, since Python's driver would begin them late."""
        with durable.disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(f"sqlite:///{self.path}", connect_args={"timeout": WAIT / 1000})
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def snapshots(self, engine: sa.Engine) -> sa.Engine:
        """As they are: SQLite shows nothing else."""
        return engine

    def insert(self, table: sa.Table) -> Insert:
        """SQLite's own insert."""
        return sqlite.insert(table)

    def begin_migration(self, connection: sa.Connection) -> None:
        """Nothing: a transaction that may write has the file for itself."""

    def write_back(self, engine: sa.Engine) -> bool:
        """The write-ahead log emptied; in the file, deleted content was overwritten with zeros before (`secure_delete`)."""
        return self._run(engine, EMPTY_LOG)

    def compact(self, engine: sa.Engine) -> None:
        """VACUUM between two times of emptying the write-ahead log."""
        if not self._run(engine, EMPTY_LOG, "VACUUM", EMPTY_LOG):
            raise UnavailableError(f"{self.where}: its write-ahead log is being read", mend="run it again when the reader has ended")

    def _run(self, engine: sa.Engine, *statements: str) -> bool:
        """Run statements outside of a transaction; whether the last was not in somebody's way."""
        with engine.connect() as connection, self.failures():
            cursor = connection.connection.cursor()
            for statement in statements:
                cursor.execute(statement)
                busy = cursor.fetchone()
            return busy is None or not busy[0]

    def why(self, error: DBAPIError) -> tuple[str, str] | None:
        """By SQLite's result code, without its details."""
        code = getattr(error.orig, "sqlite_errorcode", 0)
        return MENDS.get(code & 0xFF)


@final
class Postgres(Place):
    """A PostgreSQL database; an acknowledged write is on its disk, unless the URL's own options say otherwise."""

    mark = "%s"

    def __init__(self, url: sa.URL) -> None:
        self.url, self.where = url.set(drivername="postgresql+psycopg"), url.render_as_string(hide_password=True)

    def engine(self) -> sa.Engine:
        """Connections, tried before use, so that a server that went and came back is met by a new one.

        None waits for ever, for a server that is gone without a word, a lock, or what it writes; a URL may set other limits.
        """
        seconds = WAIT // 1000
        told = {
            "connect_timeout": seconds, "tcp_user_timeout": WAIT, "keepalives_idle": seconds // 2, "keepalives_interval": 2,
            "keepalives_count": 3,
        }  # fmt: skip
        given = {name: value for name, value in told.items() if name not in self.url.query}
        try:
            engine = sa.create_engine(self.url, pool_pre_ping=True, pool_timeout=seconds, connect_args=given)
        except ModuleNotFoundError as error:
            raise UserError(f"{self.where}: PostgreSQL needs {error.name}", mend="pip install 'umbel[postgres]'") from None
        if "synchronous_commit" not in str(self.url.query.get("options", "")):
            sa.event.listen(engine, "connect", _commit_to_disk)
        sa.event.listen(engine, "connect", _locks)
        sa.event.listen(engine, "begin", _statements)
        return engine

    def snapshots(self, engine: sa.Engine) -> sa.Engine:
        """Transactions of repeatable reads."""
        return engine.execution_options(isolation_level="REPEATABLE READ")

    def insert(self, table: sa.Table) -> Insert:
        """PostgreSQL's own insert."""
        return postgresql.insert(table)

    def begin_migration(self, connection: sa.Connection) -> None:
        """A lock of the database, freed with the transaction; another's migration is waited for, and may take as long as ours."""
        for name in ("lock_timeout", "statement_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {name} = 0")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION)))

    def write_back(self, engine: sa.Engine) -> bool:
        """Nothing: the server's own VACUUM takes deleted rows out of its tables, sooner or later; `compact` does it now."""
        return True

    def compact(self, engine: sa.Engine) -> None:
        """VACUUM FULL of the store's own tables; what the server's own log and its backups hold is its administrator's."""
        with self.failures(), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM FULL {', '.join(METADATA.tables)}")

    def why(self, error: DBAPIError) -> tuple[str, str] | None:
        """A lost or refused connection, a full disk, a server that stops, or what was waited for too long."""
        state = _state(error)
        if state in (LOCKED, *CONFLICTS):
            return BUSY
        if state == CANCELLED:
            return "the server gave a statement up", "see what else it is asked to do; the next request tries again"
        if state.startswith("53"):
            return "the server has no room", "free some space; all that was acknowledged is there"
        if error.connection_invalidated or isinstance(error, sa.exc.OperationalError):
            return f"the server does not answer ({_first_line(error.orig)})", "see that it runs; the next request tries again"
        return None


def place(store: str) -> Place:
    """The place that a path or a URL names; :raises UserError: for a URL of another database."""
    if "://" not in store:
        return Sqlite(Path(store))
    try:
        url = sa.make_url(store)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError("the store's URL is not one", mend="write postgresql://USER:PASSWORD@HOST/DATABASE") from None
    if url.get_backend_name() == "sqlite" and url.database:
        return Sqlite(Path(url.database))
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise UserError(f"{url.drivername}: no such store", mend="name a file, or a postgresql:// URL")
    return Postgres(url)


@contextmanager
def sole(store: str) -> Iterator[None]:
    """Be the only server of an SQLite file while the block runs; its worker processes open the store inside. PostgreSQL takes several.

    :raises UserError: if another server has the file.
    """
    where = place(store)
    with ExitStack() as held:
        if isinstance(where, Sqlite):
            try:
                held.enter_context(durable.sole(where.path))
            except HeldError as error:
                raise UserError(f"{where.where}: another server ({error.holder}) uses it", mend=OTHER) from None
        yield


def _state(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def _first_line(error: BaseException | None) -> str:
    return next(iter(str(error).splitlines()), "")


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _commit_to_disk(connection: Any, _: object) -> None:  # noqa: ANN401
    """Wait for the disk at a commit where the database says not to; what waits for more, such as a copy, stays."""
    connection.execute("SELECT set_config(name, 'on', false) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'")
    connection.commit()


def _locks(connection: Any, _: object) -> None:  # noqa: ANN401
    """Wait for no lock longer than for another process's write."""
    connection.execute(UNLESS_LIMITED.format("lock_timeout", WAIT, "false"))
    connection.commit()


def _statements(connection: sa.Connection) -> None:
    """Let no statement of a transaction that writes take for ever; what only reads may take long."""
    if connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql(UNLESS_LIMITED.format("statement_timeout", HANGS, "true"))


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
