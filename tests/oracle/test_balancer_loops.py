"""Balancers that remember, step by step against plain loops over floats: steps in which tasks have no label or no gradient, and epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from umbel.balance.balancer import Balancer
from umbel.balance.named import BALANCERS, balancer, takes_of
from umbel.errors import UserError

quick = settings(deadline=None, max_examples=30)
Step = tuple[list[float], list[list[float]]]  # losses and gradients of the tasks; none of either where nobody saw a label
Rule = Callable[[int], Callable[[Step], list[float]]]
TASKS = 3
NUMBER = st.integers(-8, 8).map(lambda one: one / 4)
TASK = st.none() | st.tuples(st.integers(1, 16).map(lambda one: one / 8), st.lists(NUMBER, min_size=4, max_size=4))


def step_of(drawn: Sequence[tuple[float, list[float]] | None]) -> Step:
    return [0.0 if one is None else one[0] for one in drawn], [[0.0] * 4 if one is None else one[1] for one in drawn]


STEPS = st.lists(st.tuples(*[TASK] * TASKS).map(step_of), min_size=1, max_size=7)


def size(gradient: Sequence[float]) -> float:
    return math.sqrt(sum(one * one for one in gradient))


def told(own: Balancer, step: Step) -> list[float]:
    losses, gradients = torch.tensor(step[0], dtype=torch.float64), torch.tensor(step[1], dtype=torch.float64)
    weights: Tensor = own(losses, lambda: gradients @ gradients.T)
    return weights.tolist()


class Average:
    """A moving average with bias correction of what is not missing."""

    def __init__(self, decay: float) -> None:
        self.decay, self.sum, self.count = decay, 0.0, 0

    def add(self, value: float) -> float:
        if value:
            self.sum, self.count = self.decay * self.sum + (1 - self.decay) * value, self.count + 1
        return self.sum / (1 - self.decay**self.count) if self.count else 0.0


class Adam:
    """One number under Adam."""

    def __init__(self, rate: float, value: float = 0.0) -> None:
        self.rate, self.value, self.first, self.second, self.steps = rate, value, 0.0, 0.0, 0

    def step(self, slope: float) -> None:
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope * slope
        across = math.sqrt(self.second / (1 - 0.999**self.steps)) + 1e-8
        self.value -= self.rate * self.first / (1 - 0.9**self.steps) / across


def softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def normalised(tasks: int) -> Callable[[Step], list[float]]:
    averages = [Average(0.99) for _ in range(tasks)]

    def weigh(step: Step) -> list[float]:
        means = [average.add(abs(loss)) for average, loss in zip(averages, step[0], strict=True)]
        known = [mean for mean in means if mean]
        whole = sum(1 / mean for mean in known)
        return [len(known) / mean / whole if mean else 1.0 for mean in means]

    return weigh


def uncertainty(tasks: int) -> Callable[[Step], list[float]]:
    own = [Adam(0.01) for _ in range(tasks)]

    def weigh(step: Step) -> list[float]:
        weights = [tasks * share for share in softmax([-one.value for one in own])]
        for one, loss in zip(own, step[0], strict=True):
            one.step(1 - math.exp(-one.value) * loss if loss else 0.0)
        return weights

    return weigh


def gradnorm(tasks: int) -> Callable[[Step], list[float]]:
    own, first = [Adam(0.025) for _ in range(tasks)], [0.0] * tasks

    def weigh(step: Step) -> list[float]:
        losses, norms = step[0], [size(gradient) for gradient in step[1]]
        weights = [tasks * share for share in softmax([one.value for one in own])]
        first[:] = [begun or loss for begun, loss in zip(first, losses, strict=True)]
        live = [task for task in range(tasks) if losses[task] and norms[task]]
        slopes = [0.0] * tasks
        if live:
            sizes = {task: weights[task] * norms[task] for task in live}
            rates = {task: losses[task] / first[task] for task in live}
            mean, rate = sum(sizes.values()) / len(live), sum(rates.values()) / len(live)
            for task in live:
                excess = sizes[task] - mean * (rates[task] / rate) ** 1.5
                slopes[task] = sizes[task] * ((excess > 1e-12) - (excess < -1e-12)) / mean
        for one, slope in zip(own, slopes, strict=True):
            one.step(slope)
        return weights

    return weigh


def metabalance(tasks: int) -> Callable[[Step], list[float]]:
    averages = [Average(0.9) for _ in range(tasks)]

    def weigh(step: Step) -> list[float]:
        means = [average.add(size(gradient)) for average, gradient in zip(averages, step[1], strict=True)]
        return [0.7 * means[0] / mean + 0.3 if mean and means[0] else 1.0 for mean in means]

    return weigh


def geometric(tasks: int) -> Callable[[Step], list[float]]:
    def weigh(step: Step) -> list[float]:
        seen = [loss for loss in step[0] if loss]
        mean = math.prod(seen) ** (1 / len(seen)) if seen else 1.0
        return [mean / (len(seen) * loss) if loss else 1.0 for loss in step[0]]

    return weigh


def stch(tasks: int) -> Callable[[Step], list[float]]:
    return lambda step: softmax([loss / (tasks * 0.1) for loss in step[0]])


LOOPS: dict[str, Rule] = {
    "normalised": normalised, "uncertainty": uncertainty, "gradnorm": gradnorm, "metabalance": metabalance, "geometric": geometric,
    "stch": stch, "static": lambda tasks: lambda _: [1.0] * tasks,
}  # fmt: skip


@quick
@pytest.mark.parametrize("name", LOOPS)
@given(steps=STEPS)
def test_every_step_is_the_loops(name: str, steps: list[Step]) -> None:
    own, loop = balancer(name, TASKS), LOOPS[name](TASKS)
    for step in steps:
        assert told(own, step) == pytest.approx(loop(step), rel=1e-9, abs=1e-12)


@quick
@pytest.mark.parametrize("name", [name for name in BALANCERS if name not in ("random", "pcgrad", "gradvac")])
@given(steps=STEPS, stop=st.integers(0, 6), epoch=st.integers(1, 4))
def test_a_balancer_goes_on_from_its_state(name: str, steps: list[Step], stop: int, epoch: int) -> None:
    """To the same numbers, wherever it was stopped; what it remembers is all in its state."""
    whole, first, second = (balancer(name, TASKS) for _ in range(3))

    def turned(one: Balancer, at: int) -> None:
        if at % epoch == epoch - 1:
            one.turn()

    for at, step in enumerate(steps):
        expected = told(whole, step)
        if at == stop:
            second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
        assert told(second if at >= stop else first, step) == expected
        turned(whole, at)
        turned(second if at >= stop else first, at)


# dynamic weight average, by epochs


def dwa(epochs: Sequence[Sequence[Step]], temperature: float) -> list[list[float]]:
    """The weights of every epoch: by how far each task's mean loss fell from the epoch before the last to the last."""
    history: list[list[float]] = []
    weights = []
    for steps in epochs:
        if len(history) < 2:
            weights.append([1.0] * TASKS)
        else:
            rates = [now / before for before, now in zip(history[-2], history[-1], strict=True)]
            weights.append([TASKS * share for share in softmax([rate / temperature for rate in rates])])
        means = []
        for task in range(TASKS):
            seen = [losses[task] for losses, _ in steps if losses[task]]
            means.append(sum(seen) / len(seen) if seen else history[-1][task] if history else 1.0)
        history.append(means)
    return weights


@quick
@given(epochs=st.lists(STEPS, min_size=1, max_size=5), temperature=st.sampled_from([0.5, 2.0]))
def test_dwa_is_the_loop_over_epochs(epochs: list[list[Step]], temperature: float) -> None:
    own = balancer("dwa", TASKS, {"temperature": temperature})
    for steps, expected in zip(epochs, dwa(epochs, temperature), strict=True):
        for step in steps:
            assert told(own, step) == pytest.approx(expected, rel=1e-9)
        own.turn()


def test_an_epoch_without_labels_of_a_task_does_not_hand_it_all_the_weight() -> None:
    """Its mean stays what it was: counted as nothing, the next epoch's would be infinitely worse."""
    own = balancer("dwa", 2)
    for losses in ([1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]):
        weights = own(torch.tensor(losses), lambda: torch.eye(2))
        assert weights.tolist() == pytest.approx([1.0, 1.0])
        own.turn()


# rules over the Gramian, against a search over a grid


def gram(gradients: Sequence[Sequence[float]]) -> Tensor:
    rows = torch.tensor(gradients, dtype=torch.float64)
    return rows @ rows.T


def weights_of(name: str, gradients: Sequence[Sequence[float]], **given: float) -> Tensor:
    """What a rule makes of these gradients, in double precision."""
    weights: Tensor = balancer(name, len(gradients), given)(torch.ones(len(gradients), dtype=torch.float64), lambda: gram(gradients))
    return weights


GRID = [tuple(one / 40 for one in point) for point in product(range(41), repeat=3) if sum(point) == 40]
VECTORS = st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3).filter(any), min_size=3, max_size=3)


@quick
@given(VECTORS)
def test_no_convex_combination_is_shorter_than_mgdas(gradients: list[list[int]]) -> None:
    products = gram(gradients)
    found = weights_of("mgda", gradients)
    assert float(found.sum()) == pytest.approx(1)
    assert float(found.min()) >= 0
    shortest = float(found @ products @ found)
    grid = torch.tensor(GRID, dtype=torch.float64)
    assert shortest <= float(((grid @ products) * grid).sum(1).min()) + 1e-6


@quick
@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda"])
@given(VECTORS)
def test_nobody_loses_by_rules_that_promise_it(name: str, gradients: list[list[int]]) -> None:
    """Against the direction that they come to, no task's loss rises."""
    found = weights_of(name, gradients)
    products = gram(gradients)
    assert float((products @ found).min()) >= -1e-3 * float(products.diagonal().max())


@quick
@given(VECTORS, st.sampled_from([1.0, 2.0]))
def test_fair_rules_solve_their_equation(gradients: list[list[int]], alpha: float) -> None:
    """`G w = w^(-1/alpha)` of the Gramian with its unit and its ridge."""
    products = gram(gradients)
    unit = products / products.diagonal().mean()
    found = weights_of("fairgrad", gradients, alpha=alpha)
    left = (unit + 1e-4 * torch.eye(3, dtype=torch.float64)) @ found
    assert left.tolist() == pytest.approx((found ** (-1 / alpha)).tolist(), rel=1e-5)
    if alpha == 1.0:
        assert weights_of("nash_mtl", gradients).tolist() == pytest.approx(found.tolist())


@quick
@given(VECTORS)
def test_krum_takes_who_has_the_nearest_neighbour(gradients: list[list[int]]) -> None:
    """Of three tasks each has one neighbour that counts: the nearest."""
    far = [min(math.dist(gradients[one], gradients[other]) for other in range(3) if other != one) for one in range(3)]
    chosen = [one for one in range(3) if far[one] <= min(far) + 1e-9]
    shares = [1 / len(chosen) if one in chosen else 0.0 for one in range(3)]
    assert weights_of("krum", gradients).tolist() == pytest.approx(shares, abs=1e-6)


def test_names_settings_and_counts_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"fit\.balancer: no 'mgdaa'; did you mean 'mgda'"):
        balancer("mgdaa", 2)
    with pytest.raises(UserError, match=r"balance\.temp: 'dwa' has no such setting; it takes temperature"):
        balancer("dwa", 2, {"temp": 1.0})
    with pytest.raises(UserError, match="it takes none"):
        balancer("mgda", 2, {"c": 1.0})
    with pytest.raises(UserError, match="'krum' needs 3 tasks, there are 2"):
        balancer("krum", 2)
    for weights in ((1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, math.inf), (1.0, math.nan)):
        with pytest.raises(UserError, match="give one number above 0 a task"):
            balancer("static", 2, {"weights": weights})
    assert all("tasks" not in takes_of(name) for name in BALANCERS)
