"""Values of a request as columns of the types that training saw: what is taken, what is missing, what is refused."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from umbel.errors import UserError
from umbel.serve.records import Value
from umbel.serve.series import Typed

TYPES = pl.DataFrame(schema={
    "user": pl.Int64, "name": pl.String, "price": pl.Float64, "count": pl.Int64, "small": pl.UInt64, "flag": pl.Boolean,
    "day": pl.Date, "at": pl.Datetime("us"), "hour": pl.Time, "tags": pl.String, "local": pl.Datetime("ms", "Europe/Berlin"),
})  # fmt: skip
TYPED = Typed(TYPES, ["user"])


@pytest.mark.parametrize(("name", "sent", "column"), [
    ("price", [1, 2.5, None, True], [1.0, 2.5, None, 1.0]),
    ("count", [1, None], [1, None]),
    ("name", ["a", None, ""], ["a", None, ""]),
    ("flag", [True, False, None], [True, False, None]),
    ("user", ["17", "18", None], [17, 18, None]),
    ("user", [17, 18], [17, 18]),
    ("day", ["2024-01-05", None], [dt.date(2024, 1, 5), None]),
    ("day", ["not a day"], [None]),
    ("at", ["2024-01-05T12:30:00", None, "soon"], [dt.datetime(2024, 1, 5, 12, 30), None, None]),
    ("local", ["2024-07-05T12:30:00"], [dt.datetime(2024, 7, 5, 12, 30, tzinfo=ZoneInfo("Europe/Berlin"))]),
    ("hour", ["10:15:00", "late"], [dt.time(10, 15), None]),
])
def test_values_of_their_columns_type_are_taken(name: str, sent: list[Value], column: list[object]) -> None:
    found = TYPED.series(name, sent)
    assert found.name == name
    assert found.dtype == TYPES.schema[name]
    assert found.to_list() == column


@pytest.mark.parametrize("sent", [["u17"], ["1e3"], ["17.5"], [""], ["99999999999999999999"]])
def test_an_id_that_does_not_read_as_its_type_is_missing(sent: list[Value]) -> None:
    """So it is unknown, and answered as a new user's: no error, for clients do not choose the types of ids."""
    assert TYPED.series("user", sent).to_list() == [None]


@pytest.mark.parametrize(("name", "sent", "said"), [
    ("price", ["cheap"], "price: 'cheap' is no number; it was Float64 when the model was trained"),
    ("price", [1.0, "1.0"], "price: '1.0' is no number"),
    ("name", [3], "name: 3 is no text"),
    ("name", ["a", 3.5], "name: 3.5 is no text"),
    ("flag", [1], "flag: 1 is no truth value"),
    ("flag", ["true"], "flag: 'true' is no truth value"),
    ("price", [[1.0]], "price"),
])
def test_a_value_of_another_type_names_its_column(name: str, sent: list[Value], said: str) -> None:
    with pytest.raises(UserError) as caught:
        TYPED.series(name, sent)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("sent", "said"), [
    ([["a"], "a"], "a list and a single value"),
    ([["a", 1]], "a list of values of several types"),
    ([["a"], [1]], "a list of values of several types"),
])
def test_lists_hold_values_of_one_type(sent: list[Value], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TYPED.series("unheard of", sent)


@pytest.mark.parametrize(("sent", "kind"), [
    ([1, 2], pl.Int64), ([1.5], pl.Float64), (["a"], pl.String), ([True], pl.Boolean), ([None, None], pl.Null),
    ([["a"]], pl.List(pl.String)),
    ([[1, 2.5]], pl.List(pl.Float64)), ([[]], pl.List(pl.Null)),
])
def test_a_column_nobody_knows_is_what_its_values_say(sent: list[Value], kind: object) -> None:
    assert not TYPED.knows("unheard of")
    assert TYPED.series("unheard of", sent).dtype == kind


@pytest.mark.parametrize("sent", [[["a", "b"], None, []], [[1, 2], [3]]])
def test_a_column_of_text_may_have_been_one_of_lists(sent: list[Value]) -> None:
    """A log's lists are kept as text where types are told, and a request sends them as the lists that they were."""
    assert TYPED.series("tags", sent).to_list() == sent


def test_equal_numbers_of_two_types_are_one_value_where_the_type_is_known() -> None:
    assert TYPED.knows("price")
    assert TYPED.series("price", [1]).to_list() == TYPED.series("price", [1.0]).to_list()


@pytest.mark.parametrize(("name", "sent"), [("small", -1), ("count", 2**63), ("small", 2**64)])
def test_a_number_that_its_type_cannot_hold_is_missing(name: str, sent: int) -> None:
    """Never another number."""
    assert TYPED.series(name, [sent]).to_list() == [None]


def test_a_frame_has_its_columns_in_order() -> None:
    found = TYPED.frame({"price": [1, 2], "user": ["1", "2"], "new": ["x", None]})
    assert found.columns == ["price", "user", "new"]
    assert found.height == 2
