"""Fusion by hand: what each family makes of small numbers, and what is said of a broken policy file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from umbel.errors import UserError
from umbel.fusion import Fusion, Term, equal, parse, read
from umbel.fusion.shapes import AdditiveMonotone, Constrained, Linear, Log, Power

ROW = np.array([[0.5, 0.01]])


def two(one: Linear | Log | Power | Constrained, other: Linear | Log | Power | Constrained) -> Fusion:
    return Fusion((Term("click", one), Term("hate", other, -1)))


def test_linear_weighs_scaled_predictions() -> None:
    assert_allclose(two(Linear(2.0, 0.1), Linear(3.0, 0.01)).contributions(ROW), [[10.0, -3.0]])


def test_log_counts_orders_of_magnitude() -> None:
    found = two(Log(2.0, 0.5), Log(1.0, 0.01)).contributions(ROW)
    assert_allclose(found, [[2 * np.log(2), -np.log(2)]])
    assert two(Log(), Log()).score(np.array([[-4.0, 0.0]])).tolist() == [0.0]


def test_a_product_is_shared_out_by_the_logarithmic_mean() -> None:
    policy = two(Power(2.0, 0.25), Power(1.0, 0.02))
    # (0.5 / 0.25)^2 * (0.01 / 0.02)^-1 = 4 * 2 = 8: log 4 and log 2 of log 8
    assert_allclose(policy.score(ROW), [7.0])
    assert_allclose(policy.contributions(ROW), [[7 * 2 / 3, 7 / 3]])


def test_a_product_of_opposites_adds_up_to_nothing() -> None:
    policy = two(Power(1.0, 1.0), Power(1.0, 1.0))
    found = policy.contributions(np.array([[0.5, 0.5]]))
    assert_allclose(found, [[np.log(0.5), -np.log(0.5)]])
    assert policy.score(np.array([[0.5, 0.5]])).tolist() == [0.0]


def test_a_product_stays_a_number_at_both_ends() -> None:
    policy = two(Power(30.0), Power(30.0))
    found = policy.score(np.array([[0.0, 1.0], [1e38, 0.0]]))
    assert_allclose(found[0], -1.0)
    assert np.isfinite(found[1])
    assert found[1] > 1e300


def test_a_guard_is_a_floor_for_what_is_wanted_and_a_ceiling_for_what_is_not() -> None:
    policy = two(Constrained(1.0, 1.0, guard=0.2, penalty=50.0), Constrained(1.0, 1.0, guard=0.05, penalty=70.0))
    rows = np.array([[0.5, 0.01], [0.1, 0.01], [0.2, 0.05], [0.5, 0.06]])
    assert_allclose(policy.contributions(rows), [[0.5, -0.01], [0.1 - 50, -0.01], [0.2, -0.05], [0.5, -0.06 - 70]])


def test_a_broken_line_goes_on_beyond_its_ends() -> None:
    shape = AdditiveMonotone((1.0, 2.0, 4.0), (5.0, 1.0))
    assert_allclose(shape.gain(np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]), 1), [-5.0, 0.0, 2.5, 5.0, 5.5, 6.0, 7.0])


def test_the_start_scales_by_the_mean() -> None:
    policy = equal("linear", {"click": np.array([0.1, 0.3]), "buy": np.array([0.0, 0.02])})
    assert policy.terms == (Term("click", Linear(0.5, 0.2)), Term("buy", Linear(0.5, 0.01)))
    assert_allclose(policy.score(np.array([[0.2, 0.01]])), [1.0])


def test_it_reads_its_tasks_wherever_they_stand() -> None:
    policy = two(Linear(), Linear())
    assert policy.tasks == ("click", "hate")
    assert policy.places(("buy", "hate", "click")) == [2, 1]
    with pytest.raises(UserError, match=r"fusion 'default': no prediction 'hate'; did you mean 'hated'\?"):
        policy.places(("click", "hated"))


def test_the_version_knows_every_number_and_the_name() -> None:
    one = two(Linear(1.0), Linear(1.0))
    assert len(one.version) == 12
    assert len({one.version, two(Linear(1.0), Linear(2.0)).version, Fusion(one.terms, "other").version}) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "p.json: not an object; write {"),
        ({"formt": 1}, "p.json: unknown key 'formt'; did you mean 'format'?"),
        ({"format": 2}, "p.json: format = 2, not 1; read it with"),
        ({"format": True}, "p.json: format = True, not 1; read it with"),
        ({"format": 1, "name": 3}, "p.json: name = 3; give a short text"),
        ({"format": 1, "family": "linaer"}, "p.json: no family 'linaer'; did you mean 'linear'?"),
        ({"format": 1, "family": ["linear"]}, "p.json: no family ['linear']; did you mean 'linear'?"),
        ({"format": 1, "family": "linear", "tasks": ["click"]}, "p.json: tasks = ['click']; write"),
        ({"format": 1, "family": "linear", "tasks": {}}, "p.json: fusion: no tasks; name at least one"),
        ({"format": 1, "family": "linear", "tasks": {"click": 2.0}}, "p.json: tasks.click = 2.0; write"),
        ({"format": 1, "family": "linear", "tasks": {"click": {"direction": 2}}}, "p.json: tasks.click.direction = 2; 1 if it is wanted"),
        ({"format": 1, "family": "linear", "tasks": {"click": {"direction": True}}}, "p.json: tasks.click.direction = True; 1 if"),
        ({"format": 1, "family": "linear", "tasks": {"click": {"direction": "up"}}}, "p.json: tasks.click.direction = 'up'; 1 if"),
        ({"format": 1, "family": "linear", "tasks": {"click": {"name": "log"}}}, "p.json: tasks.click: unknown key 'name'; the family is"),
        ({"format": 1, "family": "linear", "tasks": {"click": {"wieght": 1}}}, "has no parameter 'wieght'; did you mean 'weight'?"),
        ({"format": 1, "family": "linear", "tasks": {"click": {"weight": "1"}}}, "p.json: tasks.click.weight = '1'; input should be"),
        ({"format": 1, "family": "linear", "tasks": {"click": {"weight": -1}}}, "p.json: tasks.click: weight = -1; give a finite"),
        ({"format": 1, "family": "log", "tasks": {"click": {"scale": 0}}}, "p.json: tasks.click: scale = 0; give a number above 0"),
        ({"format": 1, "family": "power", "tasks": {"click": {"weight": 1e999}}}, "tasks.click.weight = inf; input should be a finite"),
        ({"format": 1, "family": "constrained", "tasks": {"click": {"penalty": -2}}}, "p.json: tasks.click: penalty = -2; give a finite"),
        ({"format": 1, "family": "additive_monotone", "tasks": {"click": {}}}, "p.json: tasks.click.knots is missing; write"),
        (
            {"format": 1, "family": "additive_monotone", "tasks": {"click": {"knots": [0, 1], "increments": [-1]}}},
            "p.json: tasks.click: increments = -1; give a finite number, at least 0",
        ),
        (
            {"format": 1, "family": "additive_monotone", "tasks": {"click": {"knots": [0, 0], "increments": [1]}}},
            "p.json: tasks.click: knots = [0.0, 0.0]; give two or more, in rising order",
        ),
        (
            {"format": 1, "family": "additive_monotone", "tasks": {"click": {"knots": [0, 1], "increments": [1, 2]}}},
            "p.json: tasks.click: 2 increments for 2 knots; give one for each",
        ),
    ],
)
def test_a_broken_policy_is_named_in_one_line(content: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(content, where="p.json")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "policy.json: Expecting property name"),
        ('{"format": 1, "family": "linear", "tasks": {"click": {"weight": NaN}}}', "policy.json: NaN is no number of JSON"),
        ("\udcff", "a fusion policy is JSON in UTF-8"),
    ],
    ids=["broken", "nan", "bytes"],
)
def test_a_file_that_is_no_strict_json_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="a fusion policy is JSON") as caught:
        read(path)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such fusion policy"):
        read(tmp_path / "policy.json")


def test_a_hand_may_leave_out_what_has_a_default() -> None:
    policy = parse({"format": 1, "family": "constrained", "tasks": {"click": {}, "hate": {"direction": -1, "guard": 0.1}}}, where="p")
    assert policy == Fusion((Term("click", Constrained()), Term("hate", Constrained(guard=0.1), -1)))


def test_the_file_is_laid_out_for_a_reader(tmp_path: Path) -> None:
    two(Linear(2.0, 0.1), Linear(3.0, 0.01)).save(tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    assert json.loads(text) == {
        "format": 1, "name": "default", "family": "linear",
        "tasks": {"click": {"direction": 1, "weight": 2.0, "scale": 0.1}, "hate": {"direction": -1, "weight": 3.0, "scale": 0.01}},
    }
    assert text.count("\n") > 10


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Fusion(()), "fusion: no tasks"),
        (lambda: Fusion((Term("a", Linear()), Term("a", Linear()))), "a task is named twice"),
        (lambda: Fusion((Term("a", Linear()), Term("b", Log()))), "shapes of several families"),
        (lambda: equal("lin", {"a": np.ones(2)}), "fusion: no family 'lin'"),
        (lambda: equal("linear", {"a": np.ones(2)}, unwanted=["b"]), "fusion: no prediction 'b'; known: a"),
        (lambda: equal("linear", {}), "fusion: no tasks"),
    ],
)
def test_what_is_no_policy_is_refused(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(UserError, match=said):
        make()
