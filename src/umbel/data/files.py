"""Files of raw rows: Parquet and CSV, opened lazily, and what is wrong with them said in one line."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from jaxtyping import Bool, UInt8

from umbel.errors import UserError

GUESS = 10_000  # rows of a CSV from which the types of its columns are told
BLOCK = 1 << 24  # bytes of a CSV that are checked at a time


def open_file(path: str) -> pl.LazyFrame:
    """A lazy frame over a file or glob of Parquet or CSV, told by the suffix.

    :raises UserError: where there is none; for a CSV that is not UTF-8, repeats a column, or has a line of another length.
    """
    pattern = not Path(path).is_file()  # a file whose name has brackets is itself
    found = sorted(glob.glob(path)) if pattern else [path]  # noqa: PTH207  (Path.glob refuses absolute patterns)
    if not found:
        raise UserError(f"{path}: no such file", mend="check the path; it is relative to the working directory")
    if Path(path).suffix == ".parquet":
        return pl.scan_parquet(path, glob=pattern)
    if Path(path).suffix == ".csv":
        for one in found:
            check_csv(Path(one))
        return pl.scan_csv(path, infer_schema_length=GUESS, glob=pattern)
    raise UserError(f"{path}: neither .parquet nor .csv", mend="convert it to Parquet")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what Polars says about a file under the block into one line."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        mend = "correct it, or convert the log to Parquet" if path.endswith(".csv") else "write the file again: it is damaged or no Parquet"
        raise UserError(f"{path}: cannot be read ({reason})", mend=mend) from error


def check_csv(path: Path) -> None:
    """Read a whole CSV once as bytes: Polars fills short lines with nulls in silence.

    :raises UserError: naming the line that is not UTF-8 or has more or fewer values than the header, or the repeated column.
    """
    with path.open("rb") as file:
        header = file.readline()
        names = next(csv.reader([_text(header, path, line=1)]), [])
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise UserError(f"{path}: column {twice[0]!r} stands twice", mend="rename one of them")
        line = 2
        for block in _blocks(file):
            _text(block, path, line=line)
            line += _check_block(block, len(names), path, line=line)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about `BLOCK` bytes of them at a time; a line ends at a line feed outside quotes."""
    rest = b""
    while block := file.read(BLOCK):
        rest += block
        end = _last_end(rest)
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _outside(data: UInt8[np.ndarray, "bytes"]) -> Bool[np.ndarray, "bytes"]:
    """Which bytes stand outside quotes."""
    return np.logical_not(np.logical_xor.accumulate(data == ord('"')))


def _last_end(block: bytes) -> int:
    """One past the last line feed outside quotes."""
    if b'"' not in block:
        return block.rfind(b"\n") + 1
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero((data == ord("\n")) & _outside(data))
    return int(ends[-1]) + 1 if len(ends) else 0


def _check_block(block: bytes, columns: int, path: Path, *, line: int) -> int:
    """The number of lines of a block, each of which has so many columns."""
    if b'"' not in block:
        lines = block.count(b"\n")
        if block.count(b",") == lines * (columns - 1) and b"\n\n" not in block and not block.startswith(b"\n"):
            return lines  # a long line stops Polars, so equal sums leave no short one
    data = np.frombuffer(block, np.uint8)
    outside = _outside(data)
    ends = np.flatnonzero((data == ord("\n")) & outside)
    commas = np.flatnonzero((data == ord(",")) & outside)
    values = np.diff(np.searchsorted(commas, ends), prepend=0) + 1
    bare = ends - np.concatenate([[-1], ends[:-1]]) <= 1
    wrong = np.flatnonzero((values != columns) | (bare & (columns > 1)))
    if len(wrong):
        first = int(wrong[0])
        count = 0 if bare[first] else int(values[first])
        what = f"{path}, line {line + first}: {count} values under {columns} columns"
        raise UserError(what, mend="complete the line, or quote its commas")
    return len(ends)


def _text(block: bytes, path: Path, *, line: int) -> str:
    try:
        return block.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = line + block[: error.start].count(b"\n")
        raise UserError(f"{path}, line {at}: not UTF-8", mend="convert it, for example: iconv -f latin1 -t utf-8") from error
