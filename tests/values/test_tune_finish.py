"""The end of a search on a tiny log: the winner becomes a run, trees stand beside it, the door counts, whatever was cut off before."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.values.test_run_all import Listener

from umbel.data.simulate import Planted, simulate
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run.settings import Settings, parse, read
from umbel.study.trial import Lost
from umbel.study.tune import tune
from umbel.study.tune.attempt import attempt
from umbel.study.tune.door import Door
from umbel.study.tune.outcome import Outcome
from umbel.study.tune.result import Tuned
from umbel.study.tune.runner import End, Failed, Heard, Pruned
from umbel.study.tune.tune import run_tune

PLANTED = Planted(users=12, items=8, rows=700, days=6, conflict=0.0, strength=4.0, seed=5)


class Quiet(Listener):
    """A listener who does not mind that a log is read."""

    def ingested(self, rows: int) -> None:
        assert rows >= 0


@dataclass(frozen=True)
class Here:
    """A runner that trains in this process, as a trial's own process would, and remembers how the test part was meanwhile."""

    fails: bool = False
    reads: list[int] = field(default_factory=list)

    def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
        self.reads.append(Door(folder.parents[1]).reads)
        if self.fails:
            return Failed("training: nothing is learned")

        def ask(line: str) -> str:
            number, score, *_ = line.split()
            return "go" if heard(int(number), float(score)) else "stop"

        found = attempt(settings, folder.parents[1] / "table", folder, ask=ask)
        return Failed(found.why) if isinstance(found, Lost) else found or Pruned()

    def halt(self) -> None:
        """There is nobody to halt."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    simulate(PLANTED, folder)
    return folder / "log.parquet"


def settings(log: Path, **tuned: Any) -> Settings:  # noqa: ANN401
    return parse(
        {
            "data": {"log": str(log), "user": "user", "item": "item", "time": "time_ms"},
            "fields": {"user": {"kind": "id"}, "item": {"kind": "id"}},
            "tasks": {"click": {}, "like": {}},
            "split": {"by": "time", "valid": date(2024, 1, 5), "test": date(2024, 1, 6)},
            "model": {"recipe": "shared_bottom", "dim": 2, "expert": [4], "tower": [4]},
            "fit": {"epochs": 1, "batch": 64, "threads": 1},
            "evaluate": {"resamples": 10},
            "tune": {"space": {"fit.rate": [1e-9, 0.02], "tasks.like.weight": [1.0, 2.0]}, **tuned},
        },
        where="here",
    )


def found(log: Path, folder: Path, *, trials: int = 4, runner: Here | None = None, **tuned: Any) -> Tuned:  # noqa: ANN401
    return run_tune(settings(log, **tuned), folder, trials=trials, jobs=1, watch=Quiet(), runner=runner or Here())


@pytest.fixture(scope="module")
def one(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, Path, Here]:
    folder, runner = tmp_path_factory.mktemp("search") / "out", Here()
    return found(log, folder, runner=runner), folder, runner


def test_no_trial_has_seen_the_door_open(one: tuple[Tuned, Path, Here]) -> None:
    result, folder, runner = one
    assert runner.reads == [0] * 4
    assert result.reads == Door(folder).reads == 1


def test_the_winner_was_best_on_validation(one: tuple[Tuned, Path, Here]) -> None:
    result, folder, _ = one
    means = [Outcome.load(folder / "trials" / f"{number:04d}") for number in range(4)]
    known = [outcome.mean for outcome in means if outcome is not None and outcome.mean is not None]
    assert result.chosen.values == (max(known),)
    assert result.chosen.outcome == means[result.chosen.number]


def test_the_best_run_has_the_winner_s_settings_to_its_bundle(one: tuple[Tuned, Path, Here]) -> None:
    result, folder, _ = one
    best = read(folder / "best.toml")
    weight = result.chosen.point["tasks.like.weight"]
    assert best.tasks["like"].weight == weight
    assert best.fit.rate == result.chosen.point["fit.rate"]
    assert read(folder / "best" / "run.toml") == best
    schema = json.loads(next((folder / "best" / "bundle").rglob("schema.json")).read_text())
    assert [task["weight"] for task in schema["tasks"]] == [1.0, weight]


def test_it_was_not_trained_twice(one: tuple[Tuned, Path, Here]) -> None:
    result, folder, _ = one
    trial = folder / "trials" / f"{result.chosen.number:04d}"
    assert (folder / "best" / "log.jsonl").read_bytes() == (trial / "log.jsonl").read_bytes()


def test_a_result_that_is_lost_is_made_again_without_another_reading(one: tuple[Tuned, Path, Here], log: Path) -> None:
    result, folder, _ = one
    (folder / "tune.json").unlink()
    again = found(log, folder)
    assert again == result
    assert again.reads == 1


@pytest.mark.parametrize("where", ["train", "run_trees", "judge"])
def test_cut_off_while_it_judges_it_reads_again_and_says_so(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The door counts openings, not intentions."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tune, where, killed)
        found(log, tmp_path / "out", trials=1)
    assert Door(tmp_path / "out").reads == 1
    assert not (tmp_path / "out" / "tune.json").exists()
    again = found(log, tmp_path / "out", trials=1)
    assert again.reads == 2
    assert (tmp_path / "out" / "best" / "report.json").exists()


def test_several_objectives_leave_a_front_and_a_declared_choice(log: Path, tmp_path: Path) -> None:
    result = found(log, tmp_path / "out", trials=3, objectives=["like", "latency", "parameters"])
    assert result.objectives == ("like", "latency", "parameters")
    assert result.rises == (True, False, False)
    assert result.front[0] == result.chosen.number
    assert result.chosen.values[0] == max(one.values[0] for one in result.trials)
    for trial in result.trials:
        assert trial.outcome is not None
        assert trial.values == (trial.outcome.tasks["like"], trial.outcome.latency, trial.outcome.trial.parameters)
    assert "The front" in (tmp_path / "out" / "tune.html").read_text()


def test_if_none_finishes_the_door_stays_shut(log: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 2 trials finished \(trial 0: training: nothing is learned\)"):
        found(log, tmp_path / "out", trials=2, runner=Here(fails=True))
    assert Door(tmp_path / "out").reads == 0
    assert not (tmp_path / "out" / "best").exists()


def test_the_table_is_made_once(one: tuple[Tuned, Path, Here], log: Path, tmp_path: Path) -> None:
    _, folder, _ = one
    assert len(Table.open(folder / "table").parts["test"]) > 0
    assert not (folder / "best" / "table").exists()
    assert not list((folder / "trials").rglob("int32.npy"))
