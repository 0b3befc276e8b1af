"""Nearest items: the exact search by hand, and faiss's cells, which agree with it where they look at everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.retrieve import index as module
from umbel.retrieve.index import Cells, Exact, Index, index


def vectors(items: int, width: int = 8, *, seed: int = 0) -> np.ndarray:
    """Items around as many centres as there are items to ten, of length 1."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(max(1, items // 10), width))
    found = centres[draw.integers(0, len(centres), items)] + 0.3 * draw.normal(size=(items, width))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found, np.float32)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(0, 99), st.integers(1, 70), st.floats(0, 1))
def test_the_exact_search_is_a_sort(items: int, seed: int, most: int, share: float) -> None:
    every, draw = vectors(items, 3, seed=seed), np.random.default_rng(seed)
    among, vector = draw.random(items) < share, draw.normal(size=3).astype(np.float32)
    products = every @ vector
    expected = [int(place) for place in np.argsort(-products, kind="stable") if among[place]][:most]
    assert Exact(every).nearest(vector, among, most).tolist() == expected


def test_of_equal_products_the_first_places_are_kept() -> None:
    every = np.ones((6, 2), np.float32)
    among = np.array([False, True, True, True, True, False])
    assert Exact(every).nearest(every[0], among, 2).tolist() == [1, 2]


def test_a_faiss_index_that_looks_at_all_cells_is_exact() -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed: umbel[retrieve]")
    every, draw = vectors(600), np.random.default_rng(1)
    exact, cells = Exact(every), Cells(every, cells=12, looked=12)
    for share in (1.0, 0.3, 0.01):
        among = draw.random(600) < share
        for place in range(0, 600, 60):
            assert cells.nearest(every[place], among, 20).tolist() == exact.nearest(every[place], among, 20).tolist()


def test_by_default_most_of_the_nearest_are_found_and_nothing_that_is_masked() -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed: umbel[retrieve]")
    every, draw = vectors(3_000), np.random.default_rng(2)
    exact, cells, found = Exact(every), Cells(every), []
    for place in range(0, 3_000, 100):
        among = draw.random(3_000) < 0.7
        near, mine = exact.nearest(every[place], among, 20), cells.nearest(every[place], among, 20)
        assert among[mine].all()
        assert len(set(mine.tolist())) == len(mine)
        found.append(len(set(near.tolist()) & set(mine.tolist())) / 20)
    assert np.mean(found) > 0.8


@settings(max_examples=25)
@given(st.integers(0, 99), st.lists(st.tuples(st.sets(st.integers(0, 59), max_size=4), st.integers(0, 4)), max_size=4))
def test_cells_that_followed_changes_find_what_an_exact_search_finds(seed: int, steps: list[tuple[set[int], int]]) -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed: umbel[retrieve]")
    every, draw = vectors(80, seed=seed), np.random.default_rng(seed)
    found: Index = Cells(every, cells=6, looked=6)
    for step, (changed, added) in enumerate(steps, start=1):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "EXACT", 10)
            stay = np.delete(np.arange(len(every)), sorted(changed)[:1])  # one goes, the others change, some come
            was = np.append(np.where(np.isin(stay, sorted(changed)), -1, stay), np.full(added, -1)).astype(np.int64)
            new = vectors(len(was), seed=seed + 100 * step)
            new[was >= 0] = every[was[was >= 0]]
            found, every = found.changed(new, was), new
        if isinstance(found, Cells):
            found._looked = 99  # cells that were made anew look at an eighth, too
        among, vector = draw.random(len(every)) < 0.8, every[len(every) // 2]
        assert found.nearest(vector, among, 20).tolist() == Exact(every).nearest(vector, among, 20).tolist()


def test_cells_are_kept_until_a_fifth_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed: umbel[retrieve]")
    monkeypatch.setattr(module, "EXACT", 10)
    every, was = vectors(100), np.arange(100)
    first = Cells(every)
    second = first.changed(every, np.where(was < 10, -1, was))
    assert isinstance(second, Cells)
    assert (first._index.ntotal, second._index.ntotal) == (100, 110)  # ten came, ten went
    third = second.changed(every, np.where(was < 1, -1, was))
    assert isinstance(third, Cells)
    assert third._index.ntotal == 100
    assert isinstance(second.changed(every[:9], was[:9]), Exact)


def test_faiss_is_used_beyond_a_number_of_items_and_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed: umbel[retrieve]")
    every = vectors(50)
    assert isinstance(index(every), Exact)
    monkeypatch.setattr(module, "EXACT", 49)
    found = index(every)
    assert isinstance(found, Cells)
    assert isinstance(found, Index)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert isinstance(index(every), Exact)
