"""What a service knows of users and items by its store: it is not waited for until nothing can be predicted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from tests.untrained import bundle

from umbel.serve.bundles import Ordering, State
from umbel.serve.order import Order
from umbel.serve.records import Rung, Value
from umbel.serve.requests import RankAnswer, RankRequest
from umbel.serve.service import Service, Serving
from umbel.serve.store.store import Store

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
