"""A look in parts, by hand: a canary that fails is dropped first, a part that fails is an alarm and spares the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tests.logs import SPLIT, source
from tests.told import decision
from tests.values.test_bundle import EVERY, RICH, made

from umbel.data.ingest import ingest
from umbel.errors import UserError
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.run.drifting import Finding
from umbel.run.profile import profile
from umbel.serve.bundles import Ordering
from umbel.serve.monitor import watch as module
from umbel.serve.monitor.guard import Guard
from umbel.serve.monitor.recent import drifts
from umbel.serve.monitor.rescored import Rescored
from umbel.serve.monitor.watch import Watch
from umbel.serve.order import Order
from umbel.serve.records import Value
from umbel.serve.requests import RankRequest
from umbel.serve.service import Service, Serving
from umbel.serve.store.facts import FOUND, get
from umbel.serve.store.labels import START
from umbel.serve.store.store import Store
from umbel.serve.wanted import State, saved

CLICK = Fusion((Term("click", Linear(1.0)),), "clicks")
BAD = Finding("guard click", True, "guard click: worse", 2.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that keeps how its training rows were spread."""
    root = tmp_path_factory.mktemp("parts")
    table = ingest(source(root, RICH), EVERY, SPLIT, folder=root / "table")
    bundle = made(table)
    spread = profile(table, bundle.columns, np.zeros((10, 4)), model=bundle.model)
    replace(bundle, fusion=CLICK, profile=spread).save(root / "a", golden=table.golden())
    return root / "a"


@pytest.fixture
def service(folder: Path, tmp_path: Path) -> Iterator[Service]:
    first = State(stable=str(folder), canary=str(folder), share=0.5)
    with Store(tmp_path / "umbel.db") as store:
        yield Service(store, Serving(first=first, ordering=Ordering(order=Order()), budget=60.0))


def ask(service: Service, *contexts: Mapping[str, Value]) -> None:
    async def go() -> None:
        for one in contexts:
            answer = await service.rank(RankRequest(items=["1", "2"], context=dict(one)), monotonic())  # type: ignore[arg-type]
            assert answer.logged

    asyncio.run(go())


def told(service: Service) -> dict[str, bool]:
    """What was found last, and whether it is an alarm."""
    found = get(service.store.session, FOUND)
    assert found is not None
    return {one["what"]: one["alarm"] for one in found["findings"]}


def broken(*args: object) -> object:
    raise UserError("tags: a list and a single value", mend="none")


def test_lists_and_single_values_of_one_column_drift_together(service: Service) -> None:
    """Each was a request that was answered."""
    sent: list[dict[str, Value]] = [{"tags": ["x", "y"]}, {"tags": "x"}, {"tags": []}, {}, {"tags": ["y"], "age": 20.0}]
    served = service.bundles.stable.served
    ask(service, *sent)
    found = {one.what: one for one in drifts(service.store.session, served)}
    assert {"tags", "age", "item", "prediction click"} <= set(found)
    assert "requests" not in found
    assert all("5 rows, too few to judge (200 needed)" in one.says for one in found.values()), "every request is counted once"


def test_a_request_that_cannot_be_read_again_is_left_out_and_told(service: Service) -> None:
    served = service.bundles.stable.served
    made = decision("r0", "1", time=5)
    service.store.log(replace(made, bundle=served.name, fields={"age": "old"})).result()
    found = drifts(service.store.session, served)
    assert [(one.what, one.says) for one in found] == [("requests", "requests: 1 of the latest 1 cannot be read again")]
    ask(service, {"age": 20.0}, {})
    found = drifts(service.store.session, served)
    assert found[-1].says == "requests: 1 of the latest 3 cannot be read again"
    assert all("2 rows, too few to judge (200 needed)" in one.says for one in found if one.what in ("age", "item", "tags"))
    assert len(found) > 5
    service.metrics.watched.lately(found, [], found)
    text = service.metrics.text().decode()
    assert 'umbel_drift_psi{what="age"}' in text
    assert 'umbel_drift_psi{what="requests"}' not in text, "it is no index"


@pytest.mark.parametrize("fails", [None, "drifts", "qualities"])
def test_a_canary_with_an_alarm_is_dropped_whatever_else_fails(
    service: Service, monkeypatch: pytest.MonkeyPatch, fails: str | None
) -> None:
    monkeypatch.setattr(Guard, "look", lambda *_: (BAD,))
    if fails is not None:
        monkeypatch.setattr(module, fails, broken)
    found = asyncio.run(Watch(service, every=1.0).look())
    assert BAD in found
    state = saved(service.store)
    assert state is not None
    assert (state.canary, set(service.bundles.labels)) == (None, {"stable"})
    assert told(service)["guard click"]


@pytest.mark.parametrize(("part", "what"), [
    ("drifts", "drift"), ("qualities", "quality"), ("Rescored.read", "skew"), ("Guard.look", "guard"),
])  # fmt: skip
def test_a_part_that_fails_is_an_alarm_of_its_own_until_it_does_not(
    service: Service, monkeypatch: pytest.MonkeyPatch, part: str, what: str
) -> None:
    ask(service, {"age": 20.0})
    watch = Watch(service, every=1.0)
    watch._rescored = Rescored(START)
    with monkeypatch.context() as patched:
        patched.setattr(f"umbel.serve.monitor.watch.{part}", broken)
        found = {one.what: one for one in asyncio.run(watch.look())}
        assert found[what].says == f"{what}: could not be looked at (UserError); the log of the service says why"
        assert told(service)[what]
        assert ("age" in told(service)) == (what != "drift"), "the others were looked at"
        assert f'umbel_alarm{{what="{what}"}} 1.0' in service.metrics.text().decode()
    assert set(service.bundles.labels) == {"stable", "canary"}, "what could not be looked at drops nobody"
    asyncio.run(watch.look())
    assert not told(service).get(what)
    assert f'umbel_alarm{{what="{what}"}} 0.0' in service.metrics.text().decode()
    assert "age" in told(service)
