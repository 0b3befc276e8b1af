"""What lies around a store: moments, what its verbs say, steps of its schema, and failures of its engine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.told import RULES, decision, event

from umbel.errors import UserError
from umbel.feedback import duration
from umbel.serve.store import Store, UnavailableError, upkeep
from umbel.serve.store.engine import MENDS, PRAGMAS, Sqlite, place
from umbel.serve.store.tables import METADATA
from umbel.serve.store.writer import Writer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "umbel.db", window=0) as made:
        yield made


# moments, and what the verbs say


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1970-01-01", 0),
        ("1970-01-02", 86_400_000),
        ("19700102", 86_400_000),
        ("1970-01-01T01:00:00", 3_600_000),
        ("1970-01-01 00:00:01.5", 1_500),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00-02:30", 9_000_000),
        ("1969-12-31T23:59:59", -1_000),
    ],
)
def test_a_moment_is_in_utc_unless_it_says_otherwise(text: str, found: int) -> None:
    assert upkeep.moment(text) == found


@pytest.mark.parametrize("age", ["0ms", "90d", "1.5h", " 2 m "])
def test_an_age_is_before_now(age: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "now", lambda: 10**13)
    assert upkeep.moment(age) == 10**13 - duration(age)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "2024-02-30", "01/02/2024", "90", "-3d"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^--before: "):
        upkeep.moment(text)


@pytest.mark.parametrize("verb", ["erase", "forget", "collect"])
def test_no_verb_makes_a_store(tmp_path: Path, verb: str) -> None:
    path = tmp_path / "none.db"
    calls: dict[str, Callable[[], object]] = {
        "erase": lambda: upkeep.erase_user(str(path), "u1"), "forget": lambda: upkeep.erase_older(str(path), "90d"),
        "collect": lambda: list(upkeep.collect_log(str(path), tmp_path / "log.parquet")),
    }  # fmt: skip
    with pytest.raises(UserError, match=r"none\.db: no such store; name the file that `umbel serve` made"):
        calls[verb]()
    assert not list(tmp_path.iterdir())


def test_erasing_says_how_many_and_again_none(store: Store) -> None:
    store.log(decision("r1", "i1")).result()
    store.log(decision("r2", "i1", user="u2")).result()
    store.record([event("a"), event("b", user=None, request="r1"), event("c", user="u2")], received=200).result()
    end = "erased; logs, tables and bundles that were made before hold them"
    assert upkeep.erase_user(store.where, "u1") == f"{store.where}: 1 decision and 2 events {end}"
    assert upkeep.erase_user(store.where, "u1") == f"{store.where}: 0 decisions and 0 events {end}"
    assert upkeep.erase_older(store.where, "1970-01-02") == f"{store.where}: 1 decision and 1 event {end}"


def test_collecting_says_rows_labels_and_orphans(store: Store, tmp_path: Path) -> None:
    store.declare(RULES)
    for number, item in enumerate(("i1", "i2", "i3")):
        store.log(decision(f"r{number}", item, time=100)).result()
    store.record([event("a"), event("b", "none"), event("z", "i1", time=5_000)], received=5_000).result()
    out = tmp_path / "log.parquet"
    lines = list(upkeep.collect_log(store.where, out))
    assert lines == [f"{out}: 3 rows", "  click: 3 labels, 1 above 0, 1 corrected late", "  1 event belongs to nothing that was shown"]


# the schema and the engine


@pytest.mark.parametrize("revision", ["0004", "9999", "x"])
def test_a_schema_that_is_not_known_is_a_newer_ones(store: Store, revision: str) -> None:
    with store.session.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :one"), {"one": revision})
    with pytest.raises(UserError, match=f"its schema '{revision}' is newer than this umbel; upgrade umbel, or name another store"):
        Store(store.where)


def test_a_new_store_has_every_table_and_is_stamped(store: Store) -> None:
    found = sqlite3.connect(store.where)
    names = {name for (name,) in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert set(METADATA.tables) <= names
    assert found.execute("SELECT version_num FROM alembic_version").fetchall() == [("0003",)]
    found.close()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1), ("cache_size", -65536), ("wal_autocheckpoint", 8192)],
)
def test_every_connection_is_prepared(store: Store, pragma: str, value: object) -> None:
    assert any(pragma in one for one in PRAGMAS)
    with store.session.reading() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


@pytest.mark.parametrize(("code", "what"), [(code, what) for code, (what, _) in MENDS.items()])
@pytest.mark.parametrize("detail", [0, 1 << 8, 3 << 8])
def test_a_failure_is_told_by_its_code_without_its_details(code: int, what: str, detail: int) -> None:
    cause = sqlite3.OperationalError("x")
    cause.sqlite_errorcode = code | detail
    where = place("a.db")
    assert isinstance(where, Sqlite)
    with pytest.raises(UnavailableError) as caught, where.failures():
        raise sa.exc.OperationalError("SELECT", None, cause)
    assert (caught.value.what, caught.value.mend) == (f"a.db: {what}", MENDS[code][1])


def test_a_failure_that_is_ours_stays_what_it_is() -> None:
    with pytest.raises(sa.exc.OperationalError), place("a.db").failures():
        raise sa.exc.OperationalError("SELECT", None, sqlite3.OperationalError("no such table: x"))


def test_a_closed_writer_refuses_and_closing_twice_is_nothing() -> None:
    made: Writer[int, int] = Writer(lambda jobs: [job + 1 for job in jobs], where="here", window=0)
    future = made.add(1)
    made.close()
    made.close()
    assert future.result(0) == 2
    with pytest.raises(UnavailableError, match=r"^here: the store is closed; open it again$"):
        made.add(2)
