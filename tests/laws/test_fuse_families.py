"""Every family of fusion under a search: better than where it began, monotone whatever is chosen, and as indifferent as it should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.fusing import AIMS, COLUMNS, planted

from umbel.fuse.asked import Asked, searched
from umbel.fuse.log import predictions_of
from umbel.fuse.ranked import METRICS, Ranked
from umbel.fuse.search import Tried
from umbel.fuse.space import Space
from umbel.fusion import SHAPES, Fusion, equal, parse
from umbel.fusion.shapes import Constrained, Linear

PAIRS = 100_000


def tuned(start: Fusion, *, trials: int = 60, metric: str = "top") -> tuple[Tried, Tried]:
    """The start and what is chosen."""
    judge = Ranked.of(planted(11, users=300), METRICS[metric](5), where="")
    asked = Asked(primary="watch", bounds=("hate=150%",), trials=trials)
    _, tried, chosen = searched(judge, Space(start, anchored=True), AIMS, asked=asked, watch=lambda *_: None)
    return tried[0], chosen


@pytest.fixture(scope="module")
def chosen() -> dict[str, tuple[Tried, Tried]]:
    """The start and the choice of each family."""
    predictions = predictions_of(planted(11, users=300))
    return {family: tuned(equal(family, predictions, unwanted=["hate"])) for family in SHAPES}


@pytest.mark.parametrize("family", SHAPES)
def test_a_choice_is_better_than_the_start_where_it_was_made(family: str, chosen: dict[str, tuple[Tried, Tried]]) -> None:
    start, best = chosen[family]
    assert start.note == "start"
    assert best.gain > start.gain + 0.02
    assert best.policy.family == family
    assert best.judged.values is not None
    assert start.judged.values is not None
    assert best.judged.values[1] <= 1.5 * start.judged.values[1]


@pytest.mark.parametrize("family", SHAPES)
def test_a_choice_is_monotone(family: str, chosen: dict[str, tuple[Tried, Tried]]) -> None:
    """Of 100,000 pairs of rows that differ in one prediction, none is ordered the wrong way round."""
    policy, draw = chosen[family][1].policy, np.random.default_rng(0)
    for place, term in enumerate(policy.terms):
        rows = draw.random((PAIRS, len(policy.terms)))
        more = rows.copy()
        more[:, place] += draw.random(PAIRS) * (1 - rows[:, place])
        before, after = policy.score(rows), policy.score(more)
        assert (term.direction * (after - before) >= -1e-9 * (1 + np.abs(before))).all()


@pytest.mark.parametrize("family", SHAPES)
def test_a_choice_is_a_file_that_reads_back(family: str, chosen: dict[str, tuple[Tried, Tried]]) -> None:
    policy = chosen[family][1].policy
    again = parse(policy.to_json(), where="here")
    assert again == policy
    assert again.version == policy.version


@pytest.mark.parametrize("family", ["linear", "log", "power"])
def test_what_is_predicted_in_another_unit_is_chosen_alike(family: str) -> None:
    """Watch time in minutes or seconds: a start in equal shares scales by it, and the search finds the same orders."""
    rows = planted(11, users=120)
    other = replace(rows, predictions=rows.predictions * np.array([1.0, 60.0, 1.0]))
    found = []
    for one in (rows, other):
        judge = Ranked.of(one, METRICS["ndcg"](5), where="")
        start = equal(family, predictions_of(one), unwanted=["hate"])
        asked = Asked(primary="watch", bounds=("hate=150%",), trials=20)
        found.append(searched(judge, Space(start, anchored=True), AIMS, asked=asked, watch=lambda *_: None)[1])
    for one, same in zip(*found, strict=True):
        assert one.judged.values == pytest.approx(same.judged.values, abs=1e-9)


def test_guards_are_the_user_s_and_stay() -> None:
    predictions = predictions_of(planted(11, users=300))
    start = equal("constrained", predictions, unwanted=["hate"])
    guarded = replace(start, terms=tuple(
        replace(term, shape=replace(term.shape, guard=0.9)) if isinstance(term.shape, Constrained) and term.task == "hate" else term
        for term in start.terms
    ))  # fmt: skip
    _, best = tuned(guarded, trials=30)
    kept = {term.task: term.shape.guard for term in best.policy.terms if isinstance(term.shape, Constrained)}
    assert kept.get("hate", 0.9) == 0.9
    assert kept.get("click") is None


def test_scales_of_a_linear_policy_are_the_start_s() -> None:
    """What moves is the weight: the file stays as easy to read as it was."""
    start = equal("linear", predictions_of(planted(11, users=300)), unwanted=["hate"])
    scales = {term.task: term.shape.scale for term in start.terms if isinstance(term.shape, Linear)}
    _, best = tuned(start, trials=20)
    assert all(term.shape.scale == scales[term.task] for term in best.policy.terms if isinstance(term.shape, Linear))


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_climbed(metric: str) -> None:
    start = equal("linear", predictions_of(planted(11, users=300)), unwanted=["hate"])
    first, best = tuned(start, metric=metric)
    assert best.gain > first.gain + 0.005


def test_columns_are_read_by_name() -> None:
    """A policy that names the predictions in another order scores the same."""
    rows, start = planted(2, users=20), equal("log", predictions_of(planted(2, users=20)), unwanted=["hate"])
    turned = replace(start, terms=start.terms[::-1])
    assert rows.score(turned) == pytest.approx(rows.score(start))
    assert COLUMNS.predictions != turned.tasks
