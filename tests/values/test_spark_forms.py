"""Expressions in Spark's words, and types as Spark has them: what needs no Spark to be looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tests.sparks import run_file

from umbel.data.spark import types
from umbel.data.spark.form import alike, form, quoted


@pytest.mark.parametrize(
    ("text", "columns", "spoken"),
    [
        ("FLOOR(a)", {"a": [1]}, "(`a`)"),
        (
            "FLOOR(x)",
            {"x": [1.5]},
            "CASE WHEN (`x`) >= 0 AND (`x`) < 1 THEN (`x`) * 0e0 "
            "WHEN ABS(`x`) < 9007199254740992e0 THEN CAST(FLOOR(`x`) AS DOUBLE) ELSE (`x`) END",
        ),
        ("a * 1.5", {"a": pl.Series([1], dtype=pl.Float32)}, "CAST(`a` AS DOUBLE) * 1.5e0"),
        ("a + b", {"a": pl.Series([1], dtype=pl.UInt8), "b": [1]}, "CAST(`a` AS BIGINT) + `b`"),
        ('"a b" > 1', {"a b": [1.5]}, "`a b` > 1L"),
        ("`user` = 'it''s \\n'", {"user": ["x"]}, "`user` = 'it\\'s \\\\n'"),
        ("CAST(a AS BIGINT)", {"a": [True]}, "CAST(`a` AS BIGINT)"),
        ("TRY_CAST(a AS BIGINT)", {"a": [1.5]}, "TRY_CAST(CASE WHEN (`a`) = 9223372036854775808e0 THEN 1e300 ELSE (`a`) END AS BIGINT)"),
    ],
)
def test_the_form_for_spark(text: str, columns: dict[str, list[object] | pl.Series], spoken: str) -> None:
    assert form(text, pl.DataFrame(columns)) == spoken


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("a + b", True),
        ("FLOOR(a / 2) = b", True),
        ("f AND a > 1", True),
        ("LN(a)", False),
        ("s = 'x'", False),
        ("s IS NULL", False),
        ("h % 3", False),
        ("d IS NULL", False),
        ("CASE WHEN a > 1 THEN 'x' END", False),
    ],
)
def test_what_spark_computes_to_the_same_bits(text: str, *, known: bool) -> None:
    kinds: dict[str, object] = {"a": pl.UInt8, "b": pl.Float32, "f": pl.Boolean, "s": pl.String, "h": pl.UInt64, "d": pl.Date}
    assert alike(text, pl.DataFrame(schema=kinds)) is known  # type: ignore[arg-type]


def test_a_name_with_a_backtick_is_quoted() -> None:
    assert quoted("a`b.c") == "`a``b.c`"


def column(kind: object) -> pl.Series:
    return pl.DataFrame(schema={"a": kind}).to_series()  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kind", "carried", "key", "time"),
    [
        (pl.Int8, "TINYINT", "BIGINT", "BIGINT"),
        (pl.UInt32, "BIGINT", "BIGINT", "BIGINT"),
        (pl.UInt64, "DECIMAL(20,0)", "DECIMAL(20,0)", None),
        (pl.Int128, None, None, None),
        (pl.Float32, "FLOAT", None, "DOUBLE"),
        (pl.Float64, "DOUBLE", None, "DOUBLE"),
        (pl.Boolean, "BOOLEAN", None, None),
        (pl.String, "STRING", "STRING", "STRING"),
        (pl.Categorical, "STRING", "STRING", None),
        (pl.Enum(["a"]), "STRING", "STRING", None),
        (pl.Date, "DATE", None, "DATE"),
        (pl.Datetime("ms"), "TIMESTAMP_NTZ", None, "TIMESTAMP_NTZ"),
        (pl.Datetime("us", "UTC"), "TIMESTAMP", None, "TIMESTAMP"),
        (pl.Datetime("ns", "UTC"), "BIGINT", None, "BIGINT"),
        (pl.Duration, "BIGINT", None, None),
        (pl.Decimal(8, 2), "DECIMAL(8,2)", None, None),
        (pl.List(pl.String), "ARRAY<STRING>", None, None),
        (pl.Array(pl.Float32, 3), "ARRAY<FLOAT>", None, None),
        (pl.List(pl.Time), None, None, None),
        (pl.Struct({"b": pl.Int8}), None, None, None),
        (pl.Time, None, None, None),
        (pl.Null, None, None, None),
    ],
    ids=str,
)
def test_types(kind: object, carried: str | None, key: str | None, time: str | None) -> None:
    one = column(kind)
    assert (types.carried(one), types.key(one), types.time(one)) == (carried, key, time)


def test_no_pyspark_is_one_line(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['pyspark'] = None; sys.modules['py4j'] = None; from umbel.cli import main; main(sys.argv[1:])"
    words = ["ingest", str(run_file(tmp_path)), "-o", str(tmp_path / "there"), "--spark", "local[2]"]
    done = subprocess.run([sys.executable, "-c", hidden, *words], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().endswith("is not installed; pip install 'umbel[spark]'")
