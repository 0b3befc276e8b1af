"""Processes that train together go on from one checkpoint, whatever each of them sees of the folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.laws.test_training_recipes import SCHEMA, SIZES, batches
from tests.several import together
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn import checkpoint
from umbel.learn.plan import Plan
from umbel.learn.processes import every, is_first, most
from umbel.learn.shards import Shards
from umbel.nn.recommender import Recommender
from umbel.recipes import RECIPES
from umbel.run.fitting import trained
from umbel.run.watch import Silence

WORLD, EPOCHS, MORE = 2, 3, 4
PLAN = Plan(rate=0.01, epochs=EPOCHS, patience=9)
NUMBERS = [EPOCHS - 1, EPOCHS]  # of the checkpoints that a training leaves
REFUSED = (
    "FOLDER: no checkpoint reads back whole, and the same, in all 2 processes; "
    "name a folder that all of them see, or delete it and train anew"
)
Found = dict[object, Any]


@dataclass(frozen=True, slots=True)
class View:
    """How the folder of one process differs from the others', and the epoch that all then go on from; None if they refuse."""

    of: int
    change: Callable[[Path], None]
    epoch: int | None


def without(*numbers: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for number in numbers:
            shutil.rmtree(folder / f"{number:06d}")

    return change


def truncated(name: str) -> Callable[[Path], None]:
    """A file of the newest ends too soon."""

    def change(folder: Path) -> None:
        (folder / f"{EPOCHS:06d}" / name).write_bytes(b"half")

    return change


def foreign(folder: Path) -> None:
    """Checkpoints of another training, under the same numbers, each of them whole."""
    shutil.rmtree(folder)
    alone(folder.parent, plan=replace(PLAN, rate=0.02))


VIEWS = {
    "the same": View(1, without(), EPOCHS),
    "the other lacks the newest": View(1, without(EPOCHS), EPOCHS - 1),
    "the first lacks the newest": View(0, without(EPOCHS), EPOCHS - 1),
    "the other has none": View(1, without(*NUMBERS), None),
    "the first has none": View(0, without(*NUMBERS), 0),
    "numbers end too soon": View(1, truncated("state.json"), EPOCHS - 1),
    "tensors end too soon": View(1, truncated("state.safetensors"), EPOCHS - 1),
    "rows end too soon": View(1, truncated("rows-0-of-1.safetensors"), EPOCHS - 1),
    "the first one's end too soon": View(0, truncated("state.safetensors"), EPOCHS - 1),
    "each has another training's": View(1, foreign, None),
}


class Counted:
    """The batches, and the epochs that they were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, epoch: int, start: int) -> Iterable[Batch]:
        self.asked.append(epoch)
        return batches(epoch, start)


def model() -> Recommender:
    torch.manual_seed(0)
    return RECIPES["mmoe"](SCHEMA, SIZES)


def content(_: Recommender) -> float:
    """A judge to whom every epoch is like the first."""
    return 1.0


def alone(folder: Path, *, plan: Plan = PLAN) -> None:
    """One process's training, and its last two checkpoints."""
    trained(model(), batches, folder, plan=plan, judge=content, watch=Silence())


def went_on(folder: Path, plan: Plan) -> tuple[list[int], dict[str, Tensor]]:
    """The epochs that were trained here, and the weights at the end; none where it was refused."""
    asked, made = Counted(), model()
    try:
        trained(made, asked, folder, plan=plan, judge=content, watch=Silence())
    except UserError:
        return asked.asked, {}
    return asked.asked, made.state_dict()


def read(folder: Path, group: ProcessGroup, shards: Shards) -> int | str:
    """The epoch of the checkpoint that this process goes on from (0 where there is none), or what it says."""
    try:
        state = checkpoint.load(folder, shards=shards, group=group)
    except UserError as error:
        return str(error).replace(str(folder), "FOLDER")
    return 0 if state is None else state.progress.epoch


def work(group: ProcessGroup, folder: Path) -> None:
    rank = dist.get_rank(group)
    found: Found = {}
    for name, view in VIEWS.items():
        own = folder / name / str(rank)
        shutil.copytree(folder / "alone", own)
        if view.of == rank:
            view.change(own / "checkpoint")
        dist.barrier(group)
        found["replicas", name] = read(own / "checkpoint", group, checkpoint.ALONE)
        found["shards", name] = read(own / "checkpoint", group, Shards(group))
        found["trained", name] = went_on(own, replace(PLAN, epochs=MORE, group=group))
    found["every"] = [every(group, here) for here in (True, False, is_first(group), not is_first(group))]
    found["most"] = [most(group, here) for here in (rank, -rank, 2**40 + rank)]
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    folder = tmp_path_factory.mktemp("seen")
    alone(folder / "alone")
    assert sorted(int(path.name) for path in (folder / "alone" / "checkpoint").iterdir()) == NUMBERS
    together(WORLD, work, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("tables", ["replicas", "shards"])
@pytest.mark.parametrize("name", VIEWS)
def test_all_read_one_checkpoint_or_say_the_same(name: str, tables: str, found: list[Found]) -> None:
    expected = REFUSED if VIEWS[name].epoch is None else VIEWS[name].epoch
    assert [one[tables, name] for one in found] == [expected] * WORLD


@pytest.mark.parametrize("name", VIEWS)
def test_training_goes_on_in_step(name: str, found: list[Found]) -> None:
    epoch = VIEWS[name].epoch
    (asked, first), *others = (one["trained", name] for one in found)
    assert asked == ([] if epoch is None else list(range(epoch, MORE)))
    assert bool(first) == (epoch is not None)
    for epochs, weights in others:
        assert epochs == asked
        assert weights.keys() == first.keys()
        assert all(torch.equal(tensor, first[key]) for key, tensor in weights.items())


def test_every_is_so_where_it_is_so_in_all(found: list[Found]) -> None:
    assert [one["every"] for one in found] == [[True, False, False, False]] * WORLD
    assert [every(None, True), every(None, False)] == [True, False]


def test_the_most_is_that_of_any(found: list[Found]) -> None:
    """Bytes, too, which 32 bits do not count."""
    assert [one["most"] for one in found] == [[1, 0, 2**40 + 1]] * WORLD
    assert most(None, 2**40) == 2**40


def test_one_process_still_says_that_nothing_reads_back(tmp_path: Path) -> None:
    alone(tmp_path)
    for file in (tmp_path / "checkpoint").rglob("*.safetensors"):
        file.write_bytes(b"half")
    assert read_alone(tmp_path / "checkpoint") == "no checkpoint reads back whole; delete the folder and train anew"


def read_alone(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        checkpoint.load(folder)
    return str(raised.value).removeprefix(f"{folder}: ")
