"""What is refused on Spark and how, what stands in its place, and the golden table of expressions as Spark computes them."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from tests import logs
from tests.laws.test_spark_laws import bits, on_spark
from tests.logs import CATEGORY, NUMBER, ROWS, SCHEMA, SPLIT, changed, contents, one_field, source
from tests.sparks import both, elsewhere, run_file, spark
from tests.values.test_expression import EDGES, GOLDEN, same

from umbel.cli import main
from umbel.data.derive import evaluate, field_value
from umbel.data.ingest import ingest
from umbel.data.source import Join, Source
from umbel.data.split import ByColumn, Split
from umbel.errors import UserError
from umbel.schema import Field, Schema, Task


@pytest.fixture(autouse=True, scope="module")
def session() -> None:
    spark()


def refused(folder: Path, given: Source, schema: Schema = SCHEMA, split: Split = SPLIT) -> str:
    """What is said of a log that is not ingested; nothing is left of it."""
    with pytest.raises(UserError) as caught:
        ingest(elsewhere(given), schema, split, folder=folder / "there")
    assert not (folder / "there").exists()
    assert [path.name for path in folder.iterdir() if "umbel-part" in path.name] == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


# expressions


def test_golden(tmp_path: Path) -> None:
    """All of the closed list means on Spark what it means on Polars: the same table of edge values, NaN, nulls and zeros among them."""
    texts = [text for text, _ in GOLDEN]
    wrong = []
    for (text, expected), found in zip(GOLDEN, on_spark(texts, EDGES, tmp_path), strict=True):
        if not all(same(one, other) for one, other in zip(found.to_list(), expected, strict=True)):
            wrong.append((text, found.to_list(), expected))
    assert wrong == []


LARGE = [2.0**53, 2.0**53 + 2, -(2.0**62), 2.0**63, -(2.0**63), 1e300]
DOUBLES = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.5, -2.5, *LARGE, float("inf"), float("-inf"), float("nan"), None]
AT_EDGES = [
    "FLOOR(x)", "CEIL(x)", "TRY_CAST(x AS BIGINT)", "x % 2", "-x", "x / NULLIF(x, 0)",
    "ABS(x)", "SQRT(x)", "x = x", "x > 0", "NULLIF(x, 0)",
]


def test_doubles_at_the_edges_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    columns = pl.DataFrame({"x": DOUBLES})
    for text, found in zip(AT_EDGES, on_spark(AT_EDGES, columns, tmp_path), strict=True):
        here = evaluate(columns, [field_value(Field("f", NUMBER, sql=text))]).to_series()
        assert bits(found.to_list()) == bits(here.to_list()), text


@pytest.mark.parametrize(
    ("text", "why"), [("CAST(age AS BIGINT)", "NaN"), ("time * 9223372036854775807", "overflow"), ("(time > 1) + 1", "type")]
)
def test_an_expression_that_fails_there_names_its_field(text: str, why: str, tmp_path: Path) -> None:
    said = refused(tmp_path, source(tmp_path), Schema((Field("user", CATEGORY), Field("made", NUMBER, sql=text)), (Task("click"),)))
    assert said.startswith("fields.made: ")
    assert why in said
    assert said.endswith("correct the expression, CAST what it reads, or leave out --spark")


# logs


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pl.Series([dt.time(1)] * 10), "--spark: column 'odd' holds Time, which Spark has not; write it as text or"),
        (pl.Series([{"a": 1}] * 10), "--spark: column 'odd' holds Struct"),
        (pl.Series([None] * 10), "--spark: column 'odd' holds Null"),
        (pl.Series([[1]] * 10), "use kind = 'sequence' or 'bag'"),
    ],
)
def test_a_type_that_spark_has_not_names_its_column(column: pl.Series, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, source(tmp_path, changed(odd=column)), one_field(Field("odd", CATEGORY)))


def test_what_nothing_reads_may_be_of_any_type(tmp_path: Path) -> None:
    made = ingest(elsewhere(source(tmp_path, changed(odd=[dt.time(1)] * 10))), SCHEMA, SPLIT, folder=tmp_path / "there")
    assert len(made.parts["train"]) == 6


@pytest.mark.parametrize(
    ("table", "time", "said"),
    [
        ({"user": ["1"], "city": ["x"]}, None, "--spark: {path}: 'user' is String there and 'user' Int64 in the log; give both one"),
        ({"user": [1.0], "city": ["x"]}, None, "--spark: {path}: 'user' is Float64 there"),
        ({"user": [1, 2, 2], "city": ["x", "y", "z"]}, None, "{path}: key user = 2 stands twice; keep one row a key"),
        ({"user": [1], "at": [1.0], "city": ["x"]}, "at", "{path}: its time is Float64, the log's is Int64; give both the same type"),
        ({"user": [1], "at": [True], "city": ["x"]}, "at", "{path}: its time is Boolean"),
        ({"city": ["x"]}, None, "{path}: no column 'user' to join on"),
    ],
)
def test_a_join_that_spark_makes_otherwise_is_refused(table: logs.Rows, time: str | None, said: str, tmp_path: Path) -> None:
    path = logs.write(tmp_path, table, name="cities")
    given = source(tmp_path, joins=(Join(path, "user", time=time),))
    assert said.format(path=path) in refused(tmp_path, given, one_field(Field("city", CATEGORY)))


def test_files_of_narrower_integers_are_read_as_here(tmp_path: Path) -> None:
    """Signed and unsigned, in whichever file; and columns that the first has not."""
    kinds = ((pl.Int8, pl.UInt8), (pl.Int64, pl.UInt32), (pl.UInt16, pl.Int16))
    for number, (rows, own) in enumerate(zip((slice(0, 3), slice(3, 6), slice(6, 10)), kinds, strict=True)):
        part = pl.DataFrame(ROWS, strict=False)[rows].with_columns(pl.col("user").cast(own[0]), pl.col("click").cast(own[1]))
        logs.write(tmp_path, {**part.to_dict(), **({"more": [1] * 3} if number == 1 else {})}, name=f"log-{number}")
    both(replace(source(tmp_path), log=str(tmp_path / "log-*.parquet")), SCHEMA, SPLIT, folder=tmp_path)


def test_a_file_of_nulls_is_refused_by_its_column(tmp_path: Path) -> None:
    logs.write(tmp_path, changed(age=pl.Series([None] * 10, dtype=pl.Null)), name="log-1")
    logs.write(tmp_path, name="log-2")
    said = refused(tmp_path, replace(source(tmp_path), log=str(tmp_path / "log-*.parquet")))
    assert f"log-1.parquet: column 'age' is Null, in {tmp_path / 'log-2.parquet'} it is Float64; give the files" in said


def test_a_table_whose_times_count_another_unit_is_refused(tmp_path: Path) -> None:
    path = logs.write(tmp_path, {"user": [1], "at": [1_651_363_200], "city": ["x"]}, name="cities")
    given = source(tmp_path, changed(time=[1_651_363_200_000 + at for at in range(10)]), joins=(Join(path, "user", time="at"),))
    said = refused(tmp_path, given, one_field(Field("city", CATEGORY)))
    assert said == f"{path}: its 'at' counts seconds, the log's 'time' milliseconds; give both the same unit"


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    logs.write(tmp_path, ROWS, name="log-1")
    logs.write(tmp_path, changed(age=[1] * 10), name="log-2")
    said = refused(tmp_path, replace(source(tmp_path), log=str(tmp_path / "log-*.parquet")))
    assert f"log-2.parquet: column 'age' is Int64, in {tmp_path / 'log-1.parquet'} it is Float64" in said


def test_a_file_that_spark_passes_over_is_missed(tmp_path: Path) -> None:
    said = refused(tmp_path, replace(source(tmp_path), log=logs.write(tmp_path, name="_log")))
    assert said == f"--spark: Spark does not see {tmp_path / '_log.parquet'}; give it a name that does not begin with '_' or '.'"


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    given = source(tmp_path)
    whole = Path(given.log).read_bytes()
    Path(given.log).write_bytes(whole[:200] + bytes(200) + whole[400:])
    assert "--spark: " in refused(tmp_path, given)


def test_a_log_without_rows(tmp_path: Path) -> None:
    rows = pl.DataFrame(ROWS, strict=False).with_columns(part=pl.lit("train"))
    given = source(tmp_path, rows.clear().to_dict())
    assert "no row falls into train (of 0)" in refused(tmp_path, given, split=ByColumn("part", valid="valid", test="test"))


def test_rows_that_other_machines_kept_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors that do not share the folder leave their rows on their own disks."""
    monkeypatch.setattr("umbel.data.spark.lay.SLICE", 4)
    from umbel.data.spark import lay

    found = lay._in_order

    def fewer(left: Path, folder: Path, *, rows: int) -> list[Path]:
        next(left.glob("umbel_part=1/*.parquet")).unlink()
        return found(left, folder, rows=rows)

    monkeypatch.setattr(lay, "_in_order", fewer)
    said = refused(tmp_path, source(tmp_path))
    assert said.startswith(f"--spark: 6 of 10 rows came to {tmp_path}; ")
    assert said.endswith("put log, tables and -o where every machine of Spark sees them under the same path")


def test_a_bad_label_names_its_row_and_the_log(tmp_path: Path) -> None:
    given = source(tmp_path, changed(click=[0, 1, 1, 0, 7, 0, 1, 0, 1, 0]))
    assert f"tasks.click: label 7 in row 5 of the log, column 'click' of {given.log}" in refused(tmp_path, given)


# the verb

def test_the_verb_leaves_the_same_table(tmp_path: Path) -> None:
    run = run_file(tmp_path)
    main_code = [sys.executable, "-m", "umbel", "ingest", str(run), "-o"]
    here = subprocess.run([*main_code, str(tmp_path / "here")], capture_output=True, text=True, check=True)
    there = subprocess.run([*main_code, str(tmp_path / "there"), "--spark", "local[2]"], capture_output=True, text=True, check=True)
    assert there.stdout == here.stdout.replace("/here:", "/there:")
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def test_no_java_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_file(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    words = ["ingest", str(run), "-o", str(tmp_path / "there"), "--spark", "local[2]"]
    assert told(words, capsys) == "umbel: --spark: no Java here; install Java 17, or set JAVA_HOME to it"
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019' >&2\n")
    java.chmod(0o755)
    assert told(words, capsys) == f"umbel: --spark: {java} is openjdk version \"11.0.2\" 2019; install Java 17, or set JAVA_HOME to it"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert told(words, capsys).startswith("umbel: --spark: no Java here")


def test_a_master_that_is_none_is_one_line(tmp_path: Path) -> None:
    words = ["ingest", str(run_file(tmp_path)), "-o", str(tmp_path / "there"), "--spark", "nowhere"]
    done = subprocess.run([sys.executable, "-m", "umbel", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("umbel: --spark nowhere: ")
    assert done.stderr.strip().endswith("check the master, for example local[4] or spark://HOST:7077")
