"""Run files of small logs whose columns are user, item and time: what all of them say, and how they come to lie in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

DATA = """
[data]
log = "{log}"
user = "user"
item = "item"
time = "time"
[fields]
"""


def written(folder: Path, log: pl.DataFrame, more: str, *, changes: Mapping[str, str] | None = None) -> Path:
    """The log as `log.parquet` and the run file that reads it, its fields and what comes after in `more`; the path of the file.

    Some text of the file is replaced, if it is told; it has to stand there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.write_parquet(folder / "log.parquet")
    text = DATA.format(log=folder / "log.parquet") + more
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "run.toml"
    path.write_text(text)
    return path
