"""One mixture in numbers made by hand, and the shares of its gates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from umbel.nn import routing
from umbel.nn.mixture import Mixture
from umbel.nn.routing import PARADIGMS, Route, Routing, one_view, own_and_shared

HID, STO, OPN = Route.HIDDEN, Route.STOPPED, Route.OPEN


def constant(made: Routing, values: list[float], width: int = 2) -> Mixture:
    """Experts that say a number of their own whatever they read."""
    mixture = Mixture(made, (width, 1))
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.zero_()
        for expert, value in enumerate(values):
            _, bias = mixture.expert_parts(expert)
            bias.of(dict(mixture.named_parameters())).fill_(value)
    return mixture


def tilt(mixture: Mixture, gate: int, biases: list[float]) -> None:
    """Set a gate's biases, one for each expert it hears."""
    _, bias = mixture.gate_parts(gate)
    with torch.no_grad():
        bias.of(dict(mixture.named_parameters())).copy_(torch.tensor(biases).view_as(bias.of(dict(mixture.named_parameters()))))


def hear(mixture: Mixture, inputs: int = 1, rows: int = 1) -> list[float]:
    voices = mixture(tuple(torch.ones(rows, 2) for _ in range(inputs)))
    return [voices[voice][0].item() for voice in mixture.voice]


def test_a_gate_weighs_by_softmax() -> None:
    mixture = constant(routing.mmoe(2, 2, one_view).keep((0, 1)), [1.0, 5.0])
    tilt(mixture, 0, [math.log(3.0), 0.0])
    tilt(mixture, 1, [0.0, math.log(7.0)])
    assert hear(mixture) == pytest.approx([0.75 * 1 + 0.25 * 5, 0.125 * 1 + 0.875 * 5])


def test_hidden_experts_have_no_share() -> None:
    mixture = constant(routing.ple(2, (1, 1), one_view).keep((0, 1)), [1.0, 100.0, 3.0])
    assert hear(mixture) == pytest.approx([2.0, 51.5])
    shares = mixture.shares((torch.ones(1, 2),))
    assert shares[0].tolist() == [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]


def test_a_shared_gate_gives_one_mix() -> None:
    mixture = constant(routing.omoe(3, 2, one_view).keep((0, 1, 2)), [1.0, 2.0])
    tilt(mixture, 0, [0.0, math.log(3.0)])
    assert mixture.voice == (0, 0, 0)
    assert hear(mixture) == pytest.approx([1.75] * 3)


def test_one_expert_needs_no_gate() -> None:
    mixture = constant(routing.alone(2, 1, own_and_shared).keep((0, 1)), [4.0, 6.0])
    assert hear(mixture, inputs=2) == [4.0, 6.0]
    assert mixture.gates is None
    assert mixture.gate_parts(0) == ()
    assert mixture.shares((torch.ones(1, 2), torch.ones(1, 2)))[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_some_readers_with_a_gate_and_some_without() -> None:
    made = Routing((0, 1, 1), ((OPN, HID, HID), (STO, OPN, OPN)), ((0,), (0, 1)))
    mixture = constant(made, [3.0, 6.0, 9.0])
    assert hear(mixture, inputs=2) == pytest.approx([3.0, 6.0])
    assert mixture.gate_parts(0) == ()
    assert len(mixture.gate_parts(1)) == 2


def test_a_stopped_expert_is_heard_and_not_taught() -> None:
    mixture = constant(routing.stem(2, (1, 1), own_and_shared).keep((0, 1)), [1.0, 2.0, 6.0])
    voices = mixture(tuple(torch.ones(1, 2) for _ in range(3)))
    assert voices[0].item() == pytest.approx(3.0)
    biases = [mixture.expert_parts(expert)[1] for expert in range(3)]
    named = dict(mixture.named_parameters())
    found = dict(zip(named, torch.autograd.grad(voices[0].sum(), list(named.values()), allow_unused=True), strict=True))
    zeros = {name: torch.zeros_like(named[name]) if one is None else one for name, one in found.items()}
    assert [bias.of(zeros).item() for bias in biases] == pytest.approx([1 / 3, 0.0, 1 / 3])


def test_shares_learn_from_stopped_experts() -> None:
    """d h / d bias_n = g_n (y_n - h), stopped or not: uniform shares over 1, 2, 6 give (-2/3, -1/3, 1)."""
    mixture = constant(routing.stem(2, (1, 1), own_and_shared).keep((0, 1)), [1.0, 2.0, 6.0])
    voices = mixture(tuple(torch.ones(1, 2) for _ in range(3)))
    _, bias = mixture.gate_parts(0)
    named = dict(mixture.named_parameters())
    found = torch.autograd.grad(voices[0].sum(), named[bias.name])[0]
    assert bias.of({bias.name: found}).flatten().tolist() == pytest.approx([-2 / 3, -1 / 3, 1.0])


def test_a_gate_reads_the_sum_of_its_inputs() -> None:
    mixture = Mixture(routing.stem(1, (1, 1), own_and_shared).keep((0,)), (1, 1))
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.zero_()
        weight, _ = mixture.gate_parts(0)
        weight.of(dict(mixture.named_parameters())).copy_(torch.tensor([[1.0], [0.0]]))
    shares = mixture.shares((torch.tensor([[1.0]]), torch.tensor([[2.0]])))
    assert shares[0, 0].tolist() == pytest.approx([math.exp(3) / (math.exp(3) + 1), 1 / (math.exp(3) + 1)])


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("build", [
    lambda lens: routing.mmoe(3, 4, lens), lambda lens: routing.omoe(3, 4, lens), lambda lens: routing.ple(3, (2, 3), lens),
    lambda lens: routing.stem(3, (2, 3), lens), lambda lens: routing.alone(3, 2, lens),
], ids=["mmoe", "omoe", "ple", "stem", "alone"])
def test_shares_are_a_distribution_over_what_is_heard(build: routing.Build, paradigm: str) -> None:
    torch.manual_seed(0)
    (made,) = routing.stack(build, PARADIGMS[paradigm], layers=1, tasks=3)
    mixture = Mixture(made, (5, 4), gate=(3,))
    inputs = tuple(torch.randn(6, 5) for _ in made.inputs)
    shares = mixture.shares(inputs)
    assert shares.shape == (6, 3, len(made.views))
    torch.testing.assert_close(shares.sum(2), torch.ones(6, 3))
    for reader in range(3):
        heard = set(made.heard(reader))
        assert {expert for expert in range(len(made.views)) if bool(shares[:, reader, expert].any())} == heard


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_what_is_heard_is_shares_times_experts(paradigm: str) -> None:
    """Whatever order the bank computes them in."""
    torch.manual_seed(1)
    (made,) = routing.stack(lambda lens: routing.stem(2, (2, 3), lens), PARADIGMS[paradigm], layers=1, tasks=2)
    mixture = Mixture(made, (5, 6, 4))
    inputs = tuple(torch.randn(6, 5) for _ in made.inputs)
    outputs = dict(zip(mixture.bank.order, [one for block in mixture.bank(inputs) for one in block], strict=True))
    said = torch.stack([outputs[expert] for expert in range(7)], 1)
    expected = torch.einsum("bre,beh->brh", mixture.shares(inputs), said)
    voices = mixture(inputs)
    torch.testing.assert_close(torch.stack([voices[voice] for voice in mixture.voice], 1), expected)


def test_readers_that_hear_the_same_are_computed_once() -> None:
    mixture = Mixture(routing.shared_bottom(4, one_view).keep((0, 1, 2, 3)), (3, 2))
    assert mixture.voice == (0, 0, 0, 0)
    assert len(mixture((torch.ones(2, 3),))) == 1


def test_gates_have_an_output_for_each_expert_they_hear() -> None:
    mixture = Mixture(routing.ple(2, (1, 3), one_view), (5, 4))
    shapes = {gate: _outputs(mixture, gate) for gate in range(3)}
    assert shapes == {0: 4, 1: 4, 2: 5}


def _outputs(mixture: Mixture, gate: int) -> int:
    _, bias = mixture.gate_parts(gate)
    own: Tensor = bias.of(dict(mixture.named_parameters()))
    return own.numel()
