"""Laws of every head: what its outputs mean, what unseen rows and weights do, and that outputs of its own are in nobody's way."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests import everykind
from tests.everykind import Labels, fields, sizes
from torch import Tensor

from umbel.data.batch import Batch
from umbel.evaluate.judge import Predictions, calibrate_all, evaluate, fit_calibrators, mean_score
from umbel.kinds import Quantile
from umbel.learn.plan import Plan
from umbel.learn.step import Fast
from umbel.nn.heads import HEADS
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.recipes import RECIPES, alone, mmoe
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

TASKS = (Task("buy", given="cart"), Task("click"), Task("seconds", REGRESSION), Task("cart", given="click"), Task("like"))
SCHEMA = Schema(everykind.FIELDS, TASKS)
BUY, CLICK, SECONDS, CART, LIKE = range(5)
KINDS = Schema((Field("kind", FieldKind.CATEGORY),), (Task("click"), Task("cart", given="click"), Task("buy", given="cart")))
CHANCES = ((0.8, 0.5, 0.9), (0.5, 0.25, 0.3), (0.25, 0.7, 0.1))  # of three kinds of rows: click, cart after it, buy after that


def made(head: str, *, dropout: float = 0.0, schema: Schema = SCHEMA) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(mmoe(schema, replace(sizes(), dropout=dropout), parts=Parts(head=HEADS[head]()))).eval()


def chained(rows: int = 40, *, seed: int = 0) -> Labels:
    """Labels as a log leaves them: a later event is seen only where the one before held, and some labels are missing."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2, (rows, 5), generator=draw).float()
    seen = torch.rand(rows, 5, generator=draw) < 0.9
    for later, earlier in ((CART, CLICK), (BUY, CART)):
        seen[:, later] &= seen[:, earlier] & (values[:, earlier] == 1)
    return Labels(torch.where(seen, values, torch.nan), seen)


def population() -> tuple[dict[str, Tensor], Labels]:
    """Every outcome of every kind of row once, weighted by its chance: losses over it are exact expectations."""
    rows: list[tuple[int, float, tuple[float, ...]]] = []
    for kind, (click, cart, buy) in enumerate(CHANCES, 1):
        rows += [(kind, 1 - click, (0, math.nan, math.nan)), (kind, click * (1 - cart), (1, 0, math.nan)),
                 (kind, click * cart * (1 - buy), (1, 1, 0)), (kind, click * cart * buy, (1, 1, 1))]
    labels = torch.tensor([row[2] for row in rows])
    weight = torch.tensor([row[1] for row in rows])[:, None].expand(-1, 3)
    return {"kind": torch.tensor([row[0] for row in rows], dtype=torch.int32)}, Labels(labels, ~labels.isnan(), weight)


@pytest.mark.parametrize("head", HEADS)
def test_outputs_are_logits_of_the_conditionals(head: str) -> None:
    """Trained on a whole population, a model that can hold any function of its one field says p(click), p(cart | click), p(buy | cart)."""
    torch.manual_seed(1)
    model = alone(KINDS, Sizes({"kind": 4}, dim=6, expert=(12,), tower=()), parts=Parts(head=HEADS[head]()))
    batch, labels = population()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)
    for _ in range(250):
        optimizer.zero_grad()
        torch.autograd.backward(model.losses(model(batch), labels, denominator=Denominator.ROWS).sum())
        optimizer.step()
        schedule.step()
    said = model({"kind": torch.tensor([1, 2, 3], dtype=torch.int32)})[:, :3].sigmoid()
    torch.testing.assert_close(said, torch.tensor(CHANCES), atol=0.02, rtol=0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_number_begins_where_it_is_told_to(recipe: str, head: str) -> None:
    """The output moves by as much on every row, whatever the weights, and no other output does: without weights it is that number."""
    torch.manual_seed(0)
    model = everykind.awake(RECIPES[recipe](SCHEMA, sizes(), parts=Parts(head=HEADS[head]()))).eval()
    batch, moved = fields(12), torch.zeros(5 + len(model.head.auxiliary))
    model.begin("seconds", torch.tensor([0.0]))
    before = model(batch)
    model.begin("seconds", torch.tensor([-3.5]))
    moved[SECONDS] = -3.5
    torch.testing.assert_close(model(batch), before + moved)
    *_, weights, _ = model.groups()["tower seconds"]
    with torch.no_grad():
        weights.of(dict(model.named_parameters())).zero_()
    assert model(batch)[:, SECONDS].tolist() == pytest.approx([-3.5] * 12)


@pytest.mark.parametrize("tower", [(), (3,), (4, 3)])
@pytest.mark.parametrize("head", HEADS)
def test_every_output_of_a_task_begins_where_it_is_told_to(head: str, tower: tuple[int, ...]) -> None:
    """Two tasks of the same width have one bank of towers: the other one stays."""
    quantiles = Quantile((0.2, 0.5, 0.9))
    schema = Schema(everykind.FIELDS, (*TASKS, Task("price", quantiles), Task("pause", quantiles)))
    torch.manual_seed(0)
    model = mmoe(schema, replace(sizes(), tower=tower), parts=Parts(head=HEADS[head]())).eval()
    before = model(fields(9))
    model.begin("pause", torch.tensor([7.0, 1.0, 2.0]))
    change = torch.zeros(before.shape[1])
    change[schema.outputs[6]] = torch.tensor([7.0, 1.0, 2.0])
    torch.testing.assert_close(model(fields(9)), before + change)


@pytest.mark.parametrize("head", HEADS)
def test_what_nobody_saw_costs_and_teaches_nothing(head: str) -> None:
    model, blind = made(head), Labels(torch.full((12, 5), torch.nan), torch.zeros(12, 5, dtype=torch.bool))
    for denominator in Denominator:
        losses = model.losses(model(fields(12)), blind, denominator=denominator)
        assert losses.tolist() == [0.0] * 5
        assert not any(gradient.any() for gradient in everykind.gradients(model, losses.sum()).values())


@pytest.mark.parametrize("head", HEADS)
def test_no_rows(head: str) -> None:
    model = made(head)
    logits = model({name: column[:0] for name, column in fields(3).items()})
    assert logits.shape == (0, 5 + len(model.head.auxiliary))
    losses = model.losses(logits, Labels(torch.zeros(0, 5), torch.zeros(0, 5, dtype=torch.bool)))
    assert losses.tolist() == [0.0] * 5


@pytest.mark.parametrize("head", HEADS)
def test_weights_multiply(head: str) -> None:
    """A row's weight its share of every term, a task's its whole loss; the denominators differ by a factor a task."""
    model, batch = made(head), chained()
    logits = model(fields(40))
    plain = model.losses(logits, batch)
    ones, threes = (model.losses(logits, replace(batch, weight=torch.full((40, 5), weight))) for weight in (1.0, 3.0))
    torch.testing.assert_close(ones, plain)
    torch.testing.assert_close(threes, 3 * plain)
    heavy = Schema(SCHEMA.fields, tuple(replace(task, weight=2.0 + number) for number, task in enumerate(TASKS)))
    torch.testing.assert_close(made(head, schema=heavy).losses(logits, batch), plain * torch.arange(2.0, 7.0))
    rows = model.losses(logits, batch, denominator=Denominator.ROWS)
    assert (rows <= plain).all()
    assert rows[BUY] > 0


@pytest.mark.parametrize("head", HEADS)
def test_a_loss_is_a_mean_over_the_rows_that_are_paid(head: str) -> None:
    """The two denominators tell what a loss is divided by: how many rows the head says it is the mean of."""
    model, batch = made(head), chained()
    logits, paid = model(fields(40)), model.paid(batch)
    assert paid.shape == (40, 5)
    seen, rows = (model.losses(logits, batch, denominator=one) for one in (Denominator.SEEN, Denominator.ROWS))
    torch.testing.assert_close(seen * paid.sum(0), rows * 40)
    assert torch.equal(paid[:, [CLICK, SECONDS, LIKE]], batch.seen[:, [CLICK, SECONDS, LIKE]])


@pytest.mark.parametrize("head", HEADS)
def test_pieces_of_a_batch_pay_by_their_paid_rows(head: str) -> None:
    """What steps of several batches and an epoch's mean losses rest on; one piece knows hardly any purchase by its own label."""
    model, batch = made(head), chained(60, seed=3)
    logits, bounds = model(fields(60)), [0, 1, 25, 60]
    pieces = [Labels(batch.labels[start:stop], batch.seen[start:stop]) for start, stop in pairwise(bounds)]
    losses = torch.stack([model.losses(logits[start:stop], one) for one, (start, stop) in zip(pieces, pairwise(bounds), strict=True)])
    counts = torch.stack([model.paid(one).sum(0) for one in pieces])
    assert head in ("independent", "dbmtl") or not torch.equal(counts[:, BUY], torch.stack([one.seen.sum(0) for one in pieces])[:, BUY])
    torch.testing.assert_close((losses * counts).sum(0) / counts.sum(0), model.losses(logits, batch))


@pytest.mark.parametrize("head", HEADS)
def test_a_row_without_weight_is_a_row_that_is_not_there(head: str) -> None:
    model, batch = made(head), chained()
    weight = torch.ones(40, 5)
    weight[25:] = 0
    logits = model(fields(40))
    found = model.losses(logits, replace(batch, weight=weight), denominator=Denominator.ROWS)
    some = Labels(batch.labels[:25], batch.seen[:25])
    torch.testing.assert_close(found * 40, 25 * model.losses(logits[:25], some, denominator=Denominator.ROWS))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_extreme_outputs_have_finite_losses_and_gradients(head: str, scale: float) -> None:
    model = made(head)
    logits = scale * torch.randn(40, 5 + len(model.head.auxiliary), generator=torch.Generator().manual_seed(2))
    logits.requires_grad_()
    losses = model.losses(logits, chained())
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("head", HEADS)
def test_events_before_and_after_decide_one_chain(head: str) -> None:
    """One batch is learned by heart: every seen event on its side of one half."""
    torch.manual_seed(3)
    model = mmoe(SCHEMA, sizes(), parts=Parts(head=HEADS[head]()))
    batch, labels = fields(24), chained(24, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        torch.autograd.backward(model.losses(model(batch), labels).sum())
        optimizer.step()
    said = model(batch)
    for task in (BUY, CLICK, CART, LIKE):
        seen = labels.seen[:, task]
        right = (said[seen, task] > 0) == (labels.labels[seen, task] == 1)
        assert right.float().mean() > 0.95, TASKS[task].name


@pytest.mark.parametrize("head", HEADS)
def test_dropout_is_training_s_alone(head: str) -> None:
    model = made(head, dropout=0.5)
    assert torch.equal(model(fields(9)), model(fields(9)))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(fields(9)), model(fields(9)))


@pytest.mark.parametrize("head", HEADS)
def test_a_head_can_be_told_its_precision_and_keeps_its_state(head: str) -> None:
    one, other = made(head), made(head)
    single = one(fields(6))
    assert set(one.state_dict()) == set(dict(one.named_parameters()))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(fields(6)), single)
    torch.testing.assert_close(one.double()(fields(6)).float(), single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_many_tables_at_once(head: str) -> None:
    """Batched over users, each with a table of its own: what adapting asks of every model."""
    model, batch = made(head), fields(5)
    place = model.rows(batch)["place"]
    tables = torch.randn(3, *model.table.shape, generator=torch.Generator().manual_seed(2))
    found = torch.func.vmap(lambda table: model.score({"table": table, "place": place}, batch))(tables)
    for one, table in zip(found, tables, strict=True):
        torch.testing.assert_close(one, model.score({"table": table, "place": place}, batch), atol=1e-4, rtol=1e-4)


def predictions(head: str, auxiliary: float | None) -> Predictions:
    """What a model says of 200 rows, with its auxiliary outputs as they are, or replaced; none at all for NaN."""
    model, labels = made(head), chained(200, seed=5)
    logits = model(fields(200)).detach().numpy().astype(np.float64)
    if auxiliary is not None:
        logits[:, 5:] = auxiliary
        logits = logits[:, :5] if math.isnan(auxiliary) else logits
    events = np.nan_to_num(labels.labels.numpy()).astype(np.float64)
    return Predictions(SCHEMA, logits, events, labels.seen.numpy(), np.arange(200) % 20)


@pytest.mark.parametrize("head", HEADS)
def test_auxiliary_outputs_are_in_nobody_s_way(head: str) -> None:
    """Calibration, figures and what stops training are the same whatever they hold, and without them."""
    plain = predictions(head, None)
    calibrators = fit_calibrators(plain)
    given = calibrate_all(SCHEMA, plain.logits, calibrators)
    assert given.shape == (200, 5)
    report = evaluate(plain, given)
    for other in (predictions(head, 1e9), predictions(head, -7.0), predictions(head, math.nan)):
        assert fit_calibrators(other) == calibrators
        assert np.array_equal(calibrate_all(SCHEMA, other.logits, calibrators), given)
        assert evaluate(other, given) == report
        scores = [mean_score(SCHEMA, one.events, one.observed, logits=one.logits) for one in (plain, other)]
        assert scores[0] == scores[1]


@pytest.mark.parametrize("head", HEADS)
def test_a_step_in_half_precision_pays_about_the_same(head: str) -> None:
    """Losses are taken in single precision of what a step in bfloat16 said; nothing in it becomes no number."""
    labels = chained()
    batch = Batch(fields(40), labels.labels, labels.seen, torch.arange(40))
    paid = []
    for precision in (None, torch.bfloat16):
        model = made(head)
        paid.append(Fast(model, Plan(rate=0.01, precision=precision))(batch))
        assert all(parameter.isfinite().all() for parameter in model.parameters())
    torch.testing.assert_close(paid[1], paid[0], rtol=0.02, atol=0.01)
