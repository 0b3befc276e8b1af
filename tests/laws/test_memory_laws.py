"""What a training holds: nothing of where it began, and the weights of an epoch that may be chosen once."""

from __future__ import annotations

import inspect
import itertools
import weakref
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from tests.toys import Batches, Toy, equal, toy
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel.learn import checkpoint
from umbel.learn.fit import Epoch, fit
from umbel.learn.history import Scores
from umbel.learn.keep import Keep, Mean, Pareto, Primary
from umbel.learn.plan import Plan
from umbel.learn.shards import Shards
from umbel.learn.state import State, finite
from umbel.run.fitting import trained
from umbel.run.watch import Silence

PARTS = [field.name for field in fields(State) if field.name != "progress"]


PLAIN = inspect.unwrap(fit)  # what checks its arguments while tests run would hold them
RISING = itertools.count(1.0)


def judge(model: Toy) -> float:
    """Higher from epoch to epoch, so that each is the best so far."""
    return next(RISING)


def plan(epochs: int) -> Plan:
    return Plan(epochs=epochs, patience=9, rate=0.1)


def watched(state: State) -> dict[str, weakref.ref[Tensor]]:
    """A weak reference to each of a state's tensors."""
    return {f"{part}/{name}": weakref.ref(tensor) for part in PARTS for name, tensor in getattr(state, part).items()}


def begun(folder: Path) -> None:
    for epoch in fit(toy(dropout=0.3), Batches(), plan=plan(2), judge=judge):
        checkpoint.save(epoch.state, folder / "checkpoint")


def test_a_resumed_training_lets_go_of_where_it_began(tmp_path: Path) -> None:
    begun(tmp_path)
    start = checkpoint.load(tmp_path / "checkpoint")
    assert start is not None
    refs = watched(start)
    assert {"weights/table", "table/first", "kept/1/table"} <= refs.keys()
    epochs = PLAIN(toy(dropout=0.3), Batches(), plan=plan(4), judge=judge, start=start)
    del start
    next(epochs)
    assert [name for name, ref in refs.items() if ref() is not None] == []


class Looking:
    """A watch that asks after every epoch which tensors are still there."""

    def __init__(self) -> None:
        self.refs: dict[str, weakref.ref[Tensor]] = {}
        self.alive: list[str] = []

    def ingested(self, rows: int) -> None: ...
    def stepped(self, epoch: int, *, done: int, rows: int) -> None: ...
    def learned(self, losses: tuple[float, ...]) -> None: ...
    def stage(self, name: str) -> None: ...

    def finished(self, epoch: Epoch) -> None:
        self.alive += [name for name, ref in self.refs.items() if ref() is not None]


def test_a_resumed_run_lets_go_of_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    load, watch = checkpoint.load, Looking()

    def loading(folder: Path, *, shards: Shards, group: ProcessGroup | None) -> State | None:
        state = load(folder, shards=shards, group=group)
        assert state is not None
        watch.refs = watched(state)
        return state

    monkeypatch.setattr(checkpoint, "load", loading)
    monkeypatch.setattr("umbel.run.fitting.fit", PLAIN)
    history = trained(toy(dropout=0.3), Batches(), tmp_path, plan=plan(4), judge=judge, watch=watch)
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]
    assert watch.refs
    assert watch.alive == []


def test_what_it_began_with_stays_as_it_was(tmp_path: Path) -> None:
    """The weights kept before are copied, not written over, and so is everything else."""
    begun(tmp_path)
    start, again = checkpoint.load(tmp_path / "checkpoint"), checkpoint.load(tmp_path / "checkpoint")
    assert start is not None
    assert again is not None
    assert len(list(fit(toy(dropout=0.3), Batches(), plan=plan(5), judge=judge, start=start))) == 3
    for part in PARTS:
        assert equal(list(getattr(start, part).values()), list(getattr(again, part).values())), part


def test_a_finished_run_ends_on_its_best_weights_without_an_epoch(tmp_path: Path) -> None:
    begun(tmp_path)
    start = checkpoint.load(tmp_path / "checkpoint")
    assert start is not None
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    model = toy(seed=5)
    trained(model, Batches(), tmp_path, plan=plan(2), judge=judge, watch=Silence())
    assert torch.equal(model.table, start.best["table"])


def test_rows_read_back_by_as_many_processes_are_not_copied(tmp_path: Path) -> None:
    """Then they lie in the file until training copies them, so that nothing is in memory twice."""

    class File:
        tensor = torch.arange(12.0).view(6, 2)

        def get_shape(self) -> list[int]:
            return list(self.tensor.shape)

        def __getitem__(self, some: slice) -> Tensor:
            return self.tensor[some]

    found = Shards(None).picked([File()])
    assert found.data_ptr() == File.tensor.data_ptr()
    assert torch.equal(found, File.tensor)


WAVES: list[Scores] = [
    {"click": 0.50, "like": 0.90}, {"click": 0.80, "like": 0.60}, {"click": 0.85, "like": 0.95}, {"click": 0.86, "like": 0.70},
    {"click": 0.90, "like": 0.96},
]  # fmt: skip


@pytest.mark.parametrize(("rule", "sets"), [(Mean(), [1, 1, 1, 1, 1]), (Primary("click"), [1, 1, 1, 1, 1]), (Pareto(), [1, 2, 1, 2, 1])])
def test_a_better_epoch_goes_where_a_worse_one_was(rule: Keep, sets: list[int]) -> None:
    """Under Pareto the second joins the first, the third beats both, the fourth joins it, the fifth beats both."""
    left, before, held = iter(WAVES), set[int](), list[int]()
    for epoch in fit(toy(), Batches(), plan=Plan(epochs=5, patience=9, keep=rule), judge=lambda _: next(left)):
        now = {tensor.data_ptr() for name, tensor in epoch.state.kept.items() if name.endswith("/table")}
        assert len(now) > len(before) or now <= before
        assert epoch.kept != epoch.number or torch.equal(epoch.state.best["table"], epoch.state.weights["table"])
        before = now
        held.append(len(now))
    assert held == sets


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_none_is_found_in_whatever_part_it_is(monkeypatch: pytest.MonkeyPatch, number: float) -> None:
    monkeypatch.setattr("umbel.learn.state.PART", 4)
    small = torch.tensor(1.0), torch.empty(0, 3), torch.full((2,), 3e38)
    assert finite([*small, torch.zeros(3, 3)])
    for at in range(9):
        table = torch.zeros(3, 3)
        table.view(-1)[at] = number
        assert not finite([*small, table])
    assert not finite([torch.tensor(number)])


def test_weights_are_looked_at_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the copies that looking makes would be as large as a table."""
    looked: list[int] = []
    look = torch.Tensor.isfinite

    def looking(self: Tensor) -> Tensor:
        looked.append(self.numel())
        return look(self)

    monkeypatch.setattr("umbel.learn.state.PART", 5)
    monkeypatch.setattr(torch.Tensor, "isfinite", looking)
    list(fit(toy(), Batches(), plan=plan(1), judge=judge))
    assert sum(looked) >= 24
    assert max(looked) <= 5
