"""Where a store may lie, and what is said of each thing that can go wrong there."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from tests import stores

from umbel.errors import UserError
from umbel.serve.records import Event, Result
from umbel.serve.store import Store, UnavailableError, engine, sole
from umbel.serve.store.engine import ConflictError, Postgres, Sqlite, place

NOW = 1_700_000_000_000
SERVER = """
import sys
from umbel.serve.store import sole
with sole(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def event(name: str, size: int = 1) -> Event:
    return Event(id=name, kind="click", item="i" * size, time=NOW, user="u1")


def added(store: Store, name: str, size: int = 1) -> Result:
    return store.record([event(name, size)], received=NOW).result()[0].result


# names


def test_a_path_is_a_file_and_a_url_its_database() -> None:
    assert isinstance(place("umbel.db"), Sqlite)
    assert place("a/b.db").where == "a/b.db"
    found = place("sqlite:////data/b.db")
    assert isinstance(found, Sqlite)
    assert found.path == Path("/data/b.db")
    for url in ("postgresql://host/db", "postgres://host/db", "postgresql+psycopg://host/db"):
        assert isinstance(place(url), Postgres)


def test_a_password_is_never_said() -> None:
    found = place("postgresql://me:secret@host:5432/db")
    assert found.where == "postgresql://me:***@host:5432/db"


@pytest.mark.parametrize(
    ("url", "what"), [("mysql://host/db", "mysql: no such store"), ("sqlite://", "sqlite: no such store"), ("://x", "is not one")]
)
def test_another_database_is_refused(url: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        place(url)


def test_a_store_makes_the_folders_of_its_file(tmp_path: Path) -> None:
    with Store(tmp_path / "a" / "b" / "umbel.db") as store:
        assert added(store, "e") is Result.ACCEPTED
    assert (tmp_path / "a" / "b" / "umbel.db").exists()


# files that are no store


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\n" * 200)
    with pytest.raises(UserError, match=r"log\.csv: is no store; name the file that `umbel serve` made"):
        Store(path)
    assert path.read_text() == "user,item\n" * 200


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        Store(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not writable"):
        Store(tmp_path / "file" / "umbel.db")


def test_a_closed_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", closed)
    with pytest.raises(UserError, match="not writable"):
        Store(tmp_path / "umbel.db")


# failures while it is open


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """SQLite's own limit of pages gives the error of a full disk."""
    with Store(tmp_path / "umbel.db") as store:
        assert added(store, "first") is Result.ACCEPTED

        def limit(connection: sqlite3.Connection, pages: int) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

        store.session.engine.dispose()
        sa.event.listen(store.session.engine, "connect", lambda connection, _: limit(connection, 30))
        names = [f"e{number}" for number in range(400)]
        accepted: list[str] = []
        with pytest.raises(UnavailableError, match=r"umbel\.db: the disk is full; free some space; all that was acknowledged is there"):
            for name in names:
                assert added(store, name, 200) is Result.ACCEPTED
                accepted += [name]
        assert 0 < len(accepted) < len(names)
        store.session.engine.dispose()
        sa.event.listen(store.session.engine, "connect", lambda connection, _: limit(connection, 100_000))
        assert {one.id for one in store.history("u1")} == {"first", *accepted}
        assert [added(store, name, 200) for name in ("first", accepted[0])] == [Result.REJECTED, Result.DUPLICATE]
        assert added(store, "later") is Result.ACCEPTED


def test_a_locked_file_is_waited_for_then_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT", 50)
    with Store(tmp_path / "umbel.db") as store:
        other = sqlite3.connect(tmp_path / "umbel.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="another process writes to it, for too long; try again"):
            added(store, "e")
        assert store.history("u1") == []  # reading goes on
        other.execute("COMMIT")
        other.close()
        assert added(store, "e") is Result.ACCEPTED


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "umbel.db"
    with Store(path) as store:
        store.record([event(f"e{number}", 200) for number in range(500)], received=NOW).result()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(UserError, match=r"umbel\.db: is damaged; restore it from a copy"):
        Store(path)


def test_failures_of_ours_stay_what_they_are(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store, pytest.raises(sa.exc.IntegrityError), store.session.writing() as connection:
        connection.execute(sa.text("INSERT INTO facts (name, content) VALUES ('a', NULL)"))


def test_a_write_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store, store.session.writing() as connection:
        names = ("journal_mode", "synchronous", "secure_delete")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}
    assert found == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


# one server a file


def test_a_second_server_on_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "umbel.db"
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError) as caught, sole(str(path)):
        pass
    assert str(caught.value) == (
        f"{path}: another server ({process.pid}) uses it; stop that one, or give this one a store of its own or a PostgreSQL database"
    )
    with Store(path) as store:  # its workers, and verbs that read
        assert added(store, "e") is Result.ACCEPTED
    process.communicate("")
    with sole(str(path)):
        pass


def test_a_killed_server_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "umbel.db"
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    with sole(str(path)):
        pass


def test_several_servers_may_share_a_database() -> None:
    with sole("postgresql://host/db"), sole("postgresql://host/db"):
        pass


# PostgreSQL gone and back


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Server]:
    if why := stores.absent():
        pytest.skip(why)
    if stores.programs() is None:
        pytest.skip("a server that is not ours is not stopped")
    with stores.folder() as place, stores.server(place) as made:
        yield made


def test_a_server_that_goes_and_comes_back(server: stores.Server) -> None:
    with Store(stores.database(server.base)) as store:
        assert added(store, "before") is Result.ACCEPTED
        server.stop()
        for _ in range(2):
            with pytest.raises(UnavailableError, match=r"the server does not answer \(.*\); see that it runs"):
                added(store, "while")
        with pytest.raises(UnavailableError, match="the server does not answer"):
            store.history("u1")
        server.start()
        assert added(store, "while") is Result.ACCEPTED
        assert added(store, "before") is Result.DUPLICATE
        assert {one.id for one in store.history("u1")} == {"before", "while"}


@pytest.mark.parametrize(("database", "options", "found"), [
    ("off", "", "on"), ("on", "", "on"), ("local", "", "local"), ("remote_apply", "", "remote_apply"),
    ("on", " -c synchronous_commit=off", "off"), ("off", " -c work_mem=4MB", "on"),
])  # fmt: skip
def test_a_commit_waits_for_the_disk_whatever_the_database_says(server: stores.Server, database: str, options: str, found: str) -> None:
    import psycopg

    with psycopg.connect(server.base, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE postgres SET synchronous_commit = {database}")
    url = sa.make_url(stores.database(server.base))
    asked = url.update_query_dict({"options": f"{url.query['options']}{options}"})
    with Store(asked.render_as_string(hide_password=False)) as store:
        for transaction in (store.session.writing, store.session.reading):
            with transaction() as connected:
                assert connected.exec_driver_sql("SHOW synchronous_commit").scalar_one() == found
                assert str(connected.exec_driver_sql("SHOW search_path").scalar_one()).startswith("umbel_")


LIMITS = ("lock_timeout", "statement_timeout")


def limits(place: str) -> dict[str, list[str]]:
    """What limits a transaction that writes, and one that reads."""
    with Store(place) as store:
        found = {}
        for name, transaction in (("writes", store.session.writing), ("reads", store.session.reading)):
            with transaction() as connected:
                found[name] = [str(connected.exec_driver_sql(f"SHOW {one}").scalar_one()) for one in LIMITS]
    return found


def test_nothing_waits_for_ever_for_a_server(server: stores.Server) -> None:
    plain = stores.database(server.base)
    assert limits(plain) == {"writes": ["10s", "1min"], "reads": ["10s", "0"]}
    url = sa.make_url(plain)
    own = url.update_query_dict({"options": f"{url.query['options']} -c lock_timeout=3s -c statement_timeout=4s"})
    assert limits(own.render_as_string(hide_password=False)) == {"writes": ["3s", "4s"], "reads": ["3s", "4s"]}


def test_a_server_that_is_gone_without_a_word_is_given_up(server: stores.Server) -> None:
    """By the machine's own network, as libpq is told: a socket file, on which the tests' own server listens, has nothing of it."""
    plain = sa.make_url(stores.database(server.base))
    told = {"connect_timeout": "10", "tcp_user_timeout": "10000", "keepalives_idle": "5", "keepalives_interval": "2"}
    told["keepalives_count"] = "3"
    for url, expected in ((plain, told), (plain.update_query_dict({"tcp_user_timeout": "77"}), {**told, "tcp_user_timeout": "77"})):
        with Store(url.render_as_string(hide_password=False)) as store, store.session.reading() as connected:
            driver: Any = connected.connection.driver_connection
            given = driver.info.get_parameters()
            assert {name: given.get(name) for name in told} == expected


def test_a_lock_is_waited_for_then_said(server: stores.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT", 1_000)
    plain = stores.database(server.base)
    with Store(plain) as store, Store(plain) as other:
        with other.session.writing() as holds:
            holds.execute(sa.text("LOCK TABLE events IN EXCLUSIVE MODE"))
            with pytest.raises(UnavailableError, match=r"another process writes to it, for too long; try again when it has ended"):
                added(store, "e")
            assert store.history("u1") == []  # reading goes on
        assert added(store, "e") is Result.ACCEPTED


def test_a_deadlock_is_done_again_by_whoever_lost_it(server: stores.Server) -> None:
    """Two transactions that take the same two locks in opposite orders: PostgreSQL ends one, which then finds the locks free."""
    met, began = Barrier(2), [0, 0]

    def work(connection: sa.Connection, own: int) -> int:
        began[own] += 1
        for lock in (own, 1 - own):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
            if began[own] == 1 and lock == own:
                met.wait(60)
        return own

    with Store(stores.database(server.base)) as store, ThreadPoolExecutor(2) as pool:
        done = [pool.submit(store.session.write, partial(work, own=own)) for own in range(2)]
        assert [one.result() for one in done] == [0, 1]
    assert sorted(began) == [1, 2]


@pytest.mark.parametrize(("state", "kind", "says"), [
    ("40P01", ConflictError, "another process writes to it, for too long"),
    ("40001", ConflictError, "another process writes to it, for too long"),
    ("55P03", UnavailableError, "another process writes to it, for too long"),
    ("57014", UnavailableError, "the server gave a statement up"),
    ("53100", UnavailableError, "the server has no room"), ("57P01", UnavailableError, "the server does not answer"),
    (None, UnavailableError, "the server does not answer"),
])  # fmt: skip
def test_a_failure_of_postgresql_is_told_by_its_state(state: str | None, kind: type[UnavailableError], says: str) -> None:
    class RefusedError(Exception):
        sqlstate = state

    with pytest.raises(UnavailableError) as caught, place("postgresql://host/db").failures():
        raise sa.exc.OperationalError("INSERT", None, RefusedError("no"))
    assert type(caught.value) is kind
    assert caught.value.what.startswith(f"postgresql://host/db: {says}")


def test_a_statement_is_waited_for_then_said(server: stores.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(stores.database(server.base)) as store:
        monkeypatch.setattr(engine, "HANGS", 50)
        with pytest.raises(UnavailableError, match="the server gave a statement up; see what else"), store.session.writing() as connected:
            connected.execute(sa.text("SELECT pg_sleep(60)"))
        assert added(store, "e") is Result.ACCEPTED
        with store.session.reading() as connected:  # what only reads may take long
            connected.execute(sa.text("SELECT pg_sleep(0.2)"))


def test_a_migration_may_take_long(server: stores.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT", 1_000)
    monkeypatch.setattr(engine, "HANGS", 100)
    with Store(stores.database(server.base)) as store, store.session.writing() as connected:
        assert connected.exec_driver_sql("SHOW statement_timeout").scalar_one() == "100ms"
        store.session.place.begin_migration(connected)
        assert [connected.exec_driver_sql(f"SHOW {one}").scalar_one() for one in LIMITS] == ["0", "0"]


def test_more_who_ask_than_there_are_connections_are_told_so(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store, ExitStack() as held:
        pool = store.session.engine.pool
        pool._timeout = 0.05  # type: ignore[attr-defined]
        with pytest.raises(UnavailableError, match=r"umbel\.db: every connection is in use; see what else it is asked to do"):
            for _ in range(100):
                held.enter_context(store.session.reading())


def test_no_server_at_all(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(UnavailableError) as caught:
        Store(f"postgresql://me:secret@/db?host={tmp_path}")
    assert "the server does not answer" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_is_at_work_while_its_store_is_closed_is_closed_when_it_comes_back(server: stores.Server) -> None:
    store = Store(stores.database(server.base))
    with store.session.reading() as connection:
        own = connection.connection.dbapi_connection
        assert own is not None
        store.close()
        assert not own.closed
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    assert own.closed
