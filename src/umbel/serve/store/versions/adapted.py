"""Schema 0002: how far an answer was the user's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Decisions name the state that answered; those of before had none."""
    op.add_column("decisions", sa.Column("adapted", sa.Text))
