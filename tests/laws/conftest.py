"""The stores that laws run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.stores import STORES, Open


@pytest.fixture(scope="session", params=STORES)
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Every kind of store: a maker of new, empty ones."""
    yield from STORES[request.param](tmp_path_factory)
