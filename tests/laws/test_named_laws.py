"""Everything that a run file chooses by name, found by itself: each is made, told back, and refuses what it does not take, in one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, get_type_hints

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.chosen import choose, spell, tuples
from umbel.coldstart.methods import METHODS
from umbel.errors import UserError, nearest
from umbel.kinds import TASK_KINDS
from umbel.learn.keep import KEEPS
from umbel.nn.heads import HEADS
from umbel.objectives import OBJECTIVES

quick = settings(deadline=None, max_examples=25)
FAMILIES: dict[str, Mapping[str, type[Any]]] = {
    "kind": TASK_KINDS, "loss": OBJECTIVES, "head": HEADS, "keep": KEEPS, "method": METHODS,
}  # fmt: skip
EVERY = [(family, name) for family, among in FAMILIES.items() for name in among]
NEEDED: dict[str, object] = {"classes": 4, "grades": 3, "levels": [0.1, 0.5], "task": "click", "power": 1.5, "edges": [["click", "buy"]]}


def needed(make: type[Any]) -> dict[str, object]:
    """A value for every parameter that has no default."""
    bare = [one.name for one in fields(make) if one.default is MISSING and one.default_factory is MISSING]
    return {name: NEEDED[name] for name in bare}


def made(family: str, name: str, **given: object) -> Any:  # noqa: ANN401
    among = FAMILIES[family]
    return choose(f"x.{family}", {"name": name, **needed(among[name]), **given}, among)


def numbers(make: type[Any]) -> Iterator[tuple[str, type]]:
    """The parameters that are one number, a truth value or text."""
    for name, hint in get_type_hints(make).items():
        if name in {one.name for one in fields(make)} and hint in (int, float, bool, str):
            yield name, hint


def test_every_family_has_members_whose_names_are_their_own() -> None:
    for family, among in FAMILIES.items():
        assert among, family
        for name, make in among.items():
            assert make.name == name
            assert make.__doc__


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_what_is_chosen_is_told_back(family: str, name: str) -> None:
    """As JSON, and as a run file's TOML: an equal object, in the same words again."""
    one = made(family, name)
    words = spell(one)
    assert choose("x", words, FAMILIES[family]) == one
    assert choose("x", json.loads(json.dumps(words)), FAMILIES[family]) == one
    written = words if isinstance(words, str) else {key: value for key, value in words.items() if value is not None}  # TOML has no null
    assert choose("x", tomllib.loads(tomli_w.dumps({"x": written}))["x"], FAMILIES[family]) == one
    assert spell(choose("x", words, FAMILIES[family])) == words


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_bare_name_is_the_one_without_parameters(family: str, name: str) -> None:
    make = FAMILIES[family][name]
    if needed(make):
        missing = next(iter(needed(make)))
        with pytest.raises(UserError) as caught:
            choose("x.y", name, FAMILIES[family])
        assert str(caught.value).startswith(f"x.y.{missing} is missing; write {{ name = ..., {missing} = ... }}")
    else:
        assert choose("x", name, FAMILIES[family]) == choose("x", {"name": name}, FAMILIES[family]) == make()


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_parameter_that_it_does_not_take_is_named(family: str, name: str) -> None:
    with pytest.raises(UserError) as caught:
        made(family, name, speed=3)
    assert str(caught.value).startswith(f"x.{family}: {name!r} has no parameter 'speed'")
    assert "\n" not in str(caught.value)


WRONG: dict[type, list[object]] = {
    int: ["3", 2.5, [1], {}], float: ["0.5", [0.5], {}], bool: ["yes", 2, []], str: [3, 1.5, ["a"]],
}  # fmt: skip
TYPED = [(family, name, key, hint) for family, name in EVERY for key, hint in numbers(FAMILIES[family][name])]


@pytest.mark.parametrize(("family", "name", "key", "hint"), TYPED)
def test_a_value_of_another_type_is_named_with_its_key(family: str, name: str, key: str, hint: type) -> None:
    """No text is read as a number, and none is cut to a whole one in silence."""
    for value in WRONG[hint]:
        with pytest.raises(UserError) as caught:
            made(family, name, **{key: value})
        assert f"{key} = {value!r}" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("family", "name", "key", "hint"), [one for one in TYPED if one[3] in (int, float)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused(family: str, name: str, key: str, *, hint: type, value: float) -> None:
    """An endless rate, or one that is no number, would be found only when a training has run away."""
    with pytest.raises(UserError) as caught:
        made(family, name, **{key: value})
    assert f"x.{family}.{key} = {value!r}; input should be a" in str(caught.value)
    assert ("finite number" if hint is float else "integer") in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
@quick
@given(data=st.data())
def test_a_name_that_is_none_is_told_the_nearest(family: str, data: st.DataObject) -> None:
    among = FAMILIES[family]
    name = data.draw(st.sampled_from(sorted(among)))
    at = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:at] + name[at + 1 :]
    if wrong in among or not wrong:
        return
    with pytest.raises(UserError) as caught:
        choose("x", wrong, among)
    said = str(caught.value)
    assert said.startswith(f"x: no {wrong!r}; ")
    close = get_close_matches(wrong, among, n=1)
    assert (f"did you mean {close[0]!r}" in said) if close else all(one in said for one in among)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choice", [{}, {"name": ""}, "", {"speed": 3}])
def test_no_name_at_all(family: str, choice: Any) -> None:  # noqa: ANN401
    with pytest.raises(UserError, match="x: 'name' is missing"):
        choose("x", choice, FAMILIES[family])


@quick
@given(st.recursive(st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=8))
def test_lists_become_tuples_all_the_way_down(value: object) -> None:
    """And JSON's round trip makes no difference: what a bundle kept is what was chosen."""

    def flat(one: object) -> bool:
        return not isinstance(one, list) and all(map(flat, one)) if isinstance(one, list | tuple) else True

    found = tuples(value)
    assert flat(found)
    assert tuples(json.loads(json.dumps(found))) == found
    assert tuples(found) == found


@quick
@given(st.lists(st.text("abcdefgh", min_size=3, max_size=6), min_size=1, max_size=5, unique=True), st.data())
def test_the_nearest_is_nearest(known: list[str], data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(known))
    said = nearest(one, known)
    assert said == f"did you mean {one!r}?"
