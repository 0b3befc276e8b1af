"""What converters of public logs share: tables and `::` files read with errors of one line, Parquet written whole, and the command."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from umbel import durable
from umbel.data.files import reading
from umbel.errors import UserError, nearest

Convert = Callable[[Path, Path], None]
Download = Callable[[Path], object]  # fetches the owners' files and leaves the tables in a folder


def table(path: Path, layout: pl.DataFrame) -> pl.DataFrame:
    """The columns of a Parquet file that `layout`, an empty frame, has, as its types.

    :raises UserError: for a missing or damaged file, a missing column, or a value that is not of its column's type.
    """
    _there(path)
    with reading(str(path)):
        frame = pl.read_parquet(path)
    for name in layout.columns:
        if name not in frame.columns:
            raise UserError(f"{path}: no column {name!r}", mend=nearest(name, frame.columns))
    with reading(str(path)):
        return frame.select(layout.columns).cast(layout.schema)


def lines(path: Path, names: Sequence[str]) -> pl.DataFrame:
    """A file of `::` between values, as text under these names; UTF-8 where it is that, else Latin-1.

    :raises UserError: for a missing file, or a line with more or fewer values.
    """
    _there(path)
    with reading(str(path)):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    rows = [line.removesuffix("\r").split("::") for line in text.removesuffix("\n").split("\n")] if text else []
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise UserError(f"{path}, line {number}: {len(row)} values, not {len(names)}", mend="unpack the owners' file again")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def whole(frame: pl.DataFrame, path: Path, names: Sequence[str]) -> pl.DataFrame:
    """The frame with these columns of text as whole numbers; :raises UserError: naming the row of a value that is none."""
    made = frame.with_columns(pl.col(names).cast(pl.Int64, strict=False))
    for name in names:
        wrong = (made[name].is_null() & frame[name].is_not_null()).arg_true()
        if len(wrong):
            what = f"{path}, row {wrong[0] + 1}: {frame[name][wrong[0]]!r} in {name!r} is no whole number"
            raise UserError(what, mend="unpack the owners' file again")
    return made


def rated(log: pl.DataFrame, path: Path, *, low: int, high: int) -> pl.DataFrame:
    """The log with whole ratings; :raises UserError: naming the row that lacks a value or has a rating off the scale."""
    for name in log.columns:
        lost = log[name].is_null().arg_true()
        if len(lost):
            raise UserError(f"{path}, row {lost[0] + 1}: no {name}", mend="unpack the owners' file again")
    rating = log["rating"].cast(pl.Float64)
    wrong = (~rating.is_between(low, high) | (rating != rating.floor())).arg_true()
    if len(wrong):
        what = f"{path}, row {wrong[0] + 1}: a rating of {log['rating'][wrong[0]]}"
        raise UserError(what, mend=f"ratings are whole, from {low} to {high}")
    return log.with_columns(rating.cast(pl.Int8))


def keyed(frame: pl.DataFrame, path: Path, key: str) -> pl.DataFrame:
    """The frame in the order of a key that no two of its rows share; :raises UserError: for one that two share or a row lacks."""
    wrong = (frame[key].is_duplicated() | frame[key].is_null()).arg_true()
    if len(wrong):
        what = f"{path}, row {wrong[0] + 1}: {key} {frame[key][wrong[0]]!r} is missing or stands twice"
        raise UserError(what, mend="keep one row of each")
    return frame.sort(key)


def leave(tables: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """Write each table as NAME.parquet in the folder; :raises UserError: if the disk is full or the place is not writable."""
    for name, frame in tables.items():
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", statistics=True)
        durable.write(folder / f"{name}.parquet", buffer.getvalue())


def door(convert: Convert, arguments: Sequence[str] | None = None, *, download: Download | None = None) -> int:
    """The command `FOLDER -o OUT` of a converter: 0 when done, 2 for what the user can mend, said in one line.

    Where the owners' files can be had by anybody, `--download -o OUT` fetches them first.
    """
    parser = argparse.ArgumentParser(description=(convert.__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?" if download else None, help="the owners' files")
    if download is not None:
        parser.add_argument("--download", action="store_true", help="fetch the owners' files into OUT, in the place of FOLDER")
    parser.add_argument("-o", dest="out", type=Path, metavar="OUT", required=True, help="the folder to leave Parquet in")
    given = parser.parse_args(arguments)
    fetched = download is not None and given.download
    if fetched == (given.folder is not None):
        parser.error("give either FOLDER or --download")
    try:
        if download is not None and fetched:
            download(given.out)
        else:
            convert(given.folder, given.out)
    except UserError as error:
        sys.stderr.write(f"umbel: {error}\n")
        return 2
    sys.stdout.write("".join(f"{path}\n" for path in sorted(given.out.glob("*.parquet"))))
    return 0


def _there(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file", mend="name the folder of the owners' files")
