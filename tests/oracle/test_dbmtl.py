"""Towers on a graph of tasks against plain loops over it, and every way to choose the graph."""

from __future__ import annotations

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from tests.laws.test_gradient_law import check
from tests.loops import Leaves
from torch import Tensor

from umbel.errors import UserError
from umbel.nn.heads import MakeDbmtl
from umbel.nn.heads.dbmtl import Edges, parents
from umbel.nn.losses import Denominator, task_losses
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.recipes import alone, mmoe
from umbel.schema import Field, FieldKind, Schema, Task

NAMES = ("click", "seconds", "like", "share")
USER = (Field("user", FieldKind.ID),)
DIAMOND: Edges = (("like", "seconds"), ("like", "share"), ("seconds", "click"), ("share", "click"))


def model(edges: Edges | None, recipe: object = alone, tower: tuple[int, ...] = (6,)) -> Recommender:
    torch.manual_seed(0)
    assert callable(recipe)
    size = Sizes(everykind.VOCABULARY, dim=3, expert=(10, 8), tower=tower)
    made: Recommender = recipe(everykind.schema(4), size, parts=Parts(head=MakeDbmtl(edges)))
    return everykind.awake(made).eval()


def by_loops(leaves: Leaves, heard: list[Tensor], above: dict[int, tuple[int, ...]], order: tuple[int, ...]) -> Tensor:
    """Each tower layer by layer, in an order in which those it reads are done; what it shows is the layer before its last."""
    hidden: dict[int, Tensor] = {}
    said: dict[int, Tensor] = {}
    for task in order:
        x = torch.cat([heard[task], *(hidden[one] for one in above[task])], 1)
        parts = leaves.model.groups()[f"tower {NAMES[task]}"]
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        for level, (weight, bias) in enumerate(pairs):
            if level == len(pairs) - 1:
                hidden[task] = x
            w = weight.of(leaves.of)
            x = x @ (w[0] if w.ndim == 3 else w.T) + bias.of(leaves.of).flatten()
            x = x if level == len(pairs) - 1 else torch.relu(x)
        said[task] = x
    return torch.cat([said[task] for task in range(4)], 1)


@pytest.mark.parametrize("tower", [(6,), (7, 5), ()])
def test_by_plain_loops(tower: tuple[int, ...]) -> None:
    leaves, batch = Leaves(model(DIAMOND, tower=tower)), fields(9)
    heard = [leaves.mlp(f"layer 0 expert {task}", leaves.view(batch, task)) for task in range(4)]
    above = {2: (), 1: (2,), 3: (2,), 0: (1, 3)}
    leaves.check(by_loops(leaves, heard, above, (2, 1, 3, 0)), batch)


@pytest.mark.parametrize("edges", [None, (), DIAMOND, (("share", "click"),), (("click", "share"), ("seconds", "share"))])
@pytest.mark.parametrize("recipe", [alone, mmoe])
def test_reach(edges: Edges | None, recipe: object) -> None:
    check(model(edges, recipe))


def test_every_task_teaches_all_that_lead_to_it() -> None:
    one = model(DIAMOND)
    assert one.head.hears == ((0, 1, 2, 3), (1, 2), (2,), (2, 3))
    assert one.reach["tower like"] == (0, 1, 2, 3)
    assert one.reach["tower click"] == (0,)
    assert one.reach["layer 0 expert 2"] == (0, 1, 2, 3)


def test_without_edges_towers_know_nothing_of_each_other() -> None:
    """The same numbers in both kinds of towers give the same logits."""
    one, other = model(()), everykind.awake(alone(everykind.schema(4), sizes())).eval()
    theirs = dict(other.named_parameters())
    with torch.no_grad():
        for group, parts in one.groups().items():
            for mine, its in zip(parts, other.groups()[group], strict=True):
                value = mine.of(dict(one.named_parameters()))
                target = its.of(theirs)
                target.copy_(value.T.reshape(target.shape) if target.ndim == 3 and value.ndim == 2 else value.reshape(target.shape))
    torch.testing.assert_close(other(fields()), one(fields()), atol=1e-6, rtol=1e-6)


def test_each_pays_its_own_loss() -> None:
    one = model(DIAMOND)
    logits, batch = one(fields(12)), everykind.labels(12, 4, seen=0.7)
    found = one.losses(logits, batch, denominator=Denominator.SEEN)
    assert torch.equal(found, task_losses(logits, batch, one.schema, denominator=Denominator.SEEN))


TASKS = (Task("buy", given="cart"), Task("like"), Task("click"), Task("cart", given="click"))


@pytest.mark.parametrize(("tasks", "edges", "expected"), [
    (TASKS, None, ((3,), (), (), (2,))),                                       # the edges of `given`
    ((Task("a"), Task("b"), Task("c")), None, ((), (0,), (1,))),               # none: the order in which tasks are declared
    ((Task("a"),), None, ((),)),
    (TASKS, (), ((), (), (), ())),
    (TASKS, (("like", "buy"), ("click", "buy")), ((1, 2), (), (), ())),
    (TASKS, (("like", "buy"), ("like", "buy")), ((1,), (), (), ())),           # twice is once
    (TASKS, (("buy", "click"),), ((), (), (0,), ())),                          # against the order of events, if one likes
])  # fmt: skip
def test_graphs(tasks: tuple[Task, ...], edges: Edges | None, expected: tuple[tuple[int, ...], ...]) -> None:
    assert parents(Schema(USER, tasks), edges) == expected


@pytest.mark.parametrize(("edges", "says"), [
    ((("click", "by"),), "model.head.edges: no task 'by'; did you mean 'buy'?"),
    ((("clik", "buy"),), "model.head.edges: no task 'clik'; did you mean 'click'?"),
    ((("buy", "buy"),), "model.head.edges: 'buy' reads itself; leave the edge out"),
    ((("click", "buy"), ("buy", "click")), "is a circle; leave one of these edges out"),
    ((("click", "cart"), ("cart", "buy"), ("buy", "click")), "is a circle; leave one of these edges out"),
])  # fmt: skip
def test_bad_graphs_are_one_line(edges: Edges, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parents(Schema(USER, TASKS), edges)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
