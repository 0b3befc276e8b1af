"""The parts of a store one by one: catalogue, facts, rows, survey, orphans, and its clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.told import RULES, decision, event

from umbel.errors import UserError
from umbel.feedback import Feedback
from umbel.serve.records import Candidates, Event, Known, Shown, Value
from umbel.serve.store import Store
from umbel.serve.store.facts import declared, get, put
from umbel.serve.store.forms import Form, Kind
from umbel.serve.store.labels import watermark
from umbel.serve.store.orphans import orphans
from umbel.serve.store.rows import candidates_row, decision_row, event_row, known_row, shown_rows, to_json
from umbel.serve.store.survey import Survey, survey


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "umbel.db", window=0) as made:
        yield made


# catalogue


@pytest.mark.parametrize(
    ("writes", "kept"),
    [
        ([("a", 1), ("b", 2)], "b"),
        ([("a", 2), ("b", 1)], "a"),
        ([("a", 1), ("b", 1)], "b"),
        ([("a", 3), ("b", 1), ("c", 2)], "a"),
        ([("a", 0), ("b", 0), ("c", 0)], "c"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_of_two_writes_the_later_in_time_stays(store: Store, writes: list[tuple[str, int]], kept: str, together: bool) -> None:
    known = [Known(id="x", fields={"name": name}, time=time) for name, time in writes]
    for some in [known] if together else [[one] for one in known]:
        store.items.put(some)
    assert store.items.get(["x"])["x"].fields == {"name": kept}


def test_a_catalogue_forgets_but_tells_that_it_did(store: Store) -> None:
    store.items.put([Known(id="b", time=5), Known(id="a", fields={"n": 1}, time=7)])
    assert [one.id for one in store.items.all()] == ["a", "b"]
    assert store.items.delete("a", time=9) is True
    assert store.items.delete("a", time=10) is False
    assert store.items.delete("none", time=10) is False
    assert store.items.get(["a", "b", "none"]) == {"b": Known(id="b", time=5)}
    assert [one.id for one in store.items.all()] == ["b"]
    assert store.items.changed(6) == ([], ["a"])
    assert store.items.changed(5) == ([Known(id="b", time=5)], ["a"])
    assert store.items.changed(10) == ([], [])


def test_an_item_that_was_deleted_comes_back_only_with_a_later_write(store: Store) -> None:
    store.items.put([Known(id="a", time=1)])
    store.items.delete("a", time=5)
    store.items.put([Known(id="a", fields={"n": 1}, time=4)])
    assert store.items.get(["a"]) == {}
    store.items.put([Known(id="a", fields={"n": 2}, time=5)])
    assert store.items.get(["a"])["a"].fields == {"n": 2}


def test_a_user_who_was_deleted_comes_back_with_any_write_after(store: Store) -> None:
    """Nothing is left that a clock which is behind could be held against."""
    store.users.put([Known(id="a", time=5)])
    store.users.delete("a", time=6)
    store.users.put([Known(id="a", fields={"n": 1}, time=4)])
    assert store.users.get(["a"])["a"].fields == {"n": 1}


def test_nothing_is_put_or_got_and_tables_are_apart(store: Store) -> None:
    store.items.put([])
    store.items.put([Known(id="a")])
    assert store.items.get([]) == {}
    assert store.users.get(["a"]) == {}


# facts


@pytest.mark.parametrize("content", [{}, {"a": 1}, {"é": [1, None]}, {"deep": {"er": "x"}}])
def test_a_fact_is_kept_in_place_of_the_one_before(store: Store, content: dict[str, Any]) -> None:
    put(store.session, "mine", {"old": True})
    put(store.session, "other", {"stays": 1})
    put(store.session, "mine", content)
    assert get(store.session, "mine") == content
    assert get(store.session, "other") == {"stays": 1}
    assert get(store.session, "none") is None


def test_rules_are_those_declared_last(store: Store) -> None:
    with pytest.raises(UserError, match=r"umbel\.db: has no rules of labels; serve a bundle whose run file says them"):
        declared(store.session)
    store.declare(Feedback(rules=RULES.rules, lateness=77))
    store.declare(RULES)
    assert declared(store.session) == RULES


# rows


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "{}"),
        ({"a": 1}, '{"a":1}'),
        ({"a": [1, 2]}, '{"a":[1,2]}'),
        ({"a": None, "b": True}, '{"a":null,"b":true}'),
        ({"a": "é"}, '{"a":"\\u00e9"}'),
    ],
)
def test_fields_are_compact_json(fields: dict[str, Value], text: str) -> None:
    assert to_json(fields) == text
    assert known_row(Known(id="a", fields=fields, time=3)) == {"id": "a", "fields": text, "time": 3}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_no_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": value})
    for given in (replace(decision(), fields={"a": value}), replace(decision(), policy={"a": value})):
        with pytest.raises(ValueError, match="not JSON compliant"):
            decision_row(given)


def test_a_decision_is_a_row_and_one_for_each_position() -> None:
    first = Shown(item="i2", fused=0.5, propensity=0.25, predictions=(1.0, -2.0), fields={"p": 1}, sources=("near", "new"))
    shown = (first, Shown(item="i1"))
    given = replace(decision(), shown=shown, outputs=("a", "b"), temperature=0.5, arm="canary", policy={"k": 3})
    assert decision_row(given) == {
        "request": "r1", "user": "u1", "time": 100, "bundle": "b", "fusion": "f", "rung": "full", "arm": "canary", "temperature": 0.5,
        "policy": '{"k":3}', "outputs": '["a","b"]', "adapted": None, "fields": "{}",
    }  # fmt: skip
    assert shown_rows(given) == [
        ("r1", "i2", 0, 0.5, 0.25, np.array([1.0, -2.0], "<f8").tobytes(), '{"p":1}', '["near","new"]'),
        ("r1", "i1", 1, None, None, b"", "{}", None),
    ]


@pytest.mark.parametrize(("candidates", "width"), [(1, 1), (8, 1), (9, 2), (17, 3)])
def test_masks_are_bits(store: Store, candidates: int, width: int) -> None:
    items = tuple(f"i{number}" for number in range(candidates))
    masks = np.arange(2 * candidates).reshape(2, candidates) % 3 == 0
    made = Candidates(items=items, predictions=np.ones((candidates, 2)), fused=np.arange(candidates, dtype=np.float64), masks=masks)
    row = candidates_row("r1", made)
    assert (len(row["masks"]), len(row["predictions"]), len(row["fused"])) == (2 * width, 8 * candidates, 4 * candidates)
    store.log(replace(decision(), candidates=made)).result()
    found = store.decision("r1")
    assert found is not None
    assert found.candidates is not None
    assert found.candidates.masks is not None
    assert (found.candidates.masks == masks).all()
    assert found.candidates.fused.tolist() == list(range(candidates))


@pytest.mark.parametrize(("value", "kept"), [(None, None), (3, 3.0), (0, 0.0), (-0.5, -0.5)])
def test_an_events_value_is_a_float_or_none(value: float | None, kept: float | None) -> None:
    row = event_row(Event(id="e", kind="k", item="i", time=1, value=value), 9)
    assert row == {"id": "e", "kind": "k", "item": "i", "time": 1, "received": 9, "user": None, "request": None, "value": kept}
    assert type(row["value"]) is type(kept)


# survey


@pytest.mark.parametrize(
    ("users", "items", "whole"),
    [
        (["7", "8"], ["1", "2"], (True, True)),
        (["7", "u8"], ["1", "2"], (False, True)),
        (["7", None], ["1", "02"], (True, False)),
        ([None, None], ["1", "2"], (True, True)),
        (["x", "7"], ["i", "1"], (False, False)),
    ],
)
def test_ids_are_whole_if_all_are(store: Store, users: list[str | None], items: list[str], whole: tuple[bool, bool]) -> None:
    for number, (user, item) in enumerate(zip(users, items, strict=True)):
        store.log(decision(f"r{number}", item, user=user)).result()
    found = survey(store.session, 1_000)
    assert (found.users_whole, found.items_whole) == whole


def test_a_survey_widens_names_and_types_up_to_its_time(store: Store) -> None:
    assert survey(store.session, 1_000) == Survey()
    for given in (
        replace(decision("r1", time=1), outputs=("watch", "click"), fields={"b": 1}, shown=(Shown(item="1", fields={"a": "x"}),)),
        replace(decision("r2", "2", time=2), outputs=("buy",), fields={"b": 0.5, "c": [1]}),
        replace(decision("r3", "x", time=3), outputs=("late",), fields={"b": "text"}),
    ):
        store.log(given).result()
    found = survey(store.session, 2)
    assert found.outputs == ("buy", "click", "watch")
    assert list(found.forms.items()) == [("a", Form(Kind.TEXT)), ("b", Form(Kind.NUMBER)), ("c", Form(Kind.WHOLE, many=True))]
    assert found.items_whole
    later = survey(store.session, 3)
    assert (later.forms["b"], later.items_whole, "late" in later.outputs) == (Form(Kind.TEXT), False, True)


# orphans


@pytest.mark.parametrize(
    ("sent", "lost"),
    [
        (event(), 0),
        (event(time=100), 0),
        (event(time=99), 1),
        (event(item="i2"), 1),
        (event(user="u2"), 1),
        (event(request="r1"), 0),
        (event(request="r1", time=1), 0),
        (event(request="r1", user=None), 0),
        (event(request="r1", user="u2"), 0),
        (event(request="r1", item="i2"), 1),
        (event(request="r2"), 1),
    ],
)
def test_an_event_belongs_to_what_was_shown_or_to_nothing(store: Store, sent: Event, lost: int) -> None:
    assert orphans(store.session, 10_000) == 0
    store.log(decision("r1", "i1")).result()
    store.record([sent], received=200).result()
    assert orphans(store.session, 200) == lost
    assert orphans(store.session, 199) == 0  # it had not come


def test_the_clock_is_the_latest_event(store: Store) -> None:
    assert watermark(store.session) == -1
    store.record([event("a", time=50), event("b", time=40)], received=900).result()
    assert watermark(store.session) == 50
