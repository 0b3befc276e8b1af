"""What each type of Polars is to Spark: as a column that is only carried, as a key of a join, as a time."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

# Spark has no unsigned integers; nanoseconds and durations it carries as the integers that they are (nanosAsLong).
_CARRIED: Mapping[object, str] = {
    pl.Boolean: "BOOLEAN", pl.Int8: "TINYINT", pl.Int16: "SMALLINT", pl.Int32: "INT", pl.Int64: "BIGINT",
    pl.UInt8: "SMALLINT", pl.UInt16: "INT", pl.UInt32: "BIGINT", pl.UInt64: "DECIMAL(20,0)", pl.Float32: "FLOAT", pl.Float64: "DOUBLE",
    pl.String: "STRING", pl.Categorical: "STRING", pl.Enum: "STRING", pl.Binary: "BINARY", pl.Date: "DATE", pl.Duration: "BIGINT",
}


def carried(column: pl.Series) -> str | None:
    """The type in which Spark reads such a column from Parquet and writes it again, so that no value is lost; None if it has none.

    Example
    -------
    >>> carried(pl.Series(dtype=pl.UInt8)), carried(pl.Series(dtype=pl.List(pl.String))), carried(pl.Series(dtype=pl.Time))
    ('SMALLINT', 'ARRAY<STRING>', None)
    """
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        return "BIGINT" if kind.time_unit == "ns" else "TIMESTAMP" if kind.time_zone else "TIMESTAMP_NTZ"
    if isinstance(kind, pl.Decimal):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if isinstance(kind, pl.List | pl.Array):
        inner = carried(pl.Series(dtype=kind.inner))
        return inner and f"ARRAY<{inner}>"
    return _CARRIED.get(kind.base_type())


def key(column: pl.Series) -> str | None:
    """The type in which Spark compares such keys as umbel does; None if it has none."""
    kind = column.dtype
    if kind.is_integer():
        return "DECIMAL(20,0)" if kind == pl.UInt64 else "BIGINT" if kind.base_type() in _CARRIED else None
    return "STRING" if kind.base_type() in (pl.String, pl.Categorical, pl.Enum) else None


def time(column: pl.Series) -> str | None:
    """The type in which Spark orders such times as umbel does; None if it has none."""
    kind = column.dtype
    if kind.is_integer():
        return "BIGINT" if kind.base_type() in _CARRIED and kind != pl.UInt64 else None
    if kind.is_float():
        return "DOUBLE"
    return carried(column) if kind in (pl.Date, pl.String) or isinstance(kind, pl.Datetime) else None
