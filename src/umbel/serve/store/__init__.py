"""What the service must not forget: decisions, events, users, items, in one SQLite file or a PostgreSQL database."""

from __future__ import annotations

from umbel.serve.store.engine import UnavailableError, sole
from umbel.serve.store.store import Store

__all__ = ["Store", "UnavailableError", "sole"]
