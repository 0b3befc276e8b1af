"""The architectures whose point is their gates: HoME's hierarchy of experts, PEPNet's scaling by who and where."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from umbel.nn import routing
from umbel.nn.home import Normed, SelfGated
from umbel.nn.layer import MakeLayer
from umbel.nn.mixture import Mixture
from umbel.nn.pepnet import EPNet, PPNet
from umbel.nn.recommender import PLAIN, Parts, Recommender, Sizes
from umbel.nn.routing import Paradigm, Routing, one_view
from umbel.recipes.members import members, places
from umbel.schema import FieldKind, Schema

Spans = tuple[tuple[int, int], ...]


def home(
    schema: Schema, sizes: Sizes, *,
    groups: tuple[tuple[str, ...], ...] = (), rank: int = 4, paradigm: Paradigm = one_view, parts: Parts = PLAIN,
) -> Recommender:
    """Hierarchy of multi-gate experts (https://arxiv.org/abs/2408.05430): groups of tasks share before tasks do.

    ```
                group A  group B  shared                    click  like  watch   A   B  shared
    group A        ●                ●              click      ●                  ●        ●
    group B                 ●       ●         ->   like              ●           ●        ●
    commons        ●        ●       ●              watch                   ●         ●    ●
    ```

    `groups` names the tasks of each group, by default those of one kind (binary, regression). `specific` counts the experts of a
    group below, and of a task and of a group above; `layers` the levels below. Experts and self-gates are those of
    `umbel.nn.home`, which says where they differ from the paper; `rank` is that of an expert's input gate. Above, a task's and
    its group's experts read the group's output, the shared ones the commons', and a gate the sum of both: our reading, since the
    paper's figure leaves it open.

    :raises UserError: if a task is in no group or in two, a group names no task, or `expert` has a layer of one number.
    """
    groups_of = members(schema, groups)
    number, own, shared = max(groups_of) + 1, sizes.specific, sizes.shared
    build = partial(routing.ple, number, (own, shared))
    below = routing.stack(build, paradigm, layers=sizes.layers, tasks=number, commons=shared > 0)
    spans = (*_spans(number, own), (number * own, number * own + shared))
    made = [*((one, spans) for one in below), (routing.home(groups_of, (own, shared)), _spans(len(groups_of), own))]
    layers: list[MakeLayer] = [partial(_home, one, own_spans, sizes=sizes, rank=rank) for one, own_spans in made]
    return Recommender(schema, sizes, views=len(below[0].inputs), layers=layers, parts=parts)


def pepnet(
    schema: Schema, sizes: Sizes, *,
    domain: tuple[str, ...] | None = None, prior: tuple[str, ...] | None = None, paradigm: Paradigm = one_view, parts: Parts = PLAIN,
) -> Recommender:
    """PEPNet (https://arxiv.org/abs/2302.01115): EPNet scales embeddings by `domain` fields, PPNet each task's network by `prior` ones.

    By default the categories say the domain and the ids are the prior. Gates read all else with the gradient stopped, as in the
    paper. A task has one network, of the widths `expert` (`layers` times over), under the head's tower, which is not scaled;
    `specific` and `shared` do not apply. `gate` are the gates' hidden widths. See `umbel.nn.pepnet`.

    :raises UserError: for a field that does not exist.
    """
    tasks = len(schema.tasks)
    known = sorted(set(views := paradigm(tuple(range(tasks)), tasks).views))
    reads = tuple(known.index(view) for view in views)
    who = _places(schema, prior, "prior", kind=FieldKind.ID)
    where = _places(schema, domain, "domain", kind=FieldKind.CATEGORY)
    interact = partial(EPNet, inner=parts.interact, domain=where, prior=who, hidden=sizes.gate)
    layer = partial(_ppnet, reads, sizes, prior=len(who) * sizes.dim)
    return Recommender(schema, sizes, views=len(known), layers=[layer], parts=replace(parts, interact=interact))


def _home(routing: Routing, own: Spans, width: int, *, sizes: Sizes, rank: int) -> SelfGated:
    mixture = Mixture(routing, (width, *sizes.expert), gate=sizes.gate, dropout=sizes.dropout, experts=partial(Normed, rank=rank))
    return SelfGated(mixture, own, widths=(width, *sizes.gate))


def _ppnet(reads: tuple[int, ...], sizes: Sizes, width: int, *, prior: int) -> PPNet:
    return PPNet(reads, (width, *sizes.expert * sizes.layers), prior=prior, hidden=sizes.gate, dropout=sizes.dropout)


def _spans(owners: int, each: int) -> Spans:
    return tuple((owner * each, (owner + 1) * each) for owner in range(owners))


def _places(schema: Schema, names: tuple[str, ...] | None, key: str, *, kind: FieldKind) -> tuple[int, ...]:
    """Where the fields of those names stand, those of that kind if None."""
    if names is None:
        return tuple(at for at, field in enumerate(schema.fields) if field.kind is kind)
    return places(schema, names, key)
