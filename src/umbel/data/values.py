"""Raw values of ids, lists, numbers and vectors, checked."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64

from umbel.errors import UserError
from umbel.schema import Field


def single(raw: pl.Series, field: Field) -> pl.Series:
    """A column of one value a row; :raises UserError: for lists, bytes and durations."""
    if raw.dtype.is_nested():
        raise UserError(f"fields.{field.name}: {field.kind} of a column of {raw.dtype}", mend="use kind = 'sequence' or 'bag'")
    if raw.dtype in (pl.Binary, pl.Duration):
        raise UserError(f"fields.{field.name}: {field.kind} of a column of {raw.dtype}", mend="write it as text or as integers")
    return raw


def as_lists(raw: pl.Series, field: Field) -> pl.Series:
    """The last `length` values of each row; a text such as `[3, 5]`, `3 5` or `a|b` is cut at commas, blanks, semicolons and bars."""
    return lists(raw, field).list.tail(field.length)


def lists(raw: pl.Series, field: Field) -> pl.Series:
    """A column of lists; :raises UserError: for anything that is none."""
    if raw.dtype == pl.String:
        return raw.str.extract_all(r"[^\s,|;\[\]]+")
    if isinstance(raw.dtype, pl.Array):
        return raw.arr.to_list()
    if raw.dtype == pl.Null:
        return raw.cast(pl.List(pl.Int64))
    if not isinstance(raw.dtype, pl.List) or raw.dtype.inner.is_nested():
        mend = f"give a list column, or kind = '{'number' if raw.dtype.is_float() else 'id'}'"
        raise UserError(f"fields.{field.name}: a {field.kind} cannot be read from {raw.dtype}", mend=mend)
    return raw


def numbers(raw: pl.Series, field: Field) -> Float64[np.ndarray, "rows"]:
    """float64 with NaN for missing; :raises UserError: for what is no number."""
    return as_float(raw, f"fields.{field.name}", mend="use kind = 'category', or TRY_CAST it in sql")


def as_float(raw: pl.Series, where: str, *, mend: str) -> Float64[np.ndarray, "rows"]:
    """Numbers, booleans, or text that all reads as numbers; :raises UserError: naming the value that does not."""
    if raw.dtype.is_numeric() or raw.dtype in (pl.Boolean, pl.Null):
        return raw.cast(pl.Float64).to_numpy()
    if raw.dtype != pl.String:
        raise UserError(f"{where}: no number can be read from {raw.dtype}", mend=mend)
    values = raw.cast(pl.Float64, strict=False)
    wrong = raw.filter(values.is_null() & raw.is_not_null())
    if len(wrong):
        raise UserError(f"{where}: {wrong[0]!r} is no number", mend=mend)
    return values.to_numpy()


def no_infinities(count: int, field: Field) -> None:
    """:raises UserError: if there is any."""
    if count:
        raise UserError(f"fields.{field.name}: infinite in {count} rows", mend="make them null, or clip them with CASE WHEN in sql")


def vectors(raw: pl.Series, field: Field) -> Float32[np.ndarray, "rows width"]:
    """A row of NaN where the vector is missing; :raises UserError: for another width, or an infinite number."""
    found = lists(raw, field)
    there = found.is_not_null()
    wrong = found.filter(there & (found.list.len() != field.width))
    if len(wrong):
        what = f"fields.{field.name}: {len(wrong)} vectors are not {field.width} wide"
        raise UserError(what, mend=f"set width = {len(wrong[0])}, or drop them")
    out = np.full((len(raw), field.width), np.nan, np.float32)
    values = found.drop_nulls().explode(empty_as_null=False, keep_nulls=False)
    flat = as_float(values, f"fields.{field.name}", mend="give lists of numbers")
    no_infinities(int((np.abs(flat) > np.finfo(np.float32).max).sum()), field)
    out[there.to_numpy()] = flat.reshape(-1, field.width)
    return out
