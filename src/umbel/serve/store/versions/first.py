"""Schema 0001: decisions with what was shown and could have been, events, users, items, the audit, facts about the store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make every table of the first schema."""
    _answers()
    _events()
    for name in ("users", "items"):
        op.create_table(name, _key("id"), sa.Column("fields", sa.Text), _time("time"), sqlite_with_rowid=False)
        op.create_index(f"{name}_by_time", name, ["time"])
    number = sa.Column("number", sa.Integer, primary_key=True)
    op.create_table("audit", number, _time("time"), _text("actor"), _text("action"), _text("detail"))
    op.create_table("facts", _key("name"), _text("content"))


def _answers() -> None:
    said = [_text(name) for name in ("bundle", "fusion", "rung", "arm", "policy", "outputs", "fields")]
    op.create_table(
        "decisions", _key("request"), sa.Column("user", KEY), _time("time"), sa.Column("temperature", sa.Double), *said,
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("decisions_by_time", "decisions", ["time", "request"])
    op.create_index("decisions_by_user", "decisions", ["user", "time"])
    op.create_table(
        "shown", _key("request"), _key("item"), sa.Column("position", sa.SmallInteger, nullable=False),
        sa.Column("fused", sa.Double), sa.Column("propensity", sa.Double), _bytes("predictions"), _text("fields"),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "candidates", _key("request"), _text("items"), _bytes("predictions"), _bytes("fused"), sa.Column("masks", sa.LargeBinary)
    )


def _events() -> None:
    op.create_table(
        "events", _key("id"), _key_text("kind"), _key_text("item"), _time("time"), _time("received"),
        sa.Column("user", KEY), sa.Column("request", KEY), sa.Column("value", sa.Double),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("events_by_request", "events", ["request", "item"])
    op.create_index("events_by_user", "events", ["user", "time"])
    op.create_index("events_by_time", "events", ["time"])


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, KEY, primary_key=True)


def _key_text(name: str) -> sa.Column[str]:
    return sa.Column(name, KEY, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)
