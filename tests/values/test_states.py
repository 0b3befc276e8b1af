"""A user's own state at a request: from what the store knows by now, kept while nothing is new, gone with the user, never waited for."""

from __future__ import annotations

import asyncio
import hashlib
import time as clock
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.coldserve import FEEDBACK, IDS, ITEMS, MINUTE, rows, show, tell
from tests.coldserve import served as a_bundle

from umbel.data.raw import encoded
from umbel.errors import UserError
from umbel.feedback import Amount, Rule
from umbel.learn.ladder import Ladder, Rung, UserState
from umbel.serve.records import Event
from umbel.serve.served import Served
from umbel.serve.states import ENTRY, How, Personal, States, again
from umbel.serve.store.labels import END
from umbel.serve.store.store import Store

T = 1_000_000_000
LOUD = {"i0": 5.0, "i1": 1.0, "i2": 4.0}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return a_bundle(tmp_path_factory.mktemp("served"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "umbel.db", window=0) as made:
        yield made


class Told:
    """States over a store, and all that they told."""

    def __init__(self, store: Store, room: int = 1 << 20) -> None:
        self.had: list[How] = []
        self.failures: list[Exception] = []
        self.states = States(store.session, count=self.had.append, failed=self.failures.append, room=room)

    def within(self, served: Served, user: str = "77", *, seconds: float = 60.0) -> Personal | None:
        return asyncio.run(self.states.within(served, user, END, seconds=seconds))


def of(store: Store, served: Served, user: str = "77") -> UserState:
    """The user's state; there is one."""
    state = Told(store).states.of(served, user, END)[0].state
    assert state is not None
    return state


def same(one: UserState | None, other: UserState) -> None:
    assert one is not None
    assert (one.rung, one.rows) == (other.rung, other.rows)
    assert one.lean is not None
    assert other.lean is not None
    torch.testing.assert_close(one.lean, other.lean, rtol=1e-5, atol=1e-6)


def test_of_whom_nothing_is_known_the_shared_model_answers(store: Store, served: Served) -> None:
    told = Told(store)
    assert told.within(served) == Personal(served.name, None, replace(told.states.of(served, "77", END)[0].adapted, rows=0))
    show(store, "77", IDS[:4], time=T)
    found = told.within(served)
    assert found is not None
    assert (found.state, found.adapted.rung, found.adapted.rows, found.adapted.seal) == (None, "content", 0, "")
    assert told.had == [How.NONE, How.NONE]


def test_events_are_rows_of_the_user_at_once(store: Store, served: Served) -> None:
    """Those with an event alone: of the others nobody knows yet whether one will come."""
    show(store, "77", IDS[:6], time=T)
    tell(store, "77", LOUD, time=T + 5)
    tell(store, "77", {"i0": 1.0}, time=T + 6, kind="click")
    by_hand = rows("77", {"i0": (5.0, 1.0), "i1": (1.0, None), "i2": (4.0, None)})
    same(of(store, served), served.bundle.adapt(by_hand))


def test_that_nothing_came_is_a_label_once_its_window_has_closed(store: Store, served: Served) -> None:
    """By the clock of the events, of anybody's."""
    show(store, "77", IDS[:3], time=T)
    tell(store, "77", {"i0": 5.0}, time=T + 5)
    tell(store, "8", {"i0": 1.0}, time=T + 11 * MINUTE - 1)
    assert of(store, served).rows == 1
    tell(store, "8", {"i0": 1.0}, time=T + 11 * MINUTE)
    first = dict.fromkeys(IDS[1:3], (None, 0.0))
    same(of(store, served), served.bundle.adapt(rows("77", {"i0": (5.0, 0.0), **first})))
    tell(store, "8", {"i0": 1.0}, time=T + 31 * MINUTE)
    second = dict.fromkeys(IDS[1:3], (0.0, 0.0))
    same(of(store, served), served.bundle.adapt(rows("77", {"i0": (5.0, 0.0), **second})))


def test_the_latest_rating_of_an_item_counts(store: Store, served: Served) -> None:
    show(store, "77", IDS[:3], time=T)
    tell(store, "77", {"i0": 5.0}, time=T + 5)
    tell(store, "77", {"i0": 2.0}, time=T + 9)
    tell(store, "77", {"i0": 3.0}, time=T + 7)
    same(of(store, served), served.bundle.adapt(rows("77", {"i0": (2.0, None)})))


def test_what_belongs_to_nothing_that_was_shown_does_not_count(store: Store, served: Served) -> None:
    show(store, "77", IDS[:3], time=T)
    tell(store, "77", {"i9": 5.0}, time=T + 5)  # never shown
    tell(store, "77", {"i0": 5.0}, time=T - 5)  # before it was shown
    tell(store, "8", {"i0": 5.0}, time=T + 5)   # another user's
    tell(store, "77", {"i1": 5.0}, time=T + 5, kind="hide")
    assert Told(store).states.of(served, "77", END)[0].state is None


def test_an_event_that_names_the_request_alone_is_its_users(store: Store, served: Served) -> None:
    request = show(store, "77", IDS[:3], time=T)
    store.record([Event(id="e", kind="rate", item="i0", time=T + 1, request=request, value=4.0)], received=T + 1).result()
    same(of(store, served), served.bundle.adapt(rows("77", {"i0": (4.0, None)})))


def test_the_second_answer_is_from_what_was_kept_until_something_is_new(store: Store, served: Served) -> None:
    told = Told(store)
    show(store, "77", IDS[:4], time=T)
    tell(store, "77", LOUD, time=T + 5)
    first, second = told.within(served), told.within(served)
    assert second is first
    show(store, "77", IDS[:4], time=T + 9)  # nothing is known of what it shows
    assert told.within(served) is first
    tell(store, "77", {"i0": 1.0}, time=T + 10)
    third = told.within(served)
    assert third is not None
    assert third.state is not None
    assert third is not first
    tell(store, "8", {"i0": 1.0}, time=T + 60 * MINUTE)  # the windows close
    fourth = told.within(served)
    assert fourth is not None
    assert fourth.adapted.rows > third.adapted.rows
    assert told.had == [How.MADE, How.KEPT, How.KEPT, How.MADE, How.MADE]
    assert not told.failures


def test_a_restart_makes_the_same_state(store: Store, served: Served) -> None:
    show(store, "77", IDS[:4], time=T)
    tell(store, "77", LOUD, time=T + 5)
    one, other = (Told(store).states.of(served, "77", END)[0] for _ in range(2))
    assert one.adapted == other.adapted
    assert one.state is not None
    assert other.state is not None
    assert one.state.to_bytes() == other.state.to_bytes()


def test_users_and_bundles_are_kept_apart(store: Store, served: Served) -> None:
    told, other = Told(store), replace(served, name="other", bundle=replace(served.bundle, ladder=replace(_ladder(served), strength=9.0)))
    for user in ("77", "78"):
        show(store, user, IDS[:4], time=T)
    tell(store, "77", LOUD, time=T + 5)
    tell(store, "78", {one: 6 - rating for one, rating in LOUD.items()}, time=T + 5)
    leans = [told.states.of(bundle, user, END)[0].state for bundle in (served, other) for user in ("77", "78")]
    for number, one in enumerate(leans):
        for another in leans[number + 1 :]:
            assert one is not None
            assert another is not None
            assert one.lean is not None
            assert another.lean is not None
            assert not torch.allclose(one.lean, another.lean)


def _ladder(served: Served) -> Ladder:
    assert served.bundle.ladder is not None
    return served.bundle.ladder


def test_the_room_is_bounded_and_the_oldest_goes(store: Store, served: Served) -> None:
    told = Told(store, room=2 * (ENTRY + 4 * 2 * 6))
    for user in ("1", "2", "3"):
        show(store, user, IDS[:4], time=T)
        tell(store, user, LOUD, time=T + 5)
        told.within(served, user)
    for user in ("3", "2", "1"):
        told.within(served, user)
    assert told.had == [How.MADE] * 3 + [How.KEPT] * 2 + [How.MADE]


def test_whoever_is_erased_is_forgotten(store: Store, served: Served) -> None:
    told = Told(store)
    for user in ("77", "78"):
        show(store, user, IDS[:4], time=T)
        tell(store, user, LOUD, time=T + 5)
        told.within(served, user)
    assert not told.states.refresh()
    store.erase("77")
    assert told.states.refresh()
    assert not told.states.refresh()
    assert told.states._kept == {}
    assert told.states._bytes == 0
    found = told.within(served)
    assert found is not None
    assert found.state is None
    told.within(served, "78")
    assert told.had == [How.MADE, How.MADE, How.NONE, How.MADE]


def test_an_erased_user_is_not_answered_from_what_was_kept_even_before_that_is_noticed(store: Store, served: Served) -> None:
    told = Told(store)
    show(store, "77", IDS[:4], time=T)
    tell(store, "77", LOUD, time=T + 5)
    told.within(served)
    store.erase("77")
    found = told.within(served)
    assert found is not None
    assert found.state is None
    assert told.states._kept == {}


def test_a_state_made_while_its_user_was_erased_is_not_kept(store: Store, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(store)
    show(store, "77", IDS[:4], time=T)
    tell(store, "77", LOUD, time=T + 5)
    honest = type(served.bundle).adapt

    def meanwhile(bundle: object, frame: pl.DataFrame) -> UserState:
        store.erase("77")
        told.states.refresh()
        return honest(bundle, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(type(served.bundle), "adapt", meanwhile)
    told.within(served)
    assert told.states._kept == {}


def test_a_logged_state_can_be_had_again_whatever_came_after(store: Store, served: Served) -> None:
    told = Told(store)
    show(store, "77", IDS[:4], time=T)
    tell(store, "77", LOUD, time=T + 5)
    first = told.states.of(served, "77", (T + 6, "now"))[0]
    show(store, "77", IDS[:4], time=T + 10)
    tell(store, "77", {"i0": 1.0, "i3": 2.0}, time=T + 12)
    tell(store, "8", {"i0": 1.0}, time=T + 60 * MINUTE)
    second = told.states.of(served, "77", END)[0]
    for one in (first, second):
        assert one.state is not None
        found = again(store.session, served, one.adapted, user="77")
        assert found is not None
        assert found.to_bytes() == one.state.to_bytes()
    assert again(store.session, served, replace(second.adapted, clock=first.adapted.clock), user="77") is None
    store.erase("77")
    assert again(store.session, served, first.adapted, user="77") is None


def test_rows_that_the_bundle_cannot_read_are_told_and_the_shared_model_answers(store: Store, served: Served) -> None:
    told = Told(store)
    show(store, "77", IDS[:4], time=T)
    tell(store, "77", {"i0": 3.0}, time=T)
    rules = (Rule(task="click", window=MINUTE, positive_when="kind = 'rate'", value=Amount.LAST),)
    assert told.within(replace(served, bundle=replace(served.bundle, feedback=replace(FEEDBACK, rules=rules)))) is None
    assert told.had == [How.REFUSED]
    assert isinstance(told.failures[0], UserError)
    assert "tasks.click: label 3" in str(told.failures[0])


def test_who_is_late_is_answered_without_and_had_the_next_time(
    store: Store, served: Served, monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told(store)
    show(store, "77", IDS[:4], time=T)
    tell(store, "77", LOUD, time=T + 5)
    honest = type(served.bundle).adapt

    def slow(bundle: object, frame: pl.DataFrame) -> UserState:
        clock.sleep(0.2)
        return honest(bundle, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(type(served.bundle), "adapt", slow)
    assert told.within(served, seconds=0.02) is None  # asyncio.run waits for its threads
    found = told.within(served)
    assert found is not None
    assert found.state is not None
    assert told.had == [How.LATE, How.KEPT]


def test_a_store_that_does_not_answer_is_told(store: Store, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from umbel.serve import states
    from umbel.serve.store.engine import UnavailableError

    def gone(*_: object) -> int:
        raise UnavailableError("umbel.db: gone", mend="wait")

    told = Told(store)
    monkeypatch.setattr(states, "latest", gone)
    assert told.within(served) is None
    assert told.had == [How.LATE]
    assert str(told.failures[0]) == "umbel.db: gone; wait"


@pytest.mark.parametrize("lacks", ["ladder", "feedback"])
def test_a_bundle_that_does_not_adapt_asks_nothing_of_the_store(store: Store, served: Served, lacks: str) -> None:
    told = Told(store)
    store.close()
    plain = replace(served, bundle=replace(served.bundle, **{lacks: None}))  # type: ignore[arg-type]
    assert told.within(plain) is None
    assert told.had == []


def test_a_bundle_without_rules_of_labels_says_so(store: Store, served: Served) -> None:
    plain = replace(served, bundle=replace(served.bundle, feedback=None))
    with pytest.raises(UserError, match="no rules of labels; add feedback"):
        Told(store).states.of(plain, "77", END)
    one = Told(store).states.of(served, "77", END)[0].adapted
    with pytest.raises(UserError, match="no rules of labels"):
        again(store.session, plain, one, user="77")


def test_64_threads_get_what_one_gets_and_leave_the_bundle_as_it_was(store: Store, served: Served) -> None:
    users = [str(100 + number) for number in range(8)]
    for number, user in enumerate(users):
        show(store, user, IDS[:6], time=T)
        tell(store, user, {one: float(1 + (number + place) % 5) for place, one in enumerate(IDS[:4])}, time=T + 5)
    alone = {user: of(store, served, user).to_bytes() for user in users}
    before = digest(served)
    states = Told(store, room=3 * ENTRY).states  # so that they are thrown out, too

    def same_as_alone(number: int) -> bool:
        state = states.of(served, users[number % 8], END)[0].state
        assert state is not None
        found = served.bundle.predict(encoded(rows(users[number % 8], dict.fromkeys(IDS, (None, None))), served.bundle.encoder), state)
        return state.to_bytes() == alone[users[number % 8]] and bool(np.isfinite(found).all())

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(same_as_alone, range(256)))
    assert digest(served) == before
    assert states._bytes == sum(entry[2] for entry in states._kept.values()) <= 3 * ENTRY


def digest(served: Served) -> str:
    files = sorted(path for path in served.folder.rglob("*") if path.is_file())
    weights = [one.numpy().tobytes() for one in served.bundle.model.state_dict().values()]
    return hashlib.sha256(b"".join([*(path.read_bytes() for path in files), *weights])).hexdigest()


def test_a_user_whom_training_knows_by_id_is_answered_by_id(store: Store, served: Served) -> None:
    known = replace(served, bundle=replace(served.bundle, ladder=replace(_ladder(served), known=8)))
    show(store, "0", IDS[:4], time=T)
    tell(store, "0", LOUD, time=T + 5)
    found = Told(store).states.of(known, "0", END)[0]
    assert found.state is not None
    assert (found.state.rung, found.adapted.rung) == (Rung.ID, "id")
    shared, items = {"user": "0", "age": "a0"}, [ITEMS[one] for one in IDS]
    assert np.array_equal(known.reader.predict(shared, items, found.state), known.reader.predict(shared, items))


def test_online_is_offline(store: Store, served: Served) -> None:
    """What the reader says by the state is what the bundle says of the same rows by it."""
    show(store, "77", IDS[:6], time=T)
    tell(store, "77", LOUD, time=T + 5)
    state = of(store, served)
    frame = rows("77", dict.fromkeys(IDS, (None, None)))
    online = served.reader.predict({"user": "77", "age": "a1"}, [ITEMS[one] for one in IDS], state)
    by_hand = served.bundle.adapt(rows("77", {one: (rating, None) for one, rating in LOUD.items()}))
    offline = served.bundle.predict(encoded(frame, served.bundle.encoder), by_hand)
    np.testing.assert_allclose(online, offline, atol=1e-6, rtol=0)
    shared = served.reader.predict({"user": "77", "age": "a1"}, [ITEMS[one] for one in IDS])
    assert np.abs(online - shared).max() > 1e-3
