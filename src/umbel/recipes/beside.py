"""The architectures that are no table of experts: networks that exchange what they found, and fusions beside the gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from umbel.errors import UserError
from umbel.nn import routing
from umbel.nn.adatt import AdaTT
from umbel.nn.layer import MakeLayer
from umbel.nn.recommender import PLAIN, Parts, Recommender, Sizes
from umbel.nn.routing import Outlook, Paradigm, Routing, one_view
from umbel.nn.snr import SNR
from umbel.nn.stitch import CrossStitch
from umbel.nn.tables import Tables
from umbel.recipes.tables import mixture
from umbel.schema import Schema

SPARSITY = 1e-4

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


def snr_trans(
    schema: Schema, sizes: Sizes, *, sparsity: float = SPARSITY, paradigm: Paradigm = one_view, parts: Parts = PLAIN,
) -> Recommender:
    """Sub-network routing with a matrix a connection (https://doi.org/10.1609/aaai.v33i01.3301216); see `umbel.nn.snr`.

    There are as many sub-networks a level as `mmoe` has experts; `sparsity` prices an open connection.

    :raises UserError: for a negative price.
    """
    return _snr(schema, sizes, paradigm=paradigm, parts=parts, transform=True, sparsity=sparsity)


def snr_aver(
    schema: Schema, sizes: Sizes, *, sparsity: float = SPARSITY, paradigm: Paradigm = one_view, parts: Parts = PLAIN,
) -> Recommender:
    """Sub-network routing by weighted sums: as `snr_trans`, without matrices."""
    return _snr(schema, sizes, paradigm=paradigm, parts=parts, transform=False, sparsity=sparsity)


def ame(
    schema: Schema, sizes: Sizes, *,
    tables: tuple[int, ...] = (1, 2, 4), routes: tuple[tuple[int, ...], ...] = (), parts: Parts = PLAIN,
) -> Recommender:
    """Asymmetric multi-embedding: a few tables of different widths, whatever the number of tasks (https://arxiv.org/abs/2403.00793).

    `x_j = W_j [table j] + b_j`, and on these MMoE: experts are dealt round the tables, at least one each, and a task's gate, which
    reads the sum of the x_j it may hear, decides. `tables` are widths in units of `dim`; `routes` lists, task by task, the tables a
    task may hear (all by default), so that a small task can be kept to a narrow one. Embedding memory is `sum(tables) * dim` a
    row, however many tasks there are.

    The paper has neither equations nor code for it: tables and learned routes are its idea, the rest is our reading. Views are
    the tables' own; an interaction works on each `dim` numbers of a table.

    :raises UserError: for a route to a table that is not there, a table that nobody reads, or routes for other than all tasks.
    """
    tasks, number = len(schema.tasks), len(tables)
    homes = _homes(tables, routes, tasks=tasks)
    experts = max(tasks * sizes.specific + sizes.shared, number)
    outlook = Outlook(tuple(expert % number for expert in range(experts)), (*homes, tuple(range(number))))
    first, *above = routing.stack(partial(routing.mmoe, tasks, experts), lambda owners, tasks: outlook, layers=sizes.layers, tasks=tasks)
    layers: list[MakeLayer] = [partial(_tables, tables, sizes)]
    layers += [partial(mixture, one, sizes) for one in (routing.narrowed(first), *above)]
    return Recommender(schema, sizes, views=sum(tables), layers=layers, parts=parts)


def _stitch(reads: tuple[int, ...], sizes: Sizes, width: int) -> CrossStitch:
    return CrossStitch(reads, (width, *sizes.expert), dropout=sizes.dropout)


def _adatt(routing: Routing, owned: tuple[tuple[int, ...], ...], width: int, *, sizes: Sizes) -> AdaTT:
    return AdaTT(mixture(routing, sizes, width), owned)


def _snr(schema: Schema, sizes: Sizes, *, paradigm: Paradigm, parts: Parts, transform: bool, sparsity: float) -> Recommender:
    if sparsity < 0:
        raise UserError(f"model.options.sparsity = {sparsity:g}", mend="a price is 0 or more")
    tasks = len(schema.tasks)
    number = tasks * sizes.specific + sizes.shared
    reads, views = _read(paradigm((tasks,) * number, tasks).views)
    layers: list[MakeLayer] = []
    for level in range(sizes.layers):
        readers = tasks if level == sizes.layers - 1 else number
        made = partial(SNR, readers=readers, transform=transform, sparsity=sparsity, dropout=sizes.dropout)
        layers.append(partial(_sub_networks, made, tuple(range(number)) if level else reads, expert=sizes.expert))
    return Recommender(schema, sizes, views=views, layers=layers, parts=parts)


def _sub_networks(made: Callable[..., SNR], reads: tuple[int, ...], width: int, *, expert: tuple[int, ...]) -> SNR:
    return made(reads, (width, *expert))


def _tables(tables: tuple[int, ...], sizes: Sizes, width: int) -> Tables:
    return Tables(tables, (width, sizes.expert[0]))


def _homes(tables: tuple[int, ...], routes: tuple[tuple[int, ...], ...], *, tasks: int) -> tuple[tuple[int, ...], ...]:
    """The tables each task may hear; :raises UserError: unless every task has one and every table a reader."""
    if not tables or min(tables) < 1:
        raise UserError(f"model.options.tables = {list(tables)}", mend="give each table's width, 1 or more times dim")
    if routes and len(routes) != tasks:
        raise UserError(f"model.options.routes: {len(routes)} for {tasks} tasks", mend="list the tables of each task, in order")
    homes = tuple(tuple(sorted(set(one))) for one in routes) or (tuple(range(len(tables))),) * tasks
    for task, home in enumerate(homes):
        if not home or not set(home) <= set(range(len(tables))):
            raise UserError(f"model.options.routes: {list(home)} for task {task}", mend=f"name tables from 0 to {len(tables) - 1}")
    unread = sorted(set(range(len(tables))) - {table for home in homes for table in home})
    if unread:
        raise UserError(f"model.options.routes: nobody reads table {unread[0]}", mend="route a task to it, or leave it out of tables")
    return homes


def _read(views: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The views that somebody reads, numbered anew, and how many they are."""
    known = sorted(set(views))
    return tuple(known.index(view) for view in views), len(known)
