"""A user asks to be forgotten, over HTTP: no byte of the id is left in the store's files, while it is served, and no copy answers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.journeys.conftest import Job
from tests.server import here, problem, serving
from umbel.serve.http.keys import add_key
from umbel.serve.store import engine
from umbel.serve.store.store import Store

CANARY = "canary-4711-user"
OTHERS = [f"user-{number:03}{'x' * (number % 50)}" for number in range(60)]
CONTEXT = {"device": "phone", "region": 2}


@dataclass(frozen=True)
class Served:
    """A server without keys, its store in a folder of its own."""

    client: httpx.Client
    folder: Path


@pytest.fixture
def served(job: Job, tmp_path: Path) -> Iterator[Served]:
    folder = tmp_path / "store"
    folder.mkdir()
    with here(job.run / "bundle", folder) as server:
        yield Served(server.client, folder)


def files_with(folder: Path, text: str) -> list[str]:
    """The files under a folder in which a text stands, in any way of writing it that a store has."""
    ways = (text.encode(), text.encode("utf-16-le"), text.encode().hex().encode())
    return sorted(one.name for one in folder.rglob("*") if one.is_file() and any(way in one.read_bytes() for way in ways))


def write(client: httpx.Client, user: str, *, times: int = 1) -> None:
    for number in range(times):
        assert client.put(f"/v1/users/{user}", json={"fields": {"device": "phone", "mail": f"{user}@example " * number}}).status_code == 200


def live(client: httpx.Client, user: str) -> None:
    """An answer, and what happened to it."""
    answer = client.post("/v1/rank", json={"user_id": user, "items": ["1", "2", "3"], "context": CONTEXT})
    assert answer.json()["logged"] is True
    for event in (f"{user}-1", f"{user}-2"):
        sent = {"event_id": event, "type": "click", "item_id": "1", "occurred_at": 1_700_000_000_005, "user_id": user}
        assert client.post("/v1/events", json=[sent]).json()["results"][0]["result"] == "accepted"


def test_deleting_a_user_leaves_no_byte_of_the_id(served: Served) -> None:
    for user in OTHERS[:30]:
        write(served.client, user)
    write(served.client, CANARY, times=25)
    for user in OTHERS[30:]:
        write(served.client, user)
    assert files_with(served.folder, CANARY)
    assert served.client.delete(f"/v1/users/{CANARY}").status_code == 204
    assert files_with(served.folder, CANARY) == []
    problem(served.client.get(f"/v1/users/{CANARY}"), 404)
    assert all(served.client.get(f"/v1/users/{user}").status_code == 200 for user in OTHERS)


def test_deleting_a_user_leaves_what_was_decided_and_erasing_does_not(served: Served) -> None:
    for user in (*OTHERS[:12], CANARY, *OTHERS[12:24], CANARY):
        write(served.client, user)
        sent = {"event_id": f"{user} {time.time_ns()}", "type": "click", "item_id": "1", "occurred_at": 1_700_000_000_005, "user_id": user}
        served.client.post("/v1/rank", json={"user_id": user, "items": ["1", "2", "3"], "context": CONTEXT})
        served.client.post("/v1/events", json=[sent])
    assert served.client.delete(f"/v1/users/{CANARY}").status_code == 204
    assert files_with(served.folder, CANARY), "a decision names its user"
    assert served.client.post("/v1/erasures", json={"user_id": CANARY}).json() == {"decisions": 2, "events": 2, "busy": False}
    assert files_with(served.folder, CANARY) == []
    assert served.client.post("/v1/erasures", json={"user_id": CANARY}).json() == {"decisions": 0, "events": 0, "busy": False}
    with Store(served.folder / "umbel.db") as store:
        assert len(store.history(OTHERS[3])) == 1
        assert [note[1:3] for note in store.notes(1)] == [("anybody", "erase")]
    assert all(served.client.get(f"/v1/users/{user}").status_code == 200 for user in OTHERS[:24])


def test_bytes_that_a_reader_keeps_are_told_and_go_once_it_has_ended(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(engine, "WAIT", 500)
    folder = tmp_path / "store"
    folder.mkdir()
    with here(job.run / "bundle", folder, "watch=0") as server:
        write(server.client, OTHERS[0])
        live(server.client, CANARY)
        with closing(sqlite3.connect(folder / "umbel.db")) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM events").fetchone() == (2,)
            erased = server.client.post("/v1/erasures", json={"user_id": CANARY}).json()
            assert erased == {"decisions": 1, "events": 2, "busy": True}
            assert files_with(folder, CANARY) != []
        assert server.client.post("/v1/erasures", json={"user_id": CANARY}).json() == {"decisions": 0, "events": 0, "busy": False}
        assert files_with(folder, CANARY) == []


@pytest.mark.parametrize(("body", "said"), [
    ({}, "user_id"), ({"user_id": ""}, "length >= 1"), ({"user_id": "a\0"}, "user_id: an id has a zero byte"), ({"user_id": 7}, "user_id"),
    ({"user_id": "x" * 257}, "length <= 256"), ({"user_id": "u", "all": True}, "all"), ([], "Expected `object`"),
])  # fmt: skip
def test_whom_to_erase_is_to_be_said(served: Served, body: object, said: str) -> None:
    assert said in problem(served.client.post("/v1/erasures", json=body), 422)


def test_only_an_admin_erases(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    write_key, admin = (add_key(file, scope, [scope]) for scope in ("write", "admin"))
    with here(job.run / "bundle", tmp_path, keys=file, key=write_key) as server:
        assert "no scope admin" in problem(server.client.post("/v1/erasures", json={"user_id": "u"}), 403)
        allowed = server.client.post("/v1/erasures", json={"user_id": "u"}, headers={"authorization": f"Bearer {admin}"})
        assert allowed.status_code == 200
    with Store(tmp_path / "umbel.db") as store:
        assert store.notes(1)[0][1:3] == ("admin", "erase")


def test_copies_of_other_workers_learn_of_it(job: Job, tmp_path: Path) -> None:
    """Two workers: whichever answers, the deleted user's fields are read no more after a moment."""
    body = {"user_id": CANARY, "items": ["1", "2", "3"], "context": {"region": 2}, "seed": 1}
    with serving(job.run / "bundle", tmp_path, "--workers", "2", "--set", "budget=20000") as server:

        def answers(count: int = 12) -> set[str]:
            found = [server.client.post("/v1/rank", json=body, headers={"connection": "close"}).json() for _ in range(count)]
            rows = [[list(one["predictions"].values()) for one in answer["items"]] for answer in found]
            return {str([[round(chance, 5) for chance in row] for row in one]) for one in rows}

        without = answers()
        assert len(without) == 1
        assert server.client.put(f"/v1/users/{CANARY}", json={"fields": {"device": "phone"}}).status_code == 200
        known, until = answers(), time.monotonic() + 60
        while known == without or len(known) > 1:
            known = answers()
            assert time.monotonic() < until
        assert server.client.delete(f"/v1/users/{CANARY}").status_code == 204
        while answers() != without:
            assert time.monotonic() < until + 60
