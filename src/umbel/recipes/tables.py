"""The architectures that are tables: each a routing of experts, over the same views, experts and towers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from umbel.nn import routing
from umbel.nn.interact import Lent
from umbel.nn.mixture import Mixture
from umbel.nn.recommender import PLAIN, Parts, Recommender, Sizes
from umbel.nn.routing import Build, Paradigm, Routing, one_view, own_and_shared, own_views, view_per_expert
from umbel.recipes.members import members, owned, places
from umbel.schema import Schema


def alone(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = own_views, parts: Parts = PLAIN) -> Recommender:
    """Separate models, one a task, computed together; under another paradigm than own views they share embeddings."""
    build = partial(routing.alone, len(schema.tasks), sizes.specific)
    return _built(schema, sizes, build=build, paradigm=paradigm, parts=parts)


def shared_bottom(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """One expert for all tasks, and a tower a task (Caruana 1997)."""
    build = partial(routing.shared_bottom, len(schema.tasks))
    return _built(schema, sizes, build=build, paradigm=paradigm, parts=parts)


def omoe(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """One-gate mixture of experts: all tasks hear the same mix."""
    build = partial(routing.omoe, len(schema.tasks), _experts(schema, sizes))
    return _built(schema, sizes, build=build, paradigm=paradigm, parts=parts)


def mmoe(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """Multi-gate mixture of experts (https://doi.org/10.1145/3219819.3220007); gates may be MLPs, linear by default."""
    build = partial(routing.mmoe, len(schema.tasks), _experts(schema, sizes))
    return _built(schema, sizes, build=build, paradigm=paradigm, parts=parts)


def ple(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, legacy: bool = False, parts: Parts = PLAIN) -> Recommender:
    """Progressive layered extraction (https://doi.org/10.1145/3383313.3412236).

    `legacy` is the baseline in the code published with STEM: its commons does not hear the tasks' experts, and has a
    gate in the last layer too, which never learns.
    """
    build = partial(routing.ple, len(schema.tasks), (sizes.specific, sizes.shared), legacy=legacy)
    return _built(schema, sizes, build=build, paradigm=paradigm, parts=parts, commons=legacy)


def grouped(schema: Schema, sizes: Sizes, *, groups: tuple[tuple[str, ...], ...] = (), parts: Parts = PLAIN) -> Recommender:
    """MMoE inside groups of tasks and nothing between them: a view, experts and gates a group.

    `groups` names the tasks of each, by default those of one kind (binary, regression). A group of g tasks has `g * specific`
    experts and, if g > 1, the `shared` ones. One group is `mmoe`, a group a task `alone`.

    :raises UserError: if a task is in no group or in two, or a group names no task.
    """
    known = members(schema, groups)
    own = [[task for task, group in enumerate(known) if group == one] for one in range(max(known) + 1)]
    stacks = [routing.stack(_mmoe_of(len(one), sizes), one_view, layers=sizes.layers, tasks=len(one)) for one in own]
    levels = [routing.beside(level) for level in zip(*stacks, strict=True)]
    order = [task for one in own for task in one]
    levels[-1] = levels[-1].keep([order.index(task) for task in range(len(known))])
    return routed(schema, sizes, routings=tuple(levels), parts=parts)


def stem(
    schema: Schema, sizes: Sizes, *,
    paradigm: Paradigm = own_and_shared, taught: bool = False, legacy: bool = False, parts: Parts = PLAIN,
) -> Recommender:
    """STEM-Net (https://arxiv.org/abs/2308.13537): views of one's own and a shared one; all heard, own and shared taught.

    Differs from the published code, unless `legacy`: the commons does not teach the tasks' experts, so that tasks stay
    apart in deeper stacks too, and has no gate in the last layer, where nothing reads it.
    `taught` stops no gradient, the ablation of the paper's claim.
    """
    build = partial(routing.stem, len(schema.tasks), (sizes.specific, sizes.shared), taught=taught, legacy=legacy)
    return _built(schema, sizes, build=build, paradigm=paradigm, parts=parts, commons=legacy)


def stem_fields(schema: Schema, sizes: Sizes, *, own: tuple[str, ...] = (), parts: Parts = PLAIN) -> Recommender:
    """STEM in which tasks keep tables of their own of some fields; of the others there is the shared table alone.

    `own` names those fields, by default the ids (every field where there is none): with all of them it is `stem`. Columns that
    other fields have in the tasks' views are neither read nor learned.

    :raises UserError: for a field that does not exist.
    """
    lent = partial(Lent, inner=parts.interact, own=places(schema, owned(schema, own), "own"))
    return stem(schema, sizes, parts=replace(parts, interact=lent))


def stem_al(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = own_and_shared, parts: Parts = PLAIN) -> Recommender:
    """STEM with auxiliary tasks (https://arxiv.org/abs/2403.00793): those of the schema marked `auxiliary`, trained and not judged.

    ```
                 main  aux  shared
    main task      ●    ○     ●
    auxiliary           ●
    ```

    A main task hears an auxiliary one's experts as it hears any other task's; an auxiliary task hears its own alone, through a
    gate that reads its own view. Without an auxiliary task it is `stem`. The paper has no equations and its code never
    appeared: this is our reading.
    """
    helps = tuple(number for number, task in enumerate(schema.tasks) if task.auxiliary)
    build = partial(routing.stem_al, len(schema.tasks), (sizes.specific, sizes.shared), helps=helps)
    return _built(schema, sizes, build=build, paradigm=paradigm, parts=parts)


def me_mmoe(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = view_per_expert, parts: Parts = PLAIN) -> Recommender:
    """MMoE over several embeddings, one an expert; a gate sums them all.

    The name is STEM's, whose code never appeared: this is our reading, after https://arxiv.org/abs/2310.04400.
    """
    return mmoe(schema, sizes, paradigm=paradigm, parts=parts)


def me_ple(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = own_and_shared, parts: Parts = PLAIN) -> Recommender:
    """PLE over a view a task and a shared one; a gate reads its task's view. Our reading of STEM's baseline, as `me_mmoe`."""
    return ple(schema, sizes, paradigm=paradigm, parts=parts)


def _mmoe_of(tasks: int, sizes: Sizes) -> Build:
    return partial(routing.mmoe, tasks, tasks * sizes.specific + sizes.shared * (tasks > 1))


def _experts(schema: Schema, sizes: Sizes) -> int:
    return len(schema.tasks) * sizes.specific + sizes.shared


def routed(schema: Schema, sizes: Sizes, *, routings: tuple[Routing, ...], parts: Parts = PLAIN) -> Recommender:
    """A mixture a layer, obeying these routings: what every architecture that is a table comes to, and any of your own."""
    layers = [partial(mixture, routing, sizes) for routing in routings]
    return Recommender(schema, sizes, views=len(routings[0].inputs), layers=layers, parts=parts)


def mixture(routing: Routing, sizes: Sizes, width: int) -> Mixture:
    """One layer of that size, over inputs of that width."""
    return Mixture(routing, (width, *sizes.expert), gate=sizes.gate, dropout=sizes.dropout)


def _built(
    schema: Schema, sizes: Sizes, *, build: Build, paradigm: Paradigm, parts: Parts, commons: bool = False,
) -> Recommender:
    routings = routing.stack(build, paradigm, layers=sizes.layers, tasks=len(schema.tasks), commons=commons)
    return routed(schema, sizes, routings=routings, parts=parts)
