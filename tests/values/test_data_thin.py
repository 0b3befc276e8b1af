"""A small log from file to batch."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from umbel.data.ingest import ingest
from umbel.data.loader import Loader
from umbel.data.source import Source
from umbel.data.split import ByTime
from umbel.schema import Field, FieldKind, Schema, Task


def test_a_log_becomes_batches(tmp_path: Path) -> None:
    pl.DataFrame({"u": [1, 1, 2, 2, 1, 2], "t": [1, 2, 3, 4, 5, 6], "y": [0, 1, 0, 1, 0, 1]}).write_parquet(tmp_path / "log.parquet")
    schema = Schema((Field("u", FieldKind.ID),), (Task("y"),))
    table = ingest(Source(str(tmp_path / "log.parquet"), user="u", time="t"), schema, ByTime(3, 5), folder=tmp_path / "table")
    batches = list(Loader(table, "test", 1, shuffle=False)(0))
    assert [batch.fields["u"].tolist() for batch in batches] == [[1], [0]]
    assert [batch.labels.tolist() for batch in batches] == [[[0.0]], [[1.0]]]
