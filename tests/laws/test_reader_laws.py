"""Online is offline: whatever of a row is the request's and whatever the items', its predictions are those of `Bundle.score`."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.logs import SPLIT, source, write
from tests.values.test_bundle import EVERY, RICH, made
from torch import Tensor

from umbel.bundle import Bundle
from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.nn.apart import Apart
from umbel.recipes import RECIPES
from umbel.schema import Field, FieldKind, Schema
from umbel.serve import reader as module
from umbel.serve.reader import Reader
from umbel.serve.records import Value
from umbel.statistic import Statistic

TOLERANCE = 1e-6
MORE = Schema(
    (
        *EVERY.fields,
        Field("pair", FieldKind.CATEGORY, sql="CASE WHEN age > 20 THEN place ELSE item END", min_count=1),
        Field("rates", FieldKind.STATISTIC, statistic=Statistic(("user", "item"), ("click", "buy"), mode="folds", folds=2)),
        Field("one", FieldKind.CATEGORY, sql="CASE WHEN item = 'a' THEN 'first' ELSE place END", min_count=1),
    ),
    EVERY.tasks,
)  # fmt: skip
COLUMNS = ("user", "item", "age", "watched", "place", "tags", "picture")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("reader")
    rows = source(folder, RICH)
    return ingest(rows, MORE, SPLIT, folder=folder / "table")


@pytest.fixture(scope="module")
def bundle(table: Table) -> Bundle:
    return made(table)


def offline(bundle: Bundle, folder: Path, rows: Sequence[Mapping[str, Value]]) -> np.ndarray:
    """What `umbel score` gives for these raw rows."""
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    log = write(folder, {**columns, "time": list(range(len(rows)))})
    return np.concatenate([scores for _, scores in bundle.score(Source(log, user="user", item="item"))])


def raw(row: int) -> dict[str, Value]:
    values = {name: pl.DataFrame(RICH, strict=False)[name].to_list()[row] for name in COLUMNS}
    lists = {name: [one for one in value if one is not None] for name, value in values.items() if isinstance(value, list)}
    return {**{name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}, **lists}


def cut(rows: Sequence[int], shared: Sequence[str]) -> tuple[dict[str, Value], list[dict[str, Value]], list[dict[str, Value]]]:
    """What rows share (of the first), what is each one's own, and the whole rows that this comes to."""
    common = {name: value for name, value in raw(rows[0]).items() if name in shared}
    own = [{name: value for name, value in raw(row).items() if name not in shared} for row in rows]
    return common, own, [{**common, **one} for one in own]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.sets(st.sampled_from(COLUMNS)))
def test_any_cut_of_the_columns_gives_the_offline_predictions(
    table: Table, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, rows: list[int], shared: set[str],
) -> None:
    common, own, whole = cut(rows, sorted(shared))
    expected = offline(bundle, tmp_path_factory.mktemp("log"), whole)
    assert_allclose(Reader(bundle).predict(common, own), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_answers_as_it_scores(table: Table, tmp_path: Path, recipe: str) -> None:
    own = made(table, recipe)
    common, items, whole = cut([0, 3, 4, 8, 9], ["user", "age", "watched"])
    assert_allclose(Reader(own).predict(common, items), offline(own, tmp_path, whole), atol=TOLERANCE, rtol=0)


def test_items_together_are_items_alone_in_any_order_and_again(bundle: Bundle) -> None:
    common, items, _ = cut(list(range(10)), ["user", "age", "watched"])
    reader = Reader(bundle)
    together = reader.predict(common, items)
    for at in (3, 0, 9, 9):
        assert_allclose(reader.predict(common, items[at:at + 1]), together[at:at + 1], atol=TOLERANCE, rtol=0)
    assert_allclose(reader.predict(common, items[::-1]), together[::-1], atol=TOLERANCE, rtol=0)
    assert_allclose(reader.predict(common, [*items, *items]), np.concatenate([together, together]), atol=TOLERANCE, rtol=0)


def test_what_is_remembered_of_an_item_is_no_other_requests(bundle: Bundle) -> None:
    reader = Reader(bundle)
    one, items, _whole = cut([0, 1, 2], ["user", "age", "watched"])
    first = reader.predict(one, items)
    other: dict[str, Value] = {"user": 9, "age": 50.0, "watched": ["z"]}
    moved = reader.predict(other, items)
    assert np.abs(moved - first).max() > 1e-4
    assert_allclose(moved, Reader(bundle).predict(other, items), atol=TOLERANCE, rtol=0)
    changed = [{**items[0], "place": "θ"}, {**items[0], "tags": ["y"]}, items[0]]
    assert_allclose(reader.predict(one, changed), Reader(bundle).predict(one, changed), atol=TOLERANCE, rtol=0)


def test_more_items_than_there_is_room_for(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 4)
    monkeypatch.setattr(module, "CUTS", 2)
    reader = Reader(bundle)
    for rows in ([0, 1, 2], [3, 4, 0], list(range(10)), [2, 2, 2], [9, 0, 9, 1, 5, 6]):
        for shared in (["user"], ["user", "age"], ["age", "watched", "user"]):
            common, items, _ = cut(rows, shared)
            assert_allclose(reader.predict(common, items), Reader(bundle).predict(common, items), atol=TOLERANCE, rtol=0)


def test_ids_may_be_texts_of_any_type(bundle: Bundle) -> None:
    common, items, _ = cut([0, 1, 2], ["user"])
    expected = Reader(bundle).predict(common, items)
    assert_allclose(Reader(bundle).predict({"user": str(common["user"])}, items), expected, atol=TOLERANCE, rtol=0)
    unknown = Reader(bundle).predict({"user": "nobody"}, items)
    assert_allclose(unknown, Reader(bundle).predict({}, items), atol=TOLERANCE, rtol=0)
    assert_allclose(unknown, Reader(bundle).predict({"user": 2**70}, items), atol=TOLERANCE, rtol=0)
    assert np.abs(unknown - expected).max() > 1e-4


def test_missing_columns_are_missing_values(bundle: Bundle) -> None:
    found = Reader(bundle).predict({}, [{}, {"item": "a"}])
    assert np.isfinite(found).all()
    whole = dict.fromkeys(COLUMNS)
    assert_allclose(found, Reader(bundle).predict({}, [whole, {**whole, "item": "a"}]), atol=TOLERANCE, rtol=0)


def test_columns_that_are_not_read_change_nothing(bundle: Bundle) -> None:
    common, items, _ = cut([0, 1], ["user"])
    reader = Reader(bundle)
    expected = reader.predict(common, items)
    more = [{**item, "colour": "red"} for item in items]
    assert_allclose(reader.predict({**common, "weather": 3}, more), expected, atol=0, rtol=0)
    assert reader.ignored([{**common, "weather": 3}, *more]) == ["colour", "weather"]
    assert reader.ignored([common, *items]) == []


def test_what_nobody_was_told_is_what_the_model_reads_and_nothing_holds(bundle: Bundle) -> None:
    reader = Reader(bundle)
    assert reader.missing({}, [{}]) == sorted(reader.columns) == sorted(COLUMNS)
    assert reader.missing(dict.fromkeys(COLUMNS), [{}]) == [], "told to be nothing"
    assert reader.missing({"user": 1, "weather": 3}, [{"item": "a"}, {"age": 3, "item": "b"}]) == ["picture", "place", "tags", "watched"]


def test_an_item_without_a_column_that_others_have_lacks_it(bundle: Bundle) -> None:
    reader = Reader(bundle)
    found = reader.predict({"user": 1, "place": "b"}, [{"item": "a", "place": "θ"}, {"item": "a"}])
    assert_allclose(found[0], reader.predict({"user": 1}, [{"item": "a", "place": "θ"}])[0], atol=TOLERANCE, rtol=0)
    assert_allclose(found[1], reader.predict({"user": 1, "place": None}, [{"item": "a"}])[0], atol=TOLERANCE, rtol=0)


def test_numbers_that_are_equal_are_one_item(bundle: Bundle) -> None:
    reader = Reader(bundle)
    found = reader.predict({"user": 1}, [{"item": "a", "age": 10}, {"item": "a", "age": 10.0}])
    assert found[0].tolist() == found[1].tolist()
    lists = reader.predict({"user": 1}, [{"item": "a", "tags": ["x"]}])
    texts = reader.predict({"user": 1}, [{"item": "a", "tags": "['x']"}])  # the text of a list is another value: two quotes more
    assert np.abs(lists - texts).max() > 1e-4


@pytest.mark.parametrize(
    ("shared", "items", "said"),
    [
        ({"age": "old"}, [{"item": "a"}], "age: 'old' is no number"),
        ({"age": 1e300}, [{"item": "a"}], "fields.age: infinite in 1 rows"),
        ({"age": ["x"]}, [{"item": "a"}], "age: ['x'] is no number"),
        ({"place": 3}, [{"item": "a"}], "place: 3 is no text"),
        ({"place": True}, [{"item": "a"}], "place: True is no text"),
        ({}, [{"item": "a", "tags": ["x"]}, {"item": "b", "tags": "x"}], "tags: a list and a single value"),
        ({}, [{"item": "a", "tags": ["x", 3]}], "tags: a list of values of several types"),
        ({}, [{"item": ["a"]}], "fields.item: id of a column of List"),
        ({}, [{"item": "a", "picture": [1.0, 2.0, 3.0]}], "fields.picture: 1 vectors are not 2 wide"),
    ],
)  # fmt: skip
def test_a_value_that_training_did_not_know_is_named(
    bundle: Bundle, shared: dict[str, Value], items: list[dict[str, Value]], said: str,
) -> None:
    reader = Reader(bundle)
    with pytest.raises(UserError) as caught:
        reader.predict(shared, items)
    assert str(caught.value).startswith(said)
    assert np.isfinite(reader.predict({"user": 1}, [{"item": "a"}, {"item": "b"}])).all()


def test_what_had_to_be_forgotten_is_not_answered_from(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 4)
    reader = Reader(bundle)
    for rows in ([0, 1, 2], [3, 4], [0, 1, 2], [5, 6, 8], [0], [4, 3], [9, 2, 1, 0], [3]):
        _, items, _ = cut(rows, ["user"])
        assert_allclose(reader.predict({"user": 1}, items), Reader(bundle).predict({"user": 1}, items), atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def catalogue(bundle: Bundle) -> tuple[list[dict[str, Value]], np.ndarray]:
    """Twelve items, of which two are alike but for their age, and what is predicted of each for one user."""
    items: list[dict[str, Value]] = [{"item": "abcd"[at % 4], "age": 10.0 + at} for at in range(12)]
    return items, Reader(bundle).predict({"user": 1}, items)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items were encoded, time by time."""
    told: list[int] = []
    keep = Apart.keep

    def counted(self: Apart, things: Mapping[str, Tensor]) -> Tensor:
        numbers = keep(self, things)
        told.append(len(numbers))
        return numbers

    monkeypatch.setattr(Apart, "keep", counted)
    return told


ASKED = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=7), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(asked=ASKED, room=st.integers(1, 13), part=st.integers(1, 5))
def test_whatever_was_forgotten_answers_are_the_same(
    bundle: Bundle, catalogue: tuple[list[dict[str, Value]], np.ndarray], *, asked: list[list[int]], room: int, part: int,
) -> None:
    items, expected = catalogue
    reader = Reader(bundle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROOM", room)
        patch.setattr(module, "PART", part)
        for some in asked:
            found = reader.predict({"user": 1}, [items[at] for at in some])
            assert_allclose(found, expected[some], atol=TOLERANCE, rtol=0)
            (cut,) = reader._cuts.values()
            assert cut._apart.kept == len(cut._numbers) <= max(room, *[len(set(one)) for one in asked])
            assert sorted(cut._numbers.values()) == list(range(len(cut._numbers)))


def test_only_the_oldest_are_forgotten(
    bundle: Bundle, catalogue: tuple[list[dict[str, Value]], np.ndarray], encoded: list[int], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for eight, of which two go where there is none: what came later is known, and met without being encoded."""
    monkeypatch.setattr(module, "ROOM", 8)
    items, _ = catalogue
    reader = Reader(bundle)
    for some, new in (
        ([0, 1, 2, 3], 4), ([4, 5, 6, 7], 4), ([8], 1), ([2, 3, 4, 5, 6, 7, 8], 0), ([2, 0], 1), ([2], 0), ([9], 1), ([2, 3], 2),
    ):  # fmt: skip
        encoded.clear()
        reader.predict({"user": 1}, [items[at] for at in some])
        assert sum(encoded) == new, some


def test_items_that_are_asked_for_are_encoded_again_where_they_are_the_oldest(
    bundle: Bundle, catalogue: tuple[list[dict[str, Value]], np.ndarray], encoded: list[int], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ROOM", 4)
    items, expected = catalogue
    reader = Reader(bundle)
    for some in ([0, 1, 2, 3], [0, 4], list(range(12)), [0, 11], [5]):
        found = reader.predict({"user": 1}, [items[at] for at in some])
        assert_allclose(found, expected[some], atol=TOLERANCE, rtol=0)
    assert encoded == [4, 2, 12]


def test_most_of_a_catalogue_a_little_larger_than_the_room_stays_known(
    bundle: Bundle, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty items and room for sixteen, two drawn a request: where all were forgotten at once, more than half were encoded again."""
    monkeypatch.setattr(module, "ROOM", 16)
    reader, draw = Reader(bundle), np.random.default_rng(0)
    for _ in range(100):
        reader.predict({"user": 1}, [{"item": "a", "age": float(at)} for at in draw.choice(20, 2, replace=False)])
    assert sum(encoded) < 0.43 * 200


def test_shared_values_that_had_to_be_forgotten_are_read_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAID", 2_000)
    reader = Reader(bundle)
    for row in (0, 1, 0, 2, 3, 4, 4, 5, 0, 6, 7, 8, 9, 1):
        common, items, _ = cut([row], ["user", "age", "watched", "place"])
        assert_allclose(reader.predict(common, items), Reader(bundle).predict(common, items), atol=TOLERANCE, rtol=0)


def held(bundle: Bundle, request: Callable[[int], dict[str, Value]]) -> int:
    """The bytes that a reader holds of what shared values said, once it has answered 200 requests."""
    reader = Reader(bundle)
    reader.predict(request(0), [{"item": "a"}])
    gc.collect()
    tracemalloc.start()
    for number in range(1, 201):
        reader.predict(request(number), [{"item": "a"}])
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size


def history(number: int) -> dict[str, Value]:
    return {"user": 1, "watched": [f"{number}-{place}" for place in range(400)]}


def text(number: int) -> dict[str, Value]:
    return {"user": 1, "place": f"{number:04}" * 1_000}


@pytest.mark.parametrize("make", [history, text])
def test_long_values_are_remembered_by_their_bytes(
    bundle: Bundle, make: Callable[[int], dict[str, Value]], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Each is of some 4 KB, so that all 200 of them are 800."""
    assert held(bundle, make) > 600_000, "where there is room, what was said before is not read again"
    monkeypatch.setattr(module, "SAID", 100_000)
    assert held(bundle, make) < 400_000
