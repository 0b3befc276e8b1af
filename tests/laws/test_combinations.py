"""Recipes, paradigms, interactions, sequence encoders and heads in every pair: no choice of one spoils another."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from tests.laws.test_gradient_law import check

from umbel.nn.heads import HEADS
from umbel.nn.interact import INTERACTS, InteractSizes
from umbel.nn.recommender import Parts, Recommender
from umbel.nn.routing import PARADIGMS
from umbel.nn.sequence import SEQUENCES, SequenceSizes
from umbel.nn.views import compact
from umbel.recipes import RECIPES
from umbel.schema import Schema, Task

Choice = tuple[str, ...]
ROOT = Path(__file__).parents[2]
PIECES = (tuple(INTERACTS), tuple(SEQUENCES), tuple(HEADS))
EVERY: list[Choice] = [(recipe, paradigm or "", *pieces) for recipe, paradigm in everykind.PAIRS for pieces in itertools.product(*PIECES)]
TASKS = (Task("click"), Task("like", given="click"), Task("buy", given="like"))
SCRIPT = """
import sys, torch
from tests import everykind
from tests.laws.test_combinations import EACH_ONCE, made
for number in map(int, sys.argv[1:]):
    model = made(EACH_ONCE[number]).eval()
    batch = everykind.fields(6)
    free = {field: {0: torch.export.Dim("rows", min=1, max=100_000)} for field in batch}
    graph = torch.export.export(model, (batch,), dynamic_shapes=(free,)).module()
    for rows in (1, 5, 64):
        other = everykind.fields(rows, seed=rows)
        torch.testing.assert_close(graph(other), model(other), atol=1e-5, rtol=1e-5)
    print(number)
"""


def pairs(choice: Choice) -> set[tuple[int, str, int, str]]:
    """Every two axes with what was chosen on them."""
    places = itertools.combinations(range(len(choice)), 2)
    return {(one, choice[one], other, choice[other]) for one, other in places}


def covering(every: list[Choice]) -> list[Choice]:
    """Few of the choices that hold every pair at least once: each the one with the most pairs that are still missing."""
    held = {choice: pairs(choice) for choice in every}
    missing = set().union(*held.values())
    found: list[Choice] = []
    while missing:
        found.append(max(every, key=lambda choice: len(held[choice] & missing)))
        missing -= held[found[-1]]
    return found


COVERING = covering(EVERY)
CROSSED = list(itertools.product(INTERACTS, SEQUENCES))
EACH_ONCE = [("stem", "own+shared", *pair) for _, *pair in zip(range(max(map(len, PIECES))), *map(itertools.cycle, PIECES), strict=False)]


def made(choice: Choice) -> Recommender:
    recipe, paradigm, interact, sequence, head = choice
    torch.manual_seed(0)
    reads = SEQUENCES[sequence](SequenceSizes(hidden=3, layers=2))
    parts = Parts(INTERACTS[interact](InteractSizes(hidden=6, rank=2)), reads, HEADS[head]())
    build = partial(RECIPES[recipe], Schema(everykind.FIELDS, TASKS), sizes(), parts=parts)
    return everykind.awake(build(paradigm=PARADIGMS[paradigm]) if paradigm else build())


def test_the_set_is_small_and_covers_every_pair() -> None:
    assert set().union(*map(pairs, COVERING)) == set().union(*map(pairs, EVERY))
    assert len(COVERING) <= max(60, len(RECIPES) * max(map(len, (PARADIGMS, *PIECES))) + 6)


@pytest.mark.parametrize("choice", COVERING, ids="-".join)
def test_a_combination_keeps_the_laws(choice: Choice) -> None:
    """Reach as declared, rows alone as together, touched rows as the whole table, every number in one group."""
    model, batch = made(choice), fields(9)
    check(model)
    model.eval()
    together = model(batch)
    alone = torch.cat([model({name: column[row:row + 1] for name, column in batch.items()}) for row in (0, 2, 5)])
    torch.testing.assert_close(together[[0, 2, 5]], alone, atol=1e-5, rtol=1e-5)
    touched, local = compact(model.rows(batch))
    logits = model.score(local, batch)
    torch.testing.assert_close(logits, together, atol=1e-6, rtol=1e-6)
    whole = torch.autograd.grad(together.square().sum(), model.table)[0]
    few = torch.autograd.grad(logits.square().sum(), local["table"])[0]
    torch.testing.assert_close(few, whole[touched], atol=1e-4, rtol=1e-3)
    counts = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for parts in model.groups().values():
        for part in parts:
            part.of(counts).add_(1)
    assert all(bool((count == 1).all()) for count in counts.values())


@pytest.mark.parametrize(("interact", "sequence"), CROSSED)
def test_every_kind_of_field_counts_in_every_view(interact: str, sequence: str) -> None:
    """Under a view a task: an id, a number, a history, a bag and a vector each move every task."""
    model = made(("alone", "own", interact, sequence, "independent")).eval()
    batch = fields(24, missing=False)
    before = model(batch)
    for name, other in fields(24, seed=1, missing=False).items():
        moved = (model({**batch, name: other}) - before).abs().amax(0)
        assert (moved > 1e-6).all(), name


@pytest.mark.parametrize(("interact", "sequence"), CROSSED)
def test_missing_and_empty_are_finite(interact: str, sequence: str) -> None:
    model, batch = made(("stem", "own+shared", interact, sequence, "independent")).eval(), fields(4)
    batch |= {name: torch.full_like(batch[name], -1) for name in ("watched", "tags")}
    batch |= {name: torch.full_like(batch[name], torch.nan) for name in ("age", "price", "picture")}
    logits = model(batch)
    assert logits.isfinite().all()
    gradients = everykind.gradients(model, logits.square().sum())
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


def test_interactions_and_encoders_leave_python_unchanged() -> None:
    """In a process of its own, since the checks of shapes while tests run cannot be exported."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    numbers = [str(number) for number in range(len(EACH_ONCE))]
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, *numbers], check=False, capture_output=True, text=True,
                         cwd=ROOT, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == numbers


@pytest.mark.parametrize("choice", EACH_ONCE, ids="-".join)
def test_saved_and_read_again(choice: Choice) -> None:
    model, other, batch = made(choice).eval(), made(choice).eval(), fields(6)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(batch), model(batch))
    assert set(model.state_dict()) == set(dict(model.named_parameters()))
