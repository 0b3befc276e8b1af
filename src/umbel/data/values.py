"""Raw values of lists, numbers and vectors as arrays."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64

from umbel.errors import UserError
from umbel.schema import Field, FieldKind


def as_lists(raw: pl.Series, field: Field) -> pl.Series:
    """The last `length` values of each row; a text such as `[3, 5]`, `3 5` or `a|b` is cut at commas, blanks and bars."""
    if raw.dtype == pl.String:
        raw = raw.str.extract_all(r"[^\s,|;\[\]]+")
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if not isinstance(raw.dtype, pl.List):
        raise UserError(f"fields.{field.name}: a {field.kind} needs lists, not {raw.dtype}", mend="give a list column, or kind = 'id'")
    return raw.list.tail(field.length)


def plain_numbers(raw: pl.Series, field: Field) -> Float64[np.ndarray, "rows"]:
    """float64 with NaN for missing; :raises UserError: for text or an infinite number."""
    if not (raw.dtype.is_numeric() or raw.dtype in (pl.Boolean, pl.Null)):
        raise UserError(f"fields.{field.name}: a number cannot be read from {raw.dtype}", mend="use kind = 'category', or CAST it in sql")
    values = raw.cast(pl.Float64).to_numpy()
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise UserError(f"fields.{field.name}: {infinite} infinite values", mend="make them null, or clip them with LEAST and GREATEST")
    return values


def vectors(raw: pl.Series, field: Field) -> Float32[np.ndarray, "rows width"]:
    """A row of NaN where the vector is missing; :raises UserError: where its width is not the declared one."""
    lists = as_lists(raw, Field(field.name, FieldKind.VECTOR, width=field.width, length=2**31 - 1))
    lengths = lists.list.len()
    wrong = lists.filter(lists.is_not_null() & (lengths != field.width))
    if len(wrong):
        what = f"fields.{field.name}: {len(wrong)} vectors are not {field.width} wide"
        raise UserError(what, mend=f"set width = {len(wrong[0])}, or drop them")
    out = np.full((len(raw), field.width), np.nan, np.float32)
    flat = lists.drop_nulls().explode(empty_as_null=False, keep_nulls=False).cast(pl.Float32).to_numpy()
    if np.isinf(flat).any():
        raise UserError(f"fields.{field.name}: {int(np.isinf(flat).sum())} infinite values", mend="make them null")
    out[lists.is_not_null().to_numpy()] = flat.reshape(-1, field.width)
    return out
