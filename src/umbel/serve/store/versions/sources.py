"""Schema 0003: which sources brought an item that was shown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Shown items name their sources; of those of before nobody knows them."""
    op.add_column("shown", sa.Column("sources", sa.Text))
