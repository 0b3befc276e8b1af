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
