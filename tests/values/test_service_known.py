"""What a service knows of users and items by its store: it is not waited for until nothing can be predicted, and may be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from tests.untrained import bundle

from umbel.errors import UserError
from umbel.serve.bundles import Ordering
from umbel.serve.order import Order
from umbel.serve.records import Known, Rung, Value
from umbel.serve.requests import Candidate, RankAnswer, RankRequest
from umbel.serve.service import Service, Serving
from umbel.serve.store.store import Store
from umbel.serve.wanted import State

BUDGET = 3.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("known"))


@pytest.fixture
def service(folder: Path, tmp_path: Path) -> Iterator[Service]:
    with Store(tmp_path / "umbel.db") as store:
        yield Service(store, Serving(first=State(stable=str(folder)), ordering=Ordering(order=Order()), budget=BUDGET))


def figure(service: Service, line: str) -> bool:
    return line in service.metrics.text().decode()


@pytest.mark.parametrize("slow", ["items", "users"])
def test_a_store_that_is_slow_leaves_time_for_the_model(service: Service, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    told = Event()

    def fetch(ids: Sequence[str]) -> dict[str, dict[str, Value]]:
        told.wait(4 * BUDGET)
        return {}

    async def asked() -> tuple[RankAnswer, float]:
        began = monotonic()
        answer = await service.rank(RankRequest(items=["a", "b"], user_id="1"), began)
        seconds = monotonic() - began
        told.set()
        return answer, seconds

    monkeypatch.setattr(getattr(service, slow), "fetch", fetch)
    answer, seconds = asyncio.run(asked())
    assert answer.rung is Rung.FULL
    assert BUDGET / 2 <= seconds < BUDGET
    assert figure(service, 'umbel_failures_total{part="store"} 1.0')


def ranked(service: Service, sent: RankRequest) -> RankAnswer:
    return asyncio.run(service.rank(sent, monotonic()))


def test_what_the_store_has_and_nobody_can_read_is_missing_and_counted(service: Service) -> None:
    plain = ranked(service, RankRequest(items=["a", "b", "c"], user_id="1"))
    service.store.users.put([Known(id="1", fields={"age": "old", "watched": ["a"], "hue": [1]}, time=1)])
    service.store.items.put([Known(id="b", fields={"watched": 3}, time=1)])
    service.users.fetch(["1"])
    service.items.fetch(["a", "b", "c"])
    answer = ranked(service, RankRequest(items=["a", "b", "c"], user_id="1"))
    told = ranked(service, RankRequest(items=["a", "b", "c"], user_id="2", user={"watched": ["a"]}))
    assert answer.rung is Rung.FULL
    assert {one.item_id: one.score for one in answer.items} != {one.item_id: one.score for one in plain.items}
    decision = service.store.decision(answer.request_id)
    assert decision is not None
    assert decision.fields == {"user": "1", "watched": ["a"], "hue": [1]}
    assert {one.item: one.fields for one in decision.shown} == {one: {"item": one} for one in "abc"}
    assert told.rung is Rung.FULL
    assert figure(service, 'umbel_failures_total{part="attributes"} 3.0')  # age and the item's list, and that list again


@pytest.mark.parametrize("sent", [
    RankRequest(items=["a"], user_id="1", user={"age": "old"}), RankRequest(items=["a"], user_id="1", context={"age": "old"}),
    RankRequest(items=["a", Candidate("b", {"watched": 3})], user_id="1"),
])  # fmt: skip
def test_what_is_sent_and_nobody_can_read_is_refused(service: Service, sent: RankRequest) -> None:
    service.store.users.put([Known(id="1", fields={"age": 3}, time=1)])
    for _ in range(2):
        with pytest.raises(UserError, match=r"fields\.(age|watched): "):
            ranked(service, sent)
        service.store.users.put([Known(id="1", fields={"age": "old"}, time=2)])
        service.users.fetch(["1"])
    assert not figure(service, "attributes")


def test_a_shadow_reads_what_it_can(folder: Path, tmp_path: Path) -> None:
    async def go(service: Service) -> None:
        await service.rank(RankRequest(items=["a"], user_id="1"), monotonic())
        await asyncio.sleep(0)

    with Store(tmp_path / "umbel.db") as store:
        store.users.put([Known(id="1", fields={"age": "old"}, time=1)])
        first = State(stable=str(folder), shadow=str(folder))
        service = Service(store, Serving(first=first, ordering=Ordering(order=Order()), budget=BUDGET))
        asyncio.run(go(service))
        assert figure(service, 'umbel_rungs_total{label="shadow",rung="full"} 1.0')
        assert not figure(service, 'part="service"')
