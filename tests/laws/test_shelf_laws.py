"""A shelf that followed changes is the one that would be made anew: what is on it, in which order, and which vectors are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.retrieving import ITEMS, TASTES, planted

from umbel.retrieve.index import Exact
from umbel.run.run import train
from umbel.run.settings import read
from umbel.serve.recommend.shelf import Shelf, Visitor, _Near
from umbel.serve.recommend.shelves import Shelves
from umbel.serve.recommend.stock import Stock
from umbel.serve.recommend.vectors import Raws, Vectors
from umbel.serve.records import Known, Value
from umbel.serve.served import Served, load
from umbel.serve.store.store import Store

IDS = ("0", "5", "8", "119", str(ITEMS + 1), "new", "newer", "x" * 300)
RULES: tuple[dict[str, object], ...] = ({"kind": 1}, {"colour": ["red", "blue"]}, {"colour": True}, {"kind": 9})


class Retrieving:
    """A bundle that retrieves, small in print."""

    def __init__(self, served: Served) -> None:
        self.served = served


@pytest.fixture(scope="module")
def retrieving(tmp_path_factory: pytest.TempPathFactory) -> Retrieving:
    folder = tmp_path_factory.mktemp("shelf")
    train(read(planted(folder, epochs=1)), folder / "run")
    return Retrieving(load(folder / "run" / "bundle"))


# A price that is no number cannot be read; a kind that is a list in fewer items than not (or the other way) cannot be read beside them.
FIELDS: st.SearchStrategy[dict[str, Value]] = st.fixed_dictionaries({}, optional={
    "kind": st.sampled_from([0, 1, 2, 9, [1], [2, 3], ["a"], []]), "price": st.sampled_from([0.5, 3, "dear"]), "hidden": st.booleans(),
    "colour": st.sampled_from(["red", "blue", ["red", "green"], True, 1]),
})  # fmt: skip
STEP = st.tuples(st.dictionaries(st.sampled_from(IDS), FIELDS, max_size=4), st.sets(st.sampled_from(IDS), max_size=2))


def known(one: str, fields: dict[str, Value], time: int) -> Known:
    return Known(id=one, fields=fields, time=time)


def found(shelf: Shelf) -> dict[str, Any]:
    """All that can be had of a shelf, with places as ids; what is nearest without its order, which items with equal fields do not have."""
    ids, among = np.array(shelf.stock.ids), shelf.shown
    sources = shelf.found(Visitor({"user": 1, "taste": 1}, ["5", "8"]), among, 50)
    near = shelf._near
    assert near is not None
    rules = [(shelf.stock.having(rule).tolist(), shelf.stock.lacking(rule).tolist()) for rule in RULES]
    return {
        "ids": shelf.stock.ids, "fields": list(shelf.stock.fields), "times": shelf.stock.times.tolist(), "shown": among.tolist(),
        "places": dict(shelf.stock.places), "rules": rules, "nearest": set(ids[sources.pop("nearest")]),
        "found": {name: ids[places].tolist() for name, places in sources.items()}, "positives": near.positives.tolist(),
    }  # fmt: skip


def vectors(shelf: Shelf) -> np.ndarray:
    assert shelf._near is not None
    assert isinstance(shelf._near._index, Exact)
    return shelf._near._index.vectors


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=4))
def test_following_is_making_anew(retrieving: Retrieving, steps: list[tuple[dict[str, dict[str, Value]], set[str]]]) -> None:
    served = retrieving.served
    first = [known(str(one), {"kind": one % TASTES, "price": one}, 0) for one in range(6)]
    stock = Stock.of(first)
    shelf = Shelf(served, stock)
    store = {one.id: one for one in first}
    for time, (written, deleted) in enumerate(steps, start=1):
        for rule in RULES:  # what was asked for is kept up
            shelf.stock.having(rule)
        new = [known(one, fields, time) for one, fields in written.items()]
        gone = [one for one in sorted(deleted) if one not in written]
        before = shelf.stock
        stock, was = before.changed(new, gone)
        store = {name: one for name, one in (store | {one.id: one for one in new}).items() if name not in gone}
        shelf = Shelf(served, stock, before=shelf, was=was)
        anew = Shelf(served, Stock.of(store.values()))
        assert found(shelf) == found(anew)
        assert np.abs(vectors(shelf) - vectors(anew)).max(initial=0.0) < 1e-5  # rows together or alone
        assert [before.ids[place] for place in was[was >= 0]] == [one for one, own in zip(stock.ids, was, strict=True) if own >= 0]


def test_only_what_changed_is_encoded(retrieving: Retrieving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    served, items = retrieving.served, Vectors.items

    def counted(self: Vectors, some: list[Any]) -> np.ndarray:
        encoded.append(len(some))
        return items(self, some)

    monkeypatch.setattr(Vectors, "items", counted)
    with Store(tmp_path / "umbel.db") as store:
        store.items.put([known(f"new {one}", {"kind": one % TASTES}, 1) for one in range(30)])
        shelves = Shelves(store.items)
        shelves.of(served)
        store.items.put([known("new 3", {"kind": 2}, 2), known("7", {"kind": 3}, 2)])  # 7 was met in training: its vector is known
        shelves.follow(*store.items.changed(2), [served])
        store.items.delete("new 9", time=3)
        shelves.follow(*store.items.changed(3), [served])
        assert len(shelves.of(served).stock) == 30
    assert encoded == [30, 1]


def test_an_item_that_can_be_read_again_is_encoded_again(retrieving: Retrieving) -> None:
    """Other items decide which form of a column is read: one that stays as it was may begin to be read, or end."""
    served = retrieving.served
    assert served.bundle.retrieval is not None
    vectors = Vectors(Raws(served.reader), served.bundle.retrieval)
    stock = Stock.of([known("p", {"kind": 1}, 1), known("q", {"kind": 2}, 1)])
    codes, was = served.codes(stock.ids), np.arange(2)
    first = _Near(vectors, stock, codes=codes, readable=np.array([False, True]), earlier=None)
    second = _Near(vectors, stock, codes=codes, readable=np.array([True, True]), earlier=(first, was))
    expected = vectors.items(stock.fields)
    assert np.abs(first._every[0] - expected[0]).max() > 0.01
    assert np.abs(second._every - expected).max() < 1e-5
