"""Requests as clients send them: strict JSON, closed shapes, bounds, ids; and what is said of the first thing that is wrong."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import UserError
from umbel.serve.looked import Latest
from umbel.serve.records import LAST, LONGEST, Event, Outcome, Result, read_event, wrong_event
from umbel.serve.requests import (
    KnownFields,
    KnownOne,
    LabelRequest,
    MalformedError,
    PredictRequest,
    RankRequest,
    candidates,
    check_ids,
    decode,
    decode_list,
    decode_object,
    decode_parts,
    decode_query,
)


def body(**tree: object) -> bytes:
    return json.dumps(tree).encode()


def test_a_request_with_its_defaults() -> None:
    asked = decode(body(items=["a", "b"]), RankRequest)
    assert (asked.user_id, asked.user, asked.context, asked.n, asked.personalization, asked.seed, asked.explain) == (
        None, {}, {}, None, "on", None, False
    )
    assert candidates(asked, 10) == (["a", "b"], [{}, {}])


def test_items_bring_fields_of_their_own() -> None:
    asked = decode(body(items=["a", {"item_id": "b", "fields": {"price": 2.5, "tags": ["x"]}}]), RankRequest)
    assert candidates(asked, 10) == (["a", "b"], [{}, {"price": 2.5, "tags": ["x"]}])


@pytest.mark.parametrize("content", [
    b"", b"{", b"[1,", b'{"items": [NaN]}', b'{"items": [Infinity]}', b"{'items': []}", b'{"items": []} x', b'\xff\xfe', b'{"items": [],}',
    b"nonsense",
    b'{"user_id": "\xc3\x28", "items": []}', b"[" * 100_000,
])
def test_what_is_no_strict_json_is_malformed(content: bytes) -> None:
    with pytest.raises(UserError) as caught:
        decode(content, RankRequest)
    assert isinstance(caught.value, MalformedError) or content.startswith(b"[")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("tree", "said"), [
    ({}, "items"),
    ({"items": "a"}, "array"),
    ({"items": [1]}, "items"),
    ({"items": [""]}, "length"),
    ({"items": ["x" * (LONGEST + 1)]}, "length"),
    ({"items": [], "user_id": 7}, "user_id"),
    ({"items": [], "n": 0}, ">= 1"),
    ({"items": [], "n": 1.5}, "int"),
    ({"items": [], "seed": -1}, ">= 0"),
    ({"items": [], "personalization": "perhaps"}, "perhaps"),
    ({"items": [], "itmes": []}, "itmes"),
    ({"items": [{"item_id": "a", "price": 3}]}, "price"),
    ({"items": [], "context": {"a": {"b": 1}}}, "context"),
    ({"items": [], "context": {"a": [[1]]}}, "context"),
    ({"items": [], "context": {"a": [None]}}, "context"),
    ({"items": [], "context": {"x" * 201: 1}}, "length"),
    ({"items": [], "context": {"a": "x" * 10_001}}, "length"),
    ({"items": [], "context": {"a": [1] * 2_001}}, "length"),
    ({"items": [], "context": {str(at): 1 for at in range(501)}}, "length"),
])
def test_another_shape_is_refused_by_its_place(tree: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=r"see /openapi\.json") as caught:
        decode(json.dumps(tree).encode(), RankRequest)
    assert said in str(caught.value)


@pytest.mark.parametrize(("items", "most", "said"), [
    ([], 5, "items: none"),
    (["a", "b", "a"], 5, "'a' comes twice"),
    (["a", {"item_id": "a"}], 5, "'a' comes twice"),
    ([str(at) for at in range(6)], 5, "send at most 5"),
    (["a\0b"], 5, "zero byte"),
    (["é" * 257], 5, "length <= 256"),
])
def test_candidates_are_some_not_too_many_and_each_once(items: list[object], most: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        candidates(decode(body(items=items), RankRequest), most)


def test_ids_outside_ascii_are_ids() -> None:
    check_ids("items", ["é", "物品", "a b", "-"])
    with pytest.raises(UserError, match="items: an id is not valid Unicode"):
        check_ids("items", ["\ud800"])


def test_rows_to_predict_are_whole_and_at_least_one() -> None:
    assert decode(body(rows=[{"user": "u", "price": None}]), PredictRequest).rows == [{"user": "u", "price": None}]
    with pytest.raises(UserError):
        decode(body(rows=[]), PredictRequest)


@pytest.mark.parametrize(("share", "good"), [(0.05, True), (1, True), (0, False), (1.01, False), (-1, False)])
def test_a_canary_answers_a_share_above_none(share: float, good: bool) -> None:
    content = body(folder="b/bundle", share=share)
    if good:
        assert decode(content, LabelRequest).share == share
        return
    with pytest.raises(UserError):
        decode(content, LabelRequest)


def test_fields_of_a_user_replace_those_before() -> None:
    assert decode(body(fields={"age": 3}), KnownFields).fields == {"age": 3}
    with pytest.raises(UserError):
        decode(body(field={"age": 3}), KnownFields)


def test_lists_and_objects_of_anything() -> None:
    assert decode_list(b"[1, {}]") == [1, {}]
    assert decode_object(b'{"a": [1]}') == {"a": [1]}
    for content, read in ((b"{}", decode_list), (b"[]", decode_object)):
        with pytest.raises(UserError):
            read(content)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=3),
    max_leaves=6,
)


@given(st.lists(TREES, max_size=4), st.booleans())
def test_parts_of_a_list_are_the_json_of_each(trees: list[object], plain: bool) -> None:
    parts = decode_parts(json.dumps(trees, ensure_ascii=plain, indent=plain or None).encode())
    assert [json.loads(one) for one in parts] == trees


@given(st.dictionaries(st.text(max_size=3), TREES, max_size=3) | TREES)
def test_one_of_many_is_read_as_it_is_alone(fields: object) -> None:
    """To the last digit: whole numbers beyond 64 bits, too; and what is refused is refused with the same sentence."""
    (part,) = decode_parts(json.dumps([{"id": "a", "fields": fields}]).encode())
    alone = json.dumps({"fields": fields}).encode()
    try:
        expected = decode(alone, KnownFields).fields
    except UserError as error:
        with pytest.raises(UserError, match=re.escape(str(error))):
            decode(part, KnownOne)
    else:
        found = decode(part, KnownOne).fields
        assert (found, list(map(type, found.values()))) == (expected, list(map(type, expected.values())))


@pytest.mark.parametrize(("body", "kind"), [
    (b"{}", UserError), (b"[", MalformedError), (b"[1,]", MalformedError), (b"[nan]", MalformedError),
])  # fmt: skip
def test_parts_of_what_is_no_list(body: bytes, kind: type[UserError]) -> None:
    with pytest.raises(kind):
        decode_parts(body)


THEN = 1_700_000_000_000
GOOD = {"event_id": "e", "type": "click", "item_id": "i", "occurred_at": THEN, "user_id": "u"}


def test_an_event_as_it_is_sent() -> None:
    assert read_event(GOOD) == Event(id="e", kind="click", item="i", time=THEN, user="u")
    whole = Event(id="e", kind="click", item="i", time=THEN, user="u", request="r", value=2)
    assert read_event({**GOOD, "value": 2, "request_id": "r"}) == whole


@pytest.mark.parametrize(("change", "said"), [
    ({"event_id": None}, "event_id is missing"),
    ({"type": None}, "type is missing"),
    ({"occurred_at": None}, "occurred_at is missing"),
    ({"occurred_at": "5"}, "occurred_at is no whole number"),
    ({"occurred_at": 5.5}, "occurred_at is no whole number"),
    ({"occurred_at": True}, "occurred_at is no whole number"),
    ({"occurred_at": THEN // 1000}, "looks like seconds"),
    ({"item_id": 7}, "item_id is no text"),
    ({"item_id": ""}, "item_id is empty"),
    ({"value": "much"}, "value is no number"),
    ({"value": True}, "value is no number"),
    ({"usr_id": "u"}, "unknown key 'usr_id'"),
])
def test_an_event_that_is_none_is_rejected_by_name(change: dict[str, object], said: str) -> None:
    found = read_event({**GOOD, **change})
    assert isinstance(found, Outcome)
    assert found.result is Result.REJECTED
    assert found.reason is not None
    assert said in found.reason
    assert found.event == ("" if change.get("event_id", "e") is None else "e")


@pytest.mark.parametrize("tree", [None, 7, "click", ["e"], True])
def test_what_is_no_object_is_rejected(tree: object) -> None:
    assert read_event(tree) == Outcome("", Result.REJECTED, "is no object")


@pytest.mark.parametrize(
    ("time", "said"), [(-1, "not between"), (LAST + 1, "not between"), (1_301, "0 s in the future"), (1_300, None), (0, None)]
)
def test_a_clock_may_be_ahead_by_so_much_and_behind_by_any(time: int, said: str | None) -> None:
    event = Event(id="e", kind="click", item="i", time=time, user="u")
    found = wrong_event(event, now=1_000, skew=300)
    assert (found is None) if said is None else found is not None and said in found


def test_an_event_belongs_to_somebody() -> None:
    nobody = Event(id="e", kind="click", item="i", time=5)
    assert wrong_event(nobody, now=5, skew=0) == "neither user_id nor request_id: it belongs to nothing"
    infinite = Event(id="e", kind="click", item="i", time=5, user="u", value=float("inf"))
    assert wrong_event(infinite, now=5, skew=0) == "value is not finite"


@pytest.mark.parametrize(("query", "limit"), [(b"", 50), (b"limit=1", 1), (b"limit=%32%30", 20), (b"limit=200", 200)])
def test_a_query_has_its_defaults_and_its_values(query: bytes, limit: int) -> None:
    assert decode_query(query, Latest).limit == limit


@pytest.mark.parametrize(("query", "said"), [
    (b"limit=0", ">= 1"), (b"limit=201", "<= 200"), (b"limit=x", "int"), (b"limit=", "int"), (b"limit=1.5", "int"), (b"limits=1", "limits"),
    (b"limit=1&limit=2", "twice"), (b"limit=\xff", "ascii"), (b"limit=%ff", "utf-8"), (b"&".join([b"a=1"] * 50), "fields"),
])  # fmt: skip
def test_a_query_that_cannot_be_is_named(query: bytes, said: str) -> None:
    with pytest.raises(UserError) as caught:
        decode_query(query, Latest)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
