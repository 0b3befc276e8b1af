"""Cosines, conflicts and look-ahead gains where the answer is known: tasks that are one, that are opposites, that share nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from tests import everykind
from torch import Tensor

from umbel.data.batch import Batch
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import alone, mmoe, shared_bottom, stem
from umbel.schema import Field, FieldKind, Schema, Task
from umbel.study.transfer.gradients import Affinity, Conflict, affinities, conflicts

SCHEMA = Schema((Field("user", FieldKind.ID), Field("item", FieldKind.ID)), (Task("click"), Task("like")))
VOCABULARY = {"user": 9, "item": 7}
SIZES = Sizes(VOCABULARY, dim=3, expert=(8, 6), tower=(), specific=1, shared=1)


def batch(rows: int = 64, *, seed: int = 0, like: str = "other") -> Batch:
    draw = torch.Generator().manual_seed(seed)
    fields = {name: torch.randint(0, size, (rows,), generator=draw) for name, size in VOCABULARY.items()}
    click = torch.randint(0, 2, (rows,), generator=draw).float()
    likes = {"same": click, "opposite": 1 - click, "other": torch.randint(0, 2, (rows,), generator=draw).float()}
    labels = torch.stack([click, likes[like]], 1)
    return Batch(fields, labels, torch.ones_like(labels, dtype=torch.bool), torch.arange(rows))


def built(make: Callable[[Schema, Sizes], Recommender], *, twins: bool = False, tower: float = 1.0) -> Recommender:
    """With `twins` both tasks have one tower's numbers, times `tower`."""
    torch.manual_seed(0)
    model = everykind.awake(make(SCHEMA, SIZES))
    named: dict[str, Tensor] = dict(model.named_parameters())
    first, second = (parts for name, parts in model.groups().items() if name.startswith("tower"))
    with torch.no_grad():
        for one, other in zip(first, second, strict=True) if twins else ():
            one.of(named).mul_(tower)
            other.of(named).copy_(one.of(named))
    return model


def cosine(pair: Sequence[Tensor]) -> float:
    one, other = (each.flatten() for each in pair)
    return float(one @ other / (one.norm() * other.norm()))


def at(found: Sequence[Conflict], layer: str) -> Conflict:
    (one,) = (each for each in found if each.layer == layer)
    return one


def test_one_task_twice_agrees_everywhere() -> None:
    model = built(shared_bottom, twins=True)
    found = conflicts(model, [batch(like="same")], VOCABULARY)
    assert {one.layer for one in found} == {"view", "layer 0 expert", "table user", "table item"}
    for one in found:
        assert one.cosine == pytest.approx(1.0, abs=1e-6)
        assert one.conflicts == 0.0


def test_opposite_tasks_pull_apart() -> None:
    # Towers near 0 give logits near 0, where the gradients of y and of 1 - y are opposite.
    model = built(shared_bottom, twins=True, tower=1e-3)
    found = conflicts(model, [batch(like="opposite", seed=one) for one in range(3)], VOCABULARY)
    assert at(found, "view").cosine == pytest.approx(-1.0, abs=1e-3)
    assert at(found, "view").conflicts == 1.0


def test_cosines_against_a_plain_loop() -> None:
    model, rows = built(mmoe), batch()
    losses = model.losses(model(rows.fields), rows)
    gradients = [torch.autograd.grad(loss, model.table, retain_graph=True)[0].flatten() for loss in losses]
    expected = cosine(gradients)
    whole = {"view": slice(None), "table user": slice(0, 9), "table item": slice(9, 16)}
    found = conflicts(model, [rows], VOCABULARY)
    assert at(found, "view").cosine == pytest.approx(expected, abs=1e-5)
    for name in ("table user", "table item"):
        each = [torch.autograd.grad(loss, model.table, retain_graph=True)[0][whole[name]].flatten() for loss in losses]
        assert at(found, name).cosine == pytest.approx(cosine(each), abs=1e-5)


def test_the_mean_and_the_share_are_over_batches() -> None:
    model, several = built(mmoe), [batch(seed=seed) for seed in range(4)]
    each = [at(conflicts(model, [one], VOCABULARY), "view").cosine for one in several]
    found = at(conflicts(model, several, VOCABULARY), "view")
    assert found.cosine == pytest.approx(sum(each) / 4, abs=1e-6)
    assert found.conflicts == sum(one < 0 for one in each) / 4


def test_separate_models_have_nothing_to_disagree_about() -> None:
    model = built(alone)
    assert conflicts(model, [batch()], VOCABULARY) == ()
    assert affinities(model, [batch()]) == ()


def test_only_what_both_teach_is_looked_at() -> None:
    """STEM's own views and experts are one task's alone; the shared view and expert are both's."""
    model = built(stem)
    shared = {group for group, tasks in model.reach.items() if len(tasks) > 1}
    assert shared == {"view 2", "layer 0 expert 2"}
    found = conflicts(model, [batch()], VOCABULARY)
    assert {one.layer for one in found} == {"view", "layer 0 expert", "table user", "table item"}
    rows = batch()
    each = [torch.autograd.grad(loss, model.table, retain_graph=True)[0][:, 6:] for loss in model.losses(model(rows.fields), rows)]
    assert at(found, "view").cosine == pytest.approx(cosine(each), abs=1e-5)


def test_an_unseen_task_is_left_out() -> None:
    one = batch()
    unseen = Batch(one.fields, one.labels, torch.tensor([True, False]).expand(64, 2), one.index)
    assert conflicts(built(mmoe), [unseen], VOCABULARY) == ()


def gain(found: Sequence[Affinity], helper: str) -> float:
    (one,) = (each for each in found if each.helper == helper)
    return one.percent


def test_a_step_helps_its_twin_as_much_as_itself() -> None:
    model = built(shared_bottom, twins=True)
    found = affinities(model, [batch(like="same")])
    assert gain(found, "click") == pytest.approx(1.0, rel=0.15)  # to first order 1 %
    assert gain(found, "click") == pytest.approx(gain(found, "like"), rel=1e-4)


def test_gains_against_a_step_taken_by_hand() -> None:
    model, rows = built(shared_bottom), batch(rows=200)
    (before, other), names = model.losses(model(rows.fields), rows), ["table"]
    names += [name for name, _ in model.named_parameters() if name.startswith("layers")]
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(before, [named[name] for name in names], retain_graph=True)
    rate = 0.01 * before.item() / sum(one.square().sum().item() for one in gradients)
    with torch.no_grad():
        for name, gradient in zip(names, gradients, strict=True):
            named[name].sub_(rate * gradient)
    after = model.losses(model(rows.fields), rows)[1]
    with torch.no_grad():
        for name, gradient in zip(names, gradients, strict=True):
            named[name].add_(rate * gradient)
    assert gain(affinities(model, [rows]), "click") == pytest.approx(100 * (1 - (after / other).item()), abs=2e-3)


def test_the_model_is_left_as_it_was() -> None:
    model = built(stem)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    affinities(model, [batch()])
    conflicts(model, [batch()], VOCABULARY)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
