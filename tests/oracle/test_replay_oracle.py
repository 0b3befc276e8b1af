"""Replayed values against plain loops over decisions and candidates, and their expectation over every list there is."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.fusing import COLUMNS, LOGGER, drawn_log, rates

from umbel.evaluate.offpolicy import ESTIMATORS, Weighed
from umbel.evaluate.slates import Slates
from umbel.fuse.drawn import Drawn
from umbel.fuse.replay import Replayed, thinning
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear, Log

CASES = settings(max_examples=15, deadline=None)
weights = st.lists(st.floats(0.1, 1.2), min_size=3, max_size=3)


def policy(of: list[float]) -> Fusion:
    return Fusion(tuple(replace(term, shape=Linear(one)) for term, one in zip(LOGGER.terms, of, strict=True)))


def score(of: list[float], row: list[float]) -> float:
    return of[0] * row[0] + of[1] * row[1] - of[2] * row[2]


def by_loops(log: Drawn, of: list[float]) -> tuple[list[float], float]:
    """The doubly robust value of each task, and the effective sample, from the definitions."""
    ends = [*log.slates.start[1:].tolist(), log.slates.candidates]
    prediction_of = [1, 2]  # the tasks are watch and hate
    factor = [[0.0, 0.0] for _ in range(log.slates.shown.shape[1])]
    for k in range(len(factor)):
        for task in range(2):
            happened = sum(log.labels[n, k, task] for n in range(len(ends)))
            predicted = sum(log.predictions[log.slates.shown[n, k], prediction_of[task]] for n in range(len(ends)))
            factor[k][task] = happened / predicted
    total, last = [0.0, 0.0], []
    for n, (first, end) in enumerate(zip(log.slates.start.tolist(), ends, strict=True)):
        left, weight = list(range(first, end)), 1.0
        for k, at in enumerate(log.slates.shown[n].tolist()):
            mass = {one: math.exp(score(of, log.predictions[one].tolist()) / log.temperature[n]) for one in left}
            above, chance = weight, {one: own / sum(mass.values()) for one, own in mass.items()}
            weight *= chance[at] / log.logging[n, k]
            for task in range(2):
                column = prediction_of[task]
                model = {one: factor[k][task] * log.predictions[one, column] for one in left}
                expected = sum(chance[one] * model[one] for one in left)
                total[task] += above * expected + weight * (log.labels[n, k, task] - model[at])
            left.remove(at)
        last.append(weight)
    return [one / len(ends) for one in total], sum(last) ** 2 / sum(one * one for one in last)


@CASES
@given(weights)
def test_values_are_those_of_loops(of: list[float]) -> None:
    log = drawn_log(5, decisions=220, candidates=5, shown=2, temperature=0.7)
    values, sample = by_loops(log, of)
    found = Replayed(log, thinning(log))(policy(of))
    if sample >= 100:
        assert found.values is not None
        assert_allclose(found.values, values, rtol=1e-9)
    else:
        assert found.values is None
        assert found.reason.startswith(f"effective sample size {sample:,.0f} of 220")


@CASES
@given(weights, st.integers(0, 10_000))
def test_values_are_unbiased_over_every_list(of: list[float], seed: int) -> None:
    """One decision for each list that could have been drawn, labels at their rates: its expectation is what the policy truly earns."""
    draw = np.random.default_rng(seed)
    own = draw.random((4, 3))
    lists = list(permutations(range(4), 2))
    predictions = np.tile(own, (len(lists), 1))
    start = np.arange(len(lists)) * 4
    slates = Slates(start, np.array(lists) + start[:, None], len(predictions))
    temperature = np.full(len(lists), 0.5)
    logging = slates.steps(LOGGER.score(predictions) / 0.5).chance
    labels = rates(predictions)[slates.shown]
    log = Drawn(COLUMNS, slates, predictions, temperature, logging, labels, np.arange(len(lists)))
    factor = draw.random((2, 2)) * 2  # a model that is wrong
    new = policy(of)
    expected = np.zeros(2)
    for n, chance in enumerate(slates.steps(new.score(predictions) / 0.5).chance.prod(1)):
        expected += chance * labels[n].sum(0)
    for place, logged in enumerate(Replayed(log, factor).logged(new)):
        for name in ("ips", "dr"):
            above, _ = ESTIMATORS[name](Weighed.of(logged, math.inf))
            assert float(logging.prod(1) @ above[:, 0]) == pytest.approx(expected[place], abs=1e-9), name


@CASES
@given(weights)
def test_figures_of_a_family_are_those_of_its_scores(of: list[float]) -> None:
    """A policy is replayed by what it makes of predictions, whatever its family: log policies against their own gains by hand."""
    log = drawn_log(5, decisions=250, candidates=5, temperature=1.5)
    given = Fusion(tuple(Term(term.task, Log(one, 0.3), term.direction) for term, one in zip(LOGGER.terms, of, strict=True)))
    gains = np.log1p(log.predictions / 0.3) @ (np.array(of) * [1, 1, -1])
    steps = log.slates.steps(gains / 1.5)
    for logged in Replayed(log, thinning(log)).logged(given):
        assert_allclose(logged.target, steps.chance, rtol=1e-9)


def test_a_policy_of_some_tasks_reads_their_columns() -> None:
    log = drawn_log(5, decisions=250, candidates=5, temperature=1.5)
    alone = Fusion((replace(LOGGER.terms[2]),))
    steps = log.slates.steps(-0.5 * log.predictions[:, 2] / 1.5)
    for logged in Replayed(log, thinning(log)).logged(alone):
        assert_allclose(logged.target, steps.chance, rtol=1e-9)
