"""Laws of the searched space: every setting can be searched, every point of it is a run file, and nothing but its keys differs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.balance.named import BALANCERS
from umbel.errors import UserError
from umbel.nn.heads import HEADS
from umbel.nn.interact import INTERACTS
from umbel.nn.sequence import SEQUENCES
from umbel.recipes import RECIPES
from umbel.run import resolve
from umbel.run.settings import Settings, parse
from umbel.run.tuning import RangeSection, TuneSection
from umbel.study.tune.dimension import Choices, Range
from umbel.study.tune.point import placed, pointed
from umbel.study.tune.search import _distribution
from umbel.study.tune.space import dimensions, searchable

TREE: dict[str, Any] = {
    "data": {"log": "log.parquet", "user": "user", "item": "item"},
    "fields": {
        "user": {"kind": "id"}, "item": {"kind": "id"}, "seen": {"kind": "sequence", "like": "item", "target": "item"},
        "device": {"kind": "category"},
    },
    "tasks": {"click": {}, "like": {}, "buy": {"given": "click"}},
    "split": {"by": "user", "valid": 0.1, "test": 0.1},
    "model": {"recipe": "ple", "dim": 4, "expert": [8], "tower": [4]},
}  # fmt: skip
BASE = parse(TREE, where="here")
# One of them is what a setting that is absent by default may be.
TRIES: tuple[Any, ...] = (2, 0.5, True, "own", ["like"], [1, 2], [["click"], ["like", "buy"]], [[0], [1], [0, 1]], {"name": "any"})


def held(one: Settings, key: str) -> Any:  # noqa: ANN401
    found: Any = one.model_dump()
    for step in key.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def example(key: str) -> Any:  # noqa: ANN401
    """A value of that setting: its own, or the first that it takes."""
    if key.startswith("balance.weights."):
        return 2.0
    own = held(BASE, key)
    return next(one for one in TRIES if taken(key, one)) if own is None else own


def taken(key: str, value: Any) -> bool:  # noqa: ANN401
    above, _, last = key.rpartition(".")
    tree: dict[str, Any] = {last: value}
    for step in reversed(above.split(".")):
        tree = {step: {**TREE.get(step, {}), **tree}}
    try:
        parse({**TREE, **tree}, where="here")
    except UserError:
        return False
    return True


def listed(value: object) -> object:
    """Tuples as lists, as a run file writes them."""
    if isinstance(value, dict):
        return {key: listed(one) for key, one in value.items()}
    return [listed(one) for one in value] if isinstance(value, tuple | list) else value


def under(space: dict[str, Any], model: dict[str, Any] | None = None) -> Settings:
    return parse({**TREE, "model": model or TREE["model"], "tune": {"space": space}}, where="here")


@pytest.mark.parametrize("key", sorted(searchable(BASE)))
def test_every_setting_has_its_place(key: str) -> None:
    value = example(key)
    one = under({key: [value]}).tune.space[key]
    assert isinstance(one, tuple)
    found = Choices.of(key, one)
    (end,) = found.ends()
    assert listed(held(placed(BASE, (found,), {key: end}), key)) == listed(value)


@pytest.mark.parametrize("key", sorted(searchable(BASE)))
def test_nothing_else_is_touched(key: str) -> None:
    found = Choices.of(key, under({key: [example(key)]}).tune.space[key])  # type: ignore[arg-type]
    (end,) = found.ends()
    changed, plain = placed(BASE, (found,), {key: end}).model_dump(), BASE.model_copy(update={"tune": TuneSection()}).model_dump()
    assert flat(changed, but=key) == flat(plain, but=key)


def flat(tree: Mapping[str, Any], *, but: str, above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and key != but:
            found |= flat(value, but=but, above=f"{key}.")
        elif key != but and not (value is None and but.startswith(f"{key}.")):
            found[key] = value
    return found


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("model.recipe", RECIPES), ("model.interact", INTERACTS), ("model.sequence", SEQUENCES), ("model.head", HEADS),
        ("fit.balancer", BALANCERS),
    ],
)  # fmt: skip
def test_every_name_can_be_a_choice(key: str, names: Mapping[str, object]) -> None:
    """Recipes, heads, balancers … yet to come too: what one refuses about this run file is said with its place."""
    for name in names:
        one = Choices.of(key, (name,))
        found = pointed(BASE, (one,), {key: name})
        assert held(found, key) == name
        resolve.schema(found)


SPACE: dict[str, Any] = {
    "model.recipe": ["mmoe", "stem", "ple", "alone"], "model.interact": ["concatenate", "dcn", "fm"], "model.sequence": ["mean", "din"],
    "model.dim": {"low": 2, "high": 6}, "model.expert": [[4], [6, 4]], "model.shared": {"low": 1, "high": 3},
    "model.layers": {"low": 1, "high": 2}, "model.dropout": {"low": 0.0, "high": 0.5}, "model.head": ["independent", "esmm"],
    "fit.rate": {"low": 1e-4, "high": 1e-2, "log": True}, "fit.balancer": ["none", "static", "cagrad", "pcgrad"],
    "balance.c": {"low": 0.1, "high": 0.9}, "balance.weights.like": {"low": 0.1, "high": 10, "log": True},
    "tasks.buy.weight": {"low": 0.5, "high": 2.0}, "fit.keep": ["mean", {"name": "primary", "task": "like"}],
}  # fmt: skip
SEARCHED = under(SPACE)
AMONG = dimensions(SEARCHED)


def drawn(one: Choices | Range) -> st.SearchStrategy[Any]:
    if isinstance(one, Choices):
        return st.sampled_from(list(one.values))
    if one.whole:
        return st.integers(int(one.low), int(one.high))
    return st.floats(float(one.low), float(one.high))


VALUE = st.one_of(st.integers(2, 9), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=3).map(tuple))
POINT = st.fixed_dictionaries({one.key: drawn(one) for one in AMONG})


@settings(deadline=None, max_examples=40)
@given(POINT)
def test_every_point_is_a_run_file_of_its_own(point: dict[str, Any]) -> None:
    found = pointed(SEARCHED, AMONG, point)
    resolve.check(found)
    assert found.tune == TuneSection()
    assert parse(tomllib.loads(found.to_toml()), where="there") == found
    assert (found.data, found.split, found.fields) == (SEARCHED.data, SEARCHED.split, SEARCHED.fields), "on the same table"
    assert (found.fit.epochs, found.fit.patience, found.fit.seed) == (SEARCHED.fit.epochs, SEARCHED.fit.patience, SEARCHED.fit.seed)


USUAL = dimensions(BASE)


@settings(deadline=None, max_examples=40)
@given(st.fixed_dictionaries({one.key: drawn(one) for one in USUAL}))
def test_every_point_of_the_usual_space_can_be_trained(point: dict[str, Any]) -> None:
    resolve.check(pointed(BASE, USUAL, point))


@settings(deadline=None, max_examples=40)
@given(POINT)
def test_a_point_holds_what_it_says(point: dict[str, Any]) -> None:
    found = pointed(SEARCHED, AMONG, point)
    assert found.model.dim == point["model.dim"]
    assert list(found.model.expert) == {"[4]": [4], "[6, 4]": [6, 4]}[point["model.expert"]]
    assert found.fit.balancer == (None if point["fit.balancer"] == "none" else point["fit.balancer"])
    assert found.balance.c == (point["balance.c"] if found.fit.balancer == "cagrad" else None)
    assert found.balance.weights == ({"like": point["balance.weights.like"]} if found.fit.balancer == "static" else None)
    assert found.tasks["buy"].weight == point["tasks.buy.weight"]


@settings(deadline=None, max_examples=40)
@given(POINT)
def test_the_search_knows_every_point(point: dict[str, Any]) -> None:
    for one in AMONG:
        distribution = _distribution(one)
        assert distribution._contains(distribution.to_internal_repr(point[one.key]))


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-9, 1e9), st.floats(1.001, 1e6), st.booleans())
def test_a_range_keeps_its_ends(low: float, wider: float, log: bool) -> None:
    section = RangeSection(low=low, high=low * wider, log=log)
    one = Range("fit.rate", section.low, section.high, section.log, whole=False)
    assert list(one.ends()) == [low, low * wider]
    distribution = _distribution(one)
    assert all(distribution._contains(end) for end in (low, low * wider))
    assert not distribution._contains(low * wider * 1.01)
    assert one.value(low) == low


@settings(deadline=None, max_examples=60)
@given(st.lists(VALUE, min_size=1, max_size=5, unique_by=repr))
def test_choices_come_back_from_their_spelling(values: list[Any]) -> None:
    try:
        one = Choices.of("any", tuple(values))
    except UserError:  # a text that spells a list beside that list
        assert len({str(listed(value)) for value in values}) < len(values)
        return
    assert [one.value(end) for end in one.ends()] == values
