"""Many items and users written at once: each with its own result, in one transaction, and on the shelves in one step."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.journeys.conftest import Job
from tests.journeys.test_recommend import ids, post, until
from tests.server import Here, here, problem
from umbel.serve.http.limits import Limits
from umbel.serve.recommend import shelf, shelves
from umbel.serve.store.store import Store

Json = dict[str, object]
MOST = Limits().known
DOCS = Path(__file__).parents[2] / "docs" / "service.md"
SEE = "see /openapi.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the server's store."""
    return tmp_path_factory.mktemp("catalogue")


@pytest.fixture(scope="module")
def server(job: Job, folder: Path) -> Iterator[Here]:
    """A server of the job's bundle, over an empty store."""
    with here(job.run / "bundle", folder) as one:
        yield one


def write(server: Here, *sent: object, kind: str = "items", status: int = 200) -> list[Json]:
    answer = server.client.put(f"/v1/{kind}", content=json.dumps(sent), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"results"}
    found: list[Json] = answer.json()["results"]
    return found


def read(server: Here, one: str, *, kind: str = "items") -> object:
    answer = server.client.get(f"/v1/{kind}/{one}")
    return answer.json()["fields"] if answer.status_code == 200 else None


@pytest.mark.parametrize("kind", ["items", "users"])
def test_many_are_written_as_each_alone_would_be(server: Here, kind: str) -> None:
    fields: list[Json] = [{"a": 1, "b": [1.5, 2], "c": None, "d": "é", "e": True}, {}, {"x": "y" * 10_000}]
    sent = [{"id": f"{kind}/{at} é", "fields": own} for at, own in enumerate(fields)]
    why = "the model reads no {}; known: device, item, region, user"
    reasons = [why.format("'a' (nor 4 more)"), None, why.format("'x'")]
    expected = [{"id": one["id"], "result": "accepted", "reason": reason} for one, reason in zip(sent, reasons, strict=True)]
    assert write(server, *sent, kind=kind) == expected
    for one, reason in zip(sent, reasons, strict=True):
        assert read(server, str(one["id"]), kind=kind) == one["fields"]
        alone = server.client.put(f"/v1/{kind}/{one['id']}", json={"fields": one["fields"]})
        assert alone.json() == {"id": one["id"], "fields": read(server, str(one["id"]), kind=kind), "reason": reason}
    other = "users" if kind == "items" else "items"
    assert read(server, str(sent[0]["id"]), kind=other) is None


def test_all_fields_are_written_and_of_one_id_the_last_stays(server: Here) -> None:
    write(server, {"id": "t", "fields": {"a": 1, "b": 2}})
    found = write(server, {"id": "t", "fields": {"a": 3}}, {"id": "u", "fields": {}}, {"id": "t", "fields": {"a": 4}})
    assert [one["result"] for one in found] == ["accepted"] * 3
    assert read(server, "t") == {"a": 4}


WRONG: list[tuple[object, str, str]] = [
    ({"id": "w"}, "w", f"Object missing required field `fields`; {SEE}"),
    ({"fields": {}}, "", f"Object missing required field `id`; {SEE}"),
    ({"id": 7, "fields": {}}, "", f"Expected `str`, got `int` - at `$.id`; {SEE}"),
    ({"id": "", "fields": {}}, "", f"Expected `str` of length >= 1 - at `$.id`; {SEE}"),
    ({"id": "x" * 257, "fields": {}}, "x" * 257, f"Expected `str` of length <= 256 - at `$.id`; {SEE}"),
    ({"id": "a\0", "fields": {}}, "a\0", "id: an id has a zero byte; ids are texts of 1 to 256 characters"),
    ({"id": "w", "fields": {"a": {}}}, "w", "got `object` - at `$.fields[...]`"),
    ({"id": "w", "fields": {"a": [[1]]}}, "w", "got `array` - at `$.fields[...][0]`"),
    ({"id": "w", "fields": []}, "w", f"Expected `object`, got `array` - at `$.fields`; {SEE}"),
    ({"id": "w", "fields": {"x" * 201: 1}}, "w", "Expected `str` of length <= 200"),
    ({"id": "w", "fields": {}, "time": 1}, "w", f"Object contains unknown field `time`; {SEE}"),
    (7, "", f"Expected `object`, got `int`; {SEE}"), (None, "", f"Expected `object`, got `null`; {SEE}"),
    ([], "", f"Expected `object`, got `array`; {SEE}"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "name", "why"), WRONG)
def test_one_that_is_wrong_is_rejected_and_its_neighbours_kept(server: Here, one: object, name: str, why: str) -> None:
    good: list[Json] = [{"id": f"beside {at} {why}"[:200], "fields": {"at": at}} for at in range(2)]
    first, wrong, last = write(server, good[0], one, good[1], status=207)
    assert (first["result"], last["result"]) == ("accepted", "accepted")
    assert (wrong["id"], wrong["result"]) == (name, "rejected")
    assert why in str(wrong["reason"])
    assert "\n" not in str(wrong["reason"])
    with_all = [read(server, str(each["id"]).replace("/", "%2F")) for each in good]
    assert with_all == [{"at": 0}, {"at": 1}]


def test_where_all_are_wrong_nothing_is_written(server: Here, folder: Path) -> None:
    with Store(folder / "umbel.db") as store:
        before = {one.id: one for one in store.items.all()}
        assert [one["result"] for one in write(server, *(one for one, *_ in WRONG), status=207)] == ["rejected"] * len(WRONG)
        assert {one.id: one for one in store.items.all()} == before


@pytest.mark.parametrize("kind", ["items", "users"])
@pytest.mark.parametrize(("body", "status", "said"), [
    ("[]", 422, "{kind}: 0; send 1 to 1,000"), (json.dumps([{}] * (MOST + 1)), 422, "{kind}: 1,001; send 1 to 1,000"),
    ("{}", 422, "Expected `array`"), ("null", 422, "Expected `array`"), ("[", 400, "send strict JSON"),
    ('[{"id": "n", "fields": {"a": NaN}}]', 400, "send strict JSON"), (" " * (2 << 20), 413, "too large"),
])  # fmt: skip
def test_a_body_that_is_none_is_named_and_changes_nothing(server: Here, kind: str, body: str, status: int, said: str) -> None:
    answer = server.client.put(f"/v1/{kind}", content=body, headers={"content-type": "application/json"})
    assert said.format(kind=kind) in problem(answer, status)
    assert read(server, "n", kind=kind) is None


def test_as_many_as_may_be_are_written_in_one_transaction(server: Here, folder: Path) -> None:
    """Whoever reads meanwhile sees all of a batch or nothing of it."""
    sent: list[Json] = [{"id": f"many {at}", "fields": {"turn": 0}} for at in range(MOST)]
    seen: list[set[object]] = []
    over = threading.Event()

    def look(store: Store) -> None:
        while not over.is_set():
            seen.append({one.fields["turn"] for one in store.items.all() if one.id.startswith("many ")})

    with Store(folder / "umbel.db") as store:
        looking = threading.Thread(target=look, args=(store,))
        looking.start()
        for turn in range(4):
            assert len(write(server, *({**one, "fields": {"turn": turn}} for one in sent))) == MOST
        over.set()
        looking.join()
        assert len([one for one in store.items.all() if one.fields.get("turn") == 3]) == MOST
    assert {len(one) for one in seen} <= {0, 1}
    for at in range(0, MOST, 10):
        server.client.delete(f"/v1/items/many {at}")


def test_what_is_known_of_an_item_is_what_was_written_last(server: Here) -> None:
    """A worker that remembers an item forgets what it remembered."""
    body = {"user_id": "1", "items": ["5", "6"], "context": {"device": "phone"}}
    write(server, {"id": "5", "fields": {"region": 1}})
    one = server.client.post("/v1/rank", json=body).json()
    write(server, {"id": "5", "fields": {"region": 2}})
    other = server.client.post("/v1/rank", json=body).json()
    write(server, {"id": "5", "fields": {"region": 1}})
    again = server.client.post("/v1/rank", json=body).json()

    def told(answer: Json) -> dict[str, object]:
        items: list[Json] = answer["items"]  # type: ignore[assignment]
        return {str(each["item_id"]): each["predictions"] for each in items}

    assert told(one)["5"] == told(again)["5"] != told(other)["5"]
    assert told(one)["6"] == told(other)["6"]


def test_a_batch_is_on_the_shelves_in_one_step(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = shelf.Shelf

    def counted(*words: object, **named: object) -> object:
        one = plain(*words, **named)  # type: ignore[arg-type]
        if "new 0" in one.stock.places:  # and not of the server of the other tests, which is of this process, too
            made.append(len(one.stock))
        return one

    monkeypatch.setattr(shelves, "Shelf", counted)
    with here(job.run / "bundle", tmp_path) as server:
        batch = [{"id": f"new {at}", "fields": {"colour": "red"}} for at in range(150)]
        write(server, *batch)
        asked: Json = {"user_id": "1", "context": {"device": "phone"}, "n": 200, "filters": {"where": {"colour": "red"}}}
        until(lambda: len(ids(post(server.client, **asked))) == 150)
        assert sorted(ids(post(server.client, **asked))) == sorted(str(one["id"]) for one in batch)
        assert made == [150]


def test_a_catalogue_in_a_file_is_loaded_as_the_page_says(server: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    frame = pl.DataFrame({"item_id": range(2_500), "genre": ["war", "art"] * 1_250, "price": [0.5 * at for at in range(2_500)]})
    frame.write_parquet(tmp_path / "items.parquet")
    monkeypatch.chdir(tmp_path)
    assert "http://localhost:8080" in told
    exec(compile(told.replace("http://localhost:8080", server.url), "service.md", "exec"), {})
    for one in (0, 999, 1_000, 2_499):
        assert read(server, str(one)) == {"genre": ["war", "art"][one % 2], "price": 0.5 * one}
    assert read(server, "2500") is None
