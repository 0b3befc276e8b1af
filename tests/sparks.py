"""A Spark of two cores for tests, where pyspark and Java are at hand; and ingests on it."""

from __future__ import annotations

import atexit
import shutil
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.logs import contents, write
from tests.runs import DATA
from umbel.data.ingest import KEPT, ingest
from umbel.data.laid import Elsewhere
from umbel.data.source import Source
from umbel.data.split import Split
from umbel.schema import Schema

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RUN = DATA + """
user = {{ kind = "id", min_count = 1 }}
older = {{ kind = "number", sql = "age + 1" }}
[tasks.click]
[split]
by = "time"
valid = 6
test = 8
[model]
recipe = "shared_bottom"
"""


def spark() -> SparkSession:
    """The session of this process, started when first asked for; skips where there can be none."""
    pytest.importorskip("pyspark", reason="pyspark is not installed: pip install 'umbel[spark]'")
    if shutil.which("java") is None:
        pytest.skip("no Java here: Spark needs Java 17")
    return _started()


@cache
def _started() -> SparkSession:
    from umbel.data.spark.session import started

    opened = started("local[2]")
    session = opened.__enter__()
    session.conf.set("spark.sql.shuffle.partitions", 2)  # of two cores
    atexit.register(opened.__exit__, None, None, None)
    return session


def elsewhere(source: Source) -> Elsewhere:
    """The source, laid out by Spark."""
    session = spark()
    from umbel.data.spark.lay import Spark

    return Elsewhere(source, Spark(lambda: nullcontext(session), KEPT))


def both(source: Source, schema: Schema, split: Split, *, folder: Path) -> None:
    """Ingest here and on Spark: the same files, byte for byte."""
    here, there = ingest(source, schema, split, folder=folder / "here"), ingest(elsewhere(source), schema, split, folder=folder / "there")
    assert there.source == here.source
    one, other = contents(folder / "here"), contents(folder / "there")
    assert list(other) == list(one)
    assert [name for name in one if one[name] != other[name]] == []


def run_file(folder: Path) -> Path:
    """A run file of a small log."""
    path = folder / "run.toml"
    path.write_text(RUN.format(log=write(folder)))
    return path
