"""A trial's own process: what it tells and hears, what it leaves, that it goes on, and that the test part plays no role in it."""

from __future__ import annotations

import io
import json
import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from umbel.data.simulate import Planted, simulate
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run.fitting import Fitted, fit_model
from umbel.run.run import prepare
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence
from umbel.study.trial import Lost, Trial, spent
from umbel.study.tune import attempt as module
from umbel.study.tune.attempt import CANDIDATES, Asking, StoppedError, attempt, latency, over_pipe
from umbel.study.tune.outcome import Outcome

PLANTED = Planted(users=20, items=12, rows=900, days=6, conflict=0.0, strength=4.0, seed=5)


def settings(log: Path, **fit: Any) -> Settings:  # noqa: ANN401
    return parse(
        {
            "data": {"log": str(log), "user": "user", "item": "item", "time": "time_ms"},
            "fields": {"user": {"kind": "id"}, "item": {"kind": "id"}},
            "tasks": {"click": {}, "like": {}, "buy": {"given": "click"}},
            "split": {"by": "time", "valid": date(2024, 1, 5), "test": date(2024, 1, 6)},
            "model": {"recipe": "mmoe", "dim": 2, "expert": [4], "tower": [4]},
            "fit": {"epochs": 2, "batch": 128, "rate": 0.01, "threads": 1, **fit},
        },
        where="here",
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    simulate(PLANTED, folder)
    prepare(settings(folder / "log.parquet"), folder / "table")
    return folder / "log.parquet"


class Other:
    """Who is asked: keeps what it is told, and answers from a list, then nothing."""

    def __init__(self, said: str) -> None:
        self.said, self.told = said.split(), list[str]()

    def __call__(self, line: str) -> str:
        self.told.append(line)
        return self.said.pop(0) if self.said else ""


def run(log: Path, folder: Path, said: str, **fit: Any) -> tuple[Outcome | Lost | None, list[str]]:  # noqa: ANN401
    """A trial that hears these answers; what it came to, and what it told."""
    other = Other(said)
    return attempt(settings(log, **fit), log.parent / "table", folder, ask=other), other.told


def test_every_epoch_is_told_and_the_last_one_as_such(log: Path, tmp_path: Path) -> None:
    found, lines = run(log, tmp_path / "trial", "go go")
    assert isinstance(found, Outcome)
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert lines[1].endswith(" last")
    assert "last" not in lines[0]
    assert max(float(line.split()[1]) for line in lines) == found.trial.score, "to the last bit"
    assert found.epochs == 2


def test_it_leaves_its_outcome_its_cost_and_what_a_run_would_go_on_with(log: Path, tmp_path: Path) -> None:
    found, _ = run(log, tmp_path / "trial", "go go")
    assert isinstance(found, Outcome)
    assert Outcome.load(tmp_path / "trial") == found
    assert Trial.load(tmp_path / "trial") == found.trial
    names = {path.name for path in (tmp_path / "trial").iterdir()}
    assert names == {"run.toml", "made.json", "log.jsonl", "checkpoint", "outcome.json", "trial.json"}, "and no predictions"
    assert set(found.tasks) == {"click", "like", "buy"}
    assert found.latency > 0


@pytest.mark.parametrize("said", ["stop", "", "no", "gone"])
def test_any_other_answer_than_go_ends_it(log: Path, tmp_path: Path, said: str) -> None:
    found, lines = run(log, tmp_path / "trial", said)
    assert found is None
    assert len(lines) == 1
    assert Outcome.load(tmp_path / "trial") is None


def test_a_trial_that_was_told_to_end_makes_the_same_epoch_again(log: Path, tmp_path: Path) -> None:
    _, first = run(log, tmp_path / "trial", "go stop")
    _, again = run(log, tmp_path / "trial", "go")
    assert len(first) == 2
    assert again == first[1:], "it goes on from the epoch that it was told to go on after, to the same bytes"
    whole, lines = run(log, tmp_path / "whole", "go go")
    assert lines == first
    resumed = Outcome.load(tmp_path / "trial")
    assert resumed is not None
    assert isinstance(whole, Outcome)
    assert resumed.tasks == whole.tasks


def test_a_finished_trial_is_read(log: Path, tmp_path: Path) -> None:
    found, _ = run(log, tmp_path / "trial", "go go")
    again, lines = run(log, tmp_path / "trial", "")
    assert again == found
    assert lines == []


def test_a_folder_of_other_settings_is_refused(log: Path, tmp_path: Path) -> None:
    run(log, tmp_path / "trial", "go go")
    with pytest.raises(UserError, match="holds a run of other settings"):
        run(log, tmp_path / "trial", "go go", rate=0.02)


def test_one_that_diverges_says_so(log: Path, tmp_path: Path) -> None:
    found, _ = run(log, tmp_path / "trial", "go go", rate=1e30)
    assert isinstance(found, Lost)
    assert "training" in found.why
    assert Outcome.load(tmp_path / "trial") is None
    assert run(log, tmp_path / "trial", "", rate=1e30) == (found, []), "and is not trained again"


def test_the_test_rows_change_nothing(log: Path, tmp_path: Path) -> None:
    """Its labels turned round and its columns overwritten on disk, the same trial tells the same."""
    found, lines = run(log, tmp_path / "plain", "go go")
    other = tmp_path / "other"
    shutil.copytree(log.parent / "table", other / "table")
    rows = Table.open(other / "table").parts["test"]
    for name in ("labels", "int32", "group"):
        pack = np.load(other / "table" / f"{name}.npy")
        pack[rows.start : rows.stop] = 1 - pack[rows.start : rows.stop] if name == "labels" else 0
        np.save(other / "table" / f"{name}.npy", pack)
    asked = Other("go go")
    changed = attempt(settings(log), other / "table", tmp_path / "changed", ask=asked)
    assert asked.told == lines
    assert isinstance(changed, Outcome)
    assert isinstance(found, Outcome)
    assert (changed.tasks, changed.trial.score) == (found.tasks, found.trial.score)


def test_weights_of_tasks_reach_the_training(log: Path, tmp_path: Path) -> None:
    plain, _ = run(log, tmp_path / "plain", "go go")
    heavy = settings(log).model_dump(exclude_none=True)
    heavy["tasks"]["like"]["weight"] = 30.0
    found = attempt(parse(heavy, where="here"), log.parent / "table", tmp_path / "heavy", ask=Other("go go"))
    losses = [json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0])["losses"] for name in ("plain", "heavy")]
    assert losses[1][1] / losses[0][1] == pytest.approx(30, rel=0.3)
    assert losses[1][0] / losses[0][0] == pytest.approx(1, rel=0.3)
    assert isinstance(found, Outcome)
    assert isinstance(plain, Outcome)
    assert found.tasks != plain.tasks


@pytest.fixture(scope="module")
def fitted(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, Table]:
    table = Table.open(log.parent / "table")
    return fit_model(settings(log), table, tmp_path_factory.mktemp("fitted"), watch=Silence()), table


@pytest.mark.parametrize("keep", ["mean", {"name": "primary", "task": "like"}])
def test_scores_are_those_of_the_kept_epoch(log: Path, tmp_path: Path, keep: Any) -> None:  # noqa: ANN401
    found, lines = run(log, tmp_path / "trial", "go go", keep=keep)
    assert isinstance(found, Outcome)
    epochs = [json.loads(line)["scores"] for line in (tmp_path / "trial" / "log.jsonl").read_text().splitlines()]
    by = [np.mean(list(one.values())) if keep == "mean" else one["like"] for one in epochs]
    assert found.tasks == epochs[int(np.argmax(by))]
    assert found.trial.score == max(by)
    told = [float(line.split()[1]) for line in lines]
    assert told == [float(np.mean(list(one.values()))) for one in epochs], "the mean is told, whatever rule keeps the epoch"


def test_latency_scores_200_rows_on_one_thread_and_puts_the_threads_back(
    fitted: tuple[Fitted, Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, table = fitted
    seen: list[tuple[int, int]] = []
    before = torch.get_num_threads()

    def watched(_: object, batches: list[Any]) -> None:
        seen.extend((len(batch.index), torch.get_num_threads()) for batch in batches)

    monkeypatch.setattr(module, "predict", watched)
    torch.set_num_threads(2)
    try:
        assert latency(one.model, table) > 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {(CANDIDATES, 1)}


def test_what_a_training_cost(fitted: tuple[Fitted, Table]) -> None:
    one, table = fitted
    found = spent(one, 12.0)
    assert found.seconds == 12.0
    assert found.score == one.score
    assert found.parameters == sum(parameter.numel() for parameter in one.model.parameters())
    busy = sum(float(str(line["seconds"])) for line in one.history)
    assert found.rows_per_second == pytest.approx(2 * len(table.parts["train"]) / max(busy, 1e-9))


class Closed(io.StringIO):
    """A pipe whose other end is gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_over_the_pipe_a_line_is_told_and_one_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(module, "sys", SimpleNamespace(stdin=io.StringIO("go\nstop\n"), stdout=out))
    assert [over_pipe("1 0.5"), over_pipe("2 0.6"), over_pipe("3 0.7")] == ["go", "stop", ""]
    assert out.getvalue() == "1 0.5\n2 0.6\n3 0.7\n"


def test_a_pipe_that_nobody_reads_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sys", SimpleNamespace(stdin=io.StringIO("go\n"), stdout=Closed()))
    assert over_pipe("1 0.5") == ""


def test_asking_hears_nothing_else() -> None:
    asking = Asking(Other(""))
    asking.ingested(3)
    asking.stepped(1, done=1, rows=2)
    asking.stage("anything")
    assert issubclass(StoppedError, Exception)
