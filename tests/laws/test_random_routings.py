"""Whom a gradient reaches, on routings nobody would think of: the declaration against autograd, and the shares against softmaxes."""

from __future__ import annotations

from random import Random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import everykind
from tests.everykind import fields, gradients, touched
from torch import Tensor

from umbel.nn.mixture import Mixture
from umbel.nn.reach import Reach, Tasks, reach
from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import Route, Routing
from umbel.recipes import routed

SIZES = Sizes(everykind.VOCABULARY, dim=3, expert=(16,), tower=())


SEEDS = st.integers(0, 2**32)
Stack = tuple[int, tuple[Routing, ...]]


def row(draw: Random, experts: int) -> tuple[Route, ...]:
    """A reader hears somebody; one that hears a single expert teaches it, since no gate stands between."""
    found = [draw.choice(list(Route)) for _ in range(experts)]
    if not any(found):
        found[draw.randrange(experts)] = Route.OPEN
    alone = sum(map(bool, found)) == 1
    return tuple(Route.OPEN if alone and route else route for route in found)


def layer(draw: Random, readers: int, below: int) -> Routing:
    """Up to four experts over up to `below` inputs, of which those that nobody reads are left out."""
    experts = draw.randint(1, 4)
    views = tuple(draw.randrange(below) for _ in range(experts))
    table = tuple(row(draw, experts) for _ in range(readers))
    alike = len({tuple(map(bool, one)) for one in table}) == 1
    sums = [tuple(sorted(draw.sample(range(below), draw.randint(1, below)))) for _ in range(readers)]
    routing = Routing(views, table, tuple(sums[:1] if alike and draw.random() < 0.5 else sums))
    return routing.renumber(routing.inputs)


def stack(seed: int) -> Stack:
    """Tasks, and one to three layers, made from the top down: a layer has the readers that the next one reads."""
    draw = Random(seed)
    tasks = readers = draw.randint(1, 3)
    found: list[Routing] = []
    for _ in range(draw.randint(1, 3)):
        found.append(layer(draw, readers, draw.randint(1, 3)))
        readers = len(found[-1].inputs)
    return tasks, tuple(reversed(found))


def built(tasks: int, routings: tuple[Routing, ...]) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(routed(everykind.schema(tasks), SIZES, routings=routings))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_reach_is_what_autograd_finds(seed: int) -> None:
    tasks, routings = stack(seed)
    model = built(tasks, routings)
    logits = model(fields(32))
    groups, declared = model.groups(), model.reach
    for task in range(tasks):
        found = gradients(model, logits[:, task].square().sum())
        reached = {name for name, parts in groups.items() if touched(parts, found)}
        assert reached == {name for name, own in declared.items() if task in own}


def product(routings: tuple[Routing, ...], tasks: int) -> list[Reach]:
    """The levels' reaches, each from what the one above says of its inputs."""
    readers: tuple[Tasks, ...] = tuple((task,) for task in range(tasks))
    found: list[Reach] = []
    for routing in reversed(routings):
        found.insert(0, reach(routing, readers))
        readers = found[0].inputs
    return found


def walked(routings: tuple[Routing, ...], tasks: int) -> list[set[tuple[str, int, int]]]:
    """Per task, the (kind, layer, number) its gradient comes to, by walking from its reader down, an edge at a time."""
    found = []
    for task in range(tasks):
        reached: set[tuple[str, int, int]] = set()
        waiting = [(len(routings) - 1, task)]
        while waiting:
            level, reader = waiting.pop()
            if level < 0 or ("reader", level, reader) in reached:
                reached.add(("input", level, reader))
                continue
            reached.add(("reader", level, reader))
            routing = routings[level]
            for expert in routing.heard(reader):
                if routing.table[reader][expert] is Route.OPEN:
                    reached.add(("expert", level, expert))
                    waiting.append((level - 1, routing.views[expert]))
            if len(routing.heard(reader)) > 1:
                gate = routing.gate[reader]
                reached.add(("gate", level, gate))
                waiting.extend((level - 1, one) for one in routing.gates[gate])
        found.append(reached)
    return found


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_reach_is_a_walk_along_the_edges(seed: int) -> None:
    tasks, routings = stack(seed)
    levels = product(routings, tasks)
    walks = walked(routings, tasks)
    for number, level in enumerate(levels):
        for kind, declared in (("expert", level.experts), ("gate", level.gates)):
            for one, taught in enumerate(declared):
                assert taught == tuple(task for task in range(tasks) if (kind, number, one) in walks[task])
    for view, taught in enumerate(levels[0].inputs):
        assert taught == tuple(task for task in range(tasks) if ("input", -1, view) in walks[task])


@settings(max_examples=100, deadline=None)
@given(SEEDS, SEEDS)
def test_opening_a_route_takes_nobody_away(seed: int, other: int) -> None:
    """Reach grows with what is opened, in that layer and in all below."""
    tasks, routings = stack(seed)
    at = other % len(routings)
    table = tuple(tuple(Route.OPEN if route else route for route in row) for row in routings[at].table)
    opened = (*routings[:at], Routing(routings[at].views, table, routings[at].gates), *routings[at + 1:])
    for before, after in zip(product(routings, tasks), product(opened, tasks), strict=True):
        for kind in ("experts", "gates", "inputs"):
            pairs = zip(getattr(before, kind), getattr(after, kind), strict=True)
            assert all(set(one) <= set(more) for one, more in pairs)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_mixture_is_a_sum_in_shares(seed: int) -> None:
    """What a reader hears is its shares times what experts say; shares are whole, and none goes to whom it does not hear."""
    routing = stack(seed)[1][0]
    torch.manual_seed(1)
    mixture = Mixture(routing, (5, 4))
    inputs = tuple(torch.randn(6, 5) for _ in routing.inputs)
    shares = mixture.shares(inputs)
    blocks: list[Tensor] = mixture.bank(inputs)
    said = torch.cat(blocks).index_select(0, torch.tensor([mixture.bank.order.index(one) for one in range(len(routing.views))]))
    heard = torch.tensor([[bool(route) for route in row] for row in routing.table])
    torch.testing.assert_close(shares.sum(2), torch.ones(6, len(routing.table)))
    assert ((shares > 0) == heard).all()
    voices = mixture(inputs)
    for reader, voice in enumerate(mixture.voice):
        torch.testing.assert_close(voices[voice], torch.einsum("re,erh->rh", shares[:, reader], said), atol=1e-6, rtol=1e-5)
