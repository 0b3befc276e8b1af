"""Several workers under load are told to end, or are killed: what they acknowledged is there, once, on every engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests import stores
from tests.journeys.conftest import Job
from tests.loads import Load, event, kept
from tests.server import Here, Server, here, serving
from umbel.serve.store.store import Store
from umbel.serve.store.tables import METADATA

BODY = {"items": [str(item) for item in range(6)], "context": {"device": "phone", "region": 2}}
WORKERS = ("--workers", "2", "--set", "budget=20000", "--set", "late=600")
ACKNOWLEDGED = 300  # decisions and events


@pytest.fixture(params=list(stores.STORES))
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    for maker in stores.STORES[request.param](tmp_path_factory):
        yield maker()


def workers(server: Server) -> list[int]:
    """The processes that a server has started to answer."""
    pid = server.process.pid
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def rows(place: str) -> dict[str, int]:
    """The number of rows of each table."""
    with Store(place) as store, store.session.reading() as connection:
        return {
            name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            for name, table in METADATA.tables.items()
        }  # fmt: skip


def told_again(server: Here, load: Load) -> None:
    """The client's log of events, sent whole: each is a duplicate."""
    results = []
    for start in range(0, len(load.events), 500):
        answer = server.client.post("/v1/events", json=[event(name) for name in load.events[start : start + 500]])
        results += [one["result"] for one in answer.json()["results"]]
    assert results == ["duplicate"] * len(load.events)


@pytest.mark.parametrize("killed", [True, False], ids=["kill -9", "SIGTERM"])
def test_what_workers_acknowledged_is_there_after_their_end(job: Job, tmp_path: Path, place: str, killed: bool) -> None:
    bundle = job.run / "bundle"
    with serving(bundle, tmp_path, "--store", place, *WORKERS, "--set", "grace=0.2") as server:
        work = Load(server.url, BODY, batch=5)
        threads = work.start(6)
        work.until(ACKNOWLEDGED)
        if killed:
            for pid in (*workers(server), server.process.pid):
                os.kill(pid, signal.SIGKILL)
            assert server.process.wait(30) == -signal.SIGKILL
        else:
            assert server.stop() == 0
        for thread in threads:
            thread.join()
    assert {answer["status"] for answer in work.answers} == {200}
    assert len([answer for answer in work.answers if answer["logged"]]) > 20
    kept(place, work)
    with here(bundle, tmp_path, f"store={place}") as server:
        before = rows(place)
        for _ in range(2):
            told_again(server, work)
        assert rows(place) == before


def test_a_killed_worker_is_replaced_and_all_end_with_the_process_that_started_them(job: Job, tmp_path: Path) -> None:
    """Else they would go on with the port and the store, whose lock is gone with that process."""
    with serving(job.run / "bundle", tmp_path, *WORKERS) as server:
        (first, second), until = workers(server), time.monotonic() + 60
        os.kill(first, signal.SIGKILL)
        while len(now := workers(server)) < 2 or first in now:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert second in now
        assert server.client.post("/v1/rank", json=BODY, headers={"connection": "close"}).json()["logged"] is True
        server.process.kill()
        server.process.wait()
        until = time.monotonic() + 30
        while any(map(alive, now)):
            assert time.monotonic() < until
            time.sleep(0.05)
