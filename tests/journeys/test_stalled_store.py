"""A store that hangs under many who tell events at once: rankings, figures and bundles are answered all the same."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.loads import event
from tests.server import Here, here, problem, until
from tests.untrained import bundle
from umbel.serve import service as service_module
from umbel.serve.store import engine
from umbel.serve.store.store import Store

AT_ONCE = 4
TOLD = 12  # clients that tell an event each
BODY = {"items": ["i1", "i2", "i3"], "user_id": "u1"}


def crowd(server: Here, number: int, ask: Callable[[httpx.Client, int], httpx.Response]) -> tuple[list[threading.Thread], list[int]]:
    """Clients that ask at once, each by a connection of its own, and what they were answered so far."""
    statuses: list[int] = []

    def one(place: int) -> None:
        with httpx.Client(base_url=server.url, timeout=120.0) as client:
            statuses.append(ask(client, place).status_code)

    threads = [threading.Thread(target=one, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    return threads, statuses


def test_events_that_wait_take_no_places_of_rankings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT", 120_000)
    monkeypatch.setattr(service_module, "PATIENCE", 0.05)
    monkeypatch.setattr(service_module, "LONGEST", 120.0)
    with here(bundle(tmp_path), tmp_path, f"at_once={AT_ONCE}", "watch=0") as server, closing(
        sqlite3.connect(tmp_path / "umbel.db", isolation_level=None)
    ) as other:  # fmt: skip
        client = server.client
        other.execute("BEGIN IMMEDIATE")
        threads, statuses = crowd(server, TOLD, lambda client, place: client.post("/v1/events", json=[event(f"e{place}")]))
        until(server, lambda text: f'umbel_requests_total{{route="/v1/events",status="503"}} {TOLD - AT_ONCE:.1f}' in text)
        assert statuses == [503] * (TOLD - AT_ONCE), "the others hold every place that there is for the store"
        assert "too many requests at once" in problem(client.get("/v1/users/u1"), 503)
        for _ in range(2 * AT_ONCE):
            ranked = client.post("/v1/rank", json=BODY)
            assert (ranked.status_code, ranked.json()["rung"], ranked.json()["logged"]) == (200, "full", False)
        assert client.post("/v1/predict", json={"rows": [{"item": "i1"}]}).status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.get("/v1/bundles").status_code == 200
        assert "no canary" in problem(client.post("/v1/bundles:promote", json={}), 409)
        other.execute("COMMIT")
        for thread in threads:
            thread.join()
        assert Counter(statuses) == {503: TOLD - AT_ONCE, 200: AT_ONCE}
        answers = [client.post("/v1/events", json=[event(f"e{place}")]).json()["results"][0]["result"] for place in range(TOLD)]
        assert Counter(answers) == {"duplicate": AT_ONCE, "accepted": TOLD - AT_ONCE}
        assert client.post("/v1/rank", json=BODY).json()["logged"] is True
    with Store(tmp_path / "umbel.db") as store:
        assert {one.id for one in store.history("1")} == {f"e{place}" for place in range(TOLD)}


def test_events_are_told_to_come_again_while_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT", 120_000)
    monkeypatch.setattr(service_module, "LONGEST", 0.5)
    with here(bundle(tmp_path), tmp_path, f"at_once={AT_ONCE}", "watch=0") as server, closing(
        sqlite3.connect(tmp_path / "umbel.db", isolation_level=None)
    ) as other:  # fmt: skip
        other.execute("BEGIN IMMEDIATE")
        threads, statuses = crowd(server, AT_ONCE, lambda client, place: client.post("/v1/events", json=[event(f"e{place}")]))
        for thread in threads:
            thread.join()
        assert statuses == [503] * AT_ONCE
        again = server.client.post("/v1/events", json=[event("e0")])
        assert (problem(again, 503), again.headers["retry-after"]) == ("the store does not answer; try again", "1")
        other.execute("COMMIT")
        sent = [event(f"e{place}") for place in range(AT_ONCE)]
        ends = time.monotonic() + 60
        while server.client.post("/v1/events", json=sent).status_code == 503:  # until the writer has seen that it may
            assert time.monotonic() < ends
            time.sleep(0.05)
        results = server.client.post("/v1/events", json=sent).json()["results"]
        assert [one["result"] for one in results] == ["duplicate"] * AT_ONCE
