"""Files of raw rows: Parquet and CSV, opened lazily, and what is wrong with them said in one line."""

from __future__ import annotations

import codecs
import csv
import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from jaxtyping import Bool, UInt8

from umbel.data import columns, parquet
from umbel.data.columns import NOTHING, TEXT, Types, met, wider
from umbel.errors import UserError

GUESS = 10_000  # rows of a CSV from which the types of its columns are told
BLOCK = 1 << 22  # bytes of a CSV that are checked or read at a time
SHOWN, TOLD = 80, 200  # characters of a value, and of what Polars says, that stand in a message
_INSIDE = bytes(set(range(256)) - set(b",\n"))  # what is left out of a line to see its commas
_MARKS = {  # what a file of another Unicode encoding begins with, the longest first
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_REFUSED = re.compile(r"could not parse `(.*)` as dtype `(\w+).*` at column '(.*)' \(column number \d+\)$", re.DOTALL | re.MULTILINE)
_CALLED = {"bool": "truth value", "date": "date", "datetime": "moment", "time": "time of day", "f64": "number"}


def open_file(path: str, types: Types | None = None) -> pl.LazyFrame:
    """A lazy frame over a file or glob of Parquet or CSV, told by the suffix.

    The columns of a CSV are of the `types` that they had at training, where these are known, else of what the first rows of
    all its files tell.

    Of several files of Parquet, integers are as wide as the widest of any file, and columns those of the first.

    :raises UserError: where there is none; for a CSV that is not UTF-8, repeats a column, or has a line of another length, and
        for one whose columns are not those of the first.
    """
    found = paths(path)
    if Path(path).suffix == ".parquet":
        return parquet.scan(found, parquet.common(list(empty(found).values())) if len(found) > 1 else None)
    for one in found:
        check_csv(Path(one))
    with reading(path):
        read = {name: met((types or {}).get(name), told) for name, told in _told(found).items()}
        return pl.scan_csv(found, schema_overrides=columns.empty(read).schema, infer_schema_length=0, glob=False)


def column_names(path: str) -> list[str]:
    """The columns of a file, or of the first of a glob; no row is looked at."""
    first = paths(path)[0]
    if Path(path).suffix == ".csv":
        with reading(first), Path(first).open("rb") as file:
            return _names(file, Path(first))
    with reading(path):
        return pl.scan_parquet(first, glob=False).collect_schema().names()


def empty(found: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The columns of files of Parquet, by path, without their rows."""
    frames = {}
    for one in found:
        with reading(one):
            frames[one] = pl.scan_parquet(one, glob=False).collect_schema().to_frame()
    return frames


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what the system and Polars say about a file under the block into one line, with the row of a CSV's value that does not fit.

    Only what reads it belongs there: whoever may not write stands outside.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or _cut(str(error).strip().splitlines()[0], TOLD)
        raise UserError(f"{error.filename or path}: cannot be read ({reason})", mend="name a file that this user may read") from error
    except pl.exceptions.PolarsError as error:
        raise _complaint(path, str(error)) from error


def check_csv(path: Path) -> None:
    """Read a whole CSV once as bytes: Polars fills short lines with nulls in silence.

    :raises UserError: naming the line that is not UTF-8, has more or fewer values than the header or a quote that is never
        closed, or the repeated column; for a file that may not be read.
    """
    with reading(str(path)), path.open("rb") as file:
        names = _names(file, path)
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise UserError(f"{path}: column {twice[0]!r} stands twice", mend="rename one of them")
        line = 2
        for block in blocks(file):
            _text(block, path, line=line)
            _check_block(block, len(names), path, line=line)
            line += block.count(b"\n")


def _names(file: BinaryIO, path: Path) -> list[str]:
    """The names in the first line; :raises UserError: where none end it, or a quote is open at its end."""
    line = _text(file.readline(), path, line=1)
    if line.count('"') % 2:
        raise UserError(f"{path}: a quote that opens in line 1 is not closed in it", mend="close it: the names of columns are one line")
    try:
        return next(csv.reader([line]), [])
    except csv.Error as error:
        if "\r" in line.rstrip("\r\n"):
            raise UserError(f"{path}: its lines end in CR alone", mend="convert it, for example: tr '\\r' '\\n'") from error
        raise UserError(f"{path}, line 1: cannot be read ({error})", mend="correct it, or convert the log to Parquet") from error


def blocks(file: BinaryIO) -> Iterator[bytes]:
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


def _check_block(block: bytes, columns: int, path: Path, *, line: int) -> None:
    """Whether each line of a block, whose first is `line` of the file, has so many columns, and no quote is open at its end."""
    if columns and b'"' not in block and block.translate(None, _INSIDE) == (b"," * (columns - 1) + b"\n") * block.count(b"\n"):
        return
    data = np.frombuffer(block, np.uint8)
    outside = _outside(data)
    ends = np.flatnonzero((data == ord("\n")) & outside)
    commas = np.flatnonzero((data == ord(",")) & outside)
    values = np.diff(np.searchsorted(commas, ends), prepend=0) + 1
    starts = np.concatenate([[0], ends + 1])
    bare = ends == starts[:-1]
    wrong = np.flatnonzero((values != columns) | (bare & (columns > 1)))
    if len(wrong):
        first = int(wrong[0])
        count = 0 if bare[first] else int(values[first])
        at = line + block.count(b"\n", 0, int(starts[first]))
        what = f"{path}, line {at}: {count} values under {columns} columns"
        raise UserError(what, mend="complete the line, or quote its commas")
    if not outside[-1]:
        at = line + block.count(b"\n", 0, block.index(b'"', int(starts[-1])))
        raise UserError(f"{path}: a quote that opens in line {at} is never closed", mend='close it; a quote within quotes is written ""')


def _text(block: bytes, path: Path, *, line: int) -> str:
    try:
        return block.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = line + block[: error.start].count(b"\n")
        told = next((name for mark, name in _MARKS.items() if line == 1 and block.startswith(mark)), "latin1")
        raise UserError(f"{path}, line {at}: not UTF-8", mend=f"convert it, for example: iconv -f {told} -t utf-8") from error


def paths(path: str) -> list[str]:
    """The files of a path or glob, in order; a file whose name has brackets is itself."""
    suffix = Path(path).suffix
    with reading(path):
        found = [path] if Path(path).is_file() else sorted(glob.glob(path))  # noqa: PTH207  (Path.glob refuses absolute patterns)
        if suffix != ".parquet" and Path(path).is_dir():
            raise UserError(f"{path}: is a folder", mend=f"name its files, for example {path}/*{suffix or '.parquet'}")
    if not found:
        raise UserError(f"{path}: no such file", mend="check the path; it is relative to the working directory")
    if suffix not in (".parquet", ".csv"):
        raise UserError(f"{path}: neither .parquet nor .csv", mend="convert it to Parquet")
    return found


def check_suffix(out: Path, *suffixes: str) -> None:
    """Refuse a name that does not say what is written, before anything is; :raises UserError: naming one that does.

    Example
    -------
    >>> check_suffix(Path("week3.csv"), ".parquet")
    Traceback (most recent call last):
    umbel.errors.UserError: week3.csv: rows are written as .parquet; name for example week3.parquet
    """
    if out.suffix not in suffixes:
        what = f"{out}: rows are written as {' or '.join(suffixes)}"
        raise UserError(what, mend=f"name for example {out.with_suffix(suffixes[0])}")


def _told(paths: Sequence[str]) -> dict[str, str]:
    """What the first rows of CSVs tell of their columns."""
    told: dict[str, list[str]] = {}
    for path in paths:
        one = _told_by(path)
        if told and list(one) != list(told):
            what = f"{path}: its columns are {', '.join(one)}, those of {paths[0]} {', '.join(told)}"
            raise UserError(what, mend="give the files of a glob the same columns in the same order")
        for name, kind in one.items():
            told.setdefault(name, []).append(kind)
    return {name: wider(kinds) for name, kinds in told.items()}


def _told_by(path: str) -> dict[str, str]:
    """The same of one CSV: Polars takes a column without values for text."""
    with reading(path):
        frame = pl.scan_csv(path, infer_schema_length=GUESS, glob=False)
        told = columns.types(frame, frame.collect_schema())
        texts = [name for name, kind in told.items() if kind == TEXT]
        rows = pl.scan_csv(path, infer_schema=False, n_rows=GUESS, glob=False).select(texts).collect()
    return told | {name: NOTHING for name in texts if rows[name].null_count() == rows.height}


def _complaint(path: str, error: str) -> UserError:
    """What Polars says of a file, and what the file says where Polars does not know which it is, or where in it."""
    reason = f"{path}: cannot be read ({_cut(error.strip().splitlines()[0], TOLD)})"
    if path.endswith(".csv"):
        return UserError(_misfit(path, error) or reason, mend="correct it, or convert the log to Parquet")
    name = parquet.refused(error)
    odd = None if name is None else parquet.odd_one(name, empty(paths(path)))
    return odd or UserError(reason, mend="write the file again: it is damaged or no Parquet")


def _misfit(path: str, error: str) -> str | None:
    """Where the value stands that Polars could not read, if it says which and reads it as text: Polars knows neither file nor row."""
    refused = _REFUSED.match(error)
    try:
        return _found(path, refused) if refused else None
    except (pl.exceptions.PolarsError, OSError):
        return None


def _found(path: str, refused: re.Match[str]) -> str | None:
    """The first row of the files that holds a value, as Polars writes it, that is not of its column's kind."""
    value, kind, name = refused.groups()
    if value[:1] == value[-1:] == '"':  # Polars says it as it is written
        value = value[1:-1].replace('""', '"')
    for one in paths(path):
        row = 0
        for frame in pl.scan_csv(one, infer_schema=False, glob=False).select(name).collect_batches(maintain_order=True, lazy=True):
            places = (frame[name] == value).arg_true()
            if len(places):
                shown = _cut(value, SHOWN)
                return f"{one}, row {row + places[0] + 1}: {shown!r} in column {name!r} is no {_CALLED.get(kind, 'whole number')}"
            row += frame.height
    return None


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
