"""Groups of tasks that share inside and nowhere else, and fields that stem keeps one table of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests import everykind
from tests.everykind import fields, sizes
from tests.laws.test_gradient_law import check
from tests.loops import Leaves, mix

from umbel.errors import UserError
from umbel.nn import routing
from umbel.nn.interact import INTERACTS, InteractSizes
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.nn.routing import one_view, own_views
from umbel.recipes import alone, grouped, mmoe, stem, stem_fields
from umbel.schema import Field, FieldKind, Schema

CLICK, SECONDS, LIKE, SHARE = everykind.NAMES[:4]
ALL = tuple(field.name for field in everykind.FIELDS)


def four(*groups: tuple[str, ...], layers: int = 1, specific: int = 1, shared: int = 1) -> Recommender:
    torch.manual_seed(0)
    made = grouped(everykind.schema(4), sizes(layers=layers, specific=specific, shared=shared), groups=groups)
    return everykind.awake(made).eval()


def test_the_table() -> None:
    assert four((CLICK, LIKE), (SECONDS,), (SHARE,)).layers[0].routing.text(everykind.NAMES[:4]).splitlines() == [  # type: ignore[union-attr, operator]
        "reads     0   0   0   1   2",
        "click     ●   ●   ●          gate 0",
        "seconds               ●      gate none",
        "like      ●   ●   ●          gate 0",
        "share                     ●  gate none",
    ]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("groups", [
    ((CLICK, LIKE), (SECONDS, SHARE)), ((SHARE, CLICK), (LIKE,), (SECONDS,)), ((LIKE, SECONDS, CLICK), (SHARE,)), (),
])  # fmt: skip
def test_reach(groups: tuple[tuple[str, ...], ...], layers: int) -> None:
    check(four(*groups, layers=layers, specific=2))


@pytest.mark.parametrize("layers", [1, 2])
def test_no_task_moves_another_group(layers: int) -> None:
    model = four((CLICK, LIKE), (SHARE, SECONDS), layers=layers)
    before, dim = model(fields()).detach(), model.views.dim
    with torch.no_grad():
        model.table[:, :dim] += 0.5
    moved = (model(fields()).detach() != before).any(0)
    assert moved.tolist() == [True, False, True, False]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_one_group_is_mmoe(layers: int) -> None:
    torch.manual_seed(3)
    one = grouped(everykind.schema(3), sizes(layers=layers, specific=2), groups=((LIKE, CLICK, SECONDS),))
    torch.manual_seed(3)
    other = mmoe(everykind.schema(3), sizes(layers=layers, specific=2))
    other.load_state_dict(one.state_dict())
    # The tasks of the group are in another order than the schema's: so are their gates, and nothing else.
    assert one.groups().keys() == other.groups().keys()
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in other.parameters())
    torch.manual_seed(3)
    ordered = grouped(everykind.schema(3), sizes(layers=layers, specific=2), groups=(everykind.NAMES[:3],))
    torch.manual_seed(3)
    assert torch.equal(ordered(fields()), mmoe(everykind.schema(3), sizes(layers=layers, specific=2))(fields()))


@pytest.mark.parametrize("layers", [1, 2])
def test_a_group_a_task_is_separate_models(layers: int) -> None:
    """With the views of `alone`: it has other readers above the first layer, so that only one layer is the same number for number."""
    apart = four((CLICK,), (SECONDS,), (LIKE,), (SHARE,), layers=layers)
    assert all(len(tasks) == 1 for tasks in apart.reach.values())
    assert apart.views.views == alone(everykind.schema(4), sizes()).views.views == 4
    if layers == 1:
        assert apart.layers[0].routing == routing.alone(4, 1, own_views).keep(range(4))


def test_by_plain_loops() -> None:
    """Click and like hear two experts of view 0; seconds has one of its own."""
    torch.manual_seed(1)
    made = grouped(everykind.schema(3), sizes(specific=1, shared=0), groups=((CLICK, LIKE), (SECONDS,)))
    leaves, batch = Leaves(everykind.awake(made).eval()), fields(11)
    views = [leaves.view(batch, view) for view in range(2)]
    experts = [leaves.mlp(f"layer 0 expert {number}", views[view]) for number, view in enumerate((0, 0, 1))]
    gates = [torch.softmax(leaves.mlp(f"layer 0 gate {gate}", views[0], linear=True), 1) for gate in (0, 2)]
    heard = [mix(gates[0], experts[:2]), experts[2], mix(gates[1], experts[:2])]
    leaves.check(leaves.towers(heard), batch)


def test_by_default_a_group_a_kind() -> None:
    assert grouped(everykind.schema(3), sizes()).reach["view 0"] == (0, 2)


@pytest.mark.parametrize(("groups", "message"), [
    (((CLICK, LIKE), (LIKE, SECONDS)), "task 'like' is in two"), (((CLICK, LIKE),), "task 'seconds' is in none"),
    (((CLICK, LIKE, SECONDS), ()), "an empty group"), (((CLICK, LIKE, "secs"),), "no task 'secs'; did you mean 'seconds'"),
])  # fmt: skip
def test_groups_that_are_none(groups: tuple[tuple[str, ...], ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        grouped(everykind.schema(3), sizes(), groups=groups)


def test_side_by_side() -> None:
    both = routing.beside([routing.mmoe(2, 2, one_view).keep((0, 1)), routing.alone(2, 1, own_views).keep((0, 1))])
    assert both.text("abcd").splitlines() == [
        "reads   0   0   1   2",
        "a       ●   ●          gate 0",
        "b       ●   ●          gate 0",
        "c               ●      gate none",
        "d                   ●  gate none",
    ]


def kept(*own: str, layers: int = 1, tasks: int = 2) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(stem_fields(everykind.schema(tasks), sizes(layers=layers), own=own)).eval()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("own", [("user",), ("watched", "age"), ("picture", "item", "tags"), ALL])
def test_reach_of_lent_fields(own: tuple[str, ...], layers: int) -> None:
    check(kept(*own, layers=layers, tasks=3))


def test_all_own_is_stem() -> None:
    torch.manual_seed(0)
    whole = everykind.awake(stem(everykind.schema(2), sizes())).eval()
    assert torch.equal(kept(*ALL)(fields()), whole(fields()))


def test_a_lent_field_is_read_from_the_shared_table_alone() -> None:
    model, dim = kept("user"), 3
    before, rows = model(fields()).detach(), everykind.VOCABULARY
    order = list(model.schema.tables)
    start = sum(rows[name] for name in order[: order.index("item")])
    own = slice(start, start + rows["item"])
    with torch.no_grad():
        model.table[own, : 2 * dim] += 1.0
    assert torch.equal(model(fields()), before)
    with torch.no_grad():
        model.table[own, 2 * dim :] += 1.0
    assert not torch.allclose(model(fields())[:, 0], before[:, 0])


def test_an_own_field_is_kept_by_every_task() -> None:
    model, dim = kept("user"), 3
    before = model(fields()).detach()
    with torch.no_grad():
        model.table[: everykind.VOCABULARY["user"], :dim] += 1.0
    moved = model(fields()).detach()
    assert not torch.allclose(moved[:, 0], before[:, 0])


def test_both_tasks_teach_a_lent_field() -> None:
    """Without the shared expert: the tasks' own experts alone carry the gradient to the shared table of a lent field."""
    torch.manual_seed(0)
    model = everykind.awake(stem_fields(everykind.schema(2), sizes(shared=0), own=("user",))).eval()
    check(model)
    assert model.reach["view 2"] == (0, 1)


def test_by_default_the_ids_are_own() -> None:
    torch.manual_seed(0)
    made = everykind.awake(stem_fields(everykind.schema(2), sizes())).eval()
    assert torch.equal(made(fields()), kept("user", "item")(fields()))
    bare = Schema((Field("hour", FieldKind.CATEGORY),), everykind.schema(2).tasks)
    torch.manual_seed(0)
    whole = stem(bare, Sizes({"hour": 5}))
    torch.manual_seed(0)
    rows = {"hour": torch.tensor([1, 2])}
    assert torch.equal(stem_fields(bare, Sizes({"hour": 5}))(rows), whole(rows))


def test_a_field_that_is_none() -> None:
    with pytest.raises(UserError, match=r"model.options.own: no field 'users'; did you mean 'user'\?"):
        stem_fields(everykind.schema(2), sizes(), own=("users",))


STACKS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=4)


@given(STACKS, st.integers(0, 2))
@hypothesis_settings(deadline=None, max_examples=60)
def test_nothing_meets_beside(parts: list[tuple[int, int]], kind: int) -> None:
    """Each routing keeps its own rows, experts and inputs, whatever stands beside it."""
    builds = (routing.mmoe, lambda tasks, more, paradigm: routing.stem(tasks, (1, more), paradigm), lambda tasks, more, paradigm:
              routing.ple(tasks, (1, more), paradigm))  # fmt: skip
    own = []
    for tasks, more in parts:
        made = builds[kind](tasks, more + 1, own_views if kind == 0 else routing.own_and_shared).keep(range(tasks))
        own.append(made.renumber(made.inputs))
    whole = routing.beside(own)
    assert len(whole.table) == sum(len(one.table) for one in own)
    assert len(whole.inputs) == sum(len(one.inputs) for one in own)
    row = expert = start = 0
    for one in own:
        for at, line in enumerate(one.table):
            heard = whole.table[row + at]
            assert heard[expert : expert + len(line)] == line
            assert not any(heard[:expert])
            assert not any(heard[expert + len(line) :])
            gate = whole.gates[whole.gate[row + at]]
            assert gate == tuple(start + total for total in one.gates[one.gate[at]])
        assert whole.views[expert : expert + len(one.views)] == tuple(start + view for view in one.views)
        row, expert, start = row + len(one.table), expert + len(one.views), start + len(one.inputs)


@pytest.mark.parametrize("interact", ["concatenate", "fm", "dcn", "masknet", "autoint"])
def test_lent_fields_under_every_interaction(interact: str) -> None:
    torch.manual_seed(0)
    parts = Parts(INTERACTS[interact](InteractSizes(hidden=6)))
    model = everykind.awake(stem_fields(everykind.schema(2), sizes(), own=("user", "hour"), parts=parts)).eval()
    check(model)
    counts = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for own in model.groups().values():
        for part in own:
            part.of(counts).add_(1)
    assert all(bool((count == 1).all()) for count in counts.values())
