"""The loop over whole tables that ours is timed beside trains the same model: losses, tables and weights after several steps."""

from __future__ import annotations

import copy

import pytest
import torch
from benchmarks.published import Published

from umbel.data.batch import Batch
from umbel.learn.plan import Plan
from umbel.learn.step import Exact
from umbel.nn.recommender import Sizes
from umbel.recipes import RECIPES
from umbel.schema import Field, FieldKind, Schema, Task

ROWS, IDS, L2 = 64, 40, 1e-2  # an L2 that can be seen
FIELDS = ("user", "item", "hour")
SCHEMA = Schema(tuple(Field(name, FieldKind.ID, min_count=1) for name in FIELDS), (Task("a"), Task("b")))


def batch(seed: int) -> Batch:
    """Few ids, so that most rows of the tables are touched and some are not."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (ROWS, 2), generator=draw).float()
    fields = {name: torch.randint(0, IDS - 10, (ROWS,), generator=draw, dtype=torch.int32) for name in FIELDS}
    return Batch(fields, labels, torch.ones_like(labels, dtype=torch.bool), torch.arange(ROWS))


@pytest.mark.parametrize("recipe", ["shared_bottom", "stem"])
def test_the_published_loop_makes_the_updates_of_our_exact_mode(recipe: str) -> None:
    torch.manual_seed(0)
    sizes = Sizes(dict.fromkeys(FIELDS, IDS), dim=4, expert=(8, 4), tower=(4,), specific=1, shared=2)
    one = RECIPES[recipe](SCHEMA, sizes)
    with torch.no_grad():
        one.table.normal_(std=0.1)
    before, other = one.table.detach().clone(), copy.deepcopy(one)
    exact, loop = Exact(one, Plan(rate=1e-3, l2=L2, exact=True)), Published(other, l2=L2)
    for seed in range(4):
        torch.testing.assert_close(loop(batch(seed)), exact(batch(seed)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([weight.detach() for weight in loop.weights]), one.table.detach(), rtol=1e-4, atol=1e-5)
    assert bool((one.table != before).all()), "L2 moves rows that no batch touches, too"
    for mine, theirs in zip(other.dense_parameters(), one.dense_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
