"""What every store promises, on every engine: what is acknowledged is there, once, whole, in any order."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from tests.stores import Open

from umbel.errors import UserError
from umbel.feedback import Amount, Attribution, Feedback, Rule
from umbel.serve.records import Candidates, Decision, Event, Known, Outcome, Result, Rung, Shown
from umbel.serve.store import Store
from umbel.serve.store.engine import ConflictError, UnavailableError
from umbel.serve.store.erase import Erased
from umbel.serve.store.migrate import HERE, migrate
from umbel.serve.store.session import AGAIN
from umbel.serve.store.tables import METADATA, audit, candidates, decisions, events, shown

ACCEPTED, DUPLICATE, REJECTED = Result.ACCEPTED, Result.DUPLICATE, Result.REJECTED
NOW = 1_700_000_000_000


@pytest.fixture
def store(fresh: Open) -> Iterator[Store]:
    with Store(fresh()) as made:
        yield made


def decision(request: str = "r1", *, user: str | None = "u1", time: int = NOW, items: tuple[str, ...] = ("i1", "i2")) -> Decision:
    places = tuple(
        Shown(
            item=item, fused=0.1 + place, propensity=1 / (place + 2), predictions=(0.1, 1 / 3), fields={"price": place},
            sources=("near", "new")[:place],
        )
        for place, item in enumerate(items)
    )  # fmt: skip
    return Decision(
        request=request, user=user, time=time, bundle="b7", fusion="f1", rung=Rung.FULL, shown=places, outputs=("click", "watch_q50"),
        fields={"city": "Åre\n", "ages": [1, 2], "new": True, "none": None, "share": 0.1}, temperature=0.7, policy={"diversity": 0.2},
        arm="canary",
    )  # fmt: skip


def event(name: str, *, item: str = "i1", time: int = NOW, request: str | None = "r1", value: float | None = None) -> Event:
    return Event(id=name, kind="click", item=item, time=time, user="u1", request=request, value=value)


def results(outcomes: tuple[Outcome, ...]) -> list[Result]:
    return [one.result for one in outcomes]


def count(store: Store, table: sa.Table) -> int:
    with store.session.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


# what was said comes back


def test_a_decision_comes_back_as_it_was(store: Store) -> None:
    made = decision()
    store.log(made).result()
    assert store.decision("r1") == made
    assert store.decision("r2") is None


def test_a_decision_of_nobody_about_nothing_comes_back(store: Store) -> None:
    made = Decision(request="r", user=None, time=0, bundle="", fusion="", rung=Rung.POPULAR, shown=(Shown(item="i"),))
    store.log(made).result()
    assert store.decision("r") == made


@pytest.mark.parametrize("masks", [None, np.array([[True, True, False] * 3, [False, True, True] * 3])])
def test_candidates_come_back_in_float32(store: Store, masks: np.ndarray | None) -> None:
    items = tuple(f"i{place}" for place in range(9))
    made = Candidates(items=items, predictions=np.linspace(0, 1, 18).reshape(9, 2), fused=np.linspace(1, 0, 9), masks=masks)
    store.log(replace(decision(), candidates=made)).result()
    found = store.decision("r1")
    assert found is not None
    assert found.candidates is not None
    assert found.candidates.items == items
    assert np.array_equal(found.candidates.predictions, made.predictions.astype(np.float32))
    assert np.array_equal(found.candidates.fused, made.fused.astype(np.float32))
    if masks is None:
        assert found.candidates.masks is None
    else:
        assert found.candidates.masks is not None
        assert np.array_equal(found.candidates.masks, masks)


def test_numbers_come_back_to_the_last_bit(store: Store) -> None:
    value = 0.1 + 0.2
    store.log(replace(decision(), shown=(Shown(item="i", fused=value, propensity=5e-324, predictions=(value, -1e308)),))).result()
    store.record([event("e", value=value), event("f", value=-1.7e308), event("g", value=3)], received=NOW).result()
    found = store.decision("r1")
    assert found is not None
    assert found.shown[0] == Shown(item="i", fused=value, propensity=5e-324, predictions=(value, -1e308))
    assert {one.id: one.value for one in store.history("u1")} == {"e": value, "f": -1.7e308, "g": 3.0}


def test_a_users_events_come_the_latest_first(store: Store) -> None:
    sent = [event(f"e{place}", time=NOW - place % 3) for place in range(6)]
    store.record(sent, received=NOW).result()
    assert [one.id for one in store.history("u1")] == ["e0", "e3", "e1", "e4", "e2", "e5"]
    assert [one.id for one in store.history("u1", since=NOW, most=1)] == ["e0"]
    assert store.history("u2") == []


def test_a_users_events_are_those_of_the_users_requests_too(store: Store) -> None:
    for made in (decision("r1"), decision("r2", time=NOW + 5), decision("other", user="u2"), decision("nobody", user=None)):
        store.log(made).result()
    named = [event("named", request=None, time=NOW + 3), event("both", time=NOW + 2)]
    told = [event(f"of {request}", request=request, time=NOW + at) for at, request in enumerate(("r1", "r2", "other", "nobody", "lost"))]
    store.record([*named, *(replace(one, user=None) for one in told)], received=NOW + 9).result()
    assert [one.id for one in store.history("u1")] == ["named", "both", "of r2", "of r1"]
    assert [one.id for one in store.history("u1", since=NOW + 1, most=2)] == ["named", "both"]
    assert [one.id for one in store.history("u1", since=NOW + 3)] == ["named"]
    assert [one.id for one in store.history("u1", most=1)] == ["named"]
    assert [one.id for one in store.history("u2")] == ["of other"]


def test_what_a_user_has_seen(store: Store) -> None:
    of_another = decision("c", user="u2", items=("i9",))
    for made in (decision("a", items=("i1", "i2")), decision("b", time=NOW + 5, items=("i2", "i3")), of_another):
        store.log(made).result()
    assert store.seen("u1") == {"i1", "i2", "i3"}
    assert store.seen("u1", since=NOW + 1) == {"i2", "i3"}


def test_what_is_popular(store: Store) -> None:
    store.record([event(f"e{place}", item=f"i{place % 3}") for place in range(8)], received=NOW).result()
    store.record([replace(event("x", item="i2"), kind="hide"), event("old", item="i2", time=0)], received=NOW).result()
    assert store.popular(["click"], since=NOW, most=2) == [("i0", 3), ("i1", 3)]
    assert store.popular(["click"], since=0, most=9) == [("i0", 3), ("i1", 3), ("i2", 3)]
    assert store.popular(["hide", "click"], since=NOW, most=9)[0] == ("i0", 3)


# once


def test_an_event_that_is_sent_again_is_a_duplicate(store: Store) -> None:
    sent = [event("e1"), event("e2", value=0.1)]
    assert results(store.record(sent, received=NOW).result()) == [ACCEPTED, ACCEPTED]
    assert results(store.record([*reversed(sent), event("e3")], received=NOW + 9).result()) == [DUPLICATE, DUPLICATE, ACCEPTED]
    assert count(store, events) == 3


def test_duplicates_within_one_batch(store: Store) -> None:
    outcomes = store.record([event("e1"), event("e1"), event("e2"), event("e1")], received=NOW).result()
    assert results(outcomes) == [ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE]
    assert [one.event for one in outcomes] == ["e1", "e1", "e2", "e1"]
    assert count(store, events) == 2


def test_another_event_under_the_same_id_is_rejected(store: Store) -> None:
    store.record([event("e1")], received=NOW).result()
    outcomes = store.record([event("e1", item="i2"), event("n"), event("n", value=1)], received=NOW).result()
    assert outcomes == (
        Outcome("e1", REJECTED, "another event has this event_id"), Outcome("n", ACCEPTED),
        Outcome("n", REJECTED, "another event has this event_id"),
    )  # fmt: skip
    assert {one.id: one.item for one in store.history("u1")} == {"e1": "i1", "n": "i1"}


def test_a_decision_that_is_logged_again_stays_the_first(store: Store) -> None:
    for made in (decision(), decision(), decision(user="u9", items=("i3", "i4", "i5"))):
        store.log(made).result()
    assert store.decision("r1") == decision()
    assert count(store, shown) == 2


def test_a_client_that_replays_its_log_changes_nothing(store: Store) -> None:
    sent = [event(f"e{place}") for place in range(1_200)]
    wait([store.record(sent[start : start + 7], received=NOW) for start in range(0, len(sent), 7)])
    assert count(store, events) == 1_200
    outcomes = store.record(sent, received=NOW + 5).result()
    assert set(results(outcomes)) == {DUPLICATE}
    assert count(store, events) == 1_200


# refused


def test_a_batch_has_an_outcome_for_each(store: Store) -> None:
    sent = [event("ok"), event("far", time=NOW + 300_001), event("near", time=NOW + 300_000), event("i\0"), event("")]
    outcomes = store.record(sent, received=NOW).result()
    assert [(one.event, one.result, one.reason) for one in outcomes] == [
        ("ok", ACCEPTED, None),
        ("far", REJECTED, "occurred_at is 300 s in the future; send milliseconds since 1970 (UTC) by a clock that is right"),
        ("near", ACCEPTED, None),
        ("i\0", REJECTED, "event_id has a zero byte"),
        ("", REJECTED, "event_id is empty"),
    ]
    assert count(store, events) == 2


@pytest.mark.parametrize(("skew", "result"), [(0, REJECTED), (59_999, REJECTED), (60_000, ACCEPTED)])
def test_clocks_may_be_ahead_by_what_is_told(store: Store, skew: int, result: Result) -> None:
    assert results(store.record([event("e", time=NOW + 60_000)], received=NOW, skew=skew).result()) == [result]
    assert count(store, events) == (result is ACCEPTED)


def test_a_decision_that_cannot_be_kept_is_our_own_fault(store: Store) -> None:
    with pytest.raises(ValueError, match="decision 'r1': an item stands in it twice"):
        store.log(decision(items=("i", "i")))


def test_one_that_cannot_be_written_fails_alone(store: Store) -> None:
    broken = replace(decision("bad"), fields={"share": float("nan")})
    asked = [store.log(decision(f"r{place}") if place != 5 else broken) for place in range(11)]
    wait(asked)
    assert [place for place, one in enumerate(asked) if one.exception() is not None] == [5]
    assert store.decision("bad") is None
    assert store.decision("r10") is not None


def test_an_event_of_an_unknown_request_is_kept(store: Store) -> None:
    """It may have come before its decision."""
    assert results(store.record([event("e", request="later")], received=NOW).result()) == [ACCEPTED]


def test_a_batch_of_nothing(store: Store) -> None:
    assert store.record([]).result() == ()


# users, items, audit


def test_items_are_written_read_and_deleted(store: Store) -> None:
    store.items.put([Known(id="a", fields={"price": 1, "tags": ["x"]}, time=1), Known(id="b", time=2)])
    store.items.put([Known(id="a", fields={"price": 2}, time=3)])
    assert store.items.get(["b", "a", "c"]) == {"a": Known(id="a", fields={"price": 2}, time=3), "b": Known(id="b", time=2)}
    assert [one.id for one in store.items.all()] == ["a", "b"]
    assert store.items.delete("a", time=5)
    assert not store.items.delete("a", time=6)
    assert not store.items.delete("never", time=6)
    assert list(store.items.get(["a", "b"])) == ["b"]
    assert store.items.changed(2) == ([Known(id="b", time=2)], ["a"])
    store.items.put([Known(id="a", time=7)])
    assert store.items.changed(3) == ([Known(id="a", time=7)], [])


def test_the_deletion_of_a_user_is_told_by_a_mark_and_names_nobody(store: Store) -> None:
    """Whoever has a copy looks for another mark; no table holds who was deleted, under any name."""
    marks = [store.users.mark()]
    for one in ("canary-4711", "other-4711"):
        store.users.put([Known(id=one, fields={"mail": one}, time=1)])
        assert store.users.mark() == marks[-1], "writing is no deletion"
        assert store.users.delete(one, time=2)
        marks.append(store.users.mark())
        assert not store.users.delete(one, time=3)
        assert store.users.mark() == marks[-1], "nothing was deleted"
        assert store.users.changed(0) == ([], [])
    store.users.put([Known(id="canary-4711", time=1)])
    store.erase("canary-4711")
    marks.append(store.users.mark())
    assert len(set(marks)) == 4
    assert store.items.mark() == "", "items are told by their ids"
    with store.session.reading() as connection:
        for table in METADATA.sorted_tables:
            assert not [row for row in connection.execute(sa.select(table)) if "4711" in str(row)], table.name


def test_deletions_of_several_stores_change_the_mark(fresh: Open) -> None:
    place = fresh()
    with Store(place) as one, Store(place) as other:
        one.users.put([Known(id=str(number)) for number in range(12)])
        marks: list[str] = []
        for number in range(0, 12, 2):
            threads = [threading.Thread(target=at.erase, args=(str(number + offset),)) for offset, at in enumerate((one, other))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert one.users.mark() == other.users.mark()
            marks.append(one.users.mark())
        assert len(set(marks)) == 6
        assert list(one.users.all()) == []


def test_the_latest_of_two_writes_stays(store: Store) -> None:
    store.users.put([Known(id="u", fields={"age": 2}, time=2), Known(id="u", fields={"age": 1}, time=1)])
    store.users.put([Known(id="u", fields={"age": 0}, time=0)])
    assert store.users.get(["u"])["u"].fields == {"age": 2}
    store.users.put([Known(id="u", fields={"age": 3}, time=2)])
    assert store.users.get(["u"])["u"].fields == {"age": 3}
    assert store.items.get(["u"]) == {}


def test_many_ids_at_once(store: Store) -> None:
    store.items.put([Known(id=f"i{place}", time=1) for place in range(3_000)])
    assert len(store.items.get([f"i{place}" for place in range(0, 4_000, 2)])) == 1_500
    assert len(list(store.items.all())) == 3_000


def test_the_audit_tells_who_did_what(store: Store) -> None:
    for place in range(3):
        store.note("ops", "promote", {"bundle": f"b{place}"})
    assert [(who, what, detail) for _, who, what, detail in store.notes(2)] == [
        ("ops", "promote", {"bundle": "b2"}), ("ops", "promote", {"bundle": "b1"}),
    ]  # fmt: skip


def test_the_rules_of_labels_are_kept(store: Store) -> None:
    with pytest.raises(UserError, match="has no rules of labels; serve a bundle whose run file says them, or give --rules"):
        store.feedback  # noqa: B018
    rules = (
        Rule(task="click", window=5, positive_when="kind = 'click'", attribution=Attribution.REQUEST),
        Rule(task="watch", window=7, positive_when="value > 3", value=Amount.LAST),
    )
    for lateness in (1, 2):
        told = Feedback(rules=rules, lateness=lateness, user="user_id", labels={"click": "is_click"})
        store.declare(told)
        assert store.feedback == told


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        ([("a", "kind = 'x'"), ("a", "kind = 'y'")], "tasks.a.feedback: there are two; keep one"),
        ([], "feedback: no task has a rule; add feedback"),
        ([("a", "value + 1")], r"tasks\.a\.feedback\.positive_when: 'value \+ 1' is neither true nor false; compare it with a value"),
        ([("a", "kind > 3")], r"tasks\.a: .*; correct the expression"),
    ],
)
def test_rules_that_cannot_be_computed_are_refused(store: Store, rules: list[tuple[str, str]], what: str) -> None:
    with pytest.raises(UserError, match=what):
        store.declare(Feedback(rules=tuple(Rule(task=task, window=1, positive_when=test) for task, test in rules)))


def test_a_user_is_erased_and_old_things_forgotten(store: Store) -> None:
    store.log(decision("r1")).result()
    store.log(replace(decision("r2", user="u2"), candidates=None)).result()
    sent = [event("mine"), replace(event("by request"), user=None), replace(event("other", request="r2"), user="u2")]
    store.record(sent, received=NOW).result()
    store.users.put([Known(id="u1", time=1)])
    assert store.erase("u1") == Erased(decisions=1, events=2)
    store.compact()
    assert (store.decision("r1"), store.history("u1"), store.users.get(["u1"])) == (None, [], {})
    assert store.decision("r2") is not None
    assert store.erase("u1") == Erased()
    assert store.forget(NOW) == Erased()
    assert store.forget(NOW + 1) == Erased(decisions=1, events=1)
    assert [count(store, table) for table in (shown, candidates, events)] == [0, 0, 0]
    assert [action for _, _, action, _ in store.notes()] == ["forget", "forget", "erase", "erase"]


def test_an_event_of_an_erased_user_is_new_when_it_is_sent_again(store: Store) -> None:
    store.record([event("e")], received=NOW).result()
    store.erase("u1")
    assert results(store.record([event("e")], received=NOW).result()) == [ACCEPTED]


def test_erasing_goes_on_where_there_is_much(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.serve.store.erase.AT_ONCE", 7)
    wait([store.log(decision(f"r{number}")) for number in range(30)])
    store.record([event(f"e{number}", request=None) for number in range(50)], received=NOW).result()
    assert store.erase("u1") == Erased(decisions=30, events=50)


# threads, closing, opening


def test_many_threads_share_a_store(store: Store) -> None:
    """Each sends its own events and everyone's; every one is accepted once over all threads."""
    accepted: list[str] = []

    def send(name: int) -> None:
        for place in range(20):
            outcomes = store.record([event(f"own-{name}-{place}"), event(f"all-{place}")], received=NOW).result()
            accepted.extend(one.event for one in outcomes if one.result is ACCEPTED)

    threads = [threading.Thread(target=send, args=(name,)) for name in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(accepted) == len(set(accepted)) == 8 * 20 + 20
    assert count(store, events) == 180


@pytest.mark.parametrize("contest", range(3))
def test_stores_that_are_sent_the_same_in_opposite_orders_are_in_nobodys_way(
    fresh: Open, contest: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """As workers are: by a client that tries again, or two that replay one log. No transaction has to be done again."""
    monkeypatch.setattr("umbel.serve.store.session.AGAIN", 0)
    place = fresh()
    with Store(place) as one, Store(place) as other:
        for batch in range(4):
            told = [event(f"{contest}-{batch}-{number}") for number in range(500)]
            made = [replace(decision(f"{contest}-{batch}-{number}"), candidates=None) for number in range(200)]
            both = [one.record(told, received=NOW), other.record(told[::-1], received=NOW)]
            both += [store.log(each) for pair in zip(made, made[::-1], strict=True) for store, each in zip((one, other), pair, strict=True)]
            wait(both)
            first, second = both[0].result(), both[1].result()[::-1]
            found = [sorted(pair) for pair in zip(results(first), results(second), strict=True)]
            assert found == [[ACCEPTED, DUPLICATE]] * len(told)
            assert all(each.result() == () for each in both[2:])
        assert (count(one, events), count(one, decisions)) == (2_000, 800)


def test_catalogues_that_are_sent_the_same_in_opposite_orders_are_in_nobodys_way(fresh: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.serve.store.session.AGAIN", 0)
    place = fresh()
    with Store(place) as one, Store(place) as other, ThreadPoolExecutor(2) as pool:
        for batch in range(8):
            known = [Known(id=f"i{number}", fields={"batch": batch}, time=batch) for number in range(800)]
            for done in [pool.submit(one.items.put, known), pool.submit(other.items.put, known[::-1])]:
                done.result()
            assert {each.fields["batch"] for each in one.items.all()} == {batch}
        assert len(list(one.items.all())) == 800


@pytest.mark.parametrize(("failures", "done"), [(0, True), (1, True), (AGAIN, True), (AGAIN + 1, False)])
def test_a_transaction_that_others_were_in_the_way_of_is_done_again(store: Store, failures: int, done: bool) -> None:
    tried: list[int] = []

    def work(connection: sa.Connection) -> str:
        connection.execute(sa.insert(audit).values(time=len(tried), actor="a", action="b", detail="{}"))
        tried.append(1)
        if len(tried) <= failures:
            raise ConflictError("here: another was in the way", mend="again")
        return "done"

    if done:
        assert store.session.write(work) == "done"
        assert count(store, audit) == 1, "what was tried before is undone"
    else:
        with pytest.raises(UnavailableError, match="another was in the way"):
            store.session.write(work)
        assert count(store, audit) == 0
    assert len(tried) == min(failures, AGAIN) + 1


def test_a_transaction_that_fails_otherwise_is_not_done_again(store: Store) -> None:
    tried: list[int] = []

    def work(connection: sa.Connection) -> None:
        tried.append(1)
        raise UnavailableError("here: gone", mend="wait")

    with pytest.raises(UnavailableError, match="here: gone"):
        store.session.write(work)
    assert tried == [1]


def test_two_open_stores_of_one_place_see_each_other(fresh: Open) -> None:
    place = fresh()
    with Store(place) as one, Store(place) as other:
        one.log(decision()).result()
        assert other.decision("r1") == decision()
        assert results(other.record([event("e")], received=NOW).result()) == [ACCEPTED]
        assert results(one.record([event("e")], received=NOW).result()) == [DUPLICATE]


def test_closing_writes_what_was_asked_for(fresh: Open) -> None:
    place = fresh()
    store = Store(place, window=0.002)
    asked = [store.log(decision(f"r{number}")) for number in range(50)]
    store.close()
    store.close()
    assert all(one.done() and one.exception() is None for one in asked)
    with pytest.raises(UserError, match="the store is closed"):
        store.log(decision("late"))
    with Store(place) as again:
        assert all(again.decision(f"r{number}") is not None for number in range(50))
        assert again.decision("late") is None


def test_the_schema_is_that_of_the_tables(store: Store) -> None:
    with store.session.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_store_of_a_newer_umbel_is_refused(fresh: Open) -> None:
    place = fresh()
    with Store(place) as store, store.session.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="its schema '9999' is newer than this umbel; upgrade umbel") as caught:
        Store(place)
    assert str(caught.value).count("\n") == 0


STEP = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0004", "{before}"


def upgrade():
    op.add_column("items", sa.Column("owner", sa.Text))
    {more}
"""


def steps(folder: Path, *, more: str = "") -> Path:
    """Our steps and one more, as a later version would have."""
    shutil.copytree(HERE / "versions", folder / "versions", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "next.py").write_text(STEP.format(before="0003", more=more))
    return folder


def test_a_step_to_the_next_schema_keeps_what_is_there(fresh: Open, tmp_path: Path) -> None:
    with Store(fresh()) as store:
        store.items.put([Known(id="a", fields={"price": 1}, time=1)])
        later = steps(tmp_path / "steps")
        for _ in range(2):  # the second time there is nothing to do
            with store.session.writing() as connection:
                migrate(connection, where=store.where, steps=later)
        with store.session.reading() as connection:
            assert connection.execute(sa.text("SELECT id, owner FROM items")).all() == [("a", None)]
            assert MigrationContext.configure(connection).get_current_revision() == "0004"


def test_a_step_that_fails_changes_nothing(fresh: Open, tmp_path: Path) -> None:
    place = fresh()
    with Store(place) as store, pytest.raises(ZeroDivisionError), store.session.writing() as connection:
        migrate(connection, where=store.where, steps=steps(tmp_path / "steps", more="1 / 0"))
    with Store(place) as again, again.session.reading() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "0003"
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_opening_again_keeps_all(fresh: Open) -> None:
    place = fresh()
    for number in range(3):
        with Store(place) as store:
            store.log(replace(decision(f"r{number}"), candidates=None)).result()
            assert count(store, candidates) == 0
            assert count(store, shown) == 2 * (number + 1)


def test_many_open_a_new_store_at_once(fresh: Open) -> None:
    place, failed = fresh(), []

    def enter() -> None:
        try:
            Store(place).close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
