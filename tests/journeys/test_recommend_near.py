"""From planted tastes to recommendations over HTTP: items near to known and new users, and those that go with what they did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.journeys.test_recommend import happened, ids, post, shown, until
from tests.retrieving import ITEMS, TASTES, planted
from tests.server import here, problem
from umbel.bundle import Bundle
from umbel.run.run import train
from umbel.run.settings import read
from umbel.serve.records import Known
from umbel.serve.store.store import Store

NEW = [f"new {kind}" for kind in range(TASTES)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tastes")
    train(read(planted(folder)), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def client(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server whose catalogue is all items of training and one new item of every kind."""
    folder = tmp_path_factory.mktemp("near")
    with Store(folder / "umbel.db") as store:
        old = [Known(id=str(one), fields={"kind": one % TASTES, "price": float(one) ** 0.5}, time=1) for one in range(ITEMS)]
        store.items.put([*old, *(Known(id=one, fields={"kind": kind, "price": 5.0}, time=2) for kind, one in enumerate(NEW))])
    with here(run / "bundle", folder) as server:
        yield server.client


def kinds(found: list[str]) -> set[int]:
    return {int(one.removeprefix("new ")) % TASTES for one in found}


def brought(client: httpx.Client, source: str, **body: object) -> list[str]:
    """What a source brought, of an answer that holds everything."""
    return [str(one["item_id"]) for one in shown(post(client, n=200, **body)) if source in one["sources"]]  # type: ignore[operator]


def test_every_source_brings_something(client: httpx.Client) -> None:
    happened(client, "5", "1", "9")
    answer = post(client, user_id="5", user={"taste": 1}, n=200)
    counts = answer["candidates"]
    assert isinstance(counts, dict)
    assert set(counts) == {"nearest", "similar", "popular", "new"}
    assert all(counts.values())
    assert len(ids(answer)) == len(set(ids(answer))) == ITEMS + TASTES - 2


@pytest.mark.parametrize("taste", range(TASTES))
def test_the_first_that_are_near_are_of_the_taste_new_items_too(client: httpx.Client, taste: int) -> None:
    where = {"kind": [taste]}
    own = brought(client, "nearest", user_id="nobody knows", user={"taste": taste}, filters={"where": where})
    assert kinds(own) == {taste}
    assert NEW[taste] in own
    bundle_first = post(client, user_id="nobody knows", user={"taste": taste}, n=5, filters={"hidden": NEW})
    near = [one for one in shown(bundle_first) if "nearest" in one["sources"]]  # type: ignore[operator]
    assert near


def test_what_goes_with_a_users_latest_items_is_of_their_kind(client: httpx.Client) -> None:
    assert brought(client, "similar", user_id="77") == []
    happened(client, "77", "6", "10", "new 2", "nothing")
    similar = brought(client, "similar", user_id="77")
    assert similar
    own = [one for one in similar if int(one) % TASTES == 2]
    assert len(own) > len(similar) / 2
    assert not {"6", "10", "new 2"} & set(ids(post(client, user_id="77", n=200)))


def test_without_personalization_nothing_of_a_user_is_read(client: httpx.Client) -> None:
    about = {"n": 200, "personalization": "off"}
    one = post(client, user_id="5", user={"taste": 1}, **about)
    assert shown(one) == shown(post(client, user_id="6", user={"taste": 2}, **about))
    counts = one["candidates"]
    assert isinstance(counts, dict)
    assert set(counts) == {"popular", "new"}


def test_a_new_item_is_found_by_its_attributes_and_by_those_it_has_now(client: httpx.Client) -> None:
    def first(taste: int) -> list[str]:
        every = post(client, user={"taste": taste}, n=200, filters={"hidden": [str(one) for one in range(2, ITEMS)]})
        return [str(one["item_id"]) for one in shown(every) if "nearest" in one["sources"]]  # type: ignore[operator]

    assert client.put("/v1/items/fresh", json={"fields": {"kind": 3, "price": 5.0}}).status_code == 200
    until(lambda: "fresh" in first(3))
    assert client.delete("/v1/items/fresh").status_code == 204
    until(lambda: "fresh" not in first(3))


def test_an_item_that_the_bundle_cannot_read_fails_nobodys_request(client: httpx.Client) -> None:
    assert client.put("/v1/items/odd", json={"fields": {"kind": "a text", "price": [1, 2]}}).status_code == 200
    assert client.put("/v1/items/even", json={"fields": {"kind": 1}}).status_code == 200
    until(lambda: "even" in ids(post(client, n=200, filters={"where": {"kind": [1, "a text"]}})))
    assert "odd" not in ids(post(client, n=200, filters={"where": {"kind": [1, "a text"]}}))
    for one in ("odd", "even"):
        assert client.delete(f"/v1/items/{one}").status_code == 204


def test_a_field_that_cannot_be_read_is_told_in_one_line(client: httpx.Client) -> None:
    assert "taste" in problem(client.post("/v1/recommend", json={"user": {"taste": "sweet"}}), 422)


def test_a_bundle_is_put_on_the_shelf_before_it_answers(client: httpx.Client, run: Path) -> None:
    before = client.get("/readyz").json()["bundle"]
    assert client.post("/v1/bundles/canary", json={"folder": "run/bundle", "share": 0.5}).status_code == 200
    for user in range(10):
        assert post(client, user_id=str(user), user={"taste": 1})["bundle"] == before
    assert client.delete("/v1/bundles/canary").status_code == 200
    assert Bundle.load(run / "bundle").retrieval is not None
