"""A raw user or request as one int64 that is the same in every run and on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from jaxtyping import Int64

MISSING = int(np.iinfo(np.int64).min)


def stable(raw: pl.Series) -> Int64[np.ndarray, "rows"]:
    """The integers themselves (unsigned 64-bit ones by their bits); else eight bytes of BLAKE2b of the text; missing is the least int64."""
    if raw.dtype == pl.UInt64:
        raw = raw.reinterpret(signed=True)
    if raw.dtype.is_integer():
        return raw.cast(pl.Int64).fill_null(MISSING).to_numpy()
    texts = raw.cast(pl.String).rename("text").to_frame()
    distinct = texts["text"].drop_nulls().unique()
    codes = pl.Series("code", [_digest(text) for text in distinct], dtype=pl.Int64)
    found = texts.join(pl.DataFrame([distinct, codes]), on="text", how="left", maintain_order="left")
    return found["code"].fill_null(MISSING).to_numpy()


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
