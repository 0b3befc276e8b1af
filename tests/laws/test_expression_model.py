"""Expressions drawn at random against an evaluator in plain Python, and what the closed list refuses, word by word."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.logs import NUMBER

from umbel.data.derive import evaluate, field_value
from umbel.errors import UserError
from umbel.expression import FUNCTIONS, OPERATORS, TYPES, WORDS, check, portable, tokenise
from umbel.schema import Field

Number = float | int | None
Row = Mapping[str, Number]

ROWS: list[dict[str, Number]] = [
    {"i": i, "j": j, "x": x}
    for i, j, x in [(7, 2, 1.5), (-7, 0, -2.25), (0, 3, 0.0), (None, 5, 4.0), (3, None, None), (10, -4, 100.0), (-1, 1, -0.5)]
]
FRAME = pl.DataFrame(ROWS, schema={"i": pl.Int64, "j": pl.Int64, "x": pl.Float64})
unhurried = settings(deadline=None, max_examples=40)


@dataclass(frozen=True)
class Term:
    """A number: its text, and its value in a row."""

    text: str
    value: Callable[[Row], Number]


@dataclass(frozen=True)
class Truth:
    """What holds, does not hold or is unknown: its text, and its value in a row."""

    text: str
    value: Callable[[Row], bool | None]


def lifted(form: Callable[..., Number], *terms: Term) -> Callable[[Row], Number]:
    """Null in, null out."""

    def value(row: Row) -> Number:
        numbers = [term.value(row) for term in terms]
        return None if any(number is None for number in numbers) else form(*numbers)

    return value


def column(name: str) -> Term:
    return Term(name, lambda row: row[name])


def literal(number: int | float) -> Term:
    return Term(f"{number}", lambda _: number)


def arithmetic(one: Term, sign: str, other: Term) -> Term:
    forms = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    return Term(f"({one.text} {sign} {other.text})", lifted(forms[sign], one, other))


def quotient(one: Term, divisor: float) -> Term:
    return Term(f"({one.text} / {divisor})", lifted(lambda a: a / divisor, one))


def guarded(one: Term, other: Term) -> Term:
    return Term(f"({one.text} / NULLIF({other.text}, 0))", lifted(lambda a, b: None if b == 0 else a / b, one, other))


def called(name: str, one: Term) -> Term:
    forms: dict[str, Callable[[float], Number]] = {
        "ABS": abs,
        "FLOOR": math.floor,
        "CEIL": math.ceil,
        "LN": lambda a: math.log(a) if a > 0 else None,
    }
    return Term(f"{name}({one.text})", lifted(forms[name], one))


def first_known(one: Term, other: Term) -> Term:
    return Term(f"COALESCE({one.text}, {other.text})", lambda row: other.value(row) if one.value(row) is None else one.value(row))


def choice(test: Truth, one: Term, other: Term) -> Term:
    """An unknown test is not met."""
    text = f"CASE WHEN {test.text} THEN {one.text} ELSE {other.text} END"
    return Term(text, lambda row: one.value(row) if test.value(row) else other.value(row))


def compared(one: Term, sign: str, other: Term) -> Truth:
    forms: dict[str, Callable[[float, float], bool]] = {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "=": lambda a, b: a == b,
        "<>": lambda a, b: a != b,
    }

    def value(row: Row) -> bool | None:
        a, b = one.value(row), other.value(row)
        return None if a is None or b is None else forms[sign](a, b)

    return Truth(f"({one.text} {sign} {other.text})", value)


def both(one: Truth, other: Truth) -> Truth:
    def value(row: Row) -> bool | None:
        a, b = one.value(row), other.value(row)
        return False if a is False or b is False else None if a is None or b is None else True

    return Truth(f"({one.text} AND {other.text})", value)


def either(one: Truth, other: Truth) -> Truth:
    def value(row: Row) -> bool | None:
        a, b = one.value(row), other.value(row)
        return True if a or b else None if a is None or b is None else False

    return Truth(f"({one.text} OR {other.text})", value)


def negated(one: Truth) -> Truth:
    def value(row: Row) -> bool | None:
        found = one.value(row)
        return None if found is None else not found

    return Truth(f"(NOT {one.text})", value)


def missing(one: Term) -> Truth:
    return Truth(f"({one.text} IS NULL)", lambda row: one.value(row) is None)


COLUMNS = st.sampled_from(["i", "j", "x"]).map(column)
SIGNS = st.sampled_from(["<", "<=", ">", ">=", "=", "<>"])


def truths(terms: st.SearchStrategy[Term]) -> st.SearchStrategy[Truth]:
    plain = st.builds(compared, terms, SIGNS, terms) | st.builds(missing, terms)

    def joined(inner: st.SearchStrategy[Truth]) -> st.SearchStrategy[Truth]:
        return st.builds(both, inner, inner) | st.builds(either, inner, inner) | inner.map(negated)

    return st.recursive(plain, joined, max_leaves=3)


def deeper(inner: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    return st.one_of(
        st.builds(arithmetic, inner, st.sampled_from("+-*"), inner | st.sampled_from([2, 3, 0.5]).map(literal)),
        st.builds(quotient, inner, st.sampled_from([2, 3, 7, 0.5, 100, 49])),
        st.builds(guarded, inner, inner),
        st.builds(called, st.sampled_from(["ABS", "LN"]), inner),
        st.builds(called, st.sampled_from(["FLOOR", "CEIL"]), COLUMNS),
        st.builds(first_known, inner, inner),
        st.builds(choice, truths(COLUMNS), inner, inner),
    )


TERMS = st.recursive(COLUMNS, deeper, max_leaves=5)


def polars(text: str) -> list[object]:
    return evaluate(FRAME, [field_value(Field("f", NUMBER, sql=text))]).to_series().to_list()


@unhurried
@given(term=TERMS)
def test_a_number_is_what_python_makes_of_it(term: Term) -> None:
    expected = [term.value(row) for row in ROWS]
    for found, wanted in zip(polars(term.text), expected, strict=True):
        assert (found is None) == (wanted is None), term.text
        assert wanted is None or found == pytest.approx(wanted, rel=1e-9, abs=1e-9), term.text


@unhurried
@given(test=truths(COLUMNS | st.builds(arithmetic, COLUMNS, st.just("+"), COLUMNS)))
def test_a_truth_is_what_python_makes_of_it(test: Truth) -> None:
    assert polars(test.text) == [test.value(row) for row in ROWS], test.text


@unhurried
@given(term=TERMS)
def test_rows_alone_are_rows_together(term: Term) -> None:
    """What a batch holds besides must not matter: scoring sees one row where ingest saw a hundred thousand."""
    one = field_value(Field("f", NUMBER, sql=term.text))
    together = evaluate(FRAME, [one]).to_series().cast(pl.Float64).to_list()
    alone = [evaluate(FRAME[row], [one]).to_series().cast(pl.Float64)[0] for row in range(len(ROWS))]
    assert alone == together
    assert evaluate(FRAME.clear(), [one]).height == 0


@unhurried
@given(term=TERMS)
def test_an_expression_reads_its_columns_and_survives_blanks_and_case(term: Term) -> None:
    read = check(term.text, where="fields.f")
    assert set(read) == set("ijx") & {token.text for token in tokenise(term.text)}
    spread = "\n ".join(token.text if token.kind != "name" or token.text in read else token.text.lower() for token in tokenise(term.text))
    assert check(spread, where="fields.f") == read
    assert polars(spread) == polars(term.text)


@unhurried
@given(text=st.text(alphabet=string.printable + "éß€", max_size=25))
def test_any_text_passes_or_is_refused_in_one_line(text: str) -> None:
    """Never a traceback, and never a column that the text does not name."""
    said = ""
    try:
        columns = check(text, where="fields.f")
        field_value(Field("f", NUMBER, sql=text))
    except UserError as error:
        said = str(error)
    assert said or (columns and all(name in text for name in columns))
    assert not said or "fields.f" in said
    assert "\n" not in said


# what is refused

POLARS_KNOWS = [
    "SUM", "AVG", "COUNT", "ROUND", "EXP", "LOG", "LOG10", "POW", "POWER", "MOD",
    "SIGN", "SIN", "CONCAT", "LENGTH", "SUBSTR", "TRIM", "REPLACE", "DATE_PART", "EXTRACT", "STRPTIME",
    "IF", "IFNULL", "LEAST", "GREATEST", "ROW_NUMBER", "FIRST", "MAX", "MIN", "STDDEV", "REGEXP_LIKE",
]


@pytest.mark.parametrize("name", POLARS_KNOWS)
@pytest.mark.parametrize("form", ["{}(a)", "1 + {}(a, 2)", "CASE WHEN {}(a) > 1 THEN 1 END", "COALESCE({}(a), 0)"])
def test_other_functions_are_refused_at_their_place(name: str, form: str) -> None:
    with pytest.raises(UserError) as caught:
        check(form.format(name), where="tasks.t")
    place = form.index("{}") + 1
    assert f"tasks.t: {name!r} at character {place} is not in the closed list of functions" in str(caught.value)
    assert ", ".join(sorted(FUNCTIONS)) in str(caught.value)


@pytest.mark.parametrize("sign", sorted(set(string.punctuation) - OPERATORS - set("_'\"`")))
def test_other_signs_are_refused_at_their_place(sign: str) -> None:
    with pytest.raises(UserError, match="at character 3 is not in the closed list") as caught:
        check(f"a {sign} b", where="fields.f")
    assert repr(sign) in str(caught.value)


@pytest.mark.parametrize("name", ["STRING", "INT", "INTEGER", "FLOAT", "DATE", "TIMESTAMP", "VARCHAR", "BOOLEAN", "BIGINTS"])
@pytest.mark.parametrize("cast", ["CAST", "TRY_CAST", "cast"])
def test_other_types_are_refused(name: str, cast: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' at character {len(cast) + 7} is no type that every engine casts alike"):
        check(f"{cast}(a AS {name})", where="fields.f")


@pytest.mark.parametrize("divisor", ["b", "0", "0.000", "(2)", "-2", "NULLIF(b, 2)", "NULLIF(0, b)", "ABS(b)", "COALESCE(b, 1)", ""])
@pytest.mark.parametrize("sign", ["/", "%"])
def test_a_divisor_that_may_be_zero_is_refused(divisor: str, sign: str) -> None:
    with pytest.raises(UserError, match=f"'{sign}' at character 3 may divide by zero; divide by a number other than 0 or by NULLIF"):
        check(f"a {sign} {divisor}", where="fields.f")


@pytest.mark.parametrize("divisor", ["2", "0.5", "NULLIF(b, 0)", "nullif(b + ABS(c), 0)", "NULLIF(NULLIF(b, 1), 0)"])
@pytest.mark.parametrize("sign", ["/", "%"])
def test_a_divisor_that_cannot_be_zero_passes(divisor: str, sign: str) -> None:
    assert check(f"a {sign} {divisor}", where="fields.f")[0] == "a"


@pytest.mark.parametrize("word", sorted(WORDS | TYPES | FUNCTIONS))
def test_a_column_in_quotes_may_be_called_like_a_word(word: str) -> None:
    assert check(f'"{word}" + 1', where="fields.f") == (word,)
    assert check(f"`{word}` + 1", where="fields.f") == (word,)
    frame = pl.DataFrame({word: [1, None]})
    assert evaluate(frame, [field_value(Field("f", NUMBER, sql=f'"{word}" + 1'))]).to_series().to_list() == [2, None]


@pytest.mark.parametrize("text", ["1e5 + a", "a + .5", "a + 5.", "0x1F + a", "1_000 + a", "a + 1.2.3"])
def test_numbers_of_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"fields\.f: "):
        check(text, where="fields.f")


def test_constants_of_several_fields_do_not_meet() -> None:
    fields = [Field("a", NUMBER, sql="i / 2"), Field("b", NUMBER, sql="i / 2.0 + j / 4"), Field("c", NUMBER, sql="x / 0.5")]
    found = evaluate(FRAME[:2], [field_value(field) for field in fields])
    assert found.columns == ["a", "b", "c"]
    assert found.rows() == [(3.5, 4.0, 3.0), (-3.5, -3.5, -4.5)]


def test_the_form_for_polars_names_each_constant_once() -> None:
    assert portable("i / 2 + LN(j / 2) + i / 2.0").constants == {"/2": 2.0, "/2.0": 2.0}
