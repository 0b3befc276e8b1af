"""A step asks the device for what it must know and for no more: each such question has the CPU wait until a GPU has done all before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from tests import everykind, kindrows
from tests.laws.test_combinations import EACH_ONCE, TASKS, made
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from umbel.data.assemble import Assembler
from umbel.data.batch import Batch
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast, Step
from umbel.nn.losses import Denominator, task_losses
from umbel.nn.recommender import Recommender
from umbel.objectives import OBJECTIVES, Pairwise
from umbel.recipes import RECIPES, stem
from umbel.schema import Field, FieldKind, Schema, Task

SIZED = {"nonzero", "_unique2", "unique_dim", "bincount", "masked_select"}  # whose answer is as long as the numbers say
READ = {"_local_scalar_dense", "lift_fresh"}  # a number that Python is told, and one that Python has, which must be sent
INDEXED = {"index", "index_put", "index_put_"}
ROWS = 24
META = torch.device("meta")
TOUCHED, LISTS = Counter(nonzero=1), Counter(nonzero=2)  # the rows of the table; entries that are no padding, forward and back


class Asked(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that a GPU would be waited for at, and refuses those that mix devices."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name, named = str(func.overloadpacket).removeprefix("aten."), dict(kwargs or {})
        places = {one.device for one in args if isinstance(one, Tensor) and one.ndim}
        assert len(places) < 2 or name in ("copy_", "_to_copy"), f"{name} of {places}"
        masks = [one for one in (args[1] if name in INDEXED else ()) if isinstance(one, Tensor) and one.dtype == torch.bool]  # type: ignore[attr-defined]
        unsized = name == "repeat_interleave" and named.get("output_size") is None
        if name in SIZED | READ or masks or unsized:
            self.found[name] += 1
        return func(*args, **named)


def batch(labels: Tensor, fields: Mapping[str, Tensor] | None = None) -> Batch:
    seen = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    own = everykind.fields(ROWS) if fields is None else fields
    return Batch(own, labels * seen, seen, torch.arange(ROWS), torch.ones_like(labels), group=torch.arange(ROWS) // 4 - 3)


def events(tasks: int) -> Tensor:
    return torch.randint(0, 2, (ROWS, tasks), generator=torch.Generator().manual_seed(2)).float()


def asked(step: Step, batches: Sequence[Batch]) -> Counter[str]:
    """In a step that is not the first, in which optimisers make their state."""
    step.take(batches)
    counted = Asked()
    with counted:
        step.take(batches)
    return counted.found


def of_recipe(name: str, schema: Schema | None = None) -> Recommender:
    made: Recommender = RECIPES[name](schema or everykind.schema(2), everykind.sizes())
    return made


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_asks_for_the_rows_it_touches_and_the_entries_of_lists(name: str) -> None:
    assert asked(Fast(of_recipe(name), Plan()), [batch(events(2))]) == TOUCHED + LISTS


@pytest.mark.parametrize("name", RECIPES)
def test_the_exact_way_touches_all(name: str) -> None:
    assert asked(Exact(of_recipe(name), Plan(exact=True)), [batch(events(2))]) == LISTS


@pytest.mark.parametrize("choice", EACH_ONCE, ids="-".join)
def test_every_piece_asks_for_no_more(choice: tuple[str, ...]) -> None:
    assert asked(Fast(made(choice), Plan()), [batch(events(len(TASKS)))]) == TOUCHED + LISTS


KINDS = kindrows.ROWS


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_task_asks_for_no_more(name: str) -> None:
    schema = Schema(everykind.FIELDS, (Task("own", KINDS[name].kind),))
    labels = torch.from_numpy(KINDS[name].labels[:ROWS]).float()[:, None]
    assert asked(Fast(of_recipe("mmoe", schema), Plan()), [batch(labels)]) == TOUCHED + LISTS


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - {"huber"}))
def test_of_all_losses_pairs_alone_ask_for_more(name: str) -> None:
    """For rows with the event, and for rows without."""
    schema = Schema(everykind.FIELDS, (Task("own", loss=OBJECTIVES[name]()),))
    more = Counter(nonzero=2) if name == Pairwise.name else Counter[str]()
    assert asked(Fast(of_recipe("mmoe", schema), Plan()), [batch(events(1))]) == TOUCHED + LISTS + more


PLANS = {
    "plain": Plan(), "adagrad": Plan(rows=RowAdagrad), "adagrad by element": Plan(rows=partial(RowAdagrad, elementwise=True)),
    "decay": Plan(decay=0.1, l2=0.1, clip=0.1), "rows": Plan(denominator=Denominator.ROWS), "bfloat16": Plan(precision=torch.bfloat16),
}  # fmt: skip
IDS = Schema((Field("user", FieldKind.ID), Field("item", FieldKind.ID), Field("age", FieldKind.NUMBER)), everykind.schema(2).tasks)


@pytest.mark.parametrize("name", PLANS)
def test_without_lists_a_step_asks_once(name: str) -> None:
    model = stem(IDS, replace(everykind.sizes(), dropout=0.1, id_dropout=0.1))
    own = batch(events(2), {field: column for field, column in everykind.fields(ROWS).items() if field in ("user", "item", "age")})
    assert asked(Fast(model, PLANS[name]), [own]) == TOUCHED
    assert asked(Fast(model, PLANS[name]), [own, own, own]) == TOUCHED, "however many batches it is of"
    assert asked(Exact(model, replace(PLANS[name], exact=True)), [own]) == Counter()


def test_a_table_much_longer_than_a_batch_is_asked_once_too() -> None:
    model = stem(IDS, replace(everykind.sizes(), vocabulary={"user": 5_000, "item": 17}))
    own = batch(events(2), {field: column for field, column in everykind.fields(ROWS).items() if field in ("user", "item", "age")})
    assert asked(Fast(model, Plan()), [own]) == Counter(_unique2=1)


def test_batches_are_made_without_a_question() -> None:
    chain = Schema(IDS.fields, (Task("click"), Task("like", given="click"), Task("buy", given="like")))
    labels = torch.where(torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(1)) < 0.2, torch.nan, events(3))
    codes, numbers = torch.zeros(ROWS, 2, dtype=torch.int32), torch.zeros(ROWS, 1)
    with Asked() as found:
        made = Assembler(chain).batch(codes, numbers, labels=labels, group=torch.arange(ROWS), index=torch.arange(ROWS))
    assert found.found == Counter()
    plain, above = ~labels.isnan(), labels == 1
    assert torch.equal(made.seen, torch.stack([plain[:, 0], plain[:, 1] & above[:, 0], plain[:, 2] & above[:, :2].all(1)], 1))


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - {"huber", "pairwise"}))
def test_losses_lie_where_the_batch_was_sent(name: str) -> None:
    """On a device without numbers, so that whoever asked for one would fail."""
    schema = Schema(everykind.FIELDS, (Task("own", loss=OBJECTIVES[name]()), Task("other")))
    logits, own = torch.zeros(ROWS, 2, device=META, requires_grad=True), batch(events(2)).to(META)
    with Asked() as found:
        torch.autograd.backward(task_losses(logits, own, schema).sum())
    assert found.found == Counter()
    assert logits.grad is not None
    assert logits.grad.device == META


def test_what_mixes_devices_is_refused() -> None:
    """The law above can fail: groups that stayed behind are met."""
    schema = Schema(everykind.FIELDS, (Task("own", loss=OBJECTIVES["listwise"]()),))
    own = batch(events(1))
    with pytest.raises(AssertionError, match="cpu"), Asked():
        task_losses(torch.zeros(ROWS, 1, device=META), replace(own.to(META), group=own.group), schema)


@pytest.mark.parametrize("ask", [
    lambda x: x.nonzero(), lambda x: x.unique(), lambda x: bool(x[0] > 0), lambda x: x[x > 0], lambda x: x[[1, 0]],
    lambda x: torch.repeat_interleave(x), lambda x: torch.bincount(x), lambda x: x.max().item(), lambda x: x + torch.tensor([1, 2, 3]),
], ids=range(9))  # fmt: skip
def test_questions_are_counted(ask: object) -> None:
    assert callable(ask)
    x = torch.arange(3)
    with Asked() as found:
        ask(x)
    assert found.found.total() >= 1
