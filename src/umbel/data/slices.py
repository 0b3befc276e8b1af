"""The rows of Parquet and CSV files in order, a slice at a time, so that memory does not grow with the files."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.data import parquet
from umbel.data.files import blocks, paths

SLICE = 1 << 27  # bytes of the columns of Parquet that are read at once: a longer row group is cut
SMALL = 1 << 24  # neighbouring row groups up to this many are read together
WORD = 8         # bytes of a value, where the file holds it in fewer


def slices(path: str, frame: pl.LazyFrame, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Those columns of all rows of `frame`, which `open_file` opened: one slice is given out while the next one is read.

    A slice of Parquet is a row group, a part of a large one, or several small ones; of a CSV, a block of whole lines.
    """
    like = frame.collect_schema().to_frame()
    cut = _parquet if Path(path).suffix == ".parquet" else _csv
    return _ahead(part.select(columns) for file in paths(path) for part in cut(file, like, columns))


def _ahead(parts: Iterable[pl.LazyFrame]) -> Iterator[pl.DataFrame]:
    """Each part, collected while the consumer works on the one before it."""
    waiting: deque[Future[pl.DataFrame]] = deque()
    with ThreadPoolExecutor(1) as reader:
        for part in parts:
            waiting.append(reader.submit(part.collect))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        if waiting:
            yield waiting.popleft().result()


def _parquet(file: str, like: pl.DataFrame, columns: Sequence[str]) -> Iterator[pl.LazyFrame]:
    """What Arrow cannot tell the row groups of is one slice: Polars says what is wrong with it."""
    whole = parquet.scan([file], like)
    try:
        groups = pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        yield whole
        return
    start = 0
    for rows in _heights(groups, columns):
        yield whole.slice(start, rows)
        start += rows


def _heights(groups: pq.FileMetaData, columns: Sequence[str]) -> Iterator[int]:
    """How many rows each slice of a file has."""
    rows = held = 0
    for number in range(groups.num_row_groups):
        group = groups.row_group(number)
        size = _size(group, columns)
        if rows and held + size > SMALL:
            yield rows
            rows = held = 0
        rows, held = rows + group.num_rows, held + size
        if held > SLICE:
            most = max(1, rows * SLICE // held)
            yield from [most] * (rows // most)
            rows, held = rows % most, held * (rows % most) // rows
    if rows:
        yield rows


def _size(group: pq.RowGroupMetaData, columns: Sequence[str]) -> int:
    """About how many bytes those columns of a row group take in memory."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    own = [chunk for chunk in chunks if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in columns)]
    return sum(max(chunk.total_uncompressed_size, WORD * chunk.num_values) for chunk in own)


def _csv(file: str, like: pl.DataFrame, _columns: Sequence[str]) -> Iterator[pl.LazyFrame]:
    with Path(file).open("rb") as lines:
        lines.readline()  # the names
        for block in blocks(lines):
            yield pl.scan_csv(io.BytesIO(block), has_header=False, schema=like.schema, glob=False)
