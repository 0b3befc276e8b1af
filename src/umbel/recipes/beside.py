"""The architectures that are no table of experts: networks that exchange what they found, and fusions beside the gates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from umbel.nn import routing
from umbel.nn.adatt import AdaTT
from umbel.nn.layer import MakeLayer
from umbel.nn.recommender import PLAIN, Parts, Recommender, Sizes
from umbel.nn.routing import Paradigm, Routing, one_view
from umbel.nn.stitch import CrossStitch
from umbel.recipes.tables import mixture
from umbel.schema import Schema


def cross_stitch(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """A network a task, and cells between their layers (https://arxiv.org/abs/1604.03539); see `umbel.nn.stitch`.

    `specific` and `shared` do not apply: a task has one network, of the widths `expert`.
    """
    tasks = len(schema.tasks)
    reads, views = _read(paradigm(tuple(range(tasks)), tasks).views)
    above = tuple(range(tasks))
    layers: list[MakeLayer] = [partial(_stitch, reads if level == 0 else above, sizes) for level in range(sizes.layers)]
    return Recommender(schema, sizes, views=views, layers=layers, parts=parts)


def adatt(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """Adaptive task-to-task fusion (https://arxiv.org/abs/2304.04959); see `umbel.nn.adatt`.

    With `shared = 0` the paper's AdaTT-sp, else its general form.
    """
    tasks, own = len(schema.tasks), sizes.specific
    routings = routing.stack(partial(routing.adatt, tasks, (own, sizes.shared)), paradigm, layers=sizes.layers, tasks=tasks)
    owned = (*(tuple(range(task * own, (task + 1) * own)) for task in range(tasks)), tuple(range(tasks * own, tasks * own + sizes.shared)))
    layers = [partial(_adatt, one, owned, sizes=sizes) for one in routings]
    return Recommender(schema, sizes, views=len(routings[0].inputs), layers=layers, parts=parts)


def _stitch(reads: tuple[int, ...], sizes: Sizes, width: int) -> CrossStitch:
    return CrossStitch(reads, (width, *sizes.expert), dropout=sizes.dropout)


def _adatt(routing: Routing, owned: tuple[tuple[int, ...], ...], width: int, *, sizes: Sizes) -> AdaTT:
    return AdaTT(mixture(routing, sizes, width), owned)


def _read(views: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The views that somebody reads, numbered anew, and how many they are."""
    known = sorted(set(views))
    return tuple(known.index(view) for view in views), len(known)
