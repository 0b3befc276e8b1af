"""What stands beside `Mixture`, number by number, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from tests.laws.test_gradient_law import check

from umbel.errors import UserError
from umbel.nn import routing
from umbel.nn.home import Normed
from umbel.nn.interact import Concatenate, Interact, Shape
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.nn.routing import Route, Routing
from umbel.nn.snr import SNR, HardConcrete
from umbel.nn.stitch import CrossStitch
from umbel.nn.tables import Tables
from umbel.recipes import adatt, ame, cross_stitch, home, pepnet, snr_aver, snr_trans


def test_a_cell_is_a_sum_by_hand() -> None:
    """Two networks of one number: 2x and 3x, mixed as (1, .5) and (0, -1)."""
    layer = CrossStitch((0, 0), (1, 1))
    with torch.no_grad():
        layer.maps[0].get_parameter("weights").copy_(torch.tensor([[[2.0]], [[3.0]]]))
        layer.cells[0].copy_(torch.tensor([[1.0, 0.5], [0.0, -1.0]]))
    one, other = layer((torch.tensor([[1.0], [-1.0]]),))
    assert one.tolist() == [[3.5], [0.0]]
    assert other.tolist() == [[-3.0], [0.0]]


def test_tasks_of_cross_stitch_teach_each_other_but_keep_the_last_row() -> None:
    model = cross_stitch(everykind.schema(2), sizes())
    assert model.reach["layer 0 expert 0 layer 0"] == (0, 1)
    assert model.reach["layer 0 cell 0 1"] == (0, 1)
    assert model.reach["layer 0 cell 1 0"] == (0,)


def test_the_hard_concrete_without_noise() -> None:
    """sigmoid(0) is stretched to .5, a great alpha to 1, a small one to 0."""
    gates = HardConcrete((1, 3)).eval()
    with torch.no_grad():
        gates.alpha.copy_(torch.tensor([[0.0, 5.0, -5.0]]))
    torch.testing.assert_close(gates(), torch.tensor([[0.5, 1.0, 0.0]]))


def test_the_chance_of_an_open_connection() -> None:
    """At alpha = 0 as many draws are above 0 as the formula says, and none leaves [0, 1]."""
    torch.manual_seed(0)
    gates = HardConcrete((200, 200))
    with torch.no_grad():
        gates.alpha.zero_()
    drawn = gates.train()()
    chance = 1 / (1 + math.exp(2 / 3 * math.log(0.1 / 1.1)))
    assert gates.open()[0, 0].item() == pytest.approx(chance, rel=1e-6)
    assert (drawn > 0).float().mean().item() == pytest.approx(chance, abs=0.01)
    assert (drawn == 1).float().mean().item() == pytest.approx(1 - chance, abs=0.01)
    assert bool(((drawn >= 0) & (drawn <= 1)).all())


def test_noise_is_for_training_only() -> None:
    model, batch = snr_trans(everykind.schema(), sizes()), fields()
    everykind.awake(model)
    assert not torch.equal(model.train()(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))


def test_open_connections_are_paid_by_their_readers() -> None:
    model = snr_aver(everykind.schema(2), sizes(), sparsity=0.5)
    logits, labels = model.eval()(fields()), everykind.labels(24, 2)
    (layer,) = model.layers
    assert isinstance(layer, SNR)
    extra = model.losses(logits, labels) - model.head.losses(logits, labels, model.schema, denominator=Denominator.SEEN)
    torch.testing.assert_close(extra, 0.5 * layer.gates.open().sum(1))


def test_a_connection_of_all_is_paid_by_all() -> None:
    """Two levels: below, readers are the sub-networks, which both tasks teach, so each pays half."""
    model = snr_aver(everykind.schema(2), sizes(layers=2), sparsity=0.5)
    logits, labels = model.eval()(fields()), everykind.labels(24, 2)
    below, above = model.layers
    assert isinstance(below, SNR)
    assert isinstance(above, SNR)
    extra = model.losses(logits, labels) - model.head.losses(logits, labels, model.schema, denominator=Denominator.SEEN)
    torch.testing.assert_close(extra, 0.5 * (above.gates.open().sum(1) + below.gates.open().sum() / 2))


def test_without_a_price_losses_are_the_heads() -> None:
    model = adatt(everykind.schema(2), sizes())
    logits, labels = model.eval()(fields()), everykind.labels(24, 2)
    assert torch.equal(model.losses(logits, labels), model.head.losses(logits, labels, model.schema, denominator=Denominator.SEEN))


def test_a_closed_connection_feeds_nothing() -> None:
    model = everykind.awake(snr_trans(everykind.schema(2), sizes())).eval()
    (layer,) = model.layers
    assert isinstance(layer, SNR)
    with torch.no_grad():
        layer.gates.alpha[0, :] = -9.0
        layer.gates.alpha[0, 1] = 9.0
    before = model(fields())
    with torch.no_grad():
        layer.bank.get_parameter("blocks.0.biases.1")[0] += 1.0
    after = model(fields())
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.equal(after[:, 1], before[:, 1])


def test_tables_by_hand() -> None:
    """Table 0 is one view, table 1 two, side by side."""
    layer = Tables((1, 2), (1, 1))
    with torch.no_grad():
        layer.maps[0].get_parameter("weights.0").fill_(2.0)
        layer.maps[1].get_parameter("weights.0").copy_(torch.tensor([[1.0, 10.0]]))
    narrow, wide = layer((torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[3.0]])))
    assert (narrow.item(), wide.item()) == (2.0, 32.0)


def test_a_route_keeps_a_task_to_its_table() -> None:
    model = ame(everykind.schema(2), sizes(shared=2), tables=(1, 3), routes=((0, 1), (0,)))
    assert [model.reach[f"view {view}"] for view in range(4)] == [(0, 1), (0,), (0,), (0,)]
    assert model.reach["layer 1 expert 1"] == (0,)
    torch.manual_seed(0)
    check(model)


def test_a_routing_narrowed_to_what_its_gates_read() -> None:
    wide = Routing((0, 1, 0), ((Route.OPEN,) * 3,) * 2, ((0, 1), (1,)))
    assert routing.narrowed(wide).table == ((Route.OPEN,) * 3, (Route.HIDDEN, Route.OPEN, Route.HIDDEN))


def test_the_hierarchy_is_a_table() -> None:
    made = routing.home((0, 1, 0), (1, 2))
    assert made.text(["click", "watch", "like"]).splitlines() == [
        "reads   0   1   0   0   1   2   2",
        "click   ●           ●       ●   ●  gate 0+2",
        "watch       ●           ●   ●   ●  gate 1+2",
        "like            ●   ●       ●   ●  gate 0+2",
    ]


def test_groups_share_and_keep_to_themselves() -> None:
    model = home(everykind.schema(3), sizes(), groups=(("click", "like"), ("seconds",)))
    assert [model.reach[f"layer 1 expert {expert}"] for expert in range(6)] == [(0,), (1,), (2,), (0, 2), (1,), (0, 1, 2)]
    assert model.reach["layer 1 self gate 1"] == (1,)


def test_groups_are_the_kinds_by_default() -> None:
    named = home(everykind.schema(3), sizes(), groups=(("click", "like"), ("seconds",)))
    assert home(everykind.schema(3), sizes()).reach == named.reach


def test_a_normed_expert_is_alike_in_size() -> None:
    """Whatever its weights, an output before its scale has mean 0 and spread 1: with scale 1, swish of that."""
    torch.manual_seed(0)
    experts = Normed((0, 0), (4, 6), rank=2)
    with torch.no_grad():
        experts.maps[0].get_parameter("weights")[1] *= 100.0
    (said,) = experts((torch.randn(5, 4),))
    spread = said.std(2)
    assert spread.min() > 0.3
    assert spread.max() < 1.0


def test_an_expert_scales_its_input_by_itself() -> None:
    """With B = 0 the gate is 2 sigmoid(0) = 1, so the input passes as it is."""
    torch.manual_seed(0)
    experts = Normed((0,), (3, 4), rank=2)
    x = torch.randn(2, 3)
    before = experts((x,))[0]
    with torch.no_grad():
        experts.up.zero_()
    plain = nn_norm(x @ experts.maps[0].get_parameter("weights")[0])
    torch.testing.assert_close(experts((x,))[0][0], plain)
    assert not torch.allclose(before[0], plain)


def nn_norm(y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(torch.nn.functional.layer_norm(y, y.shape[-1:]))


def test_gates_of_pepnet_start_near_one() -> None:
    """At embeddings near zero, 2 sigmoid(0) = 1 nearly: training starts from the plain network."""
    torch.manual_seed(0)
    model = pepnet(everykind.schema(2), sizes())
    x = torch.zeros(4, 1, 8, 3)
    x[0] = 0.01
    torch.testing.assert_close(model.interact(x)[0][:, 6:], x.flatten(1), atol=1e-4, rtol=0.02)


def test_pepnet_keeps_the_parts_before_and_after() -> None:
    seen = []

    def spy(shape: Shape) -> Interact:
        seen.append(shape)
        return Concatenate(shape)

    pepnet(everykind.schema(2), sizes(), parts=Parts(interact=spy))
    assert seen == [(1, 8, 3)]


@pytest.mark.parametrize(
    ("made", "arguments", "message"),
    [
        (home, {"groups": (("click",),)}, "model.options.groups: task 'seconds' is in none; add it to a group, or as one of its own"),
        (home, {"groups": (("click", "seconds"), ("click",))}, "model.options.groups: task 'click' is in two; a task is in one group"),
        (home, {"groups": (("click", "seconds"), ())}, "model.options.groups: an empty group; name its tasks, or leave it out"),
        (home, {"groups": (("clik", "seconds"),)}, "tasks: no task 'clik'; did you mean 'click'?"),
        (pepnet, {"prior": ("usr",)}, "model.options.prior: no field 'usr'; did you mean 'user'?"),
        (pepnet, {"domain": ("hours",)}, "model.options.domain: no field 'hours'; did you mean 'hour'?"),
        (ame, {"tables": ()}, "model.options.tables = []; give each table's width, 1 or more times dim"),
        (ame, {"tables": (2, 0)}, "model.options.tables = [2, 0]; give each table's width, 1 or more times dim"),
        (ame, {"routes": ((0,),)}, "model.options.routes: 1 for 2 tasks; list the tables of each task, in order"),
        (ame, {"routes": ((0,), (3,))}, "model.options.routes: [3] for task 1; name tables from 0 to 2"),
        (ame, {"routes": ((0,), ())}, "model.options.routes: [] for task 1; name tables from 0 to 2"),
        (ame, {"routes": ((0,), (2,))}, "model.options.routes: nobody reads table 1; route a task to it, or leave it out of tables"),
        (snr_trans, {"sparsity": -1.0}, "model.options.sparsity = -1; a price is 0 or more"),
    ],
)
def test_what_is_impossible_is_said_in_one_line(made: Callable[..., Recommender], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        made(everykind.schema(2), sizes(), **arguments)
    assert str(caught.value) == message


def test_a_norm_over_one_number_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.expert = \[8, 1\]: home's norm over a row needs 2 numbers; give 2 or more"):
        home(everykind.schema(2), Sizes(everykind.VOCABULARY, expert=(8, 1)))
