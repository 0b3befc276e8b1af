"""Whom the layers beside `Mixture` learn from, written out; and what their options change."""

from __future__ import annotations

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes

from umbel.nn.adatt import AdaTT
from umbel.nn.home import SelfGated
from umbel.nn.pepnet import EPNet, PPNet, Scale
from umbel.nn.recommender import Recommender
from umbel.nn.routing import own_and_shared, own_views
from umbel.nn.snr import HardConcrete
from umbel.recipes import RECIPES, adatt, ame, cross_stitch, home, pepnet, ple, snr_aver, stem
from umbel.run import resolve
from umbel.run.settings import Settings, parse
from umbel.study.entrants import taken_by


def zeroed(model: Recommender, *names: str) -> Recommender:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(one in name for one in names):
                parameter.zero_()
    return model


def reach_of(model: Recommender, level: int) -> dict[str, tuple[int, ...]]:
    """The reach of one level's groups."""
    start = f"layer {level} "
    return {name.removeprefix(start): tasks for name, tasks in model.reach.items() if name.startswith(start)}


def test_whom_adatt_learns_from() -> None:
    assert reach_of(adatt(everykind.schema(2), sizes(specific=2, shared=1)), 0) == {
        "expert 0": (0, 1), "expert 1": (0, 1), "expert 2": (0, 1), "expert 3": (0, 1), "expert 4": (0, 1),
        "gate 0": (0,), "gate 1": (1,), "residual 0": (0,), "residual 1": (1,),
    }


def test_whom_cross_stitch_learns_from() -> None:
    assert reach_of(cross_stitch(everykind.schema(2), sizes()), 0) == {
        "expert 0 layer 0": (0, 1), "expert 1 layer 0": (0, 1), "cell 0 0": (0, 1), "cell 0 1": (0, 1),
        "expert 0 layer 1": (0, 1), "expert 1 layer 1": (0, 1), "cell 1 0": (0,), "cell 1 1": (1,),
    }


def test_whom_snr_learns_from() -> None:
    model = snr_aver(everykind.schema(2), sizes(layers=2, shared=0))
    assert reach_of(model, 0) == {"expert 0": (0, 1), "expert 1": (0, 1), "connections 0": (0, 1), "connections 1": (0, 1)}
    assert reach_of(model, 1) == {"expert 0": (0, 1), "expert 1": (0, 1), "connections 0": (0,), "connections 1": (1,)}


def test_whom_pepnet_learns_from() -> None:
    model = pepnet(everykind.schema(2), sizes())
    assert reach_of(model, 0) == {"expert 0": (0,), "expert 1": (1,)}
    assert model.reach["view 0"] == (0, 1)
    assert any(part.name.startswith("interact.scale") for part in model.groups()["view 0"])
    apart = pepnet(everykind.schema(2), sizes(), paradigm=own_views)
    assert [apart.reach[f"view {view}"] for view in range(2)] == [(0,), (1,)]


def test_whom_home_learns_from() -> None:
    """Two tasks of two kinds, so two groups of one."""
    model = home(everykind.schema(2), sizes())
    assert reach_of(model, 0) == {
        "expert 0": (0, 1), "expert 1": (0, 1), "expert 2": (0, 1), "gate 0": (0,), "gate 1": (1,), "gate 2": (0, 1),
        "self gate 0": (0,), "self gate 1": (1,), "self gate 2": (0, 1),
    }
    assert reach_of(model, 1)["expert 2"] == (0,)


def test_whom_home_learns_from_without_shared_experts() -> None:
    """Nothing is shared, nothing crosses a group: and a group of one expert has no gates."""
    model = home(everykind.schema(2), sizes(shared=0), paradigm=own_and_shared)
    assert reach_of(model, 0) == {"expert 0": (0,), "expert 1": (1,)}
    assert [model.reach[f"view {view}"] for view in range(2)] == [(0,), (1,)]


def test_whom_ame_learns_from() -> None:
    model = ame(everykind.schema(2), sizes(), tables=(1, 1), routes=((0,), (1,)))
    assert reach_of(model, 0) == {"table 0": (0,), "table 1": (1,)}
    assert reach_of(model, 1)["expert 0"] == (0,)


def test_adatt_with_even_gates_is_a_mean_and_ones_own() -> None:
    """Gates of zeros give a third to each of three experts."""
    torch.manual_seed(0)
    model = zeroed(everykind.awake(adatt(everykind.schema(2), sizes())).eval(), "gates")
    (layer,) = model.layers
    assert isinstance(layer, AdaTT)
    inputs = model.interact(model.views(model.rows(fields()), fields()))
    said = layer.mixture.said(inputs)
    for task, heard in enumerate(layer(inputs)):
        torch.testing.assert_close(heard, said.mean(1) + said[:, layer.mixture.bank.order.index(task)])


def test_home_with_even_gates_is_a_mean_and_half_of_ones_own() -> None:
    """A sigmoid of 0 is a half."""
    torch.manual_seed(0)
    model = zeroed(everykind.awake(home(everykind.schema(2), sizes())).eval(), "gates")
    layer = model.layers[0]
    assert isinstance(layer, SelfGated)
    inputs = model.interact(model.views(model.rows(fields()), fields()))
    said, heard = layer.mixture.said(inputs), layer(inputs)
    torch.testing.assert_close(heard[0], (said[:, 0] + said[:, 2]) / 2 + said[:, 0] / 2)
    torch.testing.assert_close(heard[2], said.mean(1) + said[:, 2] / 2)


def test_a_scale_of_nothing_is_one() -> None:
    scale = Scale(2, (3, 4, 5))
    with torch.no_grad():
        for parameter in scale.parameters():
            parameter.zero_()
    assert torch.equal(scale(torch.randn(2, 6, 3)), torch.ones(2, 6, 5))


def test_a_scale_stays_between_0_and_2() -> None:
    torch.manual_seed(0)
    found = Scale(1, (3, 8, 5))(100 * torch.randn(1, 50, 3))
    assert 0 <= float(found.detach().min()) < 0.1
    assert 1.9 < float(found.detach().max()) <= 2


def test_pepnets_gates_do_not_teach_what_they_read() -> None:
    """A gate moves with a field that is no prior, and yet sends that field no gradient: with the network's own path cut, none is left."""
    torch.manual_seed(0)
    layer = PPNet((0,), (6, 4), prior=2, hidden=())
    x = torch.randn(3, 6, requires_grad=True)
    with torch.no_grad():
        layer.maps[0].get_parameter("weights").zero_()
        layer.maps[0].get_parameter("biases").fill_(1.0)
    (heard,) = layer((x,))
    (gradient,) = torch.autograd.grad(heard.sum(), x)
    assert bool(gradient[:, :2].any())
    assert not gradient[:, 2:].any()
    moved = x.detach().clone()
    moved[:, 2:] += 1.0
    assert not torch.allclose(layer((moved,))[0], heard)


def test_the_prior_is_handed_on_as_it_was() -> None:
    """Scaled embeddings go to the experts; the prior's own are not scaled."""
    torch.manual_seed(0)
    model = pepnet(everykind.schema(2), sizes(), prior=("item",), domain=("hour",))
    assert isinstance(model.interact, EPNet)
    x = torch.randn(4, 1, 8, 3)
    (found,) = model.interact(x)
    assert torch.equal(found[:, :3], x[:, 0, 4])
    assert not torch.allclose(found[:, 3:], x.flatten(1))


def test_a_price_closes_connections() -> None:
    """Descending nothing but the expected number of open ones."""
    torch.manual_seed(0)
    gates = HardConcrete((2, 3))
    descent = torch.optim.SGD(gates.parameters(), lr=1.0)
    for _ in range(60):
        descent.zero_grad()
        torch.autograd.backward(gates.open().sum())
        descent.step()
    assert bool((gates.open() < 0.2).all())
    assert torch.equal(gates.eval()(), torch.zeros(2, 3))


def test_tables_do_not_grow_with_tasks() -> None:
    widths = {name: [RECIPES[name](everykind.schema(tasks), sizes()).table.shape[1] for tasks in (1, 3, 5)] for name in ("ame", "stem")}
    assert widths == {"ame": [21, 21, 21], "stem": [6, 12, 18]}


def test_a_deep_ple_and_a_deep_stem_need_no_name_of_their_own() -> None:
    """`layers` stacks them; a stacked stem keeps tasks apart, a stacked ple does not."""
    assert stem(everykind.schema(2), sizes(layers=3)).reach["layer 0 expert 0"] == (0,)
    assert ple(everykind.schema(2), sizes(layers=3)).reach["layer 0 expert 0"] == (0, 1)
    assert ple(everykind.schema(2), sizes(layers=1)).reach["layer 0 expert 0"] == (0,)


def asked(recipe: str, **options: object) -> Settings:
    return parse(
        {
            "data": {"log": "log.parquet"},
            "fields": {"user": {"kind": "id"}, "hour": {"kind": "category"}},
            "tasks": {"click": {}, "like": {}, "watch": {"kind": "regression"}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1},
            "model": {"recipe": recipe, "options": options},
        },
        where="here",
    )


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("home", {"groups": [["click"], ["like", "watch"]], "rank": 2}),
        ("pepnet", {"domain": ["hour"], "prior": ["user"]}),
        ("ame", {"tables": [1, 3], "routes": [[0, 1], [0], [1]]}),
        ("snr_trans", {"sparsity": 0.01}),
        ("snr_aver", {"sparsity": 0.0}),
        ("ple", {"legacy": True}),
        ("grouped", {"groups": [["click", "watch"], ["like"]]}),
        ("stem_fields", {"own": ["user"]}),
    ],
)
def test_options_of_the_run_file_reach_the_model(recipe: str, options: dict[str, object]) -> None:
    settings = asked(recipe, **options)
    resolve.check(settings)
    built = resolve.built(settings, {"user": 4, "hour": 3})
    assert set(built.options) == set(options)
    assert built(resolve.schema(settings)).views.views >= 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_in_a_comparison_a_recipe_takes_what_is_its_own(recipe: str) -> None:
    """Every option and a paradigm at once: each recipe is built from what it knows."""
    settings = asked("home", groups=[["click", "like"], ["watch"]], rank=2, domain=["hour"], prior=["user"], tables=[1, 2], sparsity=0.1)
    model = taken_by(recipe, settings.model.model_copy(update={"views": "own"}))
    one = settings.model_copy(update={"model": model})
    assert resolve.built(one, {"user": 4, "hour": 3})(resolve.schema(one)).schema.tasks[2].name == "watch"
