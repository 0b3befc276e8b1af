"""The closed list of SQL: what passes, what is refused and how, and one golden table of edge values.

The golden values are those of Spark 4 (ANSI mode, where it evaluates at all); Polars must give them.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from umbel.data.derive import evaluate, field_value, label_value
from umbel.errors import UserError
from umbel.expression import check, portable
from umbel.schema import Field, FieldKind, Task

NAN = float("nan")
INF = float("inf")

EDGES = pl.DataFrame(
    {
        "i": [7, -7, 0, None],
        "j": [2, 0, 3, 5],
        "x": [1.5, -2.5, NAN, None],
        "y": [0.0, INF, -INF, 4.0],
        "s": ["Ab", "", "é", None],
        "t": ["12", "-3", "", None],
    }
)

GOLDEN: list[tuple[str, list[object]]] = [
    # arithmetic: null in, null out
    ("i + j", [9, -7, 3, None]),
    ("i - j", [5, -7, -3, None]),
    ("i * j", [14, 0, 0, None]),
    ("-i", [-7, 7, 0, None]),
    ("i + 0.5", [7.5, -6.5, 0.5, None]),
    ("i * 1.5", [10.5, -10.5, 0.0, None]),
    ("x + i", [8.5, -9.5, NAN, None]),
    ("2 + j * 4", [10, 2, 14, 22]),
    ("(2 + j) * 4", [16, 8, 20, 28]),
    # division is true division, never by zero
    ("i / 2", [3.5, -3.5, 0.0, None]),
    ("j / 3", [2 / 3, 0.0, 1.0, 5 / 3]),
    ("i / 3.0", [7 / 3, -7 / 3, 0.0, None]),
    ("i / NULLIF(j, 0)", [3.5, None, 0.0, None]),
    ("x / NULLIF(y, 0)", [None, -0.0, NAN, None]),
    ("i / 2 / 7", [0.5, -0.5, 0.0, None]),
    # the remainder has the sign of the dividend
    ("i % 3", [1, -1, 0, None]),
    ("i % NULLIF(j, 0)", [1, None, 0, None]),
    # rounding
    ("FLOOR(i / 2)", [3, -4, 0, None]),
    ("CEIL(i / 2)", [4, -3, 0, None]),
    ("FLOOR(i)", [7, -7, 0, None]),
    ("ABS(i)", [7, 7, 0, None]),
    ("ABS(x)", [1.5, 2.5, NAN, None]),
    ("SQRT(x)", [math.sqrt(1.5), NAN, NAN, None]),
    # the logarithm of what is not above 0 is null
    ("LN(j)", [math.log(2), None, math.log(3), math.log(5)]),
    ("LN(i)", [math.log(7), None, None, None]),
    ("LN(x)", [math.log(1.5), None, NAN, None]),
    ("LN(LN(j) + 1)", [math.log(math.log(2) + 1), None, math.log(math.log(3) + 1), math.log(math.log(5) + 1)]),
    # comparison: unknown stays unknown; NaN equals itself and is above every number
    ("i = 7", [True, False, False, None]),
    ("i <> 7", [False, True, True, None]),
    ("i != 7", [False, True, True, None]),
    ("i < j", [False, True, True, None]),
    ("x = x", [True, True, True, None]),
    ("x > 1", [True, False, True, None]),
    ("y >= 0", [True, True, False, True]),
    ("i > 6.5", [True, False, False, None]),
    ("s = 'Ab'", [True, False, False, None]),
    ("s > 'A'", [True, False, True, None]),
    ("i BETWEEN 0 AND 7", [True, False, True, None]),
    ("i BETWEEN 0 AND 7 AND j > 0", [True, False, True, None]),
    ("i IN (7, 0)", [True, False, True, None]),
    ("i NOT IN (7, 0)", [False, True, False, None]),
    ("s IN ('Ab', '')", [True, True, False, None]),
    # three-valued logic
    ("i > 0 AND x > 0", [True, False, False, None]),
    ("i > 0 OR j > 4", [True, False, False, True]),
    ("NOT i > 0", [False, True, True, None]),
    ("i IS NULL", [False, False, False, True]),
    ("i IS NOT NULL", [True, True, True, False]),
    ("x IS NULL", [False, False, False, True]),
    # choices
    ("CASE WHEN i > 0 THEN 1 ELSE 0 END", [1, 0, 0, 0]),
    ("CASE WHEN i > 0 THEN 1 END", [1, None, None, None]),
    ("CASE i WHEN 7 THEN 'seven' WHEN 0 THEN 'none' ELSE 'other' END", ["seven", "other", "none", "other"]),
    ("CASE WHEN i IS NULL THEN -1 ELSE i END", [7, -7, 0, -1]),
    ("CASE WHEN i > 0 THEN 1 ELSE 0.5 END", [1.0, 0.5, 0.5, 0.5]),
    ("COALESCE(i, j)", [7, -7, 0, 5]),
    ("COALESCE(i, -1)", [7, -7, 0, -1]),
    ("COALESCE(x, 0.5)", [1.5, -2.5, NAN, 0.5]),
    ("NULLIF(i, 7)", [None, -7, 0, None]),
    # casts
    ("CAST(i AS DOUBLE)", [7.0, -7.0, 0.0, None]),
    ("CAST(i / 2 AS BIGINT)", [3, -3, 0, None]),
    ("CAST(i > 0 AS BIGINT)", [1, 0, 0, None]),
    ("TRY_CAST(x AS BIGINT)", [1, -2, None, None]),
    ("TRY_CAST(y AS BIGINT)", [0, None, None, 4]),
    ("TRY_CAST(t AS BIGINT)", [12, -3, None, None]),
    ("TRY_CAST(t AS DOUBLE)", [12.0, -3.0, None, None]),
    # text
    ("UPPER(s)", ["AB", "", "É", None]),
    ("LOWER(s)", ["ab", "", "é", None]),
    # names
    ('"i" + 1', [8, -6, 1, None]),
    ("`i` + 1", [8, -6, 1, None]),
    ("coalesce(I_, i)".replace("I_", "i"), [7, -7, 0, None]),
    ("case when i > 0 then 1 else 0 end", [1, 0, 0, 0]),
]


def derived(text: str) -> pl.Series:
    return evaluate(EDGES, [field_value(Field("f", FieldKind.NUMBER, sql=text))]).to_series()


def same(found: object, expected: object) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return found == expected or (math.isnan(found) and math.isnan(expected)) or abs(found - expected) <= 1e-15 * abs(expected)
    return found == expected


@pytest.mark.parametrize(("text", "expected"), GOLDEN, ids=[text for text, _ in GOLDEN])
def test_golden(text: str, expected: list[object]) -> None:
    found = derived(text).to_list()
    assert len(found) == len(expected)
    assert all(same(one, other) for one, other in zip(found, expected, strict=True)), found


NARROW = pl.DataFrame(
    {
        "u": pl.Series([100, 255, None], dtype=pl.UInt8),
        "v": pl.Series([200, 255, 1], dtype=pl.UInt8),
        "w": pl.Series([2**32 - 1, 0, 7], dtype=pl.UInt32),
        "i": pl.Series([-128, 127, 0], dtype=pl.Int8),
        "f": pl.Series([0.1, -2.5, NAN], dtype=pl.Float32),
        "h": pl.Series([2**64 - 1, 0, None], dtype=pl.UInt64),
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u - v", [-100, 0, None]),
        ("u + v", [300, 510, None]),
        ("u * 300", [30_000, 76_500, None]),
        ("-u", [-100, -255, None]),
        ("w * w", [(2**32 - 1) ** 2 - 2**64, 0, 49]),
        ("i - 1", [-129, 126, -1]),
        ("ABS(i)", [128, 127, 0]),
        ("f * 1.5", [float(np.float32(0.1)) * 1.5, -3.75, NAN]),
        ("f + f", [2 * float(np.float32(0.1)), -5.0, NAN]),
        ("h % 10", [5, 0, None]),
    ],
)
def test_narrow_numbers_do_not_wrap_around(text: str, expected: list[object]) -> None:
    """Whole numbers are BIGINT and floats DOUBLE, as in Spark; beyond BIGINT Polars wraps, and Spark fails."""
    found = evaluate(NARROW, [field_value(Field("f", FieldKind.NUMBER, sql=text))]).to_series().to_list()
    assert all(same(one, other) for one, other in zip(found, expected, strict=True)), found


def test_a_plain_column_beside_an_expression_keeps_its_type() -> None:
    fields = [Field("u", FieldKind.NUMBER), Field("less", FieldKind.NUMBER, sql="u - v"), Field("f", FieldKind.NUMBER)]
    found = evaluate(NARROW, [field_value(field) for field in fields])
    assert found.schema == {"u": pl.UInt8, "less": pl.Int64, "f": pl.Float32}
    assert found["less"].to_list() == [-100, 0, None]


@pytest.mark.parametrize("divisor", [49, 60, 100, 1000, 3_600_000, 86_400_000])
def test_the_whole_part_of_a_quotient_is_exact(divisor: int) -> None:
    """Polars by itself multiplies by the rounded reciprocal, and FLOOR(3600000 k / 3600000) is k - 1 for every third k."""
    whole = np.arange(2000) * 997
    frame = pl.DataFrame({"a": whole * divisor})
    found = evaluate(frame, [field_value(Field("f", FieldKind.NUMBER, sql=f"FLOOR(a / {divisor})"))]).to_series()
    assert found.cast(pl.Int64).to_list() == whole.tolist()


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("FLOOR(hourmin / 100)", ("hourmin",)),
        ("a + b * a", ("a", "b")),
        ("CASE WHEN t.x > 1 THEN y END".replace("t.x", "x"), ("x", "y")),
        ("CAST(a AS BIGINT)", ("a",)),
        ("'text' = a", ("a",)),
        ('"a b" + `c d`', ("a b", "c d")),
        ("größe > 1", ("größe",)),
        ("a IS NOT NULL AND TRUE", ("a",)),
        ("floor(Floor)", ("Floor",)),
    ],
)
def test_columns_that_are_read(text: str, columns: tuple[str, ...]) -> None:
    assert check(text, where="fields.f") == columns


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SUM(a)", "'SUM' at character 1"),
        ("a + random()", "'random' at character 5"),
        ("ROUND(a)", "'ROUND'"),
        ("GREATEST(a, b)", "'GREATEST'"),
        ("a || b", "'||'"),
        ("a::BIGINT", "'::'"),
        ("a <=> b", "'<=>'"),
        ("a -- b", "'--'"),
        ("a /* b */", "'/*'"),
        ("a // 2", "'//'"),
        ("a; DROP", "';'"),
        ("t.a", "'.'"),
        ("a & 1", "'&'"),
        ("a[0]", "'['"),
        ("CAST(a AS STRING)", "'STRING'"),
        ("CAST(a AS INT)", "'INT'"),
        ("a / b", "'/' at character 3 may divide by zero"),
        ("a / 0", "may divide by zero"),
        ("a / 0.0", "may divide by zero"),
        ("a / (b)", "may divide by zero"),
        ("a / NULLIF(b, 1)", "may divide by zero"),
        ("a / NULLIF(b, 0 + c)", "may divide by zero"),
        ("a % b", "'%' at character 3"),
        ("a /", "may divide by zero"),
        ("", "reads no column"),
        ("1 + 1", "reads no column"),
        ("a b", "'b' at character 3 follows a value"),
        ("a 'b'", "follows a value"),
        ("(a) b", "follows a value"),
        ("a ABS(b)", "follows a value"),
        ("1 a", "follows a value"),
        ("CASE WHEN a THEN 1 END b", "follows a value"),
        ("(a", "do not close"),
        ("LN(a", "do not close"),
        ("a AS b", "is no type"),
        ("NULL", "reads no column"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        check(text, where="fields.f")
    assert "fields.f" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["i +", "CASE WHEN i THEN", "(i))(", "i IS 3"])
def test_what_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"fields\.f: .*cannot be read"):
        field_value(Field("f", FieldKind.NUMBER, sql=text))


def test_the_label_is_named_in_its_own_errors() -> None:
    with pytest.raises(UserError, match=r"tasks\.click: 'MAX'"):
        label_value(Task("click", sql="MAX(a)"))


@pytest.mark.parametrize("text", ["CAST(x AS BIGINT)", "CAST(t AS BIGINT)", "FLOOR(s)"])
def test_what_cannot_be_computed_names_the_field(text: str) -> None:
    with pytest.raises(UserError, match=r"fields\.f: .*; correct the expression"):
        derived(text)


def test_the_form_for_polars() -> None:
    form = portable("FLOOR(a / 100) + b / 0.5 * 1.5")
    assert form.sql == 'FLOOR ( a / "/100" ) + b / "/0.5" * 1.5e0'
    assert form.constants == {"/100": 100.0, "/0.5": 0.5}


def test_text_is_left_alone() -> None:
    assert portable("s = 'a / 2.5 LN(x)'").sql == "s = 'a / 2.5 LN(x)'"
    assert evaluate(EDGES, [field_value(Field("f", FieldKind.CATEGORY, sql="s = 'it''s'"))]).to_series().to_list()[0] is False
