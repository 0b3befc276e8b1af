"""`alone` with T tasks is T separate models: the same scores, the same gradients, the same training."""

from __future__ import annotations

import pytest
import torch
from tests import everykind
from tests.everykind import fields, gradients, sizes
from torch import Tensor

from umbel.nn.losses import task_losses
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import alone
from umbel.schema import Schema

TASKS = 3


def single(schema: Schema, task: int, together: Recommender, size: Sizes) -> Recommender:
    """The model of one task, with the numbers that task has in the model of all."""
    apart = alone(Schema(schema.fields, (schema.tasks[task],)), size)
    with torch.no_grad():
        for name, parts in apart.groups().items():
            for own, other in zip(parts, together.groups()[rename(name, task, size)], strict=True):
                own.of(dict(apart.named_parameters())).copy_(other.of(dict(together.named_parameters())))
    return apart


def rename(name: str, task: int, size: Sizes) -> str:
    """The name that a group of the single model has in the model of all tasks."""
    kind, number = name.rsplit(" ", 1)
    if kind == "tower":
        return name
    experts = size.specific
    return f"{kind} {task * experts + int(number) if kind.endswith('expert') else task}"


@pytest.mark.parametrize("specific", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_scores_and_gradients_are_those_of_separate_models(layers: int, specific: int) -> None:
    torch.manual_seed(0)
    schema, size, batch = everykind.schema(TASKS), sizes(layers=layers, specific=specific), fields()
    together = everykind.awake(alone(schema, size))
    logits = together(batch)
    for task in range(TASKS):
        apart = single(schema, task, together, size)
        own = apart(batch)
        torch.testing.assert_close(own[:, 0], logits[:, task], atol=1e-6, rtol=1e-6)
        mine = gradients(apart, own.square().sum())
        all_of = gradients(together, logits[:, task].square().sum())
        for name, parts in apart.groups().items():
            for one, other in zip(parts, together.groups()[rename(name, task, size)], strict=True):
                torch.testing.assert_close(one.of(mine), other.of(all_of), atol=1e-5, rtol=1e-4)


def test_training_together_is_training_apart() -> None:
    torch.manual_seed(1)
    schema, size, batch = everykind.schema(TASKS), sizes(), fields(32)
    labels = everykind.labels(32, TASKS, seen=0.7)
    together = everykind.awake(alone(schema, size))
    apart = [single(schema, task, together, size) for task in range(TASKS)]
    train(together, batch, labels)
    for task, model in enumerate(apart):
        train(model, batch, everykind.Labels(labels.labels[:, task:task + 1], labels.seen[:, task:task + 1]))
        torch.testing.assert_close(model(batch)[:, 0], together(batch)[:, task], atol=1e-5, rtol=1e-4)


def test_the_sizes_add_up() -> None:
    schema, size = everykind.schema(TASKS), sizes(layers=2)
    count = sum(parameter.numel() for parameter in alone(schema, size).parameters())
    one = sum(parameter.numel() for parameter in alone(everykind.schema(1), size).parameters())
    assert count == TASKS * one


def train(model: Recommender, batch: dict[str, Tensor], labels: everykind.Labels) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = task_losses(model(batch), labels, model.schema).sum()
        torch.autograd.backward(loss)
        optimizer.step()
