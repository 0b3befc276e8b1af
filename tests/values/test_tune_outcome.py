"""What a trial came to: back from JSON, and read by objectives; which objectives there are."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from umbel.errors import UserError
from umbel.study.trial import Trial
from umbel.study.tune.outcome import Objective, Outcome, objectives

TRIAL = Trial(score=0.7, parameters=1234, seconds=3.5, rows_per_second=1e4, peak_memory_bytes=2**30)
OUTCOME = Outcome(TRIAL, {"click": 0.8, "like": 0.6, "buy": None}, epochs=3, latency=1.25)
TASKS = ("click", "like", "buy")


def test_an_outcome_comes_back_from_its_file(tmp_path: Path) -> None:
    assert Outcome.load(tmp_path) is None
    OUTCOME.save(tmp_path)
    assert Outcome.load(tmp_path) == OUTCOME
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.json"]


def test_and_from_json_of_anywhere() -> None:
    assert Outcome.of(json.loads(json.dumps(asdict(OUTCOME)))) == OUTCOME


@pytest.mark.parametrize(
    ("name", "value", "rises"),
    [("mean", pytest.approx(0.7), True), ("click", 0.8, True), ("like", 0.6, True), ("latency", 1.25, False), ("parameters", 1234, False)],
)
def test_each_objective_reads_its_number(name: str, value: float, *, rises: bool) -> None:
    (found,) = objectives([name], TASKS)
    assert (found.name, found.of(OUTCOME), found.rises) == (name, value, rises)


def test_the_mean_is_that_of_the_tasks_whatever_rule_kept_the_epoch() -> None:
    assert Outcome(replace(TRIAL, score=0.1), {"click": 0.8, "like": 0.6, "buy": None}, 1, 1.0).mean == pytest.approx(0.7)
    assert Outcome(TRIAL, {"click": None}, 1, 1.0).mean is None


def test_what_is_undefined_is_no_number() -> None:
    (found,) = objectives(["buy"], TASKS)
    assert found.of(OUTCOME) is None


def test_several_keep_their_order() -> None:
    assert [one.name for one in objectives(["latency", "click", "mean"], TASKS)] == ["latency", "click", "mean"]


@pytest.mark.parametrize(("rises", "one", "other"), [(True, 2.0, 1.0), (False, 1.0, 2.0)])
def test_better_is_strict(*, rises: bool, one: float, other: float) -> None:
    goal = Objective("any", rises, lambda _: 0.0)
    assert goal.better(one, other)
    assert not goal.better(other, one)
    assert not goal.better(one, one)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["clik"], "tune.objectives: no 'clik'; did you mean 'click'?"),
        (["mean", "latncy"], "tune.objectives: no 'latncy'; did you mean 'latency'?"),
        (["zzz"], "tune.objectives: no 'zzz'; known: buy, click, latency, like, mean, parameters"),
        (["mean", "mean"], "tune.objectives: 'mean' stands there twice; name each once"),
        (["click", "like", "click"], "tune.objectives: 'click' stands there twice; name each once"),
    ],
)
def test_what_is_no_objective_is_told(names: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        objectives(names, TASKS)
    assert str(caught.value) == said


def test_the_words_come_before_a_task_of_that_name() -> None:
    (found,) = objectives(["latency"], ["latency", "click"])
    assert not found.rises
    assert found.of(Outcome(TRIAL, {"latency": 0.9}, 1, 4.0)) == 4.0
