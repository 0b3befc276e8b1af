"""Shapes and types of umbel are checked while tests run; drawn examples are the same in each run, unless a long one looks for new."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.shapes import check

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is: tests that run side by side would wait for cores at every barrier
check("umbel")
settings.register_profile("steady", derandomize=True, database=None)
if "UMBEL_LONG" not in os.environ:
    settings.load_profile("steady")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays to the end: nothing looks for garbage in it, meanwhile or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
