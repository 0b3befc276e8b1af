"""Shapes and types of umbel are checked while tests run."""

from __future__ import annotations

from tests.shapes import check

check("umbel")
