"""What keeps a model from learning by heart: decay, fresh tables, dropped ids; and the precision and the compiler a plan may name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from tests import everykind
from tests.toys import Batches, Toy, equal, toy
from torch import Tensor

from umbel.errors import UserError
from umbel.learn.fit import Epoch, fit
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast
from umbel.nn.encode import SPREAD
from umbel.nn.views import Places
from umbel.recipes import stem
from umbel.run import resolve
from umbel.run.settings import FitSection
from umbel.schema import Field, FieldKind, Schema, Task

BATCH = next(iter(Batches()(0)))


def falling() -> Callable[[Toy], float]:
    """The first epoch stays the best."""
    left = iter([0.9, 0.8, 0.7, 0.6])
    return lambda model: next(left)


def dense(model: Toy) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.dense_parameters()]


@pytest.mark.parametrize("kind", [Fast, Exact])
def test_decay_draws_dense_weights_to_zero_and_leaves_the_table(kind: type[Fast] | type[Exact]) -> None:
    plain, drawn = toy(), toy()
    kind(plain, Plan(rate=0.1))(BATCH)
    before = dense(drawn)
    kind(drawn, Plan(rate=0.1, decay=0.5))(BATCH)
    assert torch.equal(plain.table, drawn.table)
    for first, one, other in zip(before, dense(plain), dense(drawn), strict=True):
        torch.testing.assert_close(other, one - 0.1 * 0.5 * first, atol=1e-7, rtol=0.0)


def test_a_fresh_table_is_drawn_after_every_epoch_and_the_best_one_kept() -> None:
    torch.manual_seed(0)
    model = Toy(2000, width=4)
    drawn: list[Tensor] = []
    seen: list[Epoch] = []
    for epoch in fit(model, Batches(), plan=Plan(epochs=3, patience=3, rate=0.1, fresh=True), judge=falling()):
        drawn.append(model.table.detach().clone())
        seen.append(epoch)
    assert all(abs(float(one.std()) / SPREAD - 1) < 0.05 for one in drawn)
    assert not torch.equal(drawn[0], drawn[1])
    best = seen[-1].state.best["table"]
    assert float(best[:12].abs().max()) > 0.05  # what the first epoch taught, not what was drawn after it
    assert not any(torch.equal(best, one) for one in drawn)


@pytest.mark.parametrize("exact", [False, True])
def test_a_fresh_table_forgets_its_moments(exact: bool) -> None:
    model = toy()
    plan = Plan(epochs=1, rate=0.1, fresh=True, exact=exact)
    (epoch,) = fit(model, Batches(), plan=plan, judge=lambda model: 0.5)
    assert not any(bool(tensor.any()) for tensor in epoch.state.table.values())
    assert {int(name.partition(".")[0]) for name in epoch.state.dense} == {0, 1}  # the head's two; a table's would be 2


def test_without_it_the_table_goes_on() -> None:
    model = toy()
    (epoch,) = fit(model, Batches(), plan=Plan(epochs=1, rate=0.1), judge=lambda model: 0.5)
    assert any(bool(tensor.any()) for tensor in epoch.state.table.values())
    assert torch.equal(model.table, epoch.state.best["table"])


def test_a_training_with_fresh_tables_goes_on_to_the_same_bytes() -> None:
    plan = Plan(epochs=3, patience=3, rate=0.1, fresh=True, decay=0.01)
    whole = toy()
    states = [epoch.state for epoch in fit(whole, Batches(), plan=plan, judge=lambda model: 0.5)]
    first = toy()
    start = next(fit(first, Batches(), plan=plan, judge=lambda model: 0.5)).state
    again = toy(seed=9)
    rest = [epoch.state for epoch in fit(again, Batches(), plan=plan, judge=lambda model: 0.5, start=start)]
    assert len(rest) == 2
    assert equal(list(again.state_dict().values()), list(whole.state_dict().values()))
    assert equal(list(rest[-1].best.values()), list(states[-1].best.values()))


SCHEMA = Schema(
    (Field("user", FieldKind.ID), Field("hour", FieldKind.CATEGORY), Field("tags", FieldKind.BAG, length=2), Field("item", FieldKind.ID)),
    (Task("click"),),
)


def places(drop: float, *, training: bool) -> tuple[Tensor, Places]:
    made = Places(SCHEMA, {"user": 5, "hour": 4, "tags": 3, "item": 6}, drop=drop).train(training)
    rows = 4000
    fields = {
        "user": torch.full((rows,), 2), "hour": torch.full((rows,), 3), "tags": torch.tensor([[1, -1]]).expand(rows, 2),
        "item": torch.full((rows,), 4),
    }  # fmt: skip
    torch.manual_seed(3)
    return made(fields), made


def test_dropped_ids_read_as_unknown_and_nothing_else_is_dropped() -> None:
    place, _ = places(0.3, training=True)
    user, hour, tag, padding, item = place.unbind(1)
    assert set(user.tolist()) == {0, 2}
    assert set(item.tolist()) == {12, 16}
    assert set(hour.tolist()) == {5 + 3}
    assert set(tag.tolist()) == {9 + 1}
    assert set(padding.tolist()) == {-1}
    shares = [float((user == 0).float().mean()), float((item == 12).float().mean())]
    assert all(abs(share - 0.3) < 0.03 for share in shares)
    both = float(((user == 0) & (item == 12)).float().mean())
    assert abs(both - 0.09) < 0.02  # each id for itself


@pytest.mark.parametrize(("drop", "training"), [(0.0, True), (0.3, False)])
def test_no_id_is_dropped_unless_asked_and_never_when_scoring(drop: float, training: bool) -> None:
    place, _ = places(drop, training=training)
    assert set(map(tuple, place.tolist())) == {(2, 8, 10, -1, 16)}


def test_a_model_drops_ids_while_it_trains() -> None:
    sizes = everykind.sizes()
    dropping = stem(everykind.schema(), type(sizes)(**{name: getattr(sizes, name) for name in sizes.__slots__} | {"id_dropout": 0.5}))
    batch = everykind.fields()
    torch.manual_seed(1)
    one = dropping.train().rows(batch)["place"]
    assert not torch.equal(one, dropping.rows(batch)["place"])
    assert torch.equal(dropping.eval().rows(batch)["place"], dropping.rows(batch)["place"])


def test_half_precision_trains_whole_weights() -> None:
    whole, half = toy(), toy()
    Fast(whole, Plan(rate=0.1))(BATCH)
    losses = Fast(half, Plan(rate=0.1, precision=torch.bfloat16))(BATCH)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {losses.dtype} == {torch.float32}
    assert not torch.equal(whole.head.weight.grad, half.head.weight.grad)  # type: ignore[arg-type]
    torch.testing.assert_close(whole.head.weight.grad, half.head.weight.grad, atol=0.01, rtol=0.02)


def test_what_a_run_file_says_of_it() -> None:
    plain, other = (resolve.plan(one) for one in (FitSection(), FitSection(decay=0.1, fresh=True, precision="bfloat16", compiled=True)))
    assert (plain.decay, plain.fresh, plain.precision, plain.compiled) == (0.0, False, None, False)
    assert (other.decay, other.fresh, other.precision, other.compiled) == (0.1, True, torch.bfloat16, True)


def test_a_negative_decay_is_refused() -> None:
    with pytest.raises(UserError, match=r"decay = -0\.1.*at least 0"):
        Plan(decay=-0.1)


COMPILED = """
from functools import partial
import torch
from tests.toys import Batches, toy
from umbel.learn.plan import Plan
from umbel.learn.step import Fast
calls = []
def backend(graph, inputs):
    calls.append(graph)
    return graph.forward
torch.compile = partial(torch.compile, backend=backend)
eager, compiled = toy(), toy()
plain, fast = Fast(eager, Plan(rate=0.1)), Fast(compiled, Plan(rate=0.1, compiled=True))
for batch in Batches()(0):
    plain(batch), fast(batch)
assert torch.equal(eager.table, compiled.table) and torch.equal(eager.head.weight, compiled.head.weight)
print(len(calls))
"""


def test_a_compiled_step_is_the_same_step_and_compiles_once() -> None:
    """In a process of its own, since shapes that are checked while tests run cannot be compiled."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 2  # a size that changes is met once as a number, then as a name
