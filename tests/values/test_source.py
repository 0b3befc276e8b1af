"""Files and joins: what is read, in which order, and what a join by key or as of a time adds."""

from __future__ import annotations

import codecs
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import logs

from umbel.data import files
from umbel.data.files import check_csv
from umbel.data.ingest import ingest
from umbel.data.source import Join, Log, Source
from umbel.errors import UserError
from umbel.schema import Field


def whole(log: Log, columns: list[str] | None = None, size: int = 4) -> pl.DataFrame:
    return pl.concat(log.read(columns or log.names, size))


def csv(folder: Path, text: str | bytes, name: str = "log.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / name)


@pytest.mark.parametrize("size", [1, 3, 4, 10, 100])
def test_batches_have_the_size_asked_for_and_keep_order(tmp_path: Path, size: int) -> None:
    log = Log(Source(logs.write(tmp_path)))
    frames = list(log.read(["time", "user"], size))
    assert [frame.height for frame in frames] == [size] * (10 // size) + ([10 % size] if 10 % size else [])
    assert pl.concat(frames)["time"].to_list() == list(range(10))
    assert all(frame.columns == ["time", "user"] for frame in frames)


@pytest.mark.parametrize("heights", [[1, 2, 3, 4], [10], [4, 0, 6], [7, 3], [0]])
@pytest.mark.parametrize("size", [1, 3, 4, 20])
def test_slices_of_any_size_are_cut_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heights: list[int], size: int) -> None:
    ends = np.cumsum([0, *heights]).tolist()
    chunks = [pl.DataFrame({"time": range(start, end)}, schema={"time": pl.Int64}) for start, end in itertools.pairwise(ends)]
    monkeypatch.setattr("umbel.data.source.slices", lambda _path, _frame, _columns: iter(chunks))
    frames = list(Log(Source(logs.write(tmp_path))).read(["time"], size))
    assert [frame.height for frame in frames] == [size] * (ends[-1] // size) + ([ends[-1] % size] if ends[-1] % size else [])
    assert [row for frame in frames for row in frame["time"].to_list()] == list(range(ends[-1]))


def test_a_glob_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        logs.write(tmp_path, {"n": [number]}, name=f"part{number:02}")
    assert whole(Log(Source(str(tmp_path / "part*.parquet"))))["n"].to_list() == [1, 2, 10]


def test_csv_gives_what_parquet_gives(tmp_path: Path) -> None:
    rows = {name: column for name, column in logs.ROWS.items() if name not in ("watched", "age")}
    pl.DataFrame(rows).write_csv(tmp_path / "log.csv")
    assert whole(Log(Source(str(tmp_path / "log.csv")))).equals(pl.DataFrame(rows))


def test_a_glob_of_csvs(tmp_path: Path) -> None:
    csv(tmp_path, "a,b\n1,x\n", "p1.csv")
    csv(tmp_path, "a,b\n2,y\n", "p2.csv")
    assert whole(Log(Source(str(tmp_path / "p*.csv")))).rows() == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("engine_rows", [1, 2, 5, 100])
def test_a_join_by_key(tmp_path: Path, engine_rows: int) -> None:
    users = logs.write(tmp_path, {"user": [3, 1, 8], "city": ["x", "y", "z"], "tags": [[1, 2], [], [3]]}, name="users")
    log = Log(logs.source(tmp_path, joins=(Join(users, "user"),)))
    assert log.names == [*logs.ROWS, "city", "tags"]
    frame = whole(log, ["user", "city", "tags"], engine_rows)
    assert frame["city"].to_list() == ["y", "y", None, None, "x", "y", "y", None, None, "z"]
    assert frame["tags"].to_list()[4:6] == [[1, 2], []]
    assert frame["user"].to_list() == logs.ROWS["user"]


def test_joins_of_joins(tmp_path: Path) -> None:
    users = logs.write(tmp_path, {"user": [1, 2], "city": ["x", "y"]}, name="users")
    cities = logs.write(tmp_path, {"city": ["y", "x"], "country": ["q", "p"]}, name="cities")
    log = Log(logs.source(tmp_path, joins=(Join(users, "user"), Join(cities, "city"))))
    assert whole(log, ["country"])["country"].to_list() == ["p", "p", "q", "q", None, "p", "p", None, "q", None]


def test_a_missing_key_joins_nothing(tmp_path: Path) -> None:
    users = logs.write(tmp_path, {"user": [1, None], "city": ["x", "never"]}, name="users")
    log = Log(logs.source(tmp_path, logs.changed(user=[1, None] * 5), joins=(Join(users, "user"),)))
    assert whole(log, ["city"])["city"].to_list() == ["x", None] * 5


def test_keys_of_other_types_meet(tmp_path: Path) -> None:
    users = logs.write(tmp_path, {"user": ["1", "2"], "city": ["x", "y"]}, name="users")
    log = Log(logs.source(tmp_path, joins=(Join(users, "user"),)))
    assert whole(log, ["city"])["city"].to_list()[:4] == ["x", "x", "y", "y"]


def test_a_csv_joined_to_parquet(tmp_path: Path) -> None:
    items = csv(tmp_path, "item,price\na,1.5\nb,2.0\n", "items.csv")
    log = Log(logs.source(tmp_path, joins=(Join(items, "item"),)))
    assert whole(log, ["price"])["price"].to_list() == [1.5, 2.0, 1.5, None, 1.5, 2.0, 1.5, None, 2.0, 1.5]


def test_a_join_as_of_a_time_takes_the_last_row_that_is_not_later(tmp_path: Path) -> None:
    prices = logs.write(tmp_path, {"item": ["b", "a", "a", "a"], "at": [5, 0, 4, 3], "price": [10, 1, 3, 2]}, name="prices")
    log = Log(logs.source(tmp_path, joins=(Join(prices, "item", time="at"),)))
    assert "at" not in log.names
    # items a b a c a b a z b a at times 0 … 9
    assert whole(log, ["price"])["price"].to_list() == [1, None, 1, None, 3, 10, 3, None, 10, 3]


def test_a_future_row_is_never_joined(tmp_path: Path) -> None:
    """A planted column that holds the label, dated after the rows, must not be seen by them."""
    leak = {"user": [1, 2, 3, 8, 9] * 2, "at": [100] * 5 + [-1] * 5, "leak": [1] * 5 + [0] * 5}
    log = Log(logs.source(tmp_path, joins=(Join(logs.write(tmp_path, leak, name="leak"), "user", time="at"),)))
    assert whole(log, ["leak"])["leak"].to_list() == [0] * 10


def test_rows_without_a_time_join_nothing_as_of(tmp_path: Path) -> None:
    prices = logs.write(tmp_path, {"item": ["a", "b"], "at": [0, None], "price": [1, 2]}, name="prices")
    log = Log(logs.source(tmp_path, logs.changed(time=[None, *range(1, 10)]), joins=(Join(prices, "item", time="at"),)))
    assert whole(log, ["price"])["price"].to_list()[:3] == [None, None, 1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=20),
    table=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=20),
)
def test_as_of_is_what_a_loop_finds(tmp_path: Path, rows: list[tuple[int, int]], table: list[tuple[int, int]]) -> None:
    right = logs.write(tmp_path, {"k": [k for k, _ in table], "at": [at for _, at in table], "v": list(range(len(table)))}, name="right")
    left = logs.write(tmp_path, {"k": [k for k, _ in rows], "t": [t for _, t in rows]}, name="left")
    log = Log(Source(left, time="t", joins=(Join(right, "k", time="at"),)))
    expected = []
    for key, time in rows:
        known = [(at, place) for place, (k, at) in enumerate(table) if k == key and at <= time]
        expected.append(max(known)[1] if known else None)
    assert whole(log, ["v"], 7)["v"].to_list() == expected


def test_only_wanted_tables_are_read(tmp_path: Path) -> None:
    twice = logs.write(tmp_path, {"user": [1, 1], "city": ["x", "y"]}, name="twice")
    log = Log(logs.source(tmp_path, joins=(Join(twice, "user"),)))
    assert whole(log, ["time"]).height == 10  # its doubled key does no harm here
    with pytest.raises(UserError, match="key user = 1 stands twice"):
        whole(log, ["city"])


def test_the_first_known_value_of_a_column(tmp_path: Path) -> None:
    log = Log(logs.source(tmp_path, logs.changed(late=[None] * 9 + [5], never=[None] * 10)))
    assert log.first("late").to_list() == [5]
    assert log.first("never").to_list() == []
    with pytest.raises(UserError, match="no column 'lat'; did you mean 'late'"):
        log.first("lat")


# CSV, line by line


def test_a_good_csv_passes(tmp_path: Path) -> None:
    text = 'a,b,c\n1,"x, y",3\r\n2,"line\nbreak ""quoted""",4\n5,,6\n7,é,8'
    check_csv(Path(csv(tmp_path, text)))
    assert whole(Log(Source(str(tmp_path / "log.csv"))), ["b"])["b"].to_list() == ["x, y", 'line\nbreak "quoted"', None, "é"]


def test_a_csv_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert whole(Log(Source(csv(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")))).columns == ["a", "b"]


@pytest.mark.parametrize("block", [8, 17, 1 << 24])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n4,5\n6,7,8\n", "line 3: 2 values under 3 columns"),
        ("a,b,c\n1,2,3\n4,5,6\n6,7,8,9\n", "line 4: 4 values under 3 columns"),
        ("a,b,c\n1,2,3\n\n6,7,8\n", "line 3: 0 values"),
        ("\n1\n2\n", "line 2: 1 values under 0 columns"),
        ('a,b,c\n1,"2,2",3\n4,"5,6"\n', "line 3: 2 values"),
        ("a,b,c\n1,2,3\n4,5", "line 3: 2 values"),
        ("a,a\n1,2\n", "column 'a' stands twice"),
        ('a,b\n1,"x\ny"\n2\n', "line 4: 1 values"),
        ('a,b\n1,"x"\n2,"open\n3,y\n4,z\n', "a quote that opens in line 3 is never closed; close it"),
        ('a,b\n1,"x\ny"\n2,"open', "a quote that opens in line 4 is never closed"),
        ('a,b\n1,"x\n2,"y"\n3,z\n', "a quote that opens in line 2 is never closed"),
        ('a,"b\n1,2\n', "a quote that opens in line 1 is not closed in it"),
        ("a,b\r1,2\r3,4\r", "its lines end in CR alone; convert it, for example: tr '\\r' '\\n'"),
        ("a," + "b" * (1 << 18) + "\n", "line 1: cannot be read (field larger than field limit"),
    ],
)
def test_a_bad_csv_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, text: str, message: str) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    with pytest.raises(UserError) as caught:
        Log(Source(csv(tmp_path, text)))
    assert message in str(caught.value)
    assert "log.csv" in str(caught.value)


@pytest.mark.parametrize("columns", [["a", "b", "c"], ["a", "b"], ["a"]])
@pytest.mark.parametrize(
    ("lines", "line", "values"),
    [
        (["4,5", "6,7,8,9"], 3, 2),
        (["6,7,8,9", "4,5"], 3, 4),
        (["4,5,6"] * 5 + ["7,8", "1,2,3", "7,8,9,9"], 8, 2),
        (["", "1,2,3,4,5"], 3, 0),
        (["4", "5,6,7,8,9"], 3, 1),
        (["6,7,8,9", "4,5,6", "4,5", "6"], 3, 4),
    ],
)
def test_a_long_line_does_not_make_up_for_a_short_one(
    tmp_path: Path, lines: list[str], line: int, values: int, columns: list[str]
) -> None:
    """Whichever columns are read: of a long line, Polars minds only the values that it reads."""
    path = csv(tmp_path, "\n".join(["a,b,c", "1,2,3", *lines]) + "\n")
    with pytest.raises(UserError, match=rf"log\.csv, line {line}: {values} values under 3 columns; complete the line"):
        whole(Log(Source(path)), columns)


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_ragged_csv_whose_last_column_nobody_reads_is_no_table(tmp_path: Path, end: str) -> None:
    """Each row that lost or gained a value would say something else of another user."""
    rows = ["user,time,click,x", "0,0,0,1", "1,1,1,1", "2,1,0", "0,3,1,1,9", *(f"{at % 3},{at},{at % 2},1" for at in range(4, 10))]
    source = Source(csv(tmp_path, "\n".join(rows) + end), user="user", time="time")
    with pytest.raises(UserError, match=r"log\.csv, line 4: 3 values under 4 columns; complete the line, or quote its commas"):
        ingest(source, logs.one_field(Field("user", logs.ID, min_count=1)), logs.SPLIT, folder=tmp_path / "table")
    assert not (tmp_path / "table").exists()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=12), columns=st.integers(1, 3), quoted=st.booleans())
def test_a_csv_passes_if_and_only_if_every_line_has_as_many_values(
    tmp_path: Path, counts: list[int], columns: int, *, quoted: bool
) -> None:
    """A quote anywhere takes the longer way through the block, with the same answer."""
    lines = [",".join(["7"] * count) for count in counts]
    first = ",".join(['"7"' if quoted else "7"] * columns)
    path = csv(tmp_path, "\n".join([",".join("abc"[:columns]), first, *lines]) + "\n")
    odd = next((at for at, count in enumerate(counts, start=3) if count != columns), None)
    if odd is None:
        check_csv(Path(path))
    else:
        with pytest.raises(UserError, match=f"line {odd}: {counts[odd - 3]} values under {columns} columns"):
            check_csv(Path(path))


@pytest.mark.parametrize("block", [8, 1 << 24])
@pytest.mark.parametrize(("text", "line"), [(b"a,b\n1,2\n3,\xe9\n", 3), (b"a,\xe9\n1,2\n", 1), ("a,b\n1,2\n".encode("utf-16"), 1)])
def test_another_encoding_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, text: bytes, line: int) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    with pytest.raises(UserError, match=f"line {line}: not UTF-8; convert it"):
        Log(Source(csv(tmp_path, text)))


@pytest.mark.parametrize("form", ["latin1", "utf-16", "utf-32"])
def test_the_mend_names_the_encoding_that_the_file_begins_with(tmp_path: Path, form: str) -> None:
    with pytest.raises(UserError, match=f"iconv -f {form} -t utf-8"):
        Log(Source(csv(tmp_path, "a,é\n1,2\n".encode(form))))


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE])
def test_either_order_of_bytes_is_known(tmp_path: Path, mark: bytes) -> None:
    with pytest.raises(UserError, match="iconv -f utf-16 -t utf-8"):
        Log(Source(csv(tmp_path, mark + "a".encode("utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"))))


def test_a_value_too_long_for_a_line_is_cut(tmp_path: Path) -> None:
    path = csv(tmp_path, "a\n" + "1\n" * (files.GUESS + 1) + "x" * 5000 + "\n")
    with pytest.raises(UserError, match=f"row {files.GUESS + 2}: '{'x' * files.SHOWN}…' in column 'a' is no whole number"):
        whole(Log(Source(path)))


def test_what_polars_says_is_cut_where_the_file_cannot_be_read_again(tmp_path: Path) -> None:
    """As of a file that changed since it was checked: there is no row to name."""
    path = csv(tmp_path, 'a,b\n1,"open\n2,x\n')
    said = "could not parse `" + "y" * 5000 + "` as dtype `i64` at column 'a' (column number 1)"
    with pytest.raises(UserError, match=r"log\.csv: cannot be read \(could not parse `y+…\); correct it") as caught, files.reading(path):
        raise pl.exceptions.ComputeError(said)
    assert len(caught.value.what) < len(path) + files.TOLD + 50


def test_a_type_that_changes_late_is_one_line(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * (files.GUESS + 10) + "x,2\n"
    says = rf"log\.csv, row {files.GUESS + 11}: 'x' in column 'a' is no whole number; correct it, or convert the log to Parquet"
    with pytest.raises(UserError, match=says):
        whole(Log(Source(csv(tmp_path, text))), size=1000)


def test_a_clean_block_is_passed_at_a_glance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each comma stands is asked only where something is odd, or quoted."""
    asked: list[int] = []
    outside = files._outside

    def watched(data: np.ndarray) -> np.ndarray:
        asked.append(len(data))
        return outside(data)

    monkeypatch.setattr(files, "_outside", watched)
    check_csv(Path(csv(tmp_path, "a,b,c\n" + "1,x y,\r\n" * 999 + ",é,3")))
    assert asked == []
    check_csv(Path(csv(tmp_path, 'a,b,c\n1,"x y",\n')))
    assert asked


# CSV, the types of columns


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_of_a_glob_that_is_only_a_header_changes_no_type(tmp_path: Path, place: int) -> None:
    texts = ["a,b\n1,1.5\n", "a,b\n2,2.5\n"]
    for number, text in enumerate([*texts[:place], "a,b\n", *texts[place:]]):
        csv(tmp_path, text, f"p{number}.csv")
    frame = whole(Log(Source(str(tmp_path / "p*.csv"))))
    assert frame.rows() == [(1, 1.5), (2, 2.5)]
    assert frame.dtypes == [pl.Int64, pl.Float64]


def test_a_glob_of_headers_has_no_rows(tmp_path: Path) -> None:
    for number in range(2):
        csv(tmp_path, "a,b\n", f"p{number}.csv")
    log = Log(Source(str(tmp_path / "p*.csv")))
    assert log.names == ["a", "b"]
    assert list(log.read(["a"], 4)) == []


def test_the_files_of_a_glob_agree_on_types(tmp_path: Path) -> None:
    """Empty here, whole there, in the next file with a fraction; and a column that is text in one file alone."""
    for number, text in enumerate(["a,b\n,1\n", "a,b\n3,2\n", "a,b\n4.5,x\n"]):
        csv(tmp_path, text, f"p{number}.csv")
    frame = whole(Log(Source(str(tmp_path / "p*.csv"))))
    assert frame.rows() == [(None, "1"), (3.0, "2"), (4.5, "x")]


@pytest.mark.parametrize("header", ["a", "b,a", "a,b,c", "a,d"])
def test_files_of_a_glob_with_other_columns_are_named(tmp_path: Path, header: str) -> None:
    csv(tmp_path, "a,b\n1,2\n", "p0.csv")
    csv(tmp_path, header + "\n" + ",".join("1" * (header.count(",") + 1)) + "\n", "p1.csv")
    says = rf"p1\.csv: its columns are {', '.join(header.split(','))}, those of .*p0\.csv a, b; give the files of a glob the same"
    with pytest.raises(UserError, match=says):
        Log(Source(str(tmp_path / "p*.csv")))


def test_an_empty_file_of_a_glob_is_named(tmp_path: Path) -> None:
    csv(tmp_path, "a\n1\n", "p0.csv")
    csv(tmp_path, "", "p1.csv")
    with pytest.raises(UserError, match=r"p1\.csv: cannot be read"):
        Log(Source(str(tmp_path / "p*.csv")))


def test_a_csv_is_read_with_the_types_of_training(tmp_path: Path) -> None:
    types = {"i": "Int64", "f": "Float64", "s": "String", "b": "Boolean", "d": "Date", "t": "Datetime ms UTC", "gone": "Int64"}
    path = csv(tmp_path, "i,f,s,b,d,t,new\n,1,007,,2024-01-02,,5\n7,2,8,true,,2024-01-02T03:00:00Z,6\n")
    frame = whole(Log(Source(path, types=types)))
    assert frame["i"].to_list() == [None, 7]
    assert frame["s"].to_list() == ["007", "8"]
    assert frame["f"].dtype == pl.Float64
    assert frame["b"].to_list() == [None, True]
    assert frame["d"].dtype == pl.Date
    assert frame["t"].dtype == pl.Datetime("ms", "UTC")
    assert frame["new"].dtype == pl.Int64


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("Int64", "x", "whole number"), ("Int64", 'say "1"', "whole number"), ("UInt64", "-1", "whole number"),
        ("Float64", "1,5", "number"), ("Float64", "a`b` at column 'b'", "number"), ("Boolean", "maybe", "truth value"),
        ("Date", "2024-13-45", "date"), ("Datetime us", "noon", "moment"), ("Int64", "two\nlines", "whole number"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_with_its_row(tmp_path: Path, kind: str, value: str, says: str) -> None:
    """The first file fits; a line break in quotes makes a row of the second two lines."""
    fine = {"Boolean": "true", "Date": "2024-01-01", "Datetime us": "2024-01-01"}.get(kind, "1")
    csv(tmp_path, f"a,b\n{fine},1\n{fine},1\n", "p0.csv")
    quoted = value.replace('"', '""')
    csv(tmp_path, f'a,b\n{fine},"1\n1"\n"{quoted}",1\n', "p1.csv")
    with pytest.raises(UserError) as caught:
        whole(Log(Source(str(tmp_path / "p*.csv"), types={"a": kind, "b": "String"})))
    assert f"p1.csv, row 2: {value!r} in column 'a' is no {says}; correct it" in str(caught.value).replace("\n", "\\n")


def test_integers_beyond_those_of_training_are_read(tmp_path: Path) -> None:
    path = csv(tmp_path, f"a\n{2**63}\n-1\n{2**70}\n")
    assert whole(Log(Source(path, types={"a": "Int64"})))["a"].to_list() == [2**63, -1, 2**70]


def test_what_is_not_read_need_not_fit(tmp_path: Path) -> None:
    log = Log(Source(csv(tmp_path, "a,b\n1,x\n2,y\n"), types={"a": "Int64", "b": "Int64"}))
    assert whole(log, ["a"])["a"].to_list() == [1, 2]
    with pytest.raises(UserError, match="row 1: 'x' in column 'b'"):
        whole(log, ["b"])


def test_a_source_learns_the_types_of_what_is_read(tmp_path: Path) -> None:
    """Of the log and of each table what is read of it, keys and times too; of a table that is not needed nothing."""
    users = logs.write(tmp_path, {"user": [1], "city": ["x"], "zip": [1]}, name="users")
    cities = logs.write(tmp_path, {"city": ["x"], "at": [1], "size": [1.5]}, name="cities")
    other = logs.write(tmp_path, {"item": ["a"], "never": [1]}, name="other")
    joins = (Join(users, "user"), Join(cities, "city", time="at"), Join(other, "item"))
    source = logs.source(tmp_path, joins=joins)
    typed = Log(source).typed(["size", "age"])
    assert typed == source
    assert typed.types == {"age": "Float64", "time": "Int64", "user": "Int64"}
    assert [join.types for join in typed.joins] == [
        {"user": "Int64", "city": "String"}, {"city": "String", "at": "Int64", "size": "Float64"}, {},
    ]  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(st.tuples(st.text(alphabet='ab,"\né ', max_size=5), st.text(alphabet="xy,\n", max_size=4)), min_size=1, max_size=8),
    block=st.integers(1, 40),
)
def test_every_csv_that_a_writer_writes_passes(tmp_path: Path, cells: list[tuple[str, str]], block: int) -> None:
    pl.DataFrame(cells, schema=["first", "second"], orient="row").write_csv(tmp_path / "log.csv", quote_style="always")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        check_csv(tmp_path / "log.csv")


def test_lines_are_counted_as_numpy_counts_them(tmp_path: Path) -> None:
    """A long file with one short line far down."""
    lines = [f"{row},{row}" for row in np.arange(100_000).tolist()]
    lines[76_543] = "7"
    with pytest.raises(UserError, match=f"line {76_543 + 2}: 1 values"):
        check_csv(Path(csv(tmp_path, "a,b\n" + "\n".join(lines) + "\n")))
