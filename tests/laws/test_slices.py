"""Slices of any size give the same rows and the same table, and a reader holds few of them."""

from __future__ import annotations

import gc
import itertools
import tempfile
import weakref
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests import logs

from umbel.data import files, slices
from umbel.data.ingest import ingest
from umbel.data.source import Join, Log, Source
from umbel.errors import UserError
from umbel.schema import Field, Schema

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = st.text(alphabet='ab,"\r\né ', max_size=4)
ENDS = st.lists(st.integers(0, 40), max_size=3)
CELLS = st.lists(st.tuples(st.none() | TEXTS, st.none() | st.integers(-5, 5)), max_size=30)


def read(path: str, columns: list[str] | None = None) -> list[pl.DataFrame]:
    frame = files.open_file(path)
    return list(slices.slices(path, frame, columns or frame.collect_schema().names()))


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Columns of many types, in the order of `row`."""
    rows = draw(st.integers(1, 40))
    some = [draw(st.none() | TEXTS) for _ in range(rows)]
    lists = [draw(st.none() | st.lists(st.none() | TEXTS, max_size=3)) for _ in range(rows)]
    return pl.DataFrame(
        {
            "row": pl.Series(range(rows), dtype=pl.Int64),
            "text": pl.Series(some, dtype=pl.String),
            "kind": pl.Series(some, dtype=pl.String).cast(pl.Categorical),
            "lists": pl.Series(lists, dtype=pl.List(pl.String)),
            "a.b": [{"c": row, "d": [row] * (row % 3)} for row in range(rows)],
            "at": [datetime(2024, 1, 1) + timedelta(hours=row) for row in range(rows)],
        }
    )  # fmt: skip


@unhurried
@given(frame=frames(), group=st.integers(1, 50), ends=ENDS, most=st.integers(1, 2000), small=st.integers(0, 2000))
def test_slices_of_parquet_are_its_rows(frame: pl.DataFrame, group: int, ends: list[int], most: int, small: int) -> None:
    """Several files, row groups of any size, a row group in a slice, many, or a part of one."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "SLICE", most)
        patch.setattr(slices, "SMALL", small)
        cuts = [0, *sorted(min(end, frame.height) for end in ends), frame.height]
        for number, (start, end) in enumerate(itertools.pairwise(cuts)):
            frame[start:end].write_parquet(f"{folder}/{number}.parquet", row_group_size=group)
        found = read(f"{folder}/*.parquet")
        assert_frame_equal(pl.concat(found), frame)
        assert_frame_equal(pl.concat(read(f"{folder}/*.parquet", ["a.b", "row"])), frame.select("a.b", "row"))
        assert all(one.height for one in found)
        assert most > 8 or {one.height for one in found} <= {1}  # a row is 8 bytes at least


@unhurried
@given(cells=CELLS, end=st.integers(0, 30), block=st.integers(1, 90))
def test_slices_of_csv_are_its_rows(cells: list[tuple[str | None, int | None]], end: int, block: int) -> None:
    """Blocks of any size, cut at the ends of lines that stand outside quotes, as Polars reads the files in one go."""
    frame = pl.DataFrame(cells, schema={"text": pl.String, "number": pl.Int64}, orient="row")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for number, part in enumerate((frame[:end], frame[end:])):
            part.write_csv(f"{folder}/{number}.csv", quote_style="non_numeric", include_bom=number == 0)
        whole = files.open_file(f"{folder}/*.csv").collect()
        patch.setattr(files, "BLOCK", block)
        found = read(f"{folder}/*.csv")
        assert_frame_equal(pl.concat(found) if found else whole.head(0), whole)


@pytest.mark.parametrize("text", ["a\n1\n\n2\n", "a\n\n\n1\n", "a\n1\n\n", "a\n1", "a\r\n1\r\n\r\n2\r\n", 'a\n""\n1\n'])
@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_a_single_column_is_read_as_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, block: int) -> None:
    """An empty line of it is a missing value, wherever a block ends."""
    (tmp_path / "log.csv").write_bytes(text.encode())
    whole = files.open_file(str(tmp_path / "log.csv")).collect()
    monkeypatch.setattr(files, "BLOCK", block)
    assert_frame_equal(pl.concat(read(str(tmp_path / "log.csv"))), whole)


@pytest.mark.parametrize("most", [1, 100, 300, 1000])
@pytest.mark.parametrize("group", [1, 3, 10])
def test_slices_of_any_size_give_the_bytes_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, group: int) -> None:
    """With a join by key and one as of a time."""
    users = logs.write(tmp_path, {"user": [3, 1, 8], "city": ["x", "y", "z"]}, name="users")
    prices = logs.write(tmp_path, {"item": ["b", "a", "a", "a"], "at": [5, 0, 4, 3], "price": [10.0, 1, 3, 2]}, name="prices")
    joins = (Join(users, "user"), Join(prices, "item", time="at"))
    fields = (*logs.SCHEMA.fields, Field("city", logs.CATEGORY, min_count=1), Field("price", logs.NUMBER))
    schema = Schema(fields, logs.SCHEMA.tasks)
    source = logs.source(tmp_path, joins=joins)
    whole = ingest(source, schema, logs.SPLIT, folder=tmp_path / "whole")
    pl.read_parquet(source.log).write_parquet(source.log, row_group_size=group)
    monkeypatch.setattr(slices, "SLICE", most)
    monkeypatch.setattr(slices, "SMALL", 0)
    assert len(read(source.log)) >= max(10 // group, 10 if most < 100 else 3 if most < 1000 else 1)  # it is cut indeed
    assert logs.contents(ingest(source, schema, logs.SPLIT, folder=tmp_path / "cut").folder) == logs.contents(whole.folder)


# Heights, by hand: 8 bytes a value of `n`, where the file holds it in fewer


@pytest.mark.parametrize(
    ("rows", "group", "most", "small", "heights"),
    [
        (10, 4, 1000, 0, [4, 4, 2]),     # a group, a slice
        (10, 4, 1000, 1000, [10]),       # small ones together
        (12, 2, 1 << 20, 0, [2] * 6),
        (100, 100, 400, 0, [50, 50]),    # 800 bytes: two slices
        (100, 100, 799, 0, [99, 1]),     # at most 99 rows
        (100, 100, 800, 0, [100]),
        (100, 50, 160, 0, [20, 20, 10] * 2),
        (0, 4, 1000, 1000, []),
        (3, 3, 1, 0, [1, 1, 1]),         # a row is never cut
    ],
)  # fmt: skip
def test_how_many_rows_a_slice_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, group: int, most: int, small: int, heights: list[int],
) -> None:  # fmt: skip
    """Of a column whose values repeat, so that its pages are shorter than 8 bytes a value."""
    monkeypatch.setattr(slices, "SLICE", most)
    monkeypatch.setattr(slices, "SMALL", small)
    monkeypatch.setattr(slices, "_size", lambda group, _columns: 8 * group.num_rows)
    path = str(tmp_path / "log.parquet")
    pl.DataFrame({"n": pl.Series([7] * rows, dtype=pl.Int64)}).write_parquet(path, row_group_size=group)
    assert [one.height for one in read(path)] == heights


def test_what_columns_take_is_what_is_read_of_them(tmp_path: Path) -> None:
    """8 bytes a number, however well they are packed; every value of a list; the bytes of text; no others' bytes."""
    path = tmp_path / "log.parquet"
    data = {"n": [1] * 4096, "lists": [[1, 1, 1]] * 4096, "n.m": [1] * 4096, "text": [f"{row:0100}" for row in range(4096)]}
    pl.DataFrame(data).write_parquet(path, compression="uncompressed")
    group = pq.read_metadata(path).row_group(0)
    assert slices._size(group, ["n.m"]) == 8 * 4096
    assert 3 * 8 * 4096 <= slices._size(group, ["lists"]) < 3 * 9 * 4096
    assert 100 * 4096 < slices._size(group, ["text"]) < 110 * 4096
    assert slices._size(group, ["lists", "n.m"]) == slices._size(group, ["lists"]) + 8 * 4096


# What is held


class Counted:
    """How many slices are asked for and are alive; `most` at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = self.alive = self.most = 0
        collect = pl.LazyFrame.collect

        def counted(frame: pl.LazyFrame) -> pl.DataFrame:
            made = collect(frame)
            self.asked += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(made, self.gone)
            return made

        monkeypatch.setattr(pl.LazyFrame, "collect", counted)

    def gone(self) -> None:
        self.alive -= 1


def many(folder: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> str:
    """A log that is read in 50 slices of two rows."""
    frame = pl.DataFrame({"time": range(10, 110)})
    path = folder / f"log.{suffix}"
    frame.write_parquet(path, row_group_size=2) if suffix == "parquet" else frame.write_csv(path)
    monkeypatch.setattr(slices, "SMALL", 0)
    monkeypatch.setattr(files, "BLOCK", 6)
    return str(path)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_one_slice_is_read_ahead_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = many(tmp_path, monkeypatch, suffix)
    counted = Counted(monkeypatch)
    frame = files.open_file(path)
    counted.asked = counted.alive = 0
    for number, one in enumerate(slices.slices(path, frame, ["time"])):
        assert number + 1 <= counted.asked <= number + 2
        assert one["time"].to_list()
        del one
    assert number > 15
    gc.collect()
    assert counted.alive == 0
    assert counted.most <= 3  # the one in hand, the one read ahead, the one before it while its name is still taken


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_what_is_cut_anew_holds_no_slice_longer_than_its_rows_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Batches longer than a slice hold the slices they are made of, and no others."""
    log = Log(Source(many(tmp_path, monkeypatch, "parquet")))
    counted = Counted(monkeypatch)
    assert pl.concat(log.read(["time"], size))["time"].to_list() == list(range(10, 110))
    assert counted.asked == 50
    assert counted.most <= 4 + -(-size // 2)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_reading_that_is_given_up_reads_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = many(tmp_path, monkeypatch, suffix)
    frame = files.open_file(path)
    counted = Counted(monkeypatch)
    reader = slices.slices(path, frame, ["time"])
    next(reader)
    assert isinstance(reader, Iterator)
    reader.close()  # type: ignore[attr-defined]
    assert counted.asked == 2


# What is wrong with a later file is said when it is reached


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def replaced(rows: logs.Rows) -> object:
    return lambda path: pl.DataFrame(rows).write_parquet(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (damaged, r"cannot be read \(.*parquet.*; write the file again"),
        (replaced({"time": [1.5], "click": [1]}), r"column 'time' is Float64, in .*p0\.parquet it is Int64; give the files"),
        (replaced({"click": [1]}), r"column 'time' is not there, in .*p0\.parquet it is Int64; give the files"),
    ],
)
def test_a_later_file_that_does_not_fit_is_refused(tmp_path: Path, spoil: object, says: str) -> None:
    for number in range(3):
        logs.write(tmp_path, {"time": [number], "click": [1]}, name=f"p{number}")
    assert callable(spoil)
    spoil(tmp_path / "p1.parquet")
    found: list[int] = []
    with pytest.raises(UserError, match=rf"p1\.parquet: {says}"):
        found.extend(frame["time"][0] for frame in Log(Source(str(tmp_path / "p*.parquet"))).read(["time"], 1))
    assert found in ([], [0]), "a file that is none is found when the log is opened, one of another kind when it is read"


def test_a_file_that_was_damaged_since_it_was_opened_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        logs.write(tmp_path, {"time": [number], "click": [1]}, name=f"p{number}")
    rows = Log(Source(str(tmp_path / "p*.parquet"))).read(["time"], 1)
    damaged(tmp_path / "p1.parquet")
    assert next(rows)["time"].to_list() == [0]
    with pytest.raises(UserError, match=r"p\*\.parquet: cannot be read \(.*parquet.*; write the file again"):
        list(rows)
