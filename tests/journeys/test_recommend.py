"""From a trained bundle and a catalogue to recommendations over HTTP: what is shown, what is not, and where it came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, prod
from pathlib import Path

import httpx
import pytest

from tests.journeys.conftest import Job
from tests.server import here, problem
from umbel.serve.records import Known
from umbel.serve.service import REFRESH
from umbel.serve.store.session import now
from umbel.serve.store.store import Store

Json = dict[str, object]
NEW = ("novel", "other")  # items that no training row had
OLD = tuple(str(one) for one in range(20))


@dataclass(frozen=True)
class Running:
    """A server and the folder of its store."""

    client: httpx.Client
    folder: Path


@pytest.fixture(scope="module")
def running(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose catalogue is items 0 to 19 and two new ones; item 3 is hidden, odd items are red."""
    folder = tmp_path_factory.mktemp("recommend")
    with Store(folder / "umbel.db") as store:
        old = [Known(id=one, fields={"colour": "red" if int(one) % 2 else "blue", "hidden": one == "3"}, time=5) for one in OLD]
        store.items.put([*old, *(Known(id=one, fields={"colour": ["red", "green"]}, time=50 + at) for at, one in enumerate(NEW))])
    with here(job.run / "bundle", folder, "temperature=0.3") as server:
        yield Running(server.client, folder)


@pytest.fixture(scope="module")
def bare(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server over an empty store."""
    with here(job.run / "bundle", tmp_path_factory.mktemp("bare")) as server:
        yield server.client


def post(client: httpx.Client, **body: object) -> Json:
    answer = client.post("/v1/recommend", json=body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def shown(answer: Json) -> list[Json]:
    items = answer["items"]
    assert isinstance(items, list)
    return items


def ids(answer: Json) -> list[str]:
    return [str(one["item_id"]) for one in shown(answer)]


def until(holds: Callable[[], bool]) -> None:
    """Wait until what was written is on the shelves."""
    for _ in range(100):
        if holds():
            return
        time.sleep(REFRESH / 5)
    raise AssertionError("it never came to hold")


def happened(client: httpx.Client, user: str, *items: str) -> None:
    """Tell the service of events of a user's."""
    events = [{"event_id": f"{user} {one}", "type": "click", "item_id": one, "user_id": user, "occurred_at": now()} for one in items]
    assert client.post("/v1/events", json=events).status_code == 200


def test_the_catalogue_is_recommended_but_for_what_is_hidden(running: Running) -> None:
    answer = post(running.client, user_id="1", context={"device": "phone", "region": 1}, n=200)
    assert sorted(ids(answer)) == sorted([*OLD[:3], *OLD[4:], *NEW])
    assert (answer["rung"], answer["logged"], answer["ignored"]) == ("full", True, [])
    assert [one["position"] for one in shown(answer)] == list(range(21))
    assert {str(one["item_id"]) for one in shown(answer) if one["sources"] == ["new"]} == set(NEW)
    assert answer["candidates"] == {"popular": 19, "new": 2}


def test_what_is_recommended_is_ranked_as_if_it_was_sent(running: Running) -> None:
    about = {"user_id": "7", "context": {"device": "tv", "region": 2}}
    answer = post(running.client, **about, n=5, seed=4, explain=True)
    assert len(shown(answer)) == 5
    items = [one for one in (*OLD, *NEW) if one != "3"]
    ranked = {one["item_id"]: one for one in running.client.post("/v1/rank", json={**about, "items": items}).json()["items"]}
    for one in shown(answer):
        assert one["predictions"] == pytest.approx(ranked[one["item_id"]]["predictions"], abs=1e-6)
        assert one["score"] == pytest.approx(ranked[one["item_id"]]["score"], abs=1e-6)
        contributions = one["contributions"]
        assert isinstance(contributions, dict)
        assert sum(contributions.values()) == pytest.approx(one["score"], abs=1e-9)
    assert ids(post(running.client, **about, n=5, seed=4)) == ids(answer)


def test_the_decision_is_kept_with_all_candidates_and_exact_chances(running: Running) -> None:
    answer = post(running.client, user_id="2", n=3, filters={"where": {"colour": "red"}})
    with Store(running.folder / "umbel.db") as store:
        decision = store.decision(str(answer["request_id"]))
    assert decision is not None
    assert [one.item for one in decision.shown] == ids(answer)
    assert decision.candidates is not None
    assert set(decision.candidates.items) == {*(one for one in OLD[1::2] if one != "3"), *NEW}
    left = dict(zip(decision.candidates.items, decision.candidates.fused.astype(float) / 0.3, strict=True))
    chances = []
    for one in ids(answer):
        chances.append(1 / sum(exp(score - left[one]) for score in left.values()))
        del left[one]
    assert prod(float(str(one["propensity"])) for one in shown(answer)) == pytest.approx(prod(chances), rel=1e-3)


def test_rules_leave_out_items(running: Running) -> None:
    client = running.client
    assert set(ids(post(client, n=200, filters={"where": {"colour": ["green", "blue"]}}))) == {*OLD[::2], *NEW}
    assert set(ids(post(client, n=200, filters={"exclude": {"colour": "red"}}))) == set(OLD[::2])
    assert set(ids(post(client, n=200, filters={"where": {"colour": "blue"}, "hidden": ["0", "nobody"]}))) == set(OLD[2::2])
    none = post(client, user_id="1", filters={"where": {"colour": "mauve"}})
    assert (shown(none), none["candidates"], none["logged"]) == ([], {}, False)
    assert none["request_id"]


def test_what_a_user_has_seen_is_not_shown_again(running: Running) -> None:
    happened(running.client, "42", "5", "6")
    left = ids(post(running.client, user_id="42", n=200))
    assert set(left) == {*OLD[:3], "4", *OLD[7:], *NEW}
    assert {"5", "6"} <= set(ids(post(running.client, user_id="42", n=200, filters={"seen": False})))
    assert {"5", "6"} <= set(ids(post(running.client, user_id="43", n=200)))


def test_what_happened_to_an_answer_is_its_users_though_the_event_names_only_the_request(running: Running) -> None:
    answer = post(running.client, user_id="45", n=200)
    event = {"event_id": "of 45", "type": "click", "item_id": "7", "request_id": answer["request_id"], "occurred_at": now()}
    assert running.client.post("/v1/events", json=[event]).status_code == 200
    assert "7" in ids(answer)
    assert set(ids(answer)) - set(ids(post(running.client, user_id="45", n=200))) == {"7"}


def test_without_personalization_everybody_gets_one_list(running: Running) -> None:
    happened(running.client, "44", "0", "1", "2")
    about = {"n": 200, "seed": 3, "personalization": "off", "user": {"device": "tv"}}
    one, other, nobody = (post(running.client, **{**about, **who}) for who in ({"user_id": "44"}, {"user_id": "7"}, {}))
    assert shown(one) == shown(other) == shown(nobody)
    assert {"0", "1", "2"} <= set(ids(one))
    assert {source for item in shown(one) for source in item["sources"]} <= {"popular", "new"}  # type: ignore[attr-defined]


def test_an_item_that_is_written_is_on_the_shelf_and_goes_with_it(running: Running) -> None:
    client = running.client
    assert client.put("/v1/items/fresh", json={"fields": {"colour": "red"}}).status_code == 200
    until(lambda: "fresh" in ids(post(client, n=200)))
    assert client.put("/v1/items/fresh", json={"fields": {"hidden": True}}).status_code == 200
    until(lambda: "fresh" not in ids(post(client, n=200)))
    assert client.put("/v1/items/fresh", json={"fields": {}}).status_code == 200
    until(lambda: "fresh" in ids(post(client, n=200)))
    assert client.delete("/v1/items/fresh").status_code == 204
    until(lambda: "fresh" not in ids(post(client, n=200)))


def test_an_empty_store_shows_what_training_met(bare: httpx.Client) -> None:
    answer = post(bare, user_id="1", n=200)
    assert len(ids(answer)) == len(set(ids(answer))) == 30
    assert answer["candidates"] == {"popular": 30, "new": 0}
    assert post(bare, user_id="1")["items"] == answer["items"][:20]  # type: ignore[index]


BAD = (
    ("n of 0", {"n": 0}, "n"),
    ("too many", {"n": 201}, "n"),
    ("an unknown key", {"user": {}, "items": ["1"]}, "items"),
    ("an unknown filter", {"filters": {"unseen": True}}, "unseen"),
    ("a rule of an object", {"filters": {"where": {"colour": {"a": 1}}}}, "got `object`"),
    ("a rule of nothing", {"filters": {"where": {"colour": None}}}, "null"),
    ("a long id", {"filters": {"hidden": ["x" * 257]}}, "length <= 256"),
    ("a zero byte", {"filters": {"hidden": ["a\0b"]}}, "filters.hidden: an id has a zero byte"),
    ("a field of another kind", {"context": {"region": "north"}}, "region"),
)


@pytest.mark.parametrize(("body", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_requests_are_answered_in_one_line(bare: httpx.Client, body: Json, said: str) -> None:
    assert said in problem(bare.post("/v1/recommend", json=body), 422)
    post(bare)


def test_it_is_described(bare: httpx.Client) -> None:
    described = bare.get("/openapi.json").json()
    assert "post" in described["paths"]["/v1/recommend"]
    assert {"RecommendRequest", "RecommendAnswer", "RecommendedItem"} <= set(described["components"]["schemas"])


def test_out_of_time_popularity_answers(job: Job, tmp_path: Path) -> None:
    with here(job.run / "bundle", tmp_path, "budget=0.001") as server:
        answer = post(server.client, user_id="1", n=30)
        assert answer["rung"] == "popular"
        assert len(ids(answer)) == 30
        assert all("propensity" not in one for one in shown(answer))
        assert ids(answer) == ids(post(server.client, user_id="2", n=30))
