"""The architectures by name: each a routing of experts over the same parts."""

from __future__ import annotations

from collections.abc import Callable

from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import PARADIGMS, Paradigm, Routing, own_and_shared, own_views, one_view, stack, view_per_expert
from umbel.nn import routing
from umbel.schema import Schema


def alone(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = own_views) -> Recommender:
    """Separate models, one a task: nothing is shared unless `paradigm` shares a view."""
    tasks = len(schema.tasks)
    return Recommender(schema, sizes, stack(lambda lens: routing.alone(tasks, sizes.specific, lens), paradigm, sizes.layers, tasks=tasks))


def shared_bottom(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view) -> Recommender:
    tasks = len(schema.tasks)
    return Recommender(schema, sizes, stack(lambda lens: routing.shared_bottom(tasks, lens), paradigm, sizes.layers, tasks=tasks))


def omoe(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view) -> Recommender:
    tasks = len(schema.tasks)
    return Recommender(schema, sizes, stack(lambda lens: routing.omoe(tasks, _all(schema, sizes), lens), paradigm, sizes.layers, tasks=tasks))


def mmoe(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view) -> Recommender:
    tasks = len(schema.tasks)
    return Recommender(schema, sizes, stack(lambda lens: routing.mmoe(tasks, _all(schema, sizes), lens), paradigm, sizes.layers, tasks=tasks))


def ple(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, legacy: bool = False) -> Recommender:
    tasks, experts = len(schema.tasks), (sizes.specific, sizes.shared)
    return Recommender(schema, sizes, stack(lambda lens: routing.ple(tasks, experts, lens, legacy=legacy), paradigm, sizes.layers, tasks=tasks, commons=legacy))


def stem(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = own_and_shared, taught: bool = False, legacy: bool = False) -> Recommender:
    tasks, experts = len(schema.tasks), (sizes.specific, sizes.shared)
    return Recommender(schema, sizes, stack(lambda lens: routing.stem(tasks, experts, lens, taught=taught, legacy=legacy), paradigm, sizes.layers, tasks=tasks, commons=legacy))


def me_mmoe(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = view_per_expert) -> Recommender:
    return mmoe(schema, sizes, paradigm=paradigm)


def me_ple(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = own_and_shared) -> Recommender:
    return ple(schema, sizes, paradigm=paradigm)


def _all(schema: Schema, sizes: Sizes) -> int:
    return len(schema.tasks) * sizes.specific + sizes.shared


RECIPES: dict[str, Callable[..., Recommender]] = {
    "alone": alone, "shared_bottom": shared_bottom, "omoe": omoe, "mmoe": mmoe, "ple": ple, "stem": stem, "me_mmoe": me_mmoe, "me_ple": me_ple,
}
