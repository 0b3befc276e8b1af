"""Fusion obeys its laws in every family: no task is worth less for being likelier, contributions are exact, a file says it all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from umbel.fusion import SHAPES, Fusion, Term, equal, parse, read
from umbel.fusion.shapes import Linear, Power

positive = st.floats(1e-3, 1e3)
weights = st.one_of(st.just(0.0), st.floats(1e-3, 20.0))
chances = st.floats(0.0, 1.0)
amounts = st.floats(-50.0, 1e6)


Plain = Mapping[str, object]  # what a policy's file says; made into one outside the strategies


@st.composite
def lines(draw: st.DrawFn) -> Plain:
    steps = draw(st.lists(st.tuples(st.floats(1e-3, 1.0), weights), min_size=1, max_size=5))
    knots = np.cumsum([draw(st.floats(-1.0, 1.0)), *(step for step, _ in steps)])
    return {"knots": knots.tolist(), "increments": [rise for _, rise in steps]}


weighted = st.fixed_dictionaries({"weight": weights, "scale": positive})
guarded = st.fixed_dictionaries({"weight": weights, "scale": positive, "guard": chances, "penalty": st.floats(0.0, 1e4)})
STRATEGIES: Mapping[str, st.SearchStrategy[Plain]] = {
    "linear": weighted,
    "log": weighted,
    "power": st.fixed_dictionaries({"weight": st.floats(0.0, 5.0), "scale": positive}),
    "constrained": st.one_of(weighted, guarded),
    "additive_monotone": lines(),
}
every_family = pytest.mark.parametrize("family", SHAPES)


@st.composite
def policies(draw: st.DrawFn, family: str) -> Plain:
    count = draw(st.integers(1, 4))
    tasks = {f"t{at}": {"direction": draw(st.sampled_from((-1, 1))), **draw(STRATEGIES[family])} for at in range(count)}
    return {"format": 1, "name": draw(st.text("abc é", min_size=1, max_size=5)), "family": family, "tasks": tasks}


@st.composite
def scored(draw: st.DrawFn, family: str) -> tuple[Plain, list[list[float]]]:
    policy = draw(policies(family))
    tasks = policy["tasks"]
    assert isinstance(tasks, dict)
    row = st.lists(st.one_of(chances, amounts), min_size=len(tasks), max_size=len(tasks))
    return policy, draw(st.lists(row, min_size=1, max_size=4))


def over(family: str, law: Callable[[Fusion, np.ndarray], None], examples: int = 60) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(scored(family))
    def check(case: tuple[Plain, list[list[float]]]) -> None:
        law(parse(case[0], where="drawn"), np.array(case[1]))

    check()


def test_every_family_has_a_strategy() -> None:
    assert list(STRATEGIES) == list(SHAPES)


@every_family
def test_contributions_sum_to_the_score(family: str) -> None:
    def law(policy: Fusion, predictions: np.ndarray) -> None:
        parts, score = policy.contributions(predictions), policy.score(predictions)
        assert np.isfinite(parts).all()
        assert_allclose(parts.sum(1), score, rtol=1e-12, atol=1e-9)

    over(family, law)


@every_family
def test_a_higher_prediction_never_turns_against_its_direction(family: str) -> None:
    def law(policy: Fusion, predictions: np.ndarray) -> None:
        before = policy.score(predictions)
        for place, term in enumerate(policy.terms):
            for raised in (1e-6, 0.1, 100.0):
                more = predictions.copy()
                more[:, place] += raised
                change = term.direction * (policy.score(more) - before)
                assert (change >= -1e-9 * (1 + np.abs(before))).all(), (term, change)

    over(family, law)


@every_family
def test_rows_together_are_rows_alone(family: str) -> None:
    def law(policy: Fusion, predictions: np.ndarray) -> None:
        alone = np.concatenate([policy.score(row[None]) for row in predictions])
        assert_allclose(policy.score(predictions), alone, rtol=1e-12)
        assert_allclose(policy.score(predictions[::-1]), policy.score(predictions)[::-1], rtol=1e-12)

    over(family, law)


@every_family
def test_the_file_says_the_whole_policy(family: str) -> None:
    folder = Path(tempfile.mkdtemp())

    def law(policy: Fusion, predictions: np.ndarray) -> None:
        policy.save(folder / "policy.json")
        again = read(folder / "policy.json")
        assert again == policy
        assert again.version == policy.version
        assert again.score(predictions).tobytes() == policy.score(predictions).tobytes()

    over(family, law, examples=25)


@every_family
def test_what_is_said_otherwise_has_another_version(family: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(policies(family), policies(family))
    def check(one: Plain, other: Plain) -> None:
        same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
        assert (parse(one, where="one").version == parse(other, where="other").version) == same

    check()


@every_family
def test_the_start_gives_every_task_an_equal_say(family: str) -> None:
    draw = np.random.default_rng(3)
    predictions = {"click": draw.beta(2, 20, 4000), "buy": draw.beta(1, 500, 4000), "watched": draw.exponential(40, 4000)}
    policy = equal(family, predictions, unwanted=["buy"])
    gains = np.stack([term.shape.gain(predictions[term.task], term.direction) for term in policy.terms], axis=1)
    assert_allclose(np.abs(gains).mean(0), 1 / 3, rtol=1e-9)
    assert [term.direction for term in policy.terms] == [1, -1, 1]
    assert parse(policy.to_json(), where="start") == policy


@every_family
@pytest.mark.parametrize("same", [np.zeros(5), np.full(5, 0.25), np.full(5, -3.0)], ids=["zeros", "constant", "negative"])
def test_a_task_that_always_says_the_same_can_be_started_from(family: str, same: np.ndarray) -> None:
    policy = equal(family, {"click": same})
    assert np.isfinite(policy.score(same[:, None])).all()


@pytest.mark.parametrize("family", ["linear", "log", "constrained", "additive_monotone"])
def test_an_additive_family_is_the_signed_sum_of_gains(family: str) -> None:
    def law(policy: Fusion, predictions: np.ndarray) -> None:
        total = np.zeros(len(predictions))
        for place, term in enumerate(policy.terms):
            total += term.direction * term.shape.gain(predictions[:, place], term.direction)
        assert_allclose(policy.score(predictions), total, rtol=1e-12, atol=1e-9)

    over(family, law, examples=30)


def test_ranks_of_a_product_do_not_depend_on_a_tasks_unit() -> None:
    draw = np.random.default_rng(0)
    predictions = draw.uniform(0.01, 1.0, (50, 3))
    policy = Fusion(tuple(Term(f"t{at}", Power(weight), 1) for at, weight in enumerate((0.3, 1.0, 2.0))))
    order = np.argsort(policy.score(predictions))
    for unit in ([10.0, 1.0, 1.0], [0.5, 3.0, 0.01]):
        assert np.array_equal(np.argsort(policy.score(predictions * unit)), order)
    linear = Fusion(tuple(Term(f"t{at}", Linear(1.0), 1) for at in range(3)))
    assert not np.array_equal(np.argsort(linear.score(predictions * [10.0, 1.0, 0.01])), np.argsort(linear.score(predictions)))
