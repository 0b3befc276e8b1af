"""Which values of a store a bundle reads: those that it can, alone and beside the others; what a request told is not touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest
from tests.untrained import bundle
from torch import Tensor

from umbel.serve import legible as module
from umbel.serve.legible import legible
from umbel.serve.reader import Reader
from umbel.serve.recommend.vectors import Raws
from umbel.serve.records import Value
from umbel.serve.served import load

NOBODY: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """One that reads `user`, `item`, a number `age` and a list `watched`."""
    return load(bundle(tmp_path_factory.mktemp("legible"))).reader


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that were read at once, one after the other."""
    found, fields = list[int](), Raws.fields

    def counted(self: Raws, rows: Sequence[Mapping[str, Value]], wanted: Collection[str]) -> dict[str, Tensor]:
        found.append(len(rows))
        return fields(self, rows, wanted)

    monkeypatch.setattr(Raws, "fields", counted)
    return found


def left(reader: Reader, column: str, values: Sequence[Value], *, told: Sequence[int] = ()) -> list[int]:
    """The places at which a column is left; where it is, its value is as it was."""
    rows: list[Mapping[str, Value]] = [{"item": "a", column: value} for value in values]
    kept, lost = legible(reader, rows, [{column} if place in told else NOBODY for place in range(len(rows))])
    found = [place for place, row in enumerate(kept) if column in row]
    assert [kept[place] for place in found] == [rows[place] for place in found]
    assert all(row["item"] == "a" for row in kept)
    assert lost == len(values) - len(found)
    return found


@pytest.mark.parametrize(("column", "values", "found"), [
    ("age", [3, "old", 4.5, None], [0, 2, 3]),
    ("age", ["old"], []),
    ("age", [[1.0], 2, True], [1, 2]),
    ("watched", [["a"], 3, ["b", "a"], []], [0, 2, 3]),
    ("watched", [["a"], ["a", 1], [1]], [0]),
    ("watched", [[1], ["a"], [2]], [0, 2]),
    ("item", [["a"], "b"], [1]),
    ("hue", [["a"], "b", 3], [0, 1, 2]),
    ("age", [], []),
])  # fmt: skip
def test_what_cannot_be_read_is_left_out_and_the_commonest_stay(
    reader: Reader, column: str, values: Sequence[Value], found: Sequence[int]
) -> None:
    if column == "item":
        kept, _ = legible(reader, [{"item": value} for value in values], [NOBODY] * len(values))
        assert [place for place, row in enumerate(kept) if row] == found
    else:
        assert left(reader, column, values) == found


def test_what_was_told_stays_and_others_go_by_it(reader: Reader) -> None:
    assert left(reader, "age", ["old", 3], told=[0]) == [0], "the request is wrong: nothing goes with it"
    assert left(reader, "watched", [[1], ["a"], ["b"]], told=[0]) == [0], "though lists of texts are commoner"
    assert left(reader, "age", ["old", 3], told=[0, 1]) == [0, 1]


def test_one_wrong_value_among_many_is_found_soon(reader: Reader, calls: list[int]) -> None:
    values: list[Value] = [float(place) for place in range(200)]
    values[77] = float("inf")
    assert left(reader, "age", values) == [place for place in range(200) if place != 77]
    assert len(calls) < 20


def test_however_many_are_wrong_the_tries_are_bounded(reader: Reader, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIES", 9)
    assert left(reader, "age", [*("old" for _ in range(300)), 3.0, "new"]) == []
    assert len(calls) == 10, "nine of the age, one of the item"
    calls.clear()
    assert left(reader, "age", [*(3.0 for _ in range(300)), "new"]) == list(range(300))
    assert len(calls) < 9
