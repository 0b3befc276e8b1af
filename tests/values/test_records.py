"""What may be kept: ids, events and decisions, right and wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.serve.records import (
    FIRST,
    LAST,
    Decision,
    Event,
    Outcome,
    Result,
    Rung,
    Shown,
    read_event,
    request_id,
    wrong_decision,
    wrong_event,
    wrong_id,
)

EVENT = Event(id="e1", kind="click", item="i1", time=1_000, user="u1")
DECISION = Decision(
    request="r1", user="u1", time=5, bundle="b", fusion="f", rung=Rung.FULL, outputs=("click", "buy"),
    shown=(Shown(item="i1", fused=0.5, propensity=0.25, predictions=(0.1, 0.2)), Shown(item="i2")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("u1", None), ("é" * 256, None), ("x" * 256, None), ("x" * 257, "is longer than 256 characters"),
        ("é" * 257, "is longer than 256 characters"),
        ("", "is empty"), (7, "is no text"), (None, "is no text"), ("a\0b", "has a zero byte"), ("\ud800", "is not valid Unicode"),
    ],
)  # fmt: skip
def test_an_id_is_short_text(text: object, why: str | None) -> None:
    assert wrong_id(text) == why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"id": ""}, "event_id is empty"),
        ({"kind": "a\0"}, "type has a zero byte"),
        ({"item": "x" * 300}, "item_id is longer than 256 characters"),
        ({"user": ""}, "user_id is empty"),
        ({"request": "\udfff"}, "request_id is not valid Unicode"),
        ({"user": None}, "neither user_id nor request_id: it belongs to nothing"),
        ({"user": None, "request": "r1"}, None),
        ({"value": 3}, None),
        ({"value": float("nan")}, "value is not finite"),
        ({"value": float("-inf")}, "value is not finite"),
        ({"value": 10**400}, "value is not finite"),
        ({"value": True}, "value is no number"),
        ({"time": -1}, "occurred_at is not between 1970 and 9999"),
        ({"time": LAST + 1}, "occurred_at is not between 1970 and 9999"),
        ({"time": 2_500}, None),
        ({"time": 2_501}, "occurred_at is 2 s in the future; send milliseconds since 1970 (UTC) by a clock that is right"),
    ],
)  # fmt: skip
def test_an_event_is_rejected_with_a_reason(change: dict[str, Any], why: str | None) -> None:
    assert wrong_event(replace(EVENT, **change), now=1_000, skew=1_500) == why


THEN = 1_700_000_000_000  # in November 2023
SENT = {"event_id": "e1", "type": "click", "item_id": "i1", "occurred_at": THEN, "user_id": "u1"}
READ = replace(EVENT, time=THEN)


def test_an_event_as_it_is_sent() -> None:
    assert read_event(SENT) == READ
    assert read_event({**SENT, "value": None, "request_id": "r"}) == replace(READ, request="r")
    assert read_event({**SENT, "value": 3}) == replace(READ, value=3)


BEFORE = "occurred_at is before the year 2000; send milliseconds since 1970 (UTC)"


@pytest.mark.parametrize(
    ("time", "why"),
    [
        (1_700_000_000, "occurred_at 1700000000 looks like seconds; send milliseconds since 1970 (UTC), such as 1700000000000"),
        (1_700_000_000_123_456, "occurred_at 1700000000123456 looks like microseconds; send milliseconds since 1970 (UTC), such as "
         "1700000000123"),
        (1_700_000_000_123_456_789, "occurred_at 1700000000123456789 looks like nanoseconds; send milliseconds since 1970 (UTC), such as "
         "1700000000123"),
        (FIRST // 1000, "occurred_at 946684800 looks like seconds; send milliseconds since 1970 (UTC), such as 946684800000"),
        (FIRST // 1000 - 1, BEFORE), (4_102_444_799, "occurred_at 4102444799 looks like seconds; send milliseconds since 1970 (UTC), such "
         "as 4102444799000"), (4_102_444_800, BEFORE),
        (FIRST - 1, BEFORE), (0, BEFORE), (5, BEFORE), (-1, BEFORE), (-(10**4_000), BEFORE),
    ],
)  # fmt: skip
def test_a_time_in_another_unit_is_rejected_with_the_mend(time: int, why: str) -> None:
    assert read_event({**SENT, "occurred_at": time}) == Outcome("e1", Result.REJECTED, why)


@pytest.mark.parametrize("time", [FIRST, THEN, LAST, LAST + 1, 10**4_000])
def test_other_times_are_the_store_s_to_judge(time: int) -> None:
    """It knows what time it is, and how far clocks may differ."""
    assert read_event({**SENT, "occurred_at": time}) == replace(EVENT, time=time)


@given(st.integers(FIRST, LAST), st.sampled_from([1000, 1, 0.001, 0.000001]))
def test_a_moment_is_read_in_milliseconds_alone(moment: int, of_a_second: float) -> None:
    """Whichever unit it is sent in, it is the moment itself that is kept, or nothing."""
    sent = moment // 1000 if of_a_second == 1000 else moment * round(1 / of_a_second)
    found = read_event({**SENT, "occurred_at": sent})
    kept = isinstance(found, Event) and wrong_event(found, now=LAST, skew=0) is None
    assert kept == (of_a_second == 1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"value": "3"}, "value is no number"),
        ({"value": float("inf")}, "value is not finite"),
        ({"occurred_at": 1.5}, "occurred_at is no whole number of milliseconds"),
        ({"occurred_at": True}, "occurred_at is no whole number of milliseconds"),
        ({"occurred_at": None}, "occurred_at is missing"),
        ({"item_id": ["i"]}, "item_id is no text"),
        ({"user_id": 7}, "user_id is no text"),
        ({"colour": "red"}, "unknown key 'colour'; known: event_id, item_id, occurred_at, request_id, type, user_id, value"),
    ],
)
def test_wrong_types_are_rejected_one_by_one(change: dict[str, object], why: str) -> None:
    assert read_event({**SENT, **change}) == Outcome("e1", Result.REJECTED, why)


@pytest.mark.parametrize("tree", [None, [], "x", 3])
def test_what_is_no_object_is_no_event(tree: object) -> None:
    assert read_event(tree) == Outcome("", Result.REJECTED, "is no object")


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SENT, "colour"]), TREES | st.just("x") | st.just(5), max_size=8) | TREES)
def test_whatever_is_sent_is_an_event_or_rejected(tree: object) -> None:
    found = read_event(tree)
    if isinstance(found, Outcome):
        assert found.result is Result.REJECTED
        assert found.reason
    else:
        why = wrong_event(found, now=LAST, skew=0)
        assert why is None or "occurred_at" in why or "belongs to nothing" in why


def test_a_clock_may_be_behind_by_any_time() -> None:
    assert wrong_event(replace(EVENT, time=0), now=LAST, skew=0) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"user": None}, None),
        ({"shown": ()}, None),
        ({"user": ""}, "user is empty"),
        ({"request": "a\0"}, "request has a zero byte"),
        ({"shown": (Shown(item=""),)}, "item is empty"),
        ({"shown": (Shown(item="i"), Shown(item="i"))}, "an item stands in it twice"),
        ({"shown": (Shown(item="i", predictions=(0.1,)),)}, "predictions are not the 2 of its outputs"),
        ({"shown": (Shown(item="i", fused=float("nan")),)}, "a score or propensity is not finite"),
        ({"shown": (Shown(item="i", propensity=0.0),)}, "a propensity of 0"),
        ({"shown": (Shown(item="i", propensity=1.5),)}, "a propensity of 1.5"),
        ({"time": -1}, "occurred_at is not between 1970 and 9999"),
    ],
)  # fmt: skip
def test_a_decision_that_cannot_be_kept(change: dict[str, Any], why: str | None) -> None:
    assert wrong_decision(replace(DECISION, **change)) == why


def test_request_ids_are_in_the_order_of_time_and_never_equal() -> None:
    ids = [request_id(time) for time in (0, 1, 255, 256, 1_700_000_000_000, LAST) for _ in range(3)]
    assert len(set(ids)) == len(ids)
    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)
    assert all(wrong_id(one) is None and len(one) == 32 for one in ids)
