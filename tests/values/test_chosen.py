"""Objects chosen by name: every mistake is one line that says where, what and the mend; what is written reads back equal."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import tomli_w

from umbel.chosen import Choice, choose, spell
from umbel.errors import UserError


@dataclass(frozen=True, slots=True)
class Round:
    """No parameters."""

    name: ClassVar[str] = "round"


@dataclass(frozen=True, slots=True)
class Square:
    """One that must be given, and three that need not."""

    name: ClassVar[str] = "square"
    side: int
    share: float = 0.5
    edges: tuple[float, ...] = (1.0, 2.0)
    label: str = "plain"

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UserError(f"square: side = {self.side}", mend="give 1 or more")


SHAPES: dict[str, type[Round] | type[Square]] = {"round": Round, "square": Square}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("round", Round()),
        ({"name": "round"}, Round()),
        ({"name": "square", "side": 3}, Square(3)),
        ({"name": "square", "side": 3, "share": 1}, Square(3, 1.0)),
        ({"name": "square", "side": 3, "edges": [1, 2.5]}, Square(3, edges=(1.0, 2.5))),
        ({"name": "square", "side": 3, "edges": []}, Square(3, edges=())),
        ({"side": 2, "label": "x", "name": "square"}, Square(2, label="x")),
    ],
)
def test_what_is_asked_for_is_made(choice: Choice, expected: object) -> None:
    assert choose("a.b", choice, SHAPES) == expected


@dataclass(frozen=True, slots=True)
class Weighted:
    """A parameter that is a table of its own, and need not be given."""

    name: ClassVar[str] = "weighted"
    weights: Mapping[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(("choice", "expected"), [
    ("weighted", Weighted()),
    ({"name": "weighted", "weights": {"a": 1.5, "b": 2}}, Weighted({"a": 1.5, "b": 2.0})),
])  # fmt: skip
def test_a_parameter_may_be_a_table(choice: Choice, expected: Weighted) -> None:
    found = choose("a.b", choice, {"weighted": Weighted})
    assert found == expected
    assert choose("a.b", spell(found), {"weighted": Weighted}) == expected
    with pytest.raises(UserError, match=r"a\.b\.weights = 3; "):
        choose("a.b", {"name": "weighted", "weights": 3}, {"weighted": Weighted})


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("rond", "a.b: no 'rond'; did you mean 'round'?"),
        ("", "a.b: 'name' is missing; known: round, square"),
        ({}, "a.b: 'name' is missing; known: round, square"),
        ({"side": 3}, "a.b: 'name' is missing; known: round, square"),
        ({"name": 7}, "a.b: no '7'; known: round, square"),
        ("square", "a.b.side is missing; write { name = ..., side = ... }"),
        ({"name": "round", "side": 3}, "a.b: 'round' has no parameter 'side'; known: none"),
        ({"name": "square", "sides": 3}, "a.b: 'square' has no parameter 'sides'; did you mean 'side'?"),
        ({"name": "square", "side": 3, "shares": 1.0}, "a.b: 'square' has no parameter 'shares'; did you mean 'share'?"),
        ({"name": "square", "side": "3"}, "a.b.side = '3'; input should be a valid integer"),
        ({"name": "square", "side": 3.0}, "a.b.side = 3.0; input should be a valid integer"),
        ({"name": "square", "side": True}, "a.b.side = True; input should be a valid integer"),
        ({"name": "square", "side": 3, "share": "much"}, "a.b.share = 'much'; input should be a valid number"),
        ({"name": "square", "side": 3, "edges": ["x"]}, "a.b.edges = ['x']; input should be a valid number"),
        ({"name": "square", "side": 3, "edges": 1.0}, "a.b.edges = 1.0; input should be a valid tuple"),
        ({"name": "square", "side": 0}, "a.b: square: side = 0; give 1 or more"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(choice: Choice, says: str) -> None:
    with pytest.raises(UserError) as caught:
        choose("a.b", choice, SHAPES)
    assert str(caught.value) == says


@pytest.mark.parametrize("one", [Round(), Square(3), Square(2, 0.25, (0.1, 0.9), "é")])
def test_what_is_spelled_reads_back(one: Round | Square) -> None:
    assert choose("here", spell(one), SHAPES) == one
    assert choose("here", json.loads(json.dumps(spell(one))), SHAPES) == one
    assert choose("here", tomllib.loads(tomli_w.dumps({"it": spell(one)}))["it"], SHAPES) == one


def test_a_name_alone_is_enough_where_there_are_no_parameters() -> None:
    assert spell(Round()) == "round"
    assert spell(Square(3)) == {"name": "square", "side": 3, "share": 0.5, "edges": [1.0, 2.0], "label": "plain"}


def test_the_choice_is_left_as_it_was() -> None:
    asked = {"name": "square", "side": 3, "edges": [1.0]}
    choose("here", asked, SHAPES)
    assert asked == {"name": "square", "side": 3, "edges": [1.0]}
