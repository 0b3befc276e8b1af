"""What is read of a store to watch a service, on every engine: pages in order, the same sample for all, one holder of a lease."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.stores import Open
from tests.told import RULES, decision, event

from umbel.serve.monitor.guard import SETTLES, Guard
from umbel.serve.monitor.guarded import Guarded
from umbel.serve.records import Adapted, Rung, request_id
from umbel.serve.store import Store
from umbel.serve.store.facts import get, lease, put, swap
from umbel.serve.store.labels import START, among_latest
from umbel.serve.store.sampled import SAMPLED, latest, sampled
from umbel.serve.store.session import Session, now
from umbel.serve.store.visits import answered
from umbel.serve.wanted import State

COUNT = 120
BEGIN = 1_700_000_000_000


@pytest.fixture
def store(fresh: Open) -> Iterator[Store]:
    with Store(fresh()) as made:
        yield made


def filled(store: Store, *, seed: int = 0) -> list[tuple[int, str]]:
    """Decisions written in any order, several at one moment; time and request of each in the order of time."""
    draw = random.Random(seed)
    made = [(BEGIN + draw.randrange(40), f"{request_id(BEGIN)[:29]}{draw.choice(['000', '028', '029', 'fff'])}") for _ in range(COUNT)]
    for time, request in draw.sample(made, len(made)):
        store.log(replace(decision(request, "i1", "i2", time=time, user=f"u{draw.randrange(9)}"), arm=draw.choice(["stable", "canary"])))
    store.record([event(time=BEGIN)], received=BEGIN).result()
    return sorted(made)


def test_answers_come_in_the_order_of_time_and_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = filled(store)
    for size in (1, 7, COUNT, COUNT + 1):
        monkeypatch.setattr("umbel.serve.store.visits.PAGE", size)
        pages = list(answered(store.session, START, BEGIN + 1_000))
        assert [(one.time, one.request) for page in pages for one in page] == made
        assert all(len(page) <= size for page in pages)
    rest = [one.request for page in answered(store.session, made[50], BEGIN + 1_000) for one in page]
    assert rest == [request for _, request in made[51:]]
    until = made[70][0]
    assert [one.time for page in answered(store.session, START, until) for one in page] == [time for time, _ in made if time <= until]


def test_the_sample_is_that_of_the_ids(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = filled(store)
    wanted = [request for _, request in made if request[-3:] < SAMPLED]
    assert 0 < len(wanted) < COUNT
    for size in (3, COUNT):
        monkeypatch.setattr("umbel.serve.store.sampled.PAGE", size)
        found = [one for page in sampled(store.session, ["b"], after=START, until=BEGIN + 1_000) for one in page]
        assert [one.request for one in found] == wanted
        assert all([each.item for each in one.shown] == ["i1", "i2"] for one in found)


def test_what_the_model_was_not_asked_for_is_not_sampled(store: Store) -> None:
    for number, rung in enumerate(Rung):
        store.log(replace(decision(f"{number:029x}000", "i1", time=BEGIN), rung=rung)).result()
    own = Adapted(rung="last", rows=2, clock=BEGIN, until=BEGIN, before=(BEGIN, "x"), seal="s")
    store.log(replace(decision("9" * 29 + "000", "i1", time=BEGIN), adapted=own)).result()
    found = [one.rung for page in sampled(store.session, ["b"], after=START, until=BEGIN) for one in page]
    assert found == [Rung.FULL, Rung.FEWER, Rung.FULL], "and what was adapted to its user is"
    assert {one.rung for one in latest(store.session, "b", 9)} == {Rung.FULL, Rung.FEWER}


def test_the_latest_are_behind_the_cursor_of_so_many(store: Store) -> None:
    made = filled(store)
    assert [one.request for one in latest(store.session, "b", 5)] == [request for _, request in made[:-6:-1]]
    for count in (1, 10, COUNT - 1):
        assert among_latest(store.session, BEGIN + 1_000, count) == made[-count - 1]
    assert among_latest(store.session, BEGIN + 1_000, COUNT) == START
    assert among_latest(store.session, BEGIN - 1, 1) == START


def test_of_many_who_want_a_lease_at_once_one_has_it(store: Store, fresh: Open) -> None:
    until = now() + 60_000

    def ask(holder: str) -> bool:
        return lease(store.session, "watch", holder=holder, until=until)

    with ThreadPoolExecutor(4) as pool:
        held = list(pool.map(ask, [f"h{number}" for number in range(12)]))
    assert sum(held) == 1
    content = get(store.session, "watch")
    assert content == {"holder": f"h{held.index(True)}", "until": until}
    with Store(fresh()) as other:
        assert lease(other.session, "watch", holder="x", until=until), "another store has leases of its own"


def test_a_lease_that_has_run_out_is_free(store: Store) -> None:
    session: Session = store.session
    put(session, "watch", {"holder": "gone", "until": now() - 1})
    assert lease(session, "watch", holder="next", until=now() + 60_000)


@pytest.mark.parametrize("number", [None, 3])
def test_of_many_who_change_a_fact_at_once_one_does(store: Store, number: int | None) -> None:
    if number is not None:
        put(store.session, "service", {"number": number})

    def change(whose: int) -> bool:
        return swap(store.session, "service", {"number": 4, "whose": whose}, number=number)

    with ThreadPoolExecutor(4) as pool:
        changed = list(pool.map(change, range(12)))
    assert sum(changed) == 1
    assert get(store.session, "service") == {"number": 4, "whose": changed.index(True)}
    assert not swap(store.session, "service", {"number": 5}, number=None), "there is one"
    assert not swap(store.session, "another", {"number": 5}, number=4), "there is none"
    assert get(store.session, "another") is None


def test_every_engine_comes_to_the_same_findings(store: Store) -> None:
    """A guard reads through the same store as a log is collected from."""
    state = State(stable="s", canary="c", share=0.5, since=BEGIN - SETTLES, session=0)
    sent = [event("tick", "none", time=BEGIN + 5_000)]
    for number in range(100):
        canary = number % 2 == 1
        made = decision(f"r{number:03}", "i1", time=BEGIN + number, user=f"u{number}")
        store.log(replace(made, arm="canary" if canary else "stable"))
        if not canary:
            sent.append(event(f"e{number}", time=BEGIN + number + 1, user=None, request=f"r{number:03}"))
    store.record(sent, received=BEGIN + 5_000).result()
    found = Guard(state, [Guarded(RULES.rules[0])], RULES).look(store.session, BEGIN + 9_000)
    assert [(one.what, one.alarm) for one in found] == [("guard click", True), ("guard degraded", False), ("guard sample ratio", False)]
    assert "canary 0.0000 of 50 users, stable 1.0000 of 50 users" in found[0].says
