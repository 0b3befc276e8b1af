"""The label table is a function of what happened: not of the order it came in, how often, in what batches, or of crashes between."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from tests.labelled import Told, table
from tests.stores import Open

from umbel.feedback import Amount, Attribution, Feedback, Rule
from umbel.serve.records import Decision, Event, Outcome, Result, Rung, Shown
from umbel.serve.store import Store
from umbel.serve.store.labels import END, Cursor, Extent, label_column, late_column, pages, watermark
from umbel.serve.store.personal import recent, sign

LONG = "UMBEL_LONG"  # how many examples the long run tries
FEEDBACK = Feedback(
    rules=(
        Rule(task="click", window=5, positive_when="kind = 'click'"),
        Rule(task="watch", window=9, positive_when="kind = 'watch' AND value >= 2", value=Amount.SUM),
        Rule(task="most", window=3, positive_when="kind = 'watch'", value=Amount.MAX, attribution=Attribution.REQUEST),
        Rule(task="stars", window=7, positive_when="kind <> 'click'", value=Amount.LAST),
        Rule(task="rated", window=6, positive_when="kind = 'rate'", value=Amount.LAST, range=(1.0, 3.0)),
    ),
    lateness=2,
    skew=2,
)
TESTS = {
    "click": lambda event: event.kind == "click",
    "watch": lambda event: event.kind == "watch" and (event.value or 0) >= 2,
    "most": lambda event: event.kind == "watch",
    "stars": lambda event: event.kind != "click",
    "rated": lambda event: event.kind == "rate",
}
ITEMS, USERS, REQUESTS = ("i1", "i2", "i3"), ("u1", "u2"), tuple(f"r{number}" for number in range(6))
MOMENTS = st.integers(0, 30)

DECISIONS = st.builds(
    lambda request, user, time, items: Decision(
        request=request, user=user, time=time, bundle="b", fusion="f", rung=Rung.FULL, shown=tuple(Shown(item=item) for item in items)
    ),
    st.sampled_from(REQUESTS), st.none() | st.sampled_from(USERS), MOMENTS, st.lists(st.sampled_from(ITEMS), unique=True, max_size=3),
)  # fmt: skip
EVENTS = st.builds(
    lambda name, kind, item, time, whose, value: Event(
        id=f"e{name}", kind=kind, item=item, time=time, user=whose[0], request=whose[1], value=value
    ),
    st.integers(0, 25), st.sampled_from(["click", "watch", "rate"]), st.sampled_from(ITEMS), MOMENTS,
    st.tuples(st.sampled_from(USERS), st.none()) | st.tuples(st.none() | st.sampled_from(USERS), st.sampled_from(REQUESTS)),
    st.none() | st.sampled_from([0.0, 1.0, 2.5, 0.1]),
)  # fmt: skip


def told(store: Store, size: int = 2) -> dict[tuple[str, str, str], Told]:
    """The label table of a store, read by small pages."""
    found: dict[tuple[str, str, str], Told] = {}
    for page in pages(store.session, FEEDBACK, Extent(watermark(store.session)), size=size):
        columns = page.frame.to_dict(as_series=False)
        for place, (request, item) in enumerate(zip(columns["request"], columns["item"], strict=True)):
            for one in FEEDBACK.rules:
                key = (request, item, one.task)
                assert key not in found, "a place stands on two pages"
                found[key] = (columns[label_column(one.task)][place], columns[late_column(one.task)][place])
    return found


def known(store: Store, user: str, *, extent: Extent | None = None, before: Cursor = END) -> dict[tuple[str, str, str], Told]:
    """What is known of a user by now, or to an extent and of decisions before a cursor."""
    by = extent or Extent(watermark(store.session))
    with store.session.reading() as connection:
        frame = recent(connection, FEEDBACK, user, extent=by, before=before)
    return {
        (row["request"], row["item"], one.task): (row[label_column(one.task)], row[late_column(one.task)])
        for row in frame.iter_rows(named=True) for one in FEEDBACK.rules
    }  # fmt: skip


def settled(found: dict[tuple[str, str, str], Told]) -> dict[tuple[str, str, str], Told]:
    return {key: value for key, value in found.items() if value[0] is not None}


def machine(fresh: Open) -> type[RuleBasedStateMachine]:
    """A store and a plain model of it, to which the same things happen."""

    class Both(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.place = ""
            self.store: Store | None = None
            self.decisions: dict[str, Decision] = {}
            self.events: dict[str, tuple[Event, int]] = {}
            self.sent: list[Event] = []
            self.now = 30

        @initialize()
        def begin(self) -> None:
            self.place = fresh()
            self.store = Store(self.place, window=0)

        @property
        def open(self) -> Store:
            assert self.store is not None
            return self.store

        @rule(decision=DECISIONS)
        def decide(self, decision: Decision) -> None:
            self.open.log(decision).result()
            self.decisions.setdefault(decision.request, decision)

        @rule(events=st.lists(EVENTS, max_size=6), later=st.integers(0, 5))
        def send(self, events: list[Event], later: int) -> None:
            self.now += later
            assert self.open.record(events, received=self.now).result() == tuple(self.expected(events))
            self.sent.extend(events)

        @precondition(lambda self: self.sent)
        @rule(data=st.data())
        def send_again(self, data: st.DataObject) -> None:
            self.send(data.draw(st.lists(st.sampled_from(self.sent), max_size=5)), later=1)

        @rule(events=st.lists(EVENTS, min_size=1, max_size=4), decision=DECISIONS)
        def crash(self, events: list[Event], decision: Decision) -> None:
            """A transaction that ends before its commit is not acknowledged, and nothing of it is there."""

            def fail(connection: sa.Connection) -> None:
                raise ZeroDivisionError

            engine = self.open.session.engine
            sa.event.listen(engine, "commit", fail)
            try:
                for asked in (self.open.record(events, received=self.now), self.open.log(decision)):
                    assert isinstance(asked.exception(), ZeroDivisionError)
            finally:
                sa.event.remove(engine, "commit", fail)

        @rule()
        def open_again(self) -> None:
            self.open.close()
            self.store = Store(self.place, window=0)

        @invariant()
        def same_table(self) -> None:
            if self.store is not None:
                expected = table(self.decisions, self.events, FEEDBACK, tests=TESTS)
                assert settled(told(self.store)) == settled(expected)

        @invariant()
        def same_of_each_user(self) -> None:
            """What is known of one user by now is the same table, and before a window closes what came."""
            if self.store is not None:
                expected = settled(table(self.decisions, self.events, FEEDBACK, tests=TESTS, early=True))
                for user in USERS:
                    own = {key: one for key, one in expected.items() if self.decisions[key[0]].user == user}
                    assert settled(known(self.store, user)) == own

        def expected(self, events: Sequence[Event]) -> Iterator[Outcome]:
            for event in events:
                if event.id not in self.events:
                    self.events[event.id] = (event, self.now)
                    yield Outcome(event.id, Result.ACCEPTED)
                elif self.events[event.id][0] == event:
                    yield Outcome(event.id, Result.DUPLICATE)
                else:
                    yield Outcome(event.id, Result.REJECTED, "another event has this event_id")

        def teardown(self) -> None:
            if self.store is not None:
                self.store.close()

    return Both


def test_a_store_is_its_model(fresh: Open) -> None:
    examples = int(os.environ.get(LONG, "8"))
    unhurried = settings(max_examples=examples, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine(fresh), settings=unhurried)


@pytest.mark.parametrize("seed", range(3))
def test_any_order_batches_and_retries_give_the_same_table(fresh: Open, seed: int) -> None:
    import random

    draw = random.Random(seed)
    decisions = [
        Decision(request=name, user=draw.choice(USERS), time=draw.randrange(12), bundle="b", fusion="f", rung=Rung.FULL,
                 shown=tuple(Shown(item=item) for item in draw.sample(ITEMS, 2)))
        for name in REQUESTS
    ]  # fmt: skip
    events = [
        Event(id=f"e{number}", kind=draw.choice(["click", "watch", "rate"]), item=draw.choice(ITEMS), time=draw.randrange(30),
              user=draw.choice(USERS), request=draw.choice([None] * 6 + list(REQUESTS)), value=draw.choice([None, 0.1, 2.5]))
        for number in range(40)
    ]  # fmt: skip
    expected = table({one.request: one for one in decisions}, {one.id: (one, 30) for one in events}, FEEDBACK, tests=TESTS)
    for _ in range(3):
        asked: list[Decision | Event] = [*decisions, *events, *draw.choices(events, k=20), *draw.choices(decisions, k=5)]
        draw.shuffle(asked)
        with Store(fresh()) as store:
            futures = [store.log(one) if isinstance(one, Decision) else store.record([one], received=30) for one in asked]
            for one in futures:
                one.result()
            assert settled(told(store, size=draw.randrange(1, 5))) == settled(expected)


@pytest.mark.parametrize("seed", range(6))
def test_what_was_known_of_a_user_can_be_had_again_and_a_sign_tells_when_more_is(fresh: Open, seed: int) -> None:
    """By the clock, the arrivals and the decisions of then, whatever comes after; and while the sign stays, so does what is known."""
    import random

    draw = random.Random(seed)
    known_at: list[tuple[Extent, Cursor, dict[tuple[str, str, str], Told]]] = []
    signs: dict[object, dict[tuple[str, str, str], Told]] = {}
    with Store(fresh()) as store:
        for now in range(1, 50):
            if draw.random() < 0.4:
                shown = tuple(Shown(item=item) for item in draw.sample(ITEMS, 2))
                store.log(Decision(
                    request=f"r{now:03d}", user="u1", time=now, bundle="b", fusion="f", rung=Rung.FULL, shown=shown,
                )).result()  # fmt: skip
            else:
                whose = draw.choice([("u1", None), ("u2", None), (None, f"r{draw.randrange(now):03d}")])
                store.record([Event(
                    id=f"e{now}", kind=draw.choice(["click", "watch", "rate"]), item=draw.choice(ITEMS), user=whose[0], request=whose[1],
                    time=max(0, now + draw.randrange(-4, 1)), value=draw.choice([None, 0.1, 2.5]),
                )], received=now).result()  # fmt: skip
            extent, before = Extent(watermark(store.session), until=now), (now, "~")
            found = known(store, "u1", extent=extent, before=before)
            known_at.append((extent, before, found))
            with store.session.reading() as connection:
                told = sign(connection, FEEDBACK, "u1", clock=extent.clock, before=before)
            assert signs.setdefault(told, found) == found
            assert not (told.empty and settled(found))
        for extent, before, found in known_at:
            assert known(store, "u1", extent=extent, before=before) == found
        assert max(len(found) for _, _, found in known_at) > 8


# one rule at a time, by hand


def one_label(fresh: Open, events: Sequence[tuple[Event, int]], rule: Rule) -> Told:
    feedback = Feedback(rules=(rule,), lateness=2, skew=2)
    shown = Decision(request="r1", user="u1", time=100, bundle="b", fusion="f", rung=Rung.FULL, shown=(Shown(item="i1"),))
    with Store(fresh()) as store:
        store.log(shown).result()
        for event, received in events:
            store.record([event], received=received).result()
        for page in pages(store.session, feedback, Extent(watermark(store.session))):
            return page.frame[label_column(rule.task)][0], page.frame[late_column(rule.task)][0]
        return None, False


CLICK = Rule(task="click", window=10, positive_when="kind = 'click'")


def click(time: int, *, item: str = "i1", request: str | None = "r1", kind: str = "click", value: float | None = None) -> Event:
    return Event(id=f"{kind}{time}{item}{request}{value}", kind=kind, item=item, time=time, user="u1", request=request, value=value)


def tick(time: int) -> tuple[Event, int]:
    """Something else that happened: the events' clock goes on."""
    return click(time, item="other", request=None), time


def test_no_negative_before_the_window_has_closed(fresh: Open) -> None:
    assert one_label(fresh, [], CLICK) == (None, False)
    assert one_label(fresh, [tick(111)], CLICK) == (None, False)
    assert one_label(fresh, [tick(112)], CLICK) == (0.0, False)


def test_no_positive_either(fresh: Open) -> None:
    """Else rows with the event would be in the log sooner than those without."""
    assert one_label(fresh, [(click(105), 105), tick(111)], CLICK) == (None, False)
    assert one_label(fresh, [(click(105), 105), tick(112)], CLICK) == (1.0, False)


def test_the_window_has_edges(fresh: Open) -> None:
    assert one_label(fresh, [(click(109), 109), tick(150)], CLICK) == (1.0, False)
    assert one_label(fresh, [(click(110), 110), tick(150)], CLICK) == (0.0, False)
    assert one_label(fresh, [(click(98), 98), tick(150)], CLICK) == (1.0, False)
    assert one_label(fresh, [(click(97), 97), tick(150)], CLICK) == (0.0, False)


def test_a_late_positive_corrects_and_is_counted(fresh: Open) -> None:
    assert one_label(fresh, [tick(150), (click(105), 111)], CLICK) == (1.0, False)
    assert one_label(fresh, [tick(150), (click(105), 112)], CLICK) == (1.0, True)


def test_without_a_request_the_latest_showing_counts(fresh: Open) -> None:
    assert one_label(fresh, [(click(105, request=None), 105), tick(150)], CLICK) == (1.0, False)
    assert one_label(fresh, [(click(99, request=None), 105), tick(150)], CLICK) == (0.0, False)
    strict = replace(CLICK, attribution=Attribution.REQUEST)
    assert one_label(fresh, [(click(105, request=None), 105), tick(150)], strict) == (0.0, False)


def test_of_several_showings_only_the_latest_before_counts(fresh: Open) -> None:
    with Store(fresh()) as store:
        for request, time in (("r1", 100), ("r2", 103), ("r3", 103), ("r4", 106)):
            made = Decision(request=request, user="u1", time=time, bundle="b", fusion="f", rung=Rung.FULL, shown=(Shown(item="i1"),))
            store.log(made).result()
        store.record([click(105, request=None), tick(150)[0]], received=150).result()
        feedback = Feedback(rules=(CLICK,), lateness=2)
        (page,) = pages(store.session, feedback, Extent(watermark(store.session)))
        assert page.frame["request"].to_list() == ["r1", "r2", "r3", "r4"]
        assert page.frame[label_column("click")].to_list() == [0, 0, 1, 0]
        assert page.attributed == 1


def test_an_item_that_was_not_shown_there_counts_nowhere(fresh: Open) -> None:
    assert one_label(fresh, [(click(105, item="i2"), 105), (click(105, request="r9"), 105), tick(150)], CLICK) == (0.0, False)


@pytest.mark.parametrize(
    ("amount", "found"), [(Amount.ANY, 1.0), (Amount.SUM, 0.1 + 0.7 + 0.2), (Amount.MAX, 0.7), (Amount.LAST, 0.2)], ids=list(Amount)
)
def test_the_amounts(fresh: Open, amount: Amount, found: float) -> None:
    watched = Rule(task="watch", window=10, positive_when="kind = 'watch' AND value > 0", value=amount)
    sent = [(click(time, kind="watch", value=value), 108) for time, value in ((107, 0.2), (101, 0.1), (104, 0.7), (105, 0.0), (109, None))]
    assert one_label(fresh, [*sent, tick(150)], watched) == (found, False)


def test_values_that_are_missing_are_nothing(fresh: Open) -> None:
    for amount in (Amount.SUM, Amount.MAX, Amount.LAST):
        watched = Rule(task="watch", window=10, positive_when="kind = 'watch'", value=amount)
        assert one_label(fresh, [(click(105, kind="watch"), 105), tick(150)], watched) == (0.0, False)
