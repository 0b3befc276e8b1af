"""Laws of recommending, whatever is asked: no item twice, none that a filter leaves out, no more than wanted, and chances that multiply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.retrieving import ITEMS, TASTES, planted
from tests.untrained import bundle

from umbel.errors import UserError
from umbel.run.run import train
from umbel.run.settings import read
from umbel.serve.bundles import Ordering
from umbel.serve.order import Order
from umbel.serve.recommend import recommend as module
from umbel.serve.recommend.asked import Filters, RecommendAnswer, RecommendRequest
from umbel.serve.recommend.recommend import recommend
from umbel.serve.records import Event, Known, Rung
from umbel.serve.served import Served
from umbel.serve.service import Service, Serving
from umbel.serve.store.engine import UnavailableError
from umbel.serve.store.session import now
from umbel.serve.store.store import Store
from umbel.serve.wanted import State

NEW = 12
MET = ("0", "5", "8", f"{ITEMS + 1}")  # items of which user 1 has events
TEMPERATURE = 0.4


def attributes(one: int) -> dict[str, Any]:
    return {"kind": one % TASTES, "price": float(one) ** 0.5, "colour": ["red", "blue"] if one % 3 else "red", "hidden": one % 17 == 4}


@dataclass(frozen=True)
class Setting:
    """A service, and the store behind it."""

    service: Service
    store: Store

    def __call__(self, sent: RecommendRequest) -> RecommendAnswer:
        return asyncio.run(recommend(self.service, sent, monotonic()))


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """A bundle that retrieves, over all items of training and some that are new."""
    folder = tmp_path_factory.mktemp("laws")
    train(read(planted(folder, epochs=2)), folder / "run")
    with Store(folder / "umbel.db") as store:
        store.items.put([Known(id=str(one), fields=attributes(one), time=one) for one in range(ITEMS + NEW)])
        events = [Event(id=one, kind="click", item=one, user="1", time=now()) for one in MET]
        assert all(one.reason is None for one in store.record(events).result())
        yield Setting(service(store, folder / "run" / "bundle"), store)


def service(store: Store, folder: Path) -> Service:
    return Service(store, Serving(first=State(stable=str(folder)), ordering=Ordering(order=Order(TEMPERATURE)), budget=1e6))


def picked(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(values), st.lists(st.sampled_from(values), max_size=3))


RULES = st.fixed_dictionaries({}, optional={
    "kind": picked([0, 1, 2, 3, 9]), "colour": picked(["red", "blue", "green"]), "nothing": picked([1]), "hidden": st.booleans(),
})  # fmt: skip
FILTERS = st.builds(
    Filters, seen=st.booleans(), hidden=st.lists(st.sampled_from([str(one) for one in range(0, ITEMS + NEW, 7)]), max_size=9), where=RULES,
    exclude=RULES,
)  # fmt: skip
SENT = st.builds(
    RecommendRequest, user_id=st.sampled_from([None, "1", "2", "nobody"]), n=st.integers(1, 200), filters=FILTERS,
    personalization=st.sampled_from(["on", "off"]), user=st.sampled_from([{}, {"taste": 2}]), seed=st.none() | st.integers(0, 9),
)  # fmt: skip


def allowed(one: int, sent: RecommendRequest) -> bool:
    """Whether an item may be shown, by a loop over rules."""
    fields = attributes(one)

    def holds(name: str, wanted: object) -> bool:
        value = fields.get(name)
        own = value if isinstance(value, list) else [value]
        among = wanted if isinstance(wanted, list) else [wanted]
        return any(a == b and isinstance(a, bool) == isinstance(b, bool) for a in own for b in among)

    filters = sent.filters
    seen = sent.user_id == "1" and sent.personalization == "on" and filters.seen and str(one) in MET
    if fields["hidden"] or seen or str(one) in filters.hidden:
        return False
    return all(holds(*rule) for rule in filters.where.items()) and not any(holds(*rule) for rule in filters.exclude.items())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SENT)
def test_nothing_twice_nothing_left_out_and_no_more_than_wanted(near: Setting, sent: RecommendRequest) -> None:
    answer = near(sent)
    shown = [one.item_id for one in answer.items]
    may = {str(one) for one in range(ITEMS + NEW) if allowed(one, sent)}
    assert len(set(shown)) == len(shown)
    assert set(shown) <= may
    assert len(shown) <= sent.n
    assert (not shown) == (not may)
    assert [one.position for one in answer.items] == list(range(len(shown)))
    assert all(one.sources and set(one.sources) <= set(answer.candidates) for one in answer.items)
    assert ("nearest" in answer.candidates) == bool(sent.personalization == "on" and may)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SENT)
def test_chances_are_those_of_a_draw_among_the_candidates(near: Setting, sent: RecommendRequest) -> None:
    answer = near(sent)
    if not answer.items:
        return
    decision = near.store.decision(answer.request_id)
    assert decision is not None
    assert decision.candidates is not None
    assert [(one.item, list(one.sources)) for one in decision.shown] == [(one.item_id, one.sources) for one in answer.items]
    left = dict(zip(decision.candidates.items, decision.candidates.fused.astype(float) / TEMPERATURE, strict=True))
    for one in answer.items:
        chance = 1 / np.exp(np.array(list(left.values())) - left[one.item_id]).sum()
        assert one.propensity == (None if sent.seed is not None else pytest.approx(chance, rel=1e-3))
        del left[one.item_id]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SENT)
def test_one_seed_gives_one_list(near: Setting, sent: RecommendRequest) -> None:
    again = replace(sent, seed=sent.seed or 0)
    one, other = near(again), near(again)
    assert one.items == other.items
    assert one.candidates == other.candidates


def test_a_store_that_does_not_tell_events_fails_no_answer(near: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Store, user: str, *, since: int, most: int) -> list[Event]:
        raise UnavailableError("gone", mend="wait")

    monkeypatch.setattr(Store, "history", gone)
    answer = near(RecommendRequest(user_id="1", n=200))
    assert answer.rung is Rung.FULL
    assert len(answer.items) > 100
    assert answer.candidates["similar"] == 0
    assert b'umbel_failures_total{part="store"}' in near.service.metrics.text()


def test_a_user_whose_attributes_cannot_be_read_is_recommended_to_as_one_without(near: Setting) -> None:
    near.store.users.put([Known(id="5", fields={"taste": ["x"], "price": 2.0}, time=1)])
    answer, other = near(RecommendRequest(user_id="5", seed=1)), near(RecommendRequest(user_id="5", user={"taste": None}, seed=1))
    assert (answer.rung, len(answer.items)) == (Rung.FULL, 20)
    assert [one.item_id for one in answer.items] == [one.item_id for one in other.items]
    assert answer.candidates["nearest"] == 100
    with pytest.raises(UserError, match="taste"):
        near(RecommendRequest(user_id="5", user={"taste": ["x"]}))


def test_more_is_brought_where_more_is_wanted(near: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EACH", 5)
    few, many = (near(RecommendRequest(n=n, filters=Filters(seen=False))).candidates for n in (1, 40))
    assert (few["nearest"], few["popular"], few["new"]) == (5, 5, 5)
    assert (many["nearest"], many["popular"]) == (40, 40)


def test_a_bundle_without_retrieval_answers_by_popularity_and_what_is_new(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    with Store(tmp_path / "umbel.db") as store:
        served = Setting(service(store, folder), store)
        bare = served(RecommendRequest(user_id="1"))
        assert {one.item_id for one in bare.items} == {"a", "b", "c"}
        assert bare.candidates == {"popular": 3, "new": 0}
        store.items.put([Known(id="b", time=now()), Known(id="x", time=now())])
        served.service.items.refresh(now(), tell=partial(served.service.shelves.follow, serving=served.service.bundles.loaded))
        assert served(RecommendRequest(user_id="1")).candidates == {"popular": 1, "new": 1}


def test_where_nothing_is_known_that_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(tmp_path)
    with Store(tmp_path / "umbel.db") as store:
        monkeypatch.setattr(Served, "items", property(lambda self: []))
        empty = Setting(service(store, folder), store)
        with pytest.raises(UserError, match=r"items: the store has none.*; PUT /v1/items/\{id\} first"):
            empty(RecommendRequest(user_id="1"))
