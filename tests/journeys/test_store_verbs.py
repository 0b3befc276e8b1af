"""From a service's store to another training, and out of it again: the verbs that read and empty a store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from tests import stores
from tests.journeys.conftest import RUN, say
from umbel.data.simulate import Planted, simulate
from umbel.feedback import Feedback, Rule
from umbel.serve.records import Decision, Event, Known, Rung, Shown
from umbel.serve.store import Store
from umbel.serve.store.tables import METADATA, decisions, events, shown

DAY = 86_400_000
START = 1_704_067_200_000  # 2024-01-01
CANARY = "canary-4711-user"
FEEDBACK = Feedback(rules=(Rule(task="click", window=DAY, positive_when="kind = 'click'"),), lateness=0)


def fill(store: Store, user: str, count: int, *, day: int = 0) -> None:
    """Decisions and clicks of one user."""
    for number in range(count):
        request = f"{user}-{day}-{number}"
        store.log(
            Decision(request=request, user=user, time=START + day * DAY + number, bundle="b", fusion="f", rung=Rung.FULL,
                     shown=(Shown(item=f"i{number % 7}"),), fields={"account": user})
        ).result()  # fmt: skip
        sent = Event(id=f"e-{request}", kind="click", item=f"i{number % 7}", time=START + day * DAY + number, user=user, request=request)
        anonymous = Event(id=f"a-{request}", kind="click", item="x", time=START + day * DAY + number, request=request)
        store.record([sent, anonymous]).result()


# erase


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    for maker in stores.STORES[request.param](tmp_path_factory):
        yield maker()


def rows_with(store: Store, text: str) -> int:
    """How many rows of any table hold a text in any column."""
    found = 0
    with store.session.reading() as connection:
        for table in METADATA.sorted_tables:
            found += sum(any(text in str(value) for value in row) for row in connection.execute(sa.select(table)))
    return found


def test_an_erased_user_is_gone_and_others_are_not(place: str) -> None:
    with Store(place) as store:
        fill(store, CANARY, 30)
        fill(store, "other", 5)
        store.users.put([Known(id=CANARY, fields={"mail": CANARY}, time=1), Known(id="other", time=1)])
        assert rows_with(store, CANARY) > 100
    said = say("erase", CANARY, "--store", place)
    assert (said.code, said.err) == (0, "")
    assert "30 decisions and 60 events erased; logs, tables and bundles that were made before hold them" in said.out
    with Store(place) as store:
        assert rows_with(store, CANARY) == 0
        assert len(store.history("other")) == 10
        assert list(store.users.get(["other", CANARY])) == ["other"]
        assert store.decision("other-0-0") is not None
        ((_, who, what, detail),) = store.notes()
        assert (who, what, detail) == ("umbel", "erase", {"decisions": 30, "events": 60})
    assert "0 decisions and 0 events" in say("erase", CANARY, "--store", place).out


@pytest.mark.parametrize("served", [False, True], ids=["at rest", "while it is served"])
def test_no_byte_of_an_erased_user_is_left(tmp_path: Path, served: bool) -> None:
    """Many rows of other users around, so that pages split and merge; updates leave old versions; a log was collected in between."""
    place = tmp_path / "store" / "umbel.db"
    with Store(place) as store:
        for day in range(3):
            fill(store, "before", 40, day=day)
            fill(store, CANARY, 40, day=day)
            fill(store, f"zz-{day}", 40, day=day)
        for number in range(20):
            store.users.put([Known(id=CANARY, fields={"mail": CANARY * number}, time=number)])
        assert any(CANARY.encode() in one.read_bytes() for one in place.parent.iterdir())
        if served:
            assert say("erase", CANARY, "--store", place).code == 0
            assert not [one.name for one in place.parent.iterdir() if CANARY.encode() in one.read_bytes()]
            assert len(store.history("before")) == 240
    if not served:
        assert say("erase", CANARY, "--store", place).code == 0
    assert not [one.name for one in place.parent.rglob("*") if one.is_file() and CANARY.encode() in one.read_bytes()]
    with Store(place) as store:
        assert len(store.history("zz-2")) == 80


def test_what_is_older_is_forgotten(place: str) -> None:
    with Store(place) as store:
        for day in range(4):
            fill(store, "u", 3, day=day)
    said = say("erase", "--before", "2024-01-03", "--store", place)
    assert (said.code, said.err) == (0, "")
    assert "6 decisions and 12 events erased" in said.out
    with Store(place) as store:
        assert {one.time // DAY - START // DAY for one in store.history("u")} == {2, 3}
        with store.session.reading() as connection:
            for table, rows in ((decisions, 6), (shown, 6), (events, 12)):
                assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == rows
    assert "6 decisions" in say("erase", "--before", "1d", "--store", place).out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["erase", "--store", "{place}"], "erase: name a user, or --before a moment"),
        (["erase", "u", "--before", "1d", "--store", "{place}"], "erase: name a user, or --before a moment"),
        (["erase", "--before", "90days", "--store", "{place}"], "--before: '90days' is no time; write a number and one of ms, s, m, h, d"),
        (["erase", "--before", "soon", "--store", "{place}"], "such as 30m, or a date such as 2025-03-01"),
        (["erase", "u", "--store", "{folder}/none.db"], "none.db: no such store; name the file that `umbel serve` made"),
        (["erase", "u"], "Missing option '--store'"),
        (["collect", "{folder}/none.db", "-o", "{folder}/log.parquet"], "none.db: no such store"),
        (["collect", "{place}", "-o", "{folder}/log.parquet"], "has no rules of labels; serve a bundle whose run file says them, or give"),
        (["collect", "{place}", "-o", "{folder}/log.parquet", "--rules", "{run}"], "run.toml: no task says how events become its label"),
        (["collect", "{place}", "-o", "{folder}/log.parquet", "--pseudonyms", "{folder}/key"], "key: not readable"),
        (["collect", "redis://here", "-o", "{folder}/log.parquet"], "redis: no such store; name a file, or a postgresql:// URL"),
    ],
)
def test_what_a_user_gets_wrong(words: list[str], what: str, tmp_path: Path, run_file: Path) -> None:
    place = tmp_path / "umbel.db"
    Store(place).close()
    said = say(*(word.format(place=place, folder=tmp_path, run=run_file) for word in words))
    assert said.code == 2
    assert what in said.line
    assert not (tmp_path / "none.db").exists()


WITHOUT = """
import sys
sys.modules["{package}"] = None
from umbel.cli import main
main(["erase", "u", "--store", "none.db"])
"""


@pytest.mark.parametrize(
    ("package", "code", "what"),
    [
        ("sqlalchemy", 2, "umbel: sqlalchemy is not installed; pip install 'umbel[serve]'\n"),
        ("alembic", 2, "umbel: alembic is not installed; pip install 'umbel[serve]'\n"),
        ("polars", 1, "a failure of umbel; run again with --debug"),
    ],
)
def test_without_the_packages_of_the_service_one_is_told_to_install_them(package: str, code: int, what: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT.format(package=package)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code
    assert what in done.stderr


# collect


def test_an_interrupted_collection_is_told_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from umbel.serve.store import upkeep

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place = tmp_path / "umbel.db"
    Store(place).close()
    monkeypatch.setattr(upkeep, "collect", interrupted)
    said = say("collect", place, "-o", tmp_path / "log.parquet")
    assert said.code == 130
    assert said.line == "umbel: interrupted; the same command goes on from the last checkpoint"


def test_from_a_store_to_another_training(tmp_path: Path) -> None:
    """A simulated log is served as it was shown, its labels come back as events, and the collected log trains the same model."""
    simulate(Planted(users=60, items=30, rows=1_500, days=6, conflict=0.0, strength=4.0, seed=3), tmp_path)
    log = pl.read_parquet(tmp_path / "log.parquet")
    run = tmp_path / "run.toml"
    rules = {task: f'{{ feedback = {{ window = "1h", positive_when = "kind = \'{task}\'" }} }}' for task in ("click", "like")}
    text = RUN.format(log=tmp_path / "log.parquet").replace("click = { }", f"click = {rules['click']}")
    text = text.replace("like = { }", f"like = {rules['like']}").replace("epochs = 3", "epochs = 1")
    run.write_text(text + '[feedback]\nlateness = "1m"\n')
    place = tmp_path / "umbel.db"
    serve(place, log)
    said = say("collect", place, "-o", tmp_path / "collected.parquet", "--rules", run)
    assert (said.code, said.err) == (0, "")
    found = pl.read_parquet(tmp_path / "collected.parquet")
    assert "click: " in said.out
    assert "corrected late" in said.out
    # The last hour is not settled.
    settled = log.with_row_index("row").filter(pl.col("time_ms") + 3_660_000 <= log["time_ms"].max())
    assert found.height == settled.height
    assert found.columns[:3] == ["user", "item", "time_ms"]
    joined = found.with_columns(row=pl.col("request_id").str.slice(1).cast(pl.UInt32)).join(settled, on="row", suffix="_before")
    for name in ("user", "item", "time_ms", "device", "region"):
        assert joined[name].to_list() == joined[f"{name}_before"].to_list(), name
    for name in ("click", "like"):  # a label that the log had not seen is no event here
        assert joined[name].to_list() == joined[f"{name}_before"].fill_null(0).to_list(), name
    again = run.read_text().replace(str(tmp_path / "log.parquet"), str(tmp_path / "collected.parquet"))
    run.write_text(again.replace('buy = { given = "click" }', ""))
    assert (said := say("train", run, "-o", tmp_path / "run")).code == 0, said.err
    assert (tmp_path / "run" / "bundle" / "feedback.json").exists()


def test_an_erased_user_is_in_no_log_and_no_table_that_is_made_afterwards(tmp_path: Path) -> None:
    """What was made before holds the user, as `umbel erase` says: the same search finds it there."""
    simulate(Planted(users=20, items=20, rows=800, days=6, conflict=0.0, strength=4.0, seed=3), tmp_path)
    log = pl.read_parquet(tmp_path / "log.parquet")
    one = log["user"].mode()[0]
    named = pl.when(pl.col("user") == one).then(pl.lit(CANARY)).otherwise(pl.format("user-{}", "user"))
    serve(place := tmp_path / "umbel.db", log.with_columns(user=named))
    rule = '{ feedback = { window = "1h", positive_when = "kind = \'click\'" } }'
    text = RUN.replace("click = {{ }}", "click = RULE").replace("like = {{ }}", "").replace('buy = {{ given = "click" }}', "")
    found = {}
    for when in ("before", "after"):
        made = tmp_path / when
        made.mkdir()
        (made / "run.toml").write_text(text.format(log=made / "log.parquet").replace("RULE", rule) + '[feedback]\nlateness = "1m"\n')
        collected = say("collect", place, "-o", made / "log.parquet", "--rules", made / "run.toml")
        ingested = say("ingest", made / "run.toml", "-o", made / "table")
        assert (collected.code, ingested.code) == (0, 0), ingested.err
        found[when] = {kind: holds(made / kind, CANARY) for kind in ("log.parquet", "table")}
        assert holds(made / "table", "user-") or holds(made / "log.parquet", "user-")
        assert say("erase", CANARY, "--store", place).code == 0
    assert found == {"before": {"log.parquet": True, "table": True}, "after": {"log.parquet": False, "table": False}}


def holds(path: Path, text: str) -> bool:
    """Whether a text stands in a file or in any under a folder: in its bytes, or in a column of Parquet, which is packed."""
    files = [one for one in (path.rglob("*") if path.is_dir() else [path]) if one.is_file()]
    columns = (str(column.to_list()) for one in files if one.suffix == ".parquet" for column in pl.read_parquet(one))
    return any(text.encode() in one.read_bytes() for one in files) or any(text in one for one in columns)


def serve(place: Path, log: pl.DataFrame) -> None:
    """Every row as an answer of one item, and every label as an event, the events first and shuffled."""
    rows = log.to_dicts()
    events = [
        Event(id=f"{kind}{number}", kind=kind, item=str(row["item"]), time=row["time_ms"] + 1, user=str(row["user"]), request=f"r{number}")
        for number, row in enumerate(rows) for kind in ("click", "like") if row[kind]
    ]  # fmt: skip
    ticks = [Event(id=f"t{number}", kind="open", item="-", time=row["time_ms"], user=str(row["user"])) for number, row in enumerate(rows)]
    with Store(place) as store:
        done = [store.record(part) for part in (events[::2], events[1::2], events[:50], ticks)]
        for number, row in enumerate(rows):
            fields = {name: row[name] for name in ("device", "region")}
            made = Decision(
                request=f"r{number}", user=str(row["user"]), time=row["time_ms"], bundle="b", fusion="f", rung=Rung.FULL,
                shown=(Shown(item=str(row["item"])),), fields=fields,
            )  # fmt: skip
            done.append(store.log(made))
        for one in done:
            one.result()


# kill -9

WRITER = """
import sys, threading
from umbel.serve.records import Decision, Event, Rung, Shown
from umbel.serve.store import Store
store, lock = Store(sys.argv[1]), threading.Lock()

def serve(thread):
    for number in range(10_000):
        name = f"{sys.argv[2]}-{thread}-{number}"
        made = Decision(request=name, user="u", time=number, bundle="b", fusion="f", rung=Rung.FULL,
                        shown=tuple(Shown(item=f"i{place}") for place in range(5)))
        sent = [Event(id=f"{kind}-{name}", kind=kind, item="i1", time=number, request=name) for kind in ("click", "like")]
        asked = [store.log(made), store.record(sent), store.record(sent[:1])]
        for one in asked:
            one.result()
        with lock:
            print(name, flush=True)

for thread in range(4):
    threading.Thread(target=serve, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


def test_what_was_acknowledged_survives_a_kill(place: str) -> None:
    """A writing process is killed three times; every acknowledged row is there, whole, and nothing twice."""
    acknowledged: list[str] = []
    for life in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, place, str(life)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        time.sleep(0.4)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.communicate()[0]
        whole = rest[: rest.rfind("\n") + 1].split()
        acknowledged += [first, *whole]
    assert len(acknowledged) > 10
    with Store(place) as store, store.session.reading() as connection:
        requests = list(connection.execute(sa.select(decisions.c.request)).scalars())
        ids = list(connection.execute(sa.select(events.c.id)).scalars())
        counted = connection.execute(sa.select(shown.c.request, sa.func.count()).group_by(shown.c.request))
        places = {row[0]: row[1] for row in counted}
    assert len(requests) == len(set(requests))
    assert len(ids) == len(set(ids))
    assert set(acknowledged) <= set(requests)
    assert {f"{kind}-{name}" for name in acknowledged for kind in ("click", "like")} <= set(ids)
    assert places == dict.fromkeys(requests, 5)  # a decision is whole or not there
