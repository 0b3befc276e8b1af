"""The low-rank form of gradient steps is the plain one: logits and outer gradients, whatever the depth, order, clipping and raggedness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests import rated
from torch import Tensor
from torch.func import functional_call

from umbel.coldstart.source import Reader
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import LABELS, PRIOR, SEEN, WEIGHT, parted
from umbel.data.table import Table
from umbel.learn import dual
from umbel.learn.adapt import Inner, Steps, adapt
from umbel.learn.chain import Chain
from umbel.learn.dual import Dual
from umbel.learn.episode import Learner
from umbel.learn.rates import MakeRates, fixed, per_layer, per_weight
from umbel.learn.scope import ALL, DECISION, LAST, SCOPES, Scope
from umbel.nn.recommender import Recommender, Sizes
from umbel.objectives import Focal
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Schema, Task

SHAPES: dict[str, dict[str, object]] = {
    "shared_bottom": {},
    "shared_bottom, towers": {"tower": (4, 3)},
    "shared_bottom, two layers": {"layers": 2, "tower": (3,)},
    "shared_bottom, wide": {"expert": (40,)},
    "alone, towers": {"tower": (4,)},
    "alone, deep": {"expert": (5, 4, 6)},
}
every_shape = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def reader(table: Table) -> Reader:
    return rated.setup(table).reader


@pytest.fixture(scope="module")
def batch(table: Table, reader: Reader) -> Batch:
    """Users of unequal supports, one without any; rows that count unequally; a third of the labels unseen."""
    found = reader.batch(episodes(table, "train", Protocol(support=None, query=3, history=(7, 100))))
    fields = dict(found.fields)
    torch.manual_seed(3)
    fields[WEIGHT] = fields[WEIGHT] * (0.5 + torch.rand_like(fields[WEIGHT]))
    fields[WEIGHT][1] = 0.0
    fields[SEEN] = fields[SEEN] & (torch.rand(fields[SEEN].shape) > 0.3) & (fields[WEIGHT] > 0)[..., None]
    return replace(found, fields=fields)


def model(table: Table, shape: str, *, schema: Schema | None = None, dropout: float = 0.0) -> Recommender:
    torch.manual_seed(0)
    given: dict[str, object] = {"expert": (6, 5), "tower": (), **SHAPES[shape]}
    sizes = Sizes(rated.sizes(table).vocabulary, dim=3, dropout=dropout, **given)  # type: ignore[arg-type]
    found = RECIPES[shape.split(",")[0]](schema or table.schema, sizes)
    with torch.no_grad():
        found.table.normal_(std=0.5)
        for name, one in found.named_parameters():
            if "biases" in name:
                one.normal_(std=0.2)
    return found


def learner(made: Recommender, inner: Inner, *, rates: MakeRates | None = None, plain: bool = False) -> Learner:
    """By the low-rank form, or `plain`: by `vmap` over copies."""
    steps = Steps(made, inner, rates=rates or fixed(0.1))
    if plain:
        steps.chain = None
    return Learner(made, steps, user="user").eval()


def doubled(batch: Batch) -> Batch:
    fields = {name: one.double() if one.is_floating_point() else one for name, one in batch.fields.items()}
    return replace(batch, fields=fields, labels=batch.labels.double())


def taught(made: Learner, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and what an outer loss teaches every parameter, learned rates too."""
    made.zero_grad()
    logits = made(batch.fields)
    named = {name: one for name, one in made.named_parameters() if one.requires_grad}
    slopes = torch.autograd.grad((logits - batch.labels).square().sum(), list(named.values()), allow_unused=True)
    return logits.detach(), {name: torch.zeros_like(named[name]) if one is None else one for name, one in zip(named, slopes, strict=True)}


def same(one: Learner, other: Learner, batch: Batch, *, within: float) -> None:
    assert used(one) is not None
    assert used(other) is None
    logits, slopes = taught(one, batch)
    plain, expected = taught(other, batch)
    torch.testing.assert_close(logits, plain, rtol=within, atol=within)
    for name, slope in slopes.items():
        scale = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(slope / scale, expected[name] / scale, rtol=within, atol=within, msg=name)


def used(made: Learner) -> Dual | None:
    assert isinstance(made.adapter, Steps)
    inner = made.adapter.inner
    adapted = inner.scope.chosen(made.model) | ({"table": made.table} if inner.scope.table else {})
    return Dual.of(made.model, made.adapter.chain, adapted=adapted, rates=made.adapter.rates())


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("scope", [DECISION, LAST], ids=["decision", "last"])
@every_shape
def test_it_is_the_copies_of_every_user(table: Table, batch: Batch, shape: str, scope: Scope, *, steps: int, second: bool) -> None:
    made = model(table, shape)
    inner = Inner(scope, steps=steps, second=second)
    same(learner(made, inner), learner(made, inner, plain=True), batch, within=1e-4)
    made = made.double()
    same(learner(made, inner).double(), learner(made, inner, plain=True).double(), doubled(batch), within=1e-9)


@pytest.mark.parametrize("shorter", [True, False], ids=["by rows", "by matrix"])
@pytest.mark.parametrize("second", [False, True])
@every_shape
def test_either_form_is_exact(
    table: Table, batch: Batch, monkeypatch: pytest.MonkeyPatch, shape: str, *, second: bool, shorter: bool
) -> None:
    """Rows or a matrix, of every map: each alone, whatever would be the smaller."""
    monkeypatch.setattr(dual, "shorter", lambda *_: shorter)
    made = model(table, shape).double()
    inner = Inner(DECISION, steps=3, second=second)
    same(learner(made, inner).double(), learner(made, inner, plain=True).double(), doubled(batch), within=1e-9)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("clip", [1e-3, 0.3, 1.0, 1e9])
@pytest.mark.parametrize("shorter", [True, False], ids=["by rows", "by matrix"])
def test_clipping_is_the_same(
    table: Table, batch: Batch, monkeypatch: pytest.MonkeyPatch, clip: float, *, second: bool, shorter: bool
) -> None:
    monkeypatch.setattr(dual, "shorter", lambda *_: shorter)
    made = model(table, "shared_bottom, towers").double()
    inner = Inner(DECISION, steps=3, second=second, clip=clip)
    same(learner(made, inner).double(), learner(made, inner, plain=True).double(), doubled(batch), within=1e-9)


@pytest.mark.parametrize("second", [False, True])
def test_learned_rates_are_taught_the_same(table: Table, batch: Batch, *, second: bool) -> None:
    made = model(table, "alone, towers").double()
    inner = Inner(DECISION, steps=3, second=second)
    one, other = (learner(made, inner, rates=per_layer(0.1), plain=plain).double() for plain in (False, True))
    for adapter in (one.adapter, other.adapter):
        for place, (name, rate) in enumerate(sorted(adapter.named_parameters())):
            rate.data.fill_(0.02 * (1 + place) * (-1 if "bias" in name and place % 3 == 0 else 1))
    same(one, other, doubled(batch), within=1e-9)
    assert all(bool((slope != 0).all()) for name, slope in taught(one, doubled(batch))[1].items() if name.startswith("adapter"))


def test_a_large_support_is_the_same(table: Table, reader: Reader) -> None:
    """A support six times over, kept as matrices, is the support kept as rows."""
    batch = reader.batch(episodes(table, "train", Protocol(support=None, query=3, history=(7, 100))))
    wide = {name: torch.cat([one] * 6, 1) if name.startswith("support/") else one for name, one in batch.fields.items()}
    wide[WEIGHT] = wide[WEIGHT] / 6
    made = model(table, "shared_bottom, wide").double()
    inner = Inner(DECISION, steps=2, second=True)
    long = replace(doubled(batch), fields={name: one.double() if one.is_floating_point() else one for name, one in wide.items()})
    logits, _ = taught(learner(made, inner).double(), long)
    torch.testing.assert_close(logits, taught(learner(made, inner).double(), doubled(batch))[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("plain", [False, True], ids=["low rank", "copies"])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("broken", [LABELS, PRIOR])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e30])
def test_what_is_no_number_spoils_nobody(table: Table, batch: Batch, broken: str, value: float, *, second: bool, plain: bool) -> None:
    """The user's steps are not taken and counted; everyone else is as if alone; the outer gradient is a number."""
    made = model(table, "shared_bottom, towers")
    inner = Inner(DECISION, steps=2, second=second)
    fields = {name: one.clone() for name, one in batch.fields.items()}
    fields[broken][0, 0, 0] = value
    fields[SEEN][0, 0, 0], fields[WEIGHT][0, 0] = True, 0.2
    own = learner(made, inner, plain=plain)
    logits, slopes = taught(own, replace(batch, fields=fields))
    assert isinstance(own.adapter, Steps)
    assert int(own.adapter.lost) == inner.steps
    assert logits.isfinite().all()
    assert all(one.isfinite().all() for one in slopes.values())
    none = learner(made, replace(inner, steps=0))(batch.fields)
    rows = len(logits) // len(batch.fields[WEIGHT])
    torch.testing.assert_close(logits[:rows], none[:rows], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits[rows:], taught(own, batch)[0][rows:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("plain", [False, True], ids=["low rank", "copies"])
def test_a_user_without_rows_teaches_the_shared_model_alone(table: Table, batch: Batch, *, plain: bool) -> None:
    """Second order: the norm of no gradient has no derivative, and is not asked for one."""
    fields = {name: one.clone() for name, one in batch.fields.items()}
    fields[WEIGHT], fields[SEEN] = torch.zeros_like(fields[WEIGHT]), torch.zeros_like(fields[SEEN])
    made = model(table, "shared_bottom")
    inner = Inner(DECISION, steps=2, second=True)
    empty = replace(batch, fields=fields)
    logits, slopes = taught(learner(made, inner, plain=plain), empty)
    base, expected = taught(learner(made, replace(inner, steps=0)), empty)
    torch.testing.assert_close(logits, base)
    for name, one in slopes.items():
        torch.testing.assert_close(one, expected[name])


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_told_as_a_chain_answers_as_the_model(table: Table, batch: Batch, name: str) -> None:
    """Every recipe that is one; those with gates are none."""
    told = answered(RECIPES[name](table.schema, rated.sizes(table)), batch)
    assert told or name not in ("alone", "shared_bottom")
    assert not told or name not in ("omoe", "mmoe", "ple", "stem", "me_mmoe", "home", "pepnet", "cross_stitch")


@every_shape
def test_a_chain_without_steps_is_the_model(table: Table, batch: Batch, shape: str) -> None:
    assert answered(model(table, shape), batch)


def answered(made: Recommender, batch: Batch) -> bool:
    """Whether a model is a chain; if so, that it answers as the model does."""
    with torch.no_grad():
        made.table.normal_(std=0.5)
    chosen = DECISION.chosen(made)
    found = Dual.of(made, Chain.of(made), adapted=chosen, rates={name: torch.tensor(0.1) for name in chosen})
    if found is None:
        return False
    query = parted(batch.fields)[1]
    start = found.begin(made.interact(made.seen(query)), (len(batch.fields[WEIGHT]), -1))
    torch.testing.assert_close(found.logits(start, {})[0].flatten(0, 1), made(query))
    return True


def focal(table: Table) -> Recommender:
    return model(table, "shared_bottom", schema=Schema(rated.FIELDS, (Task("rating", REGRESSION), Task("click", loss=Focal()))))


@pytest.mark.parametrize(("make", "scope", "rates"), [
    (lambda table: model(table, "shared_bottom", dropout=0.5), DECISION, fixed(0.1)),
    (focal, DECISION, fixed(0.1)),
    (lambda table: model(table, "shared_bottom"), DECISION, per_weight(0.1)),
    (lambda table: model(table, "shared_bottom"), ALL, fixed(0.1)),
    (lambda table: model(table, "shared_bottom"), SCOPES["embedding"], fixed(0.1)),
    (lambda table: model(table, "shared_bottom"), Scope(("layers.0.bank.blocks.0.weights",)), fixed(0.1)),
], ids=["dropout", "another loss", "a rate a weight", "embeddings", "the user's row", "weights without biases"])
def test_what_it_is_not_exact_for_is_done_plainly(
    table: Table, batch: Batch, make: Callable[[Table], Recommender], scope: Scope, rates: MakeRates
) -> None:
    made = learner(make(table), Inner(scope, steps=1), rates=rates).train()
    assert used(made) is None
    torch.manual_seed(5)
    assert made(batch.fields).isfinite().all()


def test_dropout_is_no_hindrance_once_training_is_over(table: Table) -> None:
    assert used(learner(model(table, "shared_bottom", dropout=0.5), Inner(DECISION))) is not None


@pytest.mark.parametrize("scope", [DECISION, LAST], ids=["decision", "last"])
@every_shape
def test_one_users_parameters_are_the_loops(
    table: Table, batch: Batch, monkeypatch: pytest.MonkeyPatch, shape: str, scope: Scope
) -> None:
    made = model(table, shape).double()
    support, query = parted(doubled(batch).fields)
    rows = Batch({name: one[2] for name, one in support.fields.items()}, support.labels[2], support.seen[2],
                 torch.arange(len(support.labels[2])))
    inner = Inner(scope, steps=3)
    own = adapt(made, rows, inner=inner, rate=0.1, prior=support.prior[2])
    monkeypatch.setattr(Chain, "of", lambda _: None)
    plain = adapt(made, rows, inner=inner, rate=0.1, prior=support.prior[2])
    assert own.keys() == plain.keys()
    for name, one in own.items():
        torch.testing.assert_close(one, plain[name], rtol=1e-7, atol=1e-7)  # rows' weights are single numbers
    assert any(not torch.equal(one, dict(made.named_parameters())[name]) for name, one in own.items())
    torch.testing.assert_close(functional_call(made, own, (query,)), functional_call(made, plain, (query,)), rtol=1e-6, atol=1e-6)


def test_inference_mode_is_no_hindrance(table: Table, batch: Batch) -> None:
    made = learner(model(table, "shared_bottom"), Inner(DECISION, steps=3, second=True))
    with torch.inference_mode():
        found = made(batch.fields)
    torch.testing.assert_close(found, made(batch.fields).detach())
