"""The store of a running service is locked, full or away: ranks are answered, nothing else is acknowledged, and what was is not lost."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import stores
from tests.journeys.conftest import Job
from tests.loads import event
from tests.server import here, problem, serving
from tests.untrained import bundle
from umbel.serve import service as service_module
from umbel.serve.store import engine
from umbel.serve.store.store import Store

BODY = {"items": [str(item) for item in range(6)], "context": {"device": "phone", "region": 2}}
USER = {"fields": {"device": "phone"}}
AWAY = "the store does not answer; try again"


def test_a_locked_store_is_waited_for_a_while(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT", 300)
    monkeypatch.setattr(service_module, "PATIENCE", 0.05)
    with here(job.run / "bundle", tmp_path) as server:
        client = server.client
        other = sqlite3.connect(tmp_path / "umbel.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ranked = client.post("/v1/rank", json=BODY)
        assert (ranked.status_code, ranked.json()["rung"], ranked.json()["logged"]) == (200, "full", False)
        again = client.post("/v1/events", json=[event("locked")])
        assert (problem(again, 503), again.headers["retry-after"]) == (AWAY, "1")
        assert problem(client.put("/v1/users/u", json=USER), 503) == AWAY
        assert problem(client.get("/v1/users/u"), 404).startswith("not known"), "reading goes on"
        other.execute("COMMIT")
        other.close()
        assert client.post("/v1/events", json=[event("locked")]).json()["results"][0]["result"] == "accepted"
        assert client.put("/v1/users/u", json=USER).status_code == 200


def test_a_full_disk_loses_nothing_that_was_acknowledged(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own limit of pages gives the error of a full disk; with room again, what was acknowledged is there."""
    bundle = job.run / "bundle"
    with monkeypatch.context() as full:
        full.setattr(engine, "PRAGMAS", (*engine.PRAGMAS, "max_page_count = 45"))
        with here(bundle, tmp_path) as server:
            accepted: list[str] = []
            answer = server.client.get("/readyz")
            for number in range(400):
                names = [f"{number}-{place}-{'x' * 200}" for place in range(10)]
                answer = server.client.post("/v1/events", json=[event(name) for name in names])
                if answer.status_code != 200:
                    break
                accepted += names
            assert problem(answer, 503) == AWAY
            assert accepted
            ranked = server.client.post("/v1/rank", json={**BODY, "items": [str(item) for item in range(900)]})
            assert (ranked.status_code, ranked.json()["logged"]) == (200, False)
    with here(bundle, tmp_path) as server:
        results = server.client.post("/v1/events", json=[event(name) for name in [*accepted[:400], "new"]]).json()["results"]
        assert [one["result"] for one in results] == ["duplicate"] * len(accepted[:400]) + ["accepted"]
    with Store(tmp_path / "umbel.db") as store:
        assert {one.id for one in store.history("1", most=10_000)} == {*accepted, "new"}


def test_a_database_that_goes_and_comes_back_under_a_service(job: Job, tmp_path: Path) -> None:
    """While it is away, ranks are answered and say that they are not kept, and nothing else is acknowledged."""
    if why := stores.absent():
        pytest.skip(why)
    if stores.programs() is None:
        pytest.skip("a server that is not ours is not stopped")
    with stores.folder() as folder, stores.server(folder) as postgres:
        place = stores.database(postgres.base)
        with serving(job.run / "bundle", tmp_path, "--store", place, "--set", "budget=20000") as server:
            client = server.client
            first = client.post("/v1/rank", json=BODY).json()
            assert first["logged"] is True
            assert client.post("/v1/events", json=[event("before")]).json()["results"][0]["result"] == "accepted"
            postgres.stop()
            away = client.post("/v1/rank", json={**BODY, "items": ["7", "8"]})
            assert (away.status_code, away.json()["rung"], away.json()["logged"]) == (200, "full", False)
            assert problem(client.post("/v1/events", json=[event("while")]), 503) == AWAY
            assert problem(client.put("/v1/users/u", json=USER), 503) == AWAY
            assert client.get("/readyz").status_code == 200, "ranks are answered"
            postgres.start()
            results = client.post("/v1/events", json=[event("while"), event("before")]).json()["results"]
            assert [one["result"] for one in results] == ["accepted", "duplicate"]
            assert client.put("/v1/users/u", json=USER).status_code == 200
            assert client.post("/v1/rank", json=BODY).json()["logged"] is True
        with Store(place) as store:
            assert store.decision(first["request_id"]) is not None
            assert {one.id for one in store.history("1")} == {"before", "while"}


def test_a_database_that_says_nothing_under_a_service(tmp_path: Path) -> None:
    """What it is sent is taken, and nothing comes back: ranks are answered, many events that come at once are told to come again."""
    if why := stores.absent():
        pytest.skip(why)
    if stores.programs() is None:
        pytest.skip("a server that is not ours is not stopped")
    words = ["--set", "budget=200", "--set", "at_once=8", "--set", "late=600"]
    with stores.folder() as folder, stores.server(folder) as postgres:
        place = stores.database(postgres.base)
        with serving(bundle(tmp_path), tmp_path, "--store", place, *words) as server, ThreadPoolExecutor(40) as pool:
            client, asked = server.client, {"items": ["i1", "i2"], "user_id": "u1"}
            assert client.post("/v1/rank", json=asked).json()["logged"] is True
            with postgres.hanging():
                told = [pool.submit(client.post, "/v1/events", json=[event(f"e{place}")]) for place in range(30)]
                ranked = [pool.submit(client.post, "/v1/rank", json=asked) for _ in range(5)]
                for one in [*ranked, *(pool.submit(client.post, "/v1/rank", json=asked) for _ in range(3))]:
                    answer = one.result().json()
                    assert (answer["logged"], len(answer["items"])) == (False, 2)
                assert client.get("/metrics").status_code == 200
                details = {problem(one.result(), 503) for one in told}
                assert details <= {AWAY, "too many requests at once; try again"}
                assert AWAY in details
            sent, ends = [event(f"e{place}") for place in range(30)], time.monotonic() + 60
            while client.post("/v1/events", json=sent).status_code == 503:  # what it was sent before is written first
                assert time.monotonic() < ends
                time.sleep(0.1)
            assert client.post("/v1/rank", json=asked).json()["logged"] is True
        with Store(place) as store:
            assert {one.id for one in store.history("1")} == {f"e{place}" for place in range(30)}
