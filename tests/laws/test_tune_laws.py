"""Laws of a search: the number asked is the number tried, resumed or not; the same seed tries the same; none is lost or done twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.values.test_run_all import Listener

from umbel.run.settings import Settings, parse
from umbel.study.trial import Trial
from umbel.study.tune import tune
from umbel.study.tune.outcome import Outcome, objectives
from umbel.study.tune.runner import End, Failed, Heard, Interrupted, Pruned, Runner
from umbel.study.tune.search import Search, Tried
from umbel.study.tune.space import dimensions

SPACE: dict[str, Any] = {
    "fit.rate": {"low": 1e-4, "high": 1e-1, "log": True}, "model.dim": {"low": 1, "high": 16}, "model.recipe": ["mmoe", "stem"],
    "model.expert": [[64, 32], [8]],
}  # fmt: skip
EPOCHS = 3


def run_file(space: dict[str, Any] | None = None, *, seed: int = 1, **tuned: Any) -> Settings:  # noqa: ANN401
    return parse(
        {
            "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id"}}, "tasks": {"click": {}, "like": {}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1}, "model": {"recipe": "stem"}, "fit": {"seed": seed},
            "tune": {"space": space or SPACE, **tuned},
        },
        where="here",
    )  # fmt: skip


def height(one: Settings) -> float:
    """A hill over the space: highest at rate .01, the widest dim, stem; the experts say nothing."""
    return 0.8 - 0.05 * abs(math.log10(one.fit.rate) + 2) + 0.005 * one.model.dim + 0.1 * (one.model.recipe == "stem")


@dataclass(frozen=True)
class Hill:
    """A runner that trains nothing: the score of a point is its height, reached by equal steps over the epochs."""

    of: Callable[[Settings], float] = height
    fails: Callable[[Settings], bool] = lambda _: False
    dies_at: int | None = None  # the trial at whose second epoch everything ends
    seen: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
        if self.fails(settings):
            return Failed("training: the loss is nan")
        score, number = self.of(settings), int(folder.name)
        for epoch in range(1, EPOCHS + 1):
            self.seen.append((number, epoch))
            if number == self.dies_at and epoch == 2:
                raise Interrupted
            if not heard(epoch, score * epoch / EPOCHS) and epoch < EPOCHS:
                return Pruned()
        cost = Trial(score, 100 * settings.model.dim, 1.0, 1.0, 1)
        return Outcome(cost, {"click": score, "like": score}, EPOCHS, latency=float(settings.model.dim))

    def halt(self) -> None:
        """There is nobody to halt."""


def study(folder: Path, runner: Runner, one: Settings | None = None) -> tune._Study:
    one = one or run_file()
    among = dimensions(one)
    goals = objectives(one.tune.objectives, list(one.tasks))
    search = Search(folder, among, goals, seed=one.fit.seed, prune=one.tune.prune)
    return tune._Study(one, folder, among, search, runner, Heart())


class Heart(Listener):
    """A listener whom nothing surprises."""


def searched(folder: Path, trials: int, runner: Runner | None = None, one: Settings | None = None, *, jobs: int = 1) -> tuple[Tried, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    made = study(folder, runner or Hill(), one)
    tune._search(made, trials=trials, jobs=jobs)
    return made.search.tried()


def points(tried: tuple[Tried, ...]) -> list[dict[str, Any]]:
    return [dict(one.point) for one in tried]


@pytest.mark.parametrize(("trials", "jobs"), [(1, 1), (7, 1), (7, 3), (2, 5)])
def test_the_number_asked_is_the_number_tried(tmp_path: Path, trials: int, jobs: int) -> None:
    tried = searched(tmp_path, trials, jobs=jobs)
    assert [one.number for one in tried] == list(range(trials))
    assert {one.state for one in tried} <= {"complete", "pruned"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tried, ...]:
    """A search that nobody stopped, past its random beginning."""
    return searched(tmp_path_factory.mktemp("whole"), 12)


def test_the_same_seed_tries_the_same_and_another_does_not(tmp_path: Path, whole: tuple[Tried, ...]) -> None:
    assert searched(tmp_path / "again", 12) == whole
    assert not {repr(one) for one in points(searched(tmp_path / "other", 3, one=run_file(seed=2)))} & {repr(one) for one in points(whole)}


@pytest.mark.parametrize("dies_at", [0, 11])
def test_a_search_that_was_stopped_goes_on_with_exactly_the_rest(tmp_path: Path, whole: tuple[Tried, ...], dies_at: int) -> None:
    runner = Hill(dies_at=dies_at)
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "stopped", 12, runner)
    left = study(tmp_path / "stopped", Hill()).search.tried()
    assert [one.state for one in left[dies_at:]] == ["running"]
    assert len(left) == dies_at + 1, "nothing new was begun"
    second = Hill()
    assert searched(tmp_path / "stopped", 12, second) == whole
    assert min(number for number, _ in second.seen) == dies_at, "what was finished is not done again"


def test_stopped_at_every_trial_it_still_ends_where_a_whole_one_does(tmp_path: Path, whole: tuple[Tried, ...]) -> None:
    for at in range(3):
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path / "stopped", 3, Hill(dies_at=at))
    assert searched(tmp_path / "stopped", 3) == whole[:3]


def test_several_at_work_are_gone_on_with_and_not_counted_twice(tmp_path: Path) -> None:
    first = study(tmp_path, Hill()).search
    at_work = [first.ask(), first.ask(), first.ask()]
    tried = searched(tmp_path, 5, jobs=2)
    assert len(tried) == 5
    assert [dict(one.point) for one in tried[:3]] == [trial.params for trial in at_work]
    assert all(one.state in ("complete", "pruned") for one in tried)


def test_one_that_was_cut_off_while_it_was_drawn_is_drawn_to_its_end(tmp_path: Path) -> None:
    made = study(tmp_path, Hill()).search
    made._reseed(0)
    made.study.ask({"fit.rate": made.space["fit.rate"]})
    (tried,) = searched(tmp_path, 1)
    assert set(tried.point) == set(SPACE)


def test_a_larger_number_adds_the_difference_and_a_smaller_one_nothing(tmp_path: Path, whole: tuple[Tried, ...]) -> None:
    assert searched(tmp_path, 3) == whole[:3]
    assert searched(tmp_path, 5) == whole[:5]
    assert searched(tmp_path, 1) == whole[:5]


def test_failed_trials_count_and_the_search_goes_on(tmp_path: Path) -> None:
    tried = searched(tmp_path, 8, Hill(fails=lambda one: one.fit.rate > 0.01))
    assert len(tried) == 8
    failed = [one for one in tried if one.state == "failed"]
    assert failed
    assert len(failed) < 8
    for one in failed:
        assert one.point["fit.rate"] > 0.01
        assert (one.reason, one.values, one.outcome) == ("training: the loss is nan", (), None)


def test_a_point_that_the_run_file_refuses_fails_without_a_process(tmp_path: Path) -> None:
    runner = Hill()
    space = {"model.recipe": ["home"], "model.expert": [[1]]}
    one = run_file({"model.dim": [2]})
    made = study(tmp_path, runner, one)
    among = dimensions(run_file({"model.recipe": ["home"]})) + dimensions(run_file({"model.expert": [[1]]}))
    search = Search(tmp_path, among, made.search.goals, seed=1, prune=True)
    tune._search(tune._Study(one, tmp_path, among, search, runner, Heart()), trials=1, jobs=1)
    (tried,) = search.tried()
    assert tried.state == "failed"
    assert "expert" in tried.reason
    assert runner.seen == []
    assert set(tried.point) == set(space)


def test_an_objective_without_a_value_fails_its_trial(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Blind(Hill):
        def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
            return Outcome(Trial(0.5, 1, 1.0, 1.0, 1), {"click": None}, 1, 1.0)

    (tried,) = searched(tmp_path, 1, Blind(), run_file(objectives=["click"]))
    assert (tried.state, tried.reason) == ("failed", "an objective is undefined on the validation rows")


def test_trials_that_lag_are_cut_short_and_count(whole: tuple[Tried, ...]) -> None:
    pruned = [one for one in whole if one.state == "pruned"]
    assert pruned
    assert all(len(one.scores) < EPOCHS for one in pruned)
    assert all(one.values == () for one in pruned)
    assert all(one.state == "complete" for one in whole[:5]), "the first ones are not measured against anything"


def test_each_pruned_trial_stood_below_the_median_of_those_before_it(whole: tuple[Tried, ...]) -> None:
    for one in whole:
        before = [other.scores for other in whole[: one.number] if other.state == "complete"]
        for epoch in range(min(len(one.scores), EPOCHS - 1)):
            reached = sorted(scores[epoch] for scores in before)
            middle = (reached[(len(reached) - 1) // 2] + reached[len(reached) // 2]) / 2 if reached else -1.0
            last = one.state == "pruned" and epoch == len(one.scores) - 1
            assert last == (len(before) >= 5 and max(one.scores[: epoch + 1]) < middle)


@pytest.mark.parametrize("tuned", [{"prune": False}, {"objectives": ["click"]}, {"objectives": ["mean", "latency"]}])
def test_nothing_is_cut_short_where_that_is_off_or_would_mean_nothing(tmp_path: Path, tuned: dict[str, Any]) -> None:
    tried = searched(tmp_path, 7, one=run_file(**tuned))
    assert {one.state for one in tried} == {"complete"}


def test_the_top_of_the_hill_is_found(tmp_path: Path) -> None:
    made = study(tmp_path, Hill())
    tune._search(made, trials=24, jobs=1)
    (best,) = made.search.front(made.search.tried())
    assert best.point["model.recipe"] == "stem"
    assert 2e-3 < best.point["fit.rate"] < 5e-2
    assert best.point["model.dim"] >= 10
    assert best.values[0] == max(one.values[0] for one in made.search.tried() if one.values)


def test_what_mattered_is_what_the_hill_is_made_of(tmp_path: Path) -> None:
    made = study(tmp_path, Hill(of=lambda one: 0.2 * (one.model.recipe == "stem") + 0.001 * one.model.dim), run_file(prune=False))
    tune._search(made, trials=8, jobs=1)
    found = made.search.importances()
    assert max(found, key=lambda key: found[key]) == "model.recipe"
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(("trials", "runner"), [(3, Hill()), (6, Hill(of=lambda _: 0.5))])
def test_of_too_few_or_equal_trials_nothing_is_said(tmp_path: Path, trials: int, runner: Hill) -> None:
    made = study(tmp_path, runner, run_file(prune=False))
    tune._search(made, trials=trials, jobs=1)
    assert made.search.importances() == {}


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    made = study(tmp_path, Hill(), run_file(objectives=["mean", "latency", "parameters"]))
    tune._search(made, trials=12, jobs=1)
    tried = made.search.tried()
    front = made.search.front(tried)
    assert {one.number for one in front} == {trial.number for trial in made.search.study.best_trials}, "as Optuna has it"
    assert front[0].values[0] == max(one.values[0] for one in tried)
    assert made.search.study.directions[1] is optuna.study.StudyDirection.MINIMIZE


VALUES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search for two objectives, one rising and one falling."""
    one = run_file(objectives=["mean", "latency"])
    return Search(tmp_path_factory.mktemp("two"), dimensions(one), objectives(["mean", "latency"], []), seed=1, prune=True)


@settings(deadline=None, max_examples=60)
@given(values=VALUES)
def test_the_front_is_who_is_not_beaten(two: Search, values: list[tuple[int, int]]) -> None:
    tried = [Tried(at, "complete", {}, (float(up), float(down)), ()) for at, (up, down) in enumerate(values)]
    front = two.front(tried)
    inside = {one.number for one in front}
    for at, (up, down) in enumerate(values):
        beaten = any(u >= up and d <= down and (u, d) != (up, down) for u, d in values) or (up, down) in values[:at]
        assert (at in inside) == (not beaten)
    order = [(-one.values[0], one.number) for one in front]
    assert order == sorted(order), "the best by the first objective first, of equals the earliest"


def test_only_finished_trials_are_in_front(two: Search) -> None:
    tried = [Tried(0, "pruned", {}, (), (0.9,)), Tried(1, "failed", {}, (), ()), Tried(2, "complete", {}, (0.1, 3.0), ())]
    assert [one.number for one in two.front(tried)] == [2]
    assert two.front(tried[:2]) == ()


def test_trials_that_cannot_be_chosen_lose_their_weights(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Leaves(Hill):
        def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
            (folder / "checkpoint").mkdir(parents=True)
            return super().__call__(settings, folder, heard)

    made = study(tmp_path, Leaves(fails=lambda one: one.fit.rate > 0.03))
    tune._search(made, trials=9, jobs=1)
    (best,) = made.search.front(made.search.tried())
    kept = [path.parent.name for path in (tmp_path / "trials").glob("*/checkpoint")]
    assert kept == [f"{best.number:04d}"]


def test_every_trial_says_how_it_ended(tmp_path: Path) -> None:
    made = study(tmp_path, Hill(fails=lambda one: one.model.recipe == "mmoe"))
    tune._search(made, trials=6, jobs=1)
    stages = made.watch.stages if isinstance(made.watch, Heart) else []
    assert [line.split("  ")[0] for line in stages] == [f"{at}/6" for at in range(1, 7)]
    for one, line in zip(made.search.tried(), stages, strict=True):
        said = "failed training: the loss is nan" if one.state == "failed" else f"mean {one.values[0]:.5g}"
        assert f"trial {one.number}: {said}  (rate " in line or f"trial {one.number}: {said}  (dim " in line


def test_a_failure_of_ours_ends_the_search_and_its_trial_is_gone_on_with(tmp_path: Path, whole: tuple[Tried, ...]) -> None:
    @dataclass(frozen=True)
    class Broken(Hill):
        def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
            if folder.name == "0002":
                raise OSError("no space left")
            return super().__call__(settings, folder, heard)

    with pytest.raises(OSError, match="no space"):
        searched(tmp_path, 4, Broken())
    assert searched(tmp_path, 4) == whole[:4]
