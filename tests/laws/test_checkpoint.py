"""A training goes on to the same bytes, wherever it was stopped and however: paused, killed, cut off while saving."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.toys import Batches, Toy, toy
from torch import Tensor
from torch.optim.lr_scheduler import MultiStepLR

from umbel import durable
from umbel.balance.named import balancer
from umbel.errors import UserError
from umbel.learn import checkpoint
from umbel.learn.fit import Epoch, fit
from umbel.learn.keep import Pareto
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.schedules import Cosine, Exponential, Plateau
from umbel.learn.state import State
from umbel.learn.weigh import Balance

BALANCED = ("static", "normalised", "uncertainty", "dwa", "random", "gradnorm", "metabalance", "pcgrad", "gradvac", "nash_mtl")
PLANS = {
    **{name: Plan(epochs=4, patience=9, pause=0.0, rate=0.05, balance=Balance(partial(balancer, name))) for name in BALANCED},
    "dwa exact": Plan(epochs=4, patience=9, pause=0.0, rate=0.05, exact=True, balance=Balance(partial(balancer, "dwa"), scalar=True)),
    "adam": Plan(epochs=3, pause=0.0, rate=0.05),
    "adagrad": Plan(epochs=3, pause=0.0, rows=partial(RowAdagrad, rate=0.1)),
    "exact": Plan(epochs=3, pause=0.0, rate=0.05, exact=True),
    "milestones": Plan(epochs=3, pause=0.0, rate=0.05, schedule=lambda optimizer: MultiStepLR(optimizer, [1, 2])),
    "plateau": Plan(epochs=4, patience=4, pause=0.0, rate=0.05, schedule=Plateau()),
    "exponential": Plan(epochs=3, pause=0.0, rate=0.05, schedule=Exponential(0.5)),
    "cosine": Plan(epochs=3, pause=0.0, rate=0.05, schedule=Cosine(2)),
    "patience": Plan(epochs=4, patience=1, pause=0.0, rate=0.05),
}


def judge(model: Toy) -> float:
    """Any number that follows from the weights."""
    return -float(model.table.detach().square().sum())


def fresh(seed: int = 0) -> Toy:
    return toy(dropout=0.4, seed=seed)


def train(model: Toy, plan: Plan, folder: Path) -> list[Epoch]:
    """Train to the end, from the checkpoint in the folder if there is one, saving at every occasion."""
    epochs = []
    for epoch in fit(model, Batches(steps=2), plan=plan, judge=judge, start=checkpoint.load(folder)):
        checkpoint.save(epoch.state, folder)
        epochs.append(epoch)
    return epochs


def tensors(state: State) -> dict[str, Tensor]:
    parts = {field.name: getattr(state, field.name) for field in fields(state) if field.name != "progress"}
    return {f"{part}.{name}": tensor.clone() for part, one in parts.items() for name, tensor in one.items()}


def assert_same(one: State | None, other: State | None) -> None:
    assert one is not None
    assert other is not None
    assert (one.progress.epoch, one.progress.step, one.progress.rows) == (other.progress.epoch, other.progress.step, other.progress.rows)
    assert one.progress.scores == other.progress.scores
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.numpy().tobytes() == theirs[name].numpy().tobytes(), name


@pytest.mark.parametrize("name", PLANS)
def test_resuming_anywhere_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    whole = []
    for number, epoch in enumerate(fit(fresh(), Batches(steps=2), plan=plan, judge=judge)):
        checkpoint.save(epoch.state, tmp_path / str(number))
        whole.append(epoch)
    assert any(not epoch.finished for epoch in whole)
    end = checkpoint.load(tmp_path / str(len(whole) - 1))
    for number in range(len(whole)):
        rest = train(fresh(seed=99), plan, tmp_path / str(number))
        assert_same(checkpoint.load(tmp_path / str(number)), end)
        assert list(map(told, rest)) == list(map(told, whole[number + 1 :]))


def told(one: Epoch) -> tuple[object, ...]:
    return one.number, one.step, one.losses, one.weights, one.score, one.best, one.stop, one.rows


def test_a_checkpoint_reads_back_what_was_saved(tmp_path: Path) -> None:
    running = fit(fresh(), Batches(), plan=Plan(), judge=judge)
    next(running)
    state = next(running).state
    checkpoint.save(state, tmp_path)
    assert_same(checkpoint.load(tmp_path), state)
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded.progress == state.progress


def test_the_best_weights_survive(tmp_path: Path) -> None:
    scores = iter([0.9, 0.1, 0.2])
    model = fresh()
    running = fit(model, Batches(), plan=Plan(epochs=3, patience=3), judge=lambda model: next(scores))
    best = next(running).state.best["table"].clone()
    checkpoint.save(next(running).state, tmp_path)
    (last,) = fit(fresh(), Batches(), plan=Plan(epochs=3, patience=3), judge=lambda model: 0.3, start=checkpoint.load(tmp_path))
    assert torch.equal(last.state.best["table"], best)
    assert last.best == 0.9


def test_a_finished_training_has_nothing_left_to_do(tmp_path: Path) -> None:
    train(fresh(), PLANS["patience"], tmp_path)
    assert train(fresh(), PLANS["patience"], tmp_path) == []


def test_more_epochs_may_be_asked_for(tmp_path: Path) -> None:
    train(fresh(), Plan(epochs=2, patience=9), tmp_path / "a")
    more = train(fresh(), Plan(epochs=4, patience=9), tmp_path / "a")
    train(fresh(), Plan(epochs=4, patience=9), tmp_path / "b")
    assert [epoch.number for epoch in more] == [3, 4]
    assert_same(checkpoint.load(tmp_path / "a"), checkpoint.load(tmp_path / "b"))


# Cut off. A child process trains, and dies by SIGKILL; the next one goes on from what it finds.


def child(work: Callable[[], None]) -> int:
    """Run in a forked process; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def cut_at(call: int) -> None:
    """Kill this process at the given call that changes the disk."""
    left = [call]

    def deadly(original: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, ignore_errors: bool = False) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        return wrapped

    durable.sync = deadly(durable.sync)  # type: ignore[assignment]
    shutil.rmtree = deadly(shutil.rmtree)  # type: ignore[assignment]
    checkpoint.save_file = deadly(checkpoint.save_file)  # type: ignore[attr-defined]
    Path.rename = deadly(Path.rename)  # type: ignore[assignment,method-assign]
    Path.write_text = deadly(Path.write_text)  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("call", range(1, 20))
def test_a_save_that_is_cut_off_costs_nothing(call: int, tmp_path: Path) -> None:
    plan = Plan(epochs=1, pause=0.0, rate=0.05)

    def work() -> None:
        cut_at(call)
        train(fresh(), plan, tmp_path / "cut")

    assert ended(child(work)) in (-signal.SIGKILL, 0)
    train(fresh(), plan, tmp_path / "cut")
    train(fresh(), plan, tmp_path / "whole")
    assert_same(checkpoint.load(tmp_path / "cut"), checkpoint.load(tmp_path / "whole"))
    assert all(path.name.isdigit() for path in (tmp_path / "cut").iterdir())


def test_killed_again_and_again_it_gets_there(tmp_path: Path) -> None:
    plan, draw = Plan(epochs=20, patience=20, pause=0.0, rate=0.05, schedule=Plateau()), random.Random(5)

    def work() -> None:
        train(fresh(), plan, tmp_path / "cut")

    codes = []
    for _ in range(12):
        pid = child(work)
        time.sleep(draw.uniform(0.002, 0.06))
        os.kill(pid, signal.SIGKILL)
        codes.append(ended(pid))
    assert codes.count(-signal.SIGKILL) >= 4
    assert ended(child(work)) == 0
    train(fresh(), plan, tmp_path / "whole")
    assert_same(checkpoint.load(tmp_path / "cut"), checkpoint.load(tmp_path / "whole"))


# Damage.


def two_checkpoints(folder: Path) -> tuple[State, State]:
    running = fit(fresh(), Batches(), plan=Plan(patience=9), judge=judge)
    states = []
    for _ in range(2):
        checkpoint.save(next(running).state, folder)
        states.append(checkpoint.load(folder))
    assert states[0] is not None
    assert states[1] is not None
    return states[0], states[1]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["state.safetensors", "rows-0-of-1.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_a_damaged_newest_falls_back_to_the_one_before(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    before, _ = two_checkpoints(tmp_path)
    damage(tmp_path / "000002" / name)
    assert_same(checkpoint.load(tmp_path), before)


@pytest.mark.parametrize("name", ["state.safetensors", "rows-0-of-1.safetensors"])
def test_one_changed_bit_is_found(name: str, tmp_path: Path) -> None:
    before, after = two_checkpoints(tmp_path)
    assert_same(checkpoint.load(tmp_path), after)
    flip(tmp_path / "000002" / name)
    assert_same(checkpoint.load(tmp_path), before)


def test_numbers_that_are_none_count_as_damage(tmp_path: Path) -> None:
    before, _ = two_checkpoints(tmp_path)
    path = tmp_path / "000002" / "state.json"
    path.write_text(path.read_text().replace('"step"', '"stride"'))
    assert_same(checkpoint.load(tmp_path), before)


def test_scores_without_their_tasks_count_as_damage(tmp_path: Path) -> None:
    """As an earlier version wrote them: one number an epoch."""
    before, _ = two_checkpoints(tmp_path)
    path = tmp_path / "000002" / "state.json"
    about = json.loads(path.read_text())
    about["progress"]["scores"] = [0.5, 0.6]
    path.write_text(json.dumps(about))
    assert_same(checkpoint.load(tmp_path), before)


def test_scores_of_tasks_read_back_to_the_bit(tmp_path: Path) -> None:
    third = {"click": 1 / 3, "like": None, "über \"x\"": -1e-17}
    running = fit(fresh(), Batches(), plan=Plan(keep=Pareto()), judge=lambda _: third)
    checkpoint.save(next(running).state, tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded.progress.scores == (third,)
    assert loaded.progress.best == 0


def test_all_damaged_is_said(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        truncate(path)
    with pytest.raises(UserError, match=r"no checkpoint reads back whole; delete the folder"):
        checkpoint.load(tmp_path)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "nowhere") is None
    (tmp_path / ".000001.abcd1234.umbel-part").mkdir()
    assert checkpoint.load(tmp_path) is None


def test_two_are_kept_and_leftovers_go(tmp_path: Path) -> None:
    (tmp_path / ".000001.abcd1234.umbel-part").mkdir()
    (tmp_path / ".000001.abcd1234.umbel-part" / "state.safetensors").write_bytes(b"half")
    for _ in range(2):
        two_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000004"]


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = fit(fresh(), Batches(), plan=Plan(patience=9), judge=judge)
    checkpoint.save(next(running).state, tmp_path)
    kept = checkpoint.load(tmp_path)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "sync", full)
    with pytest.raises(UserError, match="the disk is full"):
        checkpoint.save(next(running).state, tmp_path)
    assert_same(checkpoint.load(tmp_path), kept)


# A state of something else.


@pytest.mark.parametrize(("model", "plan", "told"), [
    (toy(rows=13), Plan(), r"weights 'table' is \(12, 2\), the model and plan ask for \(13, 2\)"),
    (toy(), Plan(rows=RowAdagrad), r"row optimiser 'first' is \(12, 2\), the model and plan ask for None"),
    (toy(), Plan(exact=True), r"row optimiser 'first'"),
    (toy(), Plan(balance=Balance(partial(balancer, "gradnorm"))), r"balancer 'balancer.first' is None, the model and plan ask for \(2,\)"),
])
def test_a_state_of_another_model_or_plan_is_refused(model: Toy, plan: Plan, told: str) -> None:
    state = next(fit(toy(), Batches(), plan=Plan(), judge=judge)).state
    with pytest.raises(UserError, match=told):
        next(fit(model, Batches(), plan=plan, judge=judge, start=state))
