"""Whom each task listens to: the shares its gate gives, and whose experts they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from umbel.data.batch import Batch
from umbel.nn.recommender import Recommender
from umbel.study.transfer.listening import Listening, hear, listen, teachers


@dataclass(frozen=True, slots=True)
class Share:
    """How much of what a task hears, at the last layer, is this expert, and the tasks that teach it."""

    expert: int
    taught: tuple[str, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Gate:
    """What a task hears: the sums over its own experts, shared ones and the other tasks', and expert by expert."""

    heard: Listening
    experts: tuple[Share, ...]


def gates(model: Recommender, batch: Batch) -> Mapping[str, Gate]:
    """Every task's gate, its shares averaged over rows; empty where the last layer is no mixture of experts."""
    last = len(model.layers) - 1
    found = hear(model, [batch])
    if last not in found:
        return {}
    names = [task.name for task in model.schema.tasks]
    taught = [tuple(names[task] for task in tasks) for tasks in teachers(model, last)]
    sums, _ = listen(model, [batch])
    return {
        one.task: Gate(one, tuple(Share(expert, taught[expert], float(share)) for expert, share in enumerate(row) if share > 0))
        for one, row in zip(sums, found[last].mean, strict=False)
    }
