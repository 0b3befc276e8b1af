"""Shelves by hand: which items rules leave, what each source brings, and what a shelf follows of the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.untrained import bundle

from umbel.serve.recommend import shelves as module
from umbel.serve.recommend.shelf import Shelf, united
from umbel.serve.recommend.shelves import Shelves
from umbel.serve.recommend.stock import Stock
from umbel.serve.recommend.vectors import Raws
from umbel.serve.records import Known, Value
from umbel.serve.served import Served, load
from umbel.serve.store.store import Store

# Of the log of `tests.logs`, six training rows: a three times, b twice, c once; z stood in no training row.
KNOWN = (
    Known(id="c", fields={"kind": "x", "size": 1}, time=3),
    Known(id="z", fields={"kind": ["x", "y"], "size": True}, time=7),
    Known(id="a", fields={"kind": "y"}, time=1),
    Known(id="b", fields={"kind": None, "hidden": True}, time=2),
    Known(id="new", fields={"hidden": "yes"}, time=9),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return load(bundle(tmp_path_factory.mktemp("shelves")))


def chosen(stock: Stock, mask: np.ndarray) -> str:
    return " ".join(one for one, holds in zip(stock.ids, mask, strict=True) if holds)


@pytest.mark.parametrize(("rules", "left"), [
    ({}, "c z a b new"), ({"kind": "x"}, "c z"), ({"kind": ["y", "w"]}, "z a"), ({"kind": []}, ""), ({"nothing": "x"}, ""),
    ({"kind": "x", "size": 1}, "c"), ({"size": True}, "z"), ({"size": 1.0}, "c"), ({"size": "1"}, ""), ({"hidden": True}, "b"),
])  # fmt: skip
def test_a_rule_wants_any_of_its_values(rules: dict[str, object], left: str) -> None:
    stock = Stock.of(KNOWN)
    assert chosen(stock, stock.having(rules)) == left


@pytest.mark.parametrize(("rules", "left"), [
    ({}, "c z a b new"), ({"kind": "x"}, "a b new"), ({"kind": ["x", "y"]}, "b new"), ({"kind": "x", "hidden": True}, "a new"),
])  # fmt: skip
def test_a_rule_that_excludes_wants_none_of_them(rules: dict[str, object], left: str) -> None:
    stock = Stock.of(KNOWN)
    assert chosen(stock, stock.lacking(rules)) == left


def test_names_that_no_item_has_are_not_remembered() -> None:
    stock = Stock.of(KNOWN)
    for number in range(50):
        assert not stock.having({f"name {number}": "x"}).any()
        assert stock.lacking({f"name {number}": "x"}).all()
    stock.having({"kind": "x"})
    assert list(stock._by) == ["kind"]


def test_hidden_items_and_named_ones_are_left_out() -> None:
    stock = Stock.of(KNOWN)
    assert chosen(stock, stock.shown) == "c z a new"
    assert chosen(stock, stock.without(["a", "nobody", "c"])) == "z b new"


def test_an_id_that_no_request_may_name_is_no_item() -> None:
    assert Stock.of([Known(id=one) for one in ("", "a", "x" * 257, "b\0")]).ids == ("a",)


def test_popular_items_are_those_of_training_and_new_ones_the_others(served: Served) -> None:
    stock = Stock.of(KNOWN)
    every = np.ones(len(stock), bool)
    found = Shelf(served, stock).found(None, every, 10)
    assert {name: [stock.ids[place] for place in places] for name, places in found.items()} == {
        "popular": ["a", "b", "c"], "new": ["new", "z"],
    }  # fmt: skip
    few = Shelf(served, stock).found(None, stock.without(["a"]), 1)
    assert {name: [stock.ids[place] for place in places] for name, places in few.items()} == {"popular": ["b"], "new": ["new"]}


def test_what_the_bundle_cannot_read_is_not_shown(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    fields: list[dict[str, Value]] = [{"age": 5}, {"age": "old"}, {}, {"age": 7, "colour": [1]}, {"age": [1]}, {"hidden": True}]
    shelf = Shelf(served, Stock.of([Known(id=str(at), fields=one) for at, one in enumerate(fields)]))
    assert shelf.shown.tolist() == [True, False, True, True, False, False]
    assert "2 items are not shown" in caplog.text


@pytest.mark.parametrize(("rows", "read"), [
    ([{"watched": ["a"]}, {"watched": "a"}, {"watched": ["b", "c"]}, {}], [True, False, True, True]),
    ([{"watched": ["a"]}, {"watched": "a"}, {"watched": []}, {"watched": "b"}, {"watched": "c"}], [False, True, False, True, True]),
    ([{"watched": [1]}, {"watched": ["a"]}, {"watched": [2.5]}, {"watched": []}], [True, False, True, True]),
    ([{}, {"nothing": 1}, {"nothing": [1]}], [True, True, True]),
])  # fmt: skip
def test_of_forms_that_no_request_may_mix_the_commonest_is_shown(served: Served, rows: list[dict[str, Value]], read: list[bool]) -> None:
    readable = Raws(served.reader).forms(rows).readable
    assert readable.tolist() == read
    served.reader.frame([row for row, holds in zip(rows, readable, strict=True) if holds])  # raises where they do not go together


LISTS = st.lists(st.integers(0, 12), unique=True, max_size=8)


@given(LISTS, LISTS, LISTS, st.integers(1, 10))
def test_a_union_has_each_place_once_with_all_its_sources(one: list[int], two: list[int], three: list[int], most: int) -> None:
    found = {name: np.array(places, np.int64) for name, places in (("one", one), ("two", two), ("three", three))}
    whole = united(found, 99)
    assert set(whole) == {*one, *two, *three}
    for place, sources in whole.items():
        assert sorted(sources) == sorted(name for name, places in found.items() if place in places)
    few = united(found, most)
    assert list(few) == list(whole)[:most]
    assert all(few[place] == whole[place] for place in few)


def test_shelves_follow_the_store_in_one_step(served: Served, tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        shelves = Shelves(store.items)
        assert shelves.of(served).stock.ids == ("a", "b", "c")  # of the training rows, since the store has none
        before = shelves.of(served)
        store.items.put([Known(id="q", time=1)])
        assert shelves.of(served) is before
        shelves.follow(*store.items.changed(1), [served])
        assert shelves.of(served).stock.ids == ("q",)
        assert before.stock.ids == ("a", "b", "c")
        same = shelves.of(served)
        shelves.follow(*store.items.changed(1), [served])
        assert shelves.of(served) is same  # nothing new was written
        store.items.put([Known(id="q", fields={"hidden": True}, time=4)])
        shelves.follow(*store.items.changed(2), [served])
        assert not shelves.of(served).stock.shown.any()
        store.items.delete("q", time=6)
        shelves.follow(*store.items.changed(5), [served])
        assert shelves.of(served).stock.ids == ("a", "b", "c")


def test_what_is_written_while_a_shelf_is_put_up_is_on_it(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread follows the store meanwhile."""
    with Store(tmp_path / "umbel.db") as store:
        shelves, new, seen = Shelves(store.items), module._new, list[int]()

        def slow(bundle: Served, stock: Stock) -> Shelf:
            seen.append(len(stock))
            if len(seen) == 1:
                store.items.put([Known(id="q", time=4)])
                shelves.follow(*store.items.changed(1), [])
            return new(bundle, stock)

        monkeypatch.setattr(module, "_new", slow)
        assert (shelves.of(served).stock.ids, seen) == (("q",), [0, 1])
        assert shelves.of(served).stock.ids == ("q",)
        store.items.put([Known(id="r", time=6)])
        shelves.follow(*store.items.changed(5), [served])
        assert (set(shelves.of(served).stock.ids), seen) == ({"q", "r"}, [0, 1]), "and follows from then on"


def test_shelves_begin_with_what_the_store_has(served: Served, tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        store.items.put([Known(id="old", time=5)])
        assert Shelves(store.items).of(served).stock.ids == ("old",)


def test_the_shelf_of_a_bundle_that_serves_no_longer_is_taken_down(served: Served, tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        shelves = Shelves(store.items)
        first = shelves.of(served)
        assert shelves.of(served) is first
        shelves.follow([], [], [])
        assert shelves.of(served) is not first
