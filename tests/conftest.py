"""Shapes and types of umbel are checked while tests run; drawn examples are the same in each run, unless a long one looks for new."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.shapes import check

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is: tests that run side by side would wait for cores at every barrier
check("umbel")
settings.register_profile("steady", derandomize=True, database=None)
if "UMBEL_LONG" not in os.environ:
    settings.load_profile("steady")
