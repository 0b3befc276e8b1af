"""The benchmark of a GPU, tried on a CPU: what it compares takes turns, and it times nothing that is not what the CPU finds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmarks.published import Published

from umbel.data.batch import Batch
from umbel.learn.step import Step

CPU = torch.device("cpu")
SHRINK = 10**5  # of the ids


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        return import_module("gpu")


def test_ways_take_turns_and_the_first_round_is_not_counted(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[str, torch.dtype | None, int]] = []

    def rate(step: Step | Published, rows: list[Batch], device: torch.device) -> float:
        taken.append((type(step).__name__, step.plan.precision if isinstance(step, Step) else None, id(step)))
        assert {len(batch.labels) for batch in rows} == {16}
        return float(len(taken))

    monkeypatch.setattr(gpu, "rate", rate)
    monkeypatch.setattr(gpu, "products", lambda device, *, side: 100.0 * len(taken))
    found = gpu.measured(16, SHRINK, CPU, 3)
    ways = [("Fast", None), ("Fast", torch.bfloat16), ("Published", None)]
    assert [(kind, precision) for kind, precision, _ in taken] == 4 * ways
    assert len({one for _, _, one in taken}) == 3, "each keeps its own model"
    assert found == {
        "float32": [4, 7, 10], "bfloat16": [5, 8, 11], "published loop": [6, 9, 12], gpu.PRODUCTS: [600, 900, 1200],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["float32", "listwise", "bfloat16"])
def test_steps_are_checked_against_those_of_the_cpu(gpu: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "FEW", 64)
    check = gpu.CHECKS[name]
    found = gpu.check(check, SHRINK, CPU)
    assert 0 <= found < check.close
    assert (found == 0) is (name != "bfloat16")


def test_losses_that_are_not_close_are_refused(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "FEW", 64)
    with pytest.raises(AssertionError, match="losses on cpu differ by"):
        gpu.check(gpu.Check(precision=torch.bfloat16, close=1e-7), SHRINK, CPU)


def test_every_check_trains_what_it_says(gpu: ModuleType) -> None:
    assert list(gpu.CHECKS) == ["float32", "listwise", "bfloat16"]
    made = gpu.model(SHRINK, gpu.CHECKS["listwise"].loss)
    assert {task.loss.name for task in made.schema.tasks} == {"listwise"}
    batch = gpu.batches(16, SHRINK, CPU)[1]
    assert batch.group.tolist() == [2] * 8 + [3] * 8
