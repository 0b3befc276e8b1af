"""Files of raw rows as Spark's data frames, each row with its number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from umbel.data.files import empty, paths
from umbel.data.parquet import other_part
from umbel.data.source import Log, Source
from umbel.data.spark.form import quoted
from umbel.data.spark.types import carried
from umbel.errors import UserError

ROW = "umbel row"  # of a file or glob, from 0, in the order in which the local path reads it
_PATTERN = re.compile(r"([][{}*?\\])")
_SCHEME = re.compile(r"^\w+:/+")


class Files:
    """Opens files of raw rows; what is no Parquet yet is written as such into `folder`."""

    def __init__(self, session: SparkSession, folder: Path) -> None:
        self._session, self._folder = session, folder
        self.heights: dict[str, int] = {}  # rows by path

    def rows(self, path: str, like: pl.DataFrame) -> DataFrame:
        """Those columns of all rows of a file or glob, in their types; :raises UserError: for what is no Parquet or CSV."""
        return self._opened(path, like)[0].select(*map(quoted, like.columns))

    def numbered(self, path: str, like: pl.DataFrame) -> DataFrame:
        """The same with `ROW`."""
        read, starts = self._opened(path, like)
        number, columns = fn.col("_metadata.row_index"), [*map(quoted, like.columns)]
        if len(starts) == 1:
            return read.select(*columns, number.alias(ROW))
        places = self._session.createDataFrame(list(starts.items()), "uri STRING, start BIGINT")
        uri = fn.regexp_replace("_metadata.file_path", _SCHEME.pattern, "/")
        return read.join(fn.broadcast(places), uri == fn.col("uri")).select(*columns, (number + fn.col("start")).alias(ROW))

    def _opened(self, path: str, like: pl.DataFrame) -> tuple[DataFrame, dict[str, int]]:
        """The rows, and for the path of each file, as Spark spells it, the number of its first row."""
        found = [str(Path(one).absolute()) for one in paths(path)] if path.endswith(".parquet") else [self._parquet(path, like)]
        starts, self.heights[path] = _starts(found, like)
        types = ", ".join(f"{quoted(column.name)} {carried(column)}" for column in like)
        read = self._session.read.schema(types).parquet(*("file:" + _PATTERN.sub(r"\\\1", one) for one in found))
        seen = {unquote(uri): uri for uri in (_SCHEME.sub("/", one) for one in read.inputFiles())}
        unseen = [one for one in found if one not in seen]
        if unseen:
            raise UserError(f"--spark: Spark does not see {unseen[0]}", mend="give it a name that does not begin with '_' or '.'")
        return read, {seen[one]: start for one, start in starts.items()}

    def _parquet(self, path: str, like: pl.DataFrame) -> str:
        """A CSV as Polars reads it: engines disagree about quotes, blanks and empty values."""
        self._folder.mkdir(parents=True, exist_ok=True)
        made = self._folder / f"{len(list(self._folder.iterdir()))}.parquet"
        with pq.ParquetWriter(made, like.to_arrow().schema) as writer:
            for frame in Log(Source(path)).read(like.columns, 1 << 20):
                writer.write_table(frame.to_arrow())
        return str(made.absolute())


def _starts(found: Sequence[str], like: pl.DataFrame) -> tuple[dict[str, int], int]:
    """The number of the first row of each file, and how many there are in all.

    :raises UserError: for a file whose columns Spark does not read as those of the others.
    """
    _check_columns(found, like)
    starts: dict[str, int] = {}
    rows = 0
    for one in found:
        starts[one] = rows
        try:
            rows += pq.read_metadata(one).num_rows
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{one}: cannot be read ({error})", mend="write the file again: it is damaged or no Parquet") from error
    return starts, rows


def _check_columns(found: Sequence[str], like: pl.DataFrame) -> None:
    """Spark reads integers that are narrower, but no column of nulls as another, and none as 64 bits without a sign."""
    frames = empty(found)
    for name, kind in like.schema.items():
        for one, frame in frames.items():
            own = frame.schema.get(name)
            wider = own is not None and own.is_integer() and kind.is_integer() and kind != pl.UInt64
            if own != kind and not wider:
                first = next((path for path, other in frames.items() if other.schema.get(name) == kind), found[0])
                raise other_part(one, name, frame, first=first, like=like)
