"""The file that tells what each decision chose from, beside the log of what was shown: one row a decision."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from umbel.errors import UserError

# Predictions are row-major, candidates by outputs; `shown` are places among the candidates, `propensity` their chances, from the top.
CHOICES = pl.Schema([
    ("request_id", pl.String()), ("bundle", pl.String()), ("temperature", pl.Float64()), ("outputs", pl.List(pl.String())),
    ("predictions", pl.List(pl.Float32())), ("fused", pl.List(pl.Float32())), ("shown", pl.List(pl.Int64())),
    ("propensity", pl.List(pl.Float64())),
])  # fmt: skip


def read_choices(path: Path) -> pl.DataFrame:
    """Such a file; :raises UserError: if it is none."""
    try:
        frame = pl.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", mend="give what `umbel collect --choices` left") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}", mend="give what `umbel collect --choices` left") from None
    if frame.schema != CHOICES:
        raise UserError(f"{path}: has other columns", mend="give what `umbel collect --choices` left")
    return frame
