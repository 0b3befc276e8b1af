"""Training from a table by hand: stopped at a pause or between two writes, it goes on to the same bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.logs import ROWS, SCHEMA, table
from tests.runs import written

from umbel.data.batch import Batch
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.evaluate.judge import scores
from umbel.learn import checkpoint
from umbel.learn.fit import Epoch
from umbel.learn.predict import predict
from umbel.learn.seam import Model
from umbel.learn.shards import Shards
from umbel.learn.state import State
from umbel.run import fitting
from umbel.run.fitting import Fitted, begun, fit_model, logits
from umbel.run.run import train
from umbel.run.settings import Settings, parse, read
from umbel.run.watch import Silence

EPOCHS = 3


class StopError(Exception):
    """What a kill stands for in this process."""


class Listener:
    """A watch that keeps what it hears, and stops the run at the `last` thing heard."""

    def __init__(self, last: int = -1) -> None:
        self.heard: list[tuple[str, int]] = []
        self.losses: list[tuple[float, ...]] = []
        self.last = last

    def _hear(self, kind: str, number: int) -> None:
        self.heard.append((kind, number))
        if len(self.heard) == self.last:
            raise StopError

    def ingested(self, rows: int) -> None:
        raise AssertionError(rows)

    def learned(self, losses: tuple[float, ...]) -> None:
        self.losses.append(losses)

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        assert rows == len(ROWS["user"]) - 4
        self._hear(f"step of {epoch}", done)

    def finished(self, epoch: Epoch) -> None:
        self._hear("epoch", epoch.number)

    def stage(self, name: str) -> None:
        raise AssertionError(name)


def settings(*, seed: int = 1, minutes: float = 5.0, patience: int = 9) -> Settings:
    tree: dict[str, object] = {
        "data": {"log": "log.parquet", "user": "user", "time": "time"},
        "fields": {"user": {"kind": "id"}},
        "tasks": {"click": {}},
        "split": {"by": "time", "valid": 6, "test": 8},
        "model": {"recipe": "stem", "dim": 2, "expert": [3], "tower": [2], "dropout": 0.2},
        "fit": {"epochs": EPOCHS, "batch": 2, "rate": 0.05, "seed": seed, "minutes": minutes, "patience": patience},
    }
    return parse(tree, where="here")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table(tmp_path_factory.mktemp("fitting"))


def weights(fitted: Fitted) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in fitted.model.state_dict().values()]


@pytest.fixture(scope="module")
def whole(small: Table, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The weights of a run that was never stopped."""
    return weights(fit_model(settings(), small, tmp_path_factory.mktemp("whole"), watch=Listener()))


def test_what_a_watch_hears(small: Table, tmp_path: Path) -> None:
    watch = Listener()
    fit_model(settings(), small, tmp_path, watch=watch)
    steps = [[(f"step of {epoch}", done) for done in (0, 2, 4)] + [("epoch", epoch)] for epoch in (1, 2, 3)]
    assert watch.heard == [one for epoch in steps for one in epoch]
    assert len(watch.losses) == 3 * 2, "after the first and the second of three steps an epoch"
    assert all(len(one) == len(small.schema.tasks) for one in watch.losses)


def test_a_watch_hears_the_losses_of_the_epoch_it_is_in(small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, ...]] = []
    monkeypatch.setattr("umbel.learn.fit.LOOK", 1)
    monkeypatch.setattr(Listener, "learned", lambda _, losses: told.append(losses))
    fitted = fit_model(settings(), small, tmp_path, watch=Listener())
    assert [list(told[-1])] == [line["losses"] for line in fitted.history[-1:]]
    assert len(told) > len(fitted.history)


def test_the_log_is_the_history(small: Table, tmp_path: Path) -> None:
    fitted = fit_model(settings(), small, tmp_path, watch=Listener())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == list(fitted.history)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {line["rows"] for line in lines} == {6}
    assert fitted.score == max(line["score"] for line in lines)
    assert not fitted.model.training


@pytest.mark.parametrize("last", range(2, 13))
def test_stopped_anywhere_it_ends_on_the_same_bytes(small: Table, whole: list[bytes], tmp_path: Path, last: int) -> None:
    """Every step is a pause here, so that every step has a checkpoint to go on from."""
    with pytest.raises(StopError):
        fit_model(settings(minutes=1e-12), small, tmp_path, watch=Listener(last))
    after = Listener()
    fitted = fit_model(settings(minutes=1e-12), small, tmp_path, watch=after)
    assert weights(fitted) == whole
    assert [line["epoch"] for line in fitted.history] == [1, 2, 3]
    assert len(after.heard) < 12, "it does not begin anew"


def test_an_epoch_logged_but_not_saved_is_logged_once(
    small: Table, whole: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of epoch 2 is written, then the run is killed before its checkpoint."""
    save = checkpoint.save

    def fails(state: State, folder: Path, *, shards: Shards) -> None:
        if state.progress.epoch == 2:
            raise StopError
        save(state, folder, shards=shards)

    monkeypatch.setattr(checkpoint, "save", fails)
    with pytest.raises(StopError):
        fit_model(settings(), small, tmp_path, watch=Listener())
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    monkeypatch.undo()
    fitted = fit_model(settings(), small, tmp_path, watch=Listener())
    assert weights(fitted) == whole
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3]


def test_a_finished_fit_is_not_trained_again(small: Table, whole: list[bytes], tmp_path: Path) -> None:
    fit_model(settings(), small, tmp_path, watch=Listener())
    before = (tmp_path / "log.jsonl").read_bytes()
    watch = Listener()
    again = fit_model(settings(), small, tmp_path, watch=watch)
    assert watch.heard == []
    assert weights(again) == whole
    assert len(again.history) == EPOCHS
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_another_seed_is_another_model(small: Table, whole: list[bytes], tmp_path: Path) -> None:
    assert weights(fit_model(settings(seed=2), small, tmp_path, watch=Listener())) != whole


def test_the_best_epoch_is_kept_and_patience_counts(small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr(fitting._Judge, "__call__", lambda *_: next(scores))
    fitted = fit_model(settings(patience=1), small, tmp_path / "a", watch=Listener())
    assert [line["score"] for line in fitted.history] == [0.5, 0.9, 0.1]
    assert fitted.score == 0.9
    scores = iter([0.9, 0.1])
    assert len(fit_model(settings(patience=1), small, tmp_path / "b", watch=Listener()).history) == 2


def spoken(*epochs: dict[str, float | None]) -> Callable[..., dict[str, float | None]]:
    """A judge that says these scores, one epoch after the other."""
    left = iter(epochs)
    return lambda *_: next(left)


def keeping(keep: object, *, patience: int = 9) -> Settings:
    """A run of all tasks that keeps an epoch by this rule."""
    tree = settings(patience=patience).model_dump()
    tasks = {"click": {}, "buy": {"given": "click"}, "spent": {"kind": "regression"}}
    return parse({**tree, "tasks": tasks, "fit": {**tree["fit"], "keep": keep}}, where="here")


WAVES: tuple[dict[str, float | None], ...] = (
    {"click": 0.6, "buy": None, "spent": 0.3}, {"click": 0.8, "buy": None, "spent": -0.2}, {"click": 0.7, "buy": None, "spent": 0.25},
)  # fmt: skip


@pytest.mark.parametrize(("keep", "kept", "score"), [
    ("mean", 2, 0.475),                                                       # .45 .30 .475
    ({"name": "mean", "weights": {"click": 9.0}}, 1, 0.7),                    # .57 .70 .655
    ({"name": "primary", "task": "click"}, 1, 0.8),
    ({"name": "primary", "task": "click", "guards": {"spent": 0.1}}, 2, 0.7),
    ({"name": "primary", "task": "spent"}, 0, 0.3),
    ("pareto", 2, 0.475),                                                     # regrets .2 .5 .1
])  # fmt: skip
def test_the_rule_of_the_run_file_decides(
    small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keep: object, kept: int, score: float
) -> None:
    monkeypatch.setattr(fitting._Judge, "__call__", spoken(*WAVES))
    after: list[list[bytes]] = []

    class Looking(Listener):
        def finished(self, epoch: Epoch) -> None:
            after.append([tensor.numpy().tobytes() for tensor in epoch.state.weights.values()])

    fitted = fit_model(keeping(keep), small, tmp_path, watch=Looking())
    assert weights(fitted) == after[kept]
    assert fitted.score == pytest.approx(score)
    assert fitted.scores == WAVES
    assert [line["scores"] for line in fitted.history] == list(WAVES)


def test_training_waits_for_every_task_that_the_rule_watches(small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean falls from the first epoch on; buy rises until the third."""
    falling: list[dict[str, float | None]] = [
        {"click": 0.9 - 0.2 * at, "buy": 0.5 + 0.01 * min(at, 2), "spent": None} for at in range(EPOCHS)
    ]
    for keep, epochs in (("mean", 2), ("pareto", 3), ({"name": "primary", "task": "buy"}, 3), ({"name": "primary", "task": "click"}, 2)):
        monkeypatch.setattr(fitting._Judge, "__call__", spoken(*falling))
        assert len(fit_model(keeping(keep, patience=1), small, tmp_path / str(keep), watch=Listener()).history) == epochs, keep


def test_scores_of_training_rows_are_those_of_a_fixed_sample(small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit_model(settings(), small, tmp_path, watch=Listener()).model
    labels, seen = small.labels("train")
    whole = scores(SCHEMA, labels, seen, logits=logits(model, small, "train"))
    found = fitting.trained_scores(model, small)  # one batch holds all six rows, in another order
    assert list(found) == [task.name for task in SCHEMA.tasks]
    for task, value in whole.items():
        assert found[task] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else None)
    monkeypatch.setattr(fitting, "SCORED", 2)
    assert len(small.parts["valid"]) == 2
    counted: list[int] = []

    def counting(model: Model, batches: list[Batch]) -> np.ndarray:
        counted.append(len(batches))
        return predict(model, batches)

    monkeypatch.setattr(fitting, "predict", counting)
    assert fitting.trained_scores(model, small) == fitting.trained_scores(model, small)
    assert counted == [1, 1]  # as many rows as validation has, no more


def test_logits_are_in_the_table_s_order(small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit_model(settings(), small, tmp_path, watch=Listener()).model
    found = logits(model, small, "train")
    assert found.shape == (6, len(SCHEMA.tasks))
    each = [model(small.batch(np.array([row])).fields).detach().numpy()[0] for row in small.parts["train"]]
    np.testing.assert_allclose(found, each, rtol=0, atol=1e-6)
    monkeypatch.setattr(fitting, "SCORED", 4)
    np.testing.assert_allclose(logits(model, small, "train"), found, rtol=0, atol=1e-6)


def test_a_watched_loader_begins_where_it_is_told(small: Table) -> None:
    watch = Listener()
    loader = Loader(small, "train", 2, seed=1)
    rest = list(fitting._Watched(loader, watch)(4, 1))
    assert watch.heard == [("step of 5", 2), ("step of 5", 4)]
    assert [one.index.tolist() for one in rest] == [one.index.tolist() for one in loader(4)][1:]


@pytest.mark.parametrize(("negatives", "device", "place"), [(1.0, "meta", "meta"), (0.5, "meta", "cpu"), (1.0, "cpu", "cpu")])
def test_batches_lie_where_training_is_unless_rows_are_left_out(small: Table, negatives: float, device: str, place: str) -> None:
    click, *others = SCHEMA.tasks
    table = small.under((replace(click, negatives=negatives), *others))
    assert fitting._near(table, torch.device(device)).batch(np.array([0])).labels.device.type == place


def test_columns_may_take_a_quarter_of_what_is_free(small: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU that is not here: the table is asked to be there, and with how much."""
    asked: list[tuple[str, int]] = []

    def on(self: Table, device: torch.device, *, most: int) -> Table:
        asked.append((device.type, most))
        return self

    monkeypatch.setattr(Table, "on", on)
    monkeypatch.setattr(fitting, "spare", lambda device: 4_003 if device.type == "cuda" else 0)
    fitting._near(small, torch.device("cuda"))
    assert asked == [("cuda", 1_000)]


@pytest.mark.parametrize(("epochs", "kept"), [(0, 0), (1, 1), (3, 3), (9, 3)])
def test_lines_beyond_the_checkpoint_are_dropped(tmp_path: Path, epochs: int, kept: int) -> None:
    path = tmp_path / "log.jsonl"
    assert fitting._history(path, epochs) == []
    path.write_text("".join(json.dumps({"epoch": number}) + "\n" for number in (1, 2, 3)))
    assert fitting._history(path, epochs) == [{"epoch": number} for number in range(1, kept + 1)]


def test_a_training_began_before_the_epochs_that_stopped_processes_trained(tmp_path: Path) -> None:
    now = time.monotonic()
    assert begun(tmp_path) == pytest.approx(now, abs=5)
    (tmp_path / "log.jsonl").write_text('{"epoch": 1, "seconds": 400.5}\n{"epoch": 2, "seconds": 200.0}\n')
    assert begun(tmp_path) == pytest.approx(now - 600.5, abs=5)


WINDOWED = """user = {{ kind = "id" }}
[tasks.spent]
kind = "regression"
[split]
by = "time"
valid = 40
test = 50
[model]
recipe = "mmoe"
[fit]
epochs = 2
batch = 8
window = {window}
"""


@pytest.mark.parametrize("window", [0, 16])
def test_a_whole_run_reads_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    """Where outputs begin, what is trained on, scores on training rows, the mean row, the spread that is watched."""
    windows: list[int] = []
    plain = Loader.__call__

    def watched(self: Loader, epoch: int, start: int = 0) -> Iterator[Batch]:
        windows.extend([self.window] * self.shuffle)
        return plain(self, epoch, start)

    monkeypatch.setattr(Loader, "__call__", watched)
    log = pl.DataFrame({"user": [number % 5 for number in range(60)], "item": 0, "time": range(60), "spent": np.arange(60) % 7 / 7.0})
    train(read(written(tmp_path, log, WINDOWED.format(window=window))), tmp_path / "run", watch=Silence())
    assert windows == [window] * 6
