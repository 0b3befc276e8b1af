"""Fusion at its edges: numbers that are none, empty tables, extremes, and starts from predictions that are all alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from umbel.errors import UserError
from umbel.fusion import SHAPES, Fusion, Term, equal, parse, read
from umbel.fusion.shapes import FLOOR, AdditiveMonotone, Constrained, Linear, Log, Power, Shape

INF, NAN = float("inf"), float("nan")
Make = Callable[[], Shape]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Linear(NAN), "weight = nan; give a finite number, at least 0"),
        (lambda: Linear(INF), "weight = inf; give a finite number, at least 0"),
        (lambda: Linear(-0.5), "weight = -0.5; give a finite number, at least 0"),
        (lambda: Linear(1.0, NAN), "scale = nan; give a finite number"),
        (lambda: Linear(1.0, INF), "scale = inf; give a finite number"),
        (lambda: Linear(1.0, 0.0), "scale = 0; give a number above 0, such as the mean prediction"),
        (lambda: Log(1.0, -1.0), "scale = -1; give a number above 0, such as the mean prediction"),
        (lambda: Log(-1.0), "weight = -1; give a finite number, at least 0"),
        (lambda: Power(NAN), "weight = nan; give a finite number, at least 0"),
        (lambda: Power(1.0, 0.0), "scale = 0; give a number above 0, such as the mean prediction"),
        (lambda: Constrained(guard=NAN), "guard = nan; give a finite number"),
        (lambda: Constrained(guard=-INF), "guard = -inf; give a finite number"),
        (lambda: Constrained(penalty=INF), "penalty = inf; give a finite number, at least 0"),
        (lambda: Constrained(penalty=-1.0), "penalty = -1; give a finite number, at least 0"),
        (lambda: AdditiveMonotone((0.0,), ()), "knots = [0.0]; give two or more, in rising order"),
        (lambda: AdditiveMonotone((1.0, 0.0), (1.0,)), "knots = [1.0, 0.0]; give two or more, in rising order"),
        (lambda: AdditiveMonotone((0.0, INF), (1.0,)), "knots = [0.0, inf]; give two or more, in rising order"),
        (lambda: AdditiveMonotone((0.0, NAN), (1.0,)), "knots = [0.0, nan]; give two or more, in rising order"),
        (lambda: AdditiveMonotone((0.0, 1.0), ()), "0 increments for 2 knots; give one for each knot but the first"),
        (lambda: AdditiveMonotone((0.0, 1.0), (NAN,)), "increments = nan; give a finite number, at least 0"),
    ],
)
def test_a_shape_is_of_numbers(make: Make, said: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("shape", "prediction", "direction", "gain"),
    [
        (Linear(0.0), 5.0, 1, 0.0),
        (Linear(2.0, 4.0), -1.0, 1, -0.5),
        (Linear(2.0, 4.0), 1.0, -1, 0.5),
        (Log(3.0), 0.0, 1, 0.0),
        (Log(3.0), -7.0, 1, 0.0),
        (Log(3.0, 0.5), 0.5, 1, 3 * np.log(2)),
        (Power(2.0, 0.5), 0.5, 1, 0.0),
        (Power(2.0), 0.0, 1, 2 * np.log(FLOOR)),
        (Power(2.0), FLOOR / 10, 1, 2 * np.log(FLOOR)),
        (Power(2.0), -3.0, 1, 2 * np.log(FLOOR)),
        (Constrained(2.0), 0.1, 1, 0.2),
        (Constrained(1.0, guard=0.5, penalty=9.0), 0.5, 1, 0.5),
        (Constrained(1.0, guard=0.5, penalty=9.0), 0.49, 1, 0.49 - 9.0),
        (Constrained(1.0, guard=0.5, penalty=9.0), 0.5, -1, 0.5),
        (Constrained(1.0, guard=0.5, penalty=9.0), 0.51, -1, 0.51 + 9.0),
        (Constrained(1.0, guard=0.5, penalty=0.0), 0.1, 1, 0.1),
        (Constrained(1.0, guard=0.0, penalty=9.0), -0.1, 1, -9.1),
        (AdditiveMonotone((0.0, 1.0), (0.0,)), 5.0, 1, 0.0),
        (AdditiveMonotone((0.0, 1.0, 2.0), (2.0, 0.0)), 9.0, 1, 2.0),
        (AdditiveMonotone((0.0, 1.0, 2.0), (0.0, 2.0)), -9.0, 1, 0.0),
        (AdditiveMonotone((-1.0, 1.0), (4.0,)), 0.0, 1, 2.0),
    ],
)
def test_a_gain_by_hand(shape: Shape, prediction: float, direction: int, gain: float) -> None:
    found = shape.gain(np.array([prediction]), 1 if direction > 0 else -1)
    assert_allclose(found, [gain], atol=1e-12)


def of(family: str) -> Fusion:
    return equal(family, {"a": np.array([0.1, 0.4, 0.7]), "b": np.array([0.2, 0.2, 0.9])}, unwanted=["b"])


@pytest.mark.parametrize("family", sorted(SHAPES))
def test_no_rows_have_no_scores(family: str) -> None:
    none = np.empty((0, 2))
    assert of(family).contributions(none).shape == (0, 2)
    assert of(family).score(none).shape == (0,)


@pytest.mark.parametrize("family", sorted(SHAPES))
def test_small_floats_are_reckoned_in_large_ones(family: str) -> None:
    rows = np.array([[0.1, 0.2], [0.7, 0.9]], dtype=np.float32)
    found = of(family).score(rows)
    assert found.dtype == np.float64
    assert_allclose(found, of(family).score(rows.astype(np.float64)), rtol=0, atol=0)


@pytest.mark.parametrize("family", sorted(SHAPES))
def test_directions_are_those_of_the_unwanted(family: str) -> None:
    assert [(term.task, term.direction) for term in of(family).terms] == [("a", 1), ("b", -1)]
    assert of(family).family == family
    assert of(family).terms[0].shape.product is (family == "power")


@pytest.mark.parametrize("family", sorted(SHAPES))
def test_the_order_of_tasks_is_that_of_columns_and_of_the_version(family: str) -> None:
    policy = of(family)
    turned = Fusion(policy.terms[::-1], policy.name)
    rows = np.array([[0.3, 0.6], [0.5, 0.1]])
    assert_allclose(turned.score(rows[:, ::-1]), policy.score(rows))
    assert turned.places(["a", "b"]) == [1, 0]
    assert policy.version == turned.version  # the same tasks, by name


@pytest.mark.parametrize(
    ("value", "shape"),
    [(0.0, Linear(1.0, 1.0)), (-0.5, Linear(1.0, 0.5)), (2.0, Linear(1.0, 2.0))],
)
def test_a_linear_start_from_one_value(value: float, shape: Linear) -> None:
    assert Linear.start(np.array([value, value]), 1.0) == shape


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_starts_from_nothing_but_zero_are_numbers(share: float) -> None:
    zero = np.zeros(3)
    for family, shape in SHAPES.items():
        assert np.isfinite(shape.start(zero, share).gain(zero, 1)).all(), family
    assert AdditiveMonotone.start(zero, share) == AdditiveMonotone((0.0, 1.0), (share,))


@given(st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=12, unique=True), st.floats(0.1, 2.0))
def test_a_start_has_gains_of_its_share(values: list[float], share: float) -> None:
    predictions = np.array(values)
    for family in ("linear", "log", "constrained", "additive_monotone"):
        found = np.abs(SHAPES[family].start(predictions, share).gain(predictions, 1)).mean()
        assert_allclose(found, share, rtol=1e-6, err_msg=family)


def test_contributions_to_a_steep_product_stay_numbers() -> None:
    policy = Fusion((Term("a", Power(1e6)), Term("b", Power(1e6), -1)))
    rows = np.array([[1e-9, 1.0], [1.0, 1e-9], [1.0, 1.0]])
    found = policy.contributions(rows)
    assert np.isfinite(found).all()
    assert_allclose(found.sum(1)[0], -1.0)
    assert found.sum(1)[1] > 1e300
    assert found[2].tolist() == [0.0, 0.0]


# the file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": None}, "format = None, not 1"),
        ({"format": "1"}, "format = '1', not 1"),
        ({"name": ""}, "name = ''; give a short text"),
        ({"name": "x" * 101}, "give a short text"),
        ({"name": None}, "name = None; give a short text"),
        ({"family": None}, "no family None"),
        ({"family": ""}, "no family ''"),
        ({"family": "Linear"}, "no family 'Linear'; did you mean 'linear'?"),
        ({"tasks": None}, "tasks = None; write"),
        ({"tasks": {"a": None}}, "tasks.a = None; write"),
        ({"tasks": {"a": []}}, "tasks.a = []; write"),
        ({"tasks": {"a": {"direction": 0}}}, "tasks.a.direction = 0; 1 if it is wanted, -1 if it is not"),
        ({"tasks": {"a": {"direction": 1.0}}}, "tasks.a.direction = 1.0; 1 if it is wanted, -1 if it is not"),
        ({"tasks": {"a": {"direction": None}}}, "tasks.a.direction = None; 1 if it is wanted, -1 if it is not"),
        ({"tasks": {"a": {"guard": 0.1}}}, "'guard'"),
    ],
)
def test_a_policy_with_one_thing_wrong(change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse({"format": 1, "family": "linear", "tasks": {"a": {}}, **change}, where="p.json")
    assert str(caught.value).startswith("p.json: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("family", sorted(SHAPES))
def test_a_name_of_a_hundred_letters_in_any_script_survives_its_file(family: str, tmp_path: Path) -> None:
    policy = Fusion(of(family).terms, "é" * 100)
    path = tmp_path / "p.json"
    policy.save(path)
    assert read(path) == policy
    assert "é" in path.read_text(encoding="utf-8")
