"""The tables of a store, the same on every engine: ids and JSON are text, times are milliseconds since 1970 (UTC)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, MetaData, SmallInteger, Table, Text

METADATA = MetaData()
# Text that is compared: by its bytes, whatever the language of a database.
KEY = Text().with_variant(Text(collation="C"), "postgresql")

decisions = Table(
    "decisions",
    METADATA,
    Column("request", KEY, primary_key=True),
    Column("user", KEY),
    Column("time", BigInteger, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("fusion", Text, nullable=False),
    Column("rung", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("temperature", Double),
    Column("policy", Text, nullable=False),   # JSON
    Column("outputs", Text, nullable=False),  # JSON: the names of predictions
    Column("fields", Text, nullable=False),   # JSON
    Column("adapted", Text),                  # JSON; null: the shared model answered
    Index("decisions_by_time", "time", "request"),
    Index("decisions_by_user", "user", "time"),
    sqlite_with_rowid=False,
)
shown = Table(
    "shown",
    METADATA,
    Column("request", KEY, primary_key=True),
    Column("item", KEY, primary_key=True),
    Column("position", SmallInteger, nullable=False),
    Column("fused", Double),
    Column("propensity", Double),
    Column("predictions", LargeBinary, nullable=False),  # float64, little-endian
    Column("fields", Text, nullable=False),              # JSON
    Column("sources", Text),                             # JSON; null: whoever asked brought the item
    sqlite_with_rowid=False,
)
candidates = Table(
    "candidates",
    METADATA,
    Column("request", KEY, primary_key=True),
    Column("items", Text, nullable=False),               # JSON
    Column("predictions", LargeBinary, nullable=False),  # float32, little-endian, row-major
    Column("fused", LargeBinary, nullable=False),        # float32
    Column("masks", LargeBinary),                        # bits, row-major
)
events = Table(
    "events",
    METADATA,
    Column("id", KEY, primary_key=True),
    Column("kind", KEY, nullable=False),
    Column("item", KEY, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("user", KEY),
    Column("request", KEY),
    Column("value", Double),
    Index("events_by_request", "request", "item"),
    Index("events_by_user", "user", "time"),
    Index("events_by_time", "time"),
    sqlite_with_rowid=False,
)
users = Table(
    "users",
    METADATA,
    Column("id", KEY, primary_key=True),
    Column("fields", Text),  # JSON
    Column("time", BigInteger, nullable=False),
    Index("users_by_time", "time"),
    sqlite_with_rowid=False,
)
items = Table(
    "items",
    METADATA,
    Column("id", KEY, primary_key=True),
    Column("fields", Text),  # JSON; null: it was deleted
    Column("time", BigInteger, nullable=False),
    Index("items_by_time", "time"),
    sqlite_with_rowid=False,
)
audit = Table(
    "audit",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON
)
facts = Table(
    "facts",
    METADATA,
    Column("name", KEY, primary_key=True),
    Column("content", Text, nullable=False),  # JSON
)
