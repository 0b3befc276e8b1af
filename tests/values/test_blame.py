"""Losses that are no number, planted: the step, task, column and rows are named, and what was good before is kept and goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.toys import equal
from torch import Tensor

from umbel.balance.named import balancer
from umbel.data.batch import Batch
from umbel.errors import DivergedError, UserError
from umbel.learn import checkpoint
from umbel.learn.blame import Suspect, broken, suspects
from umbel.learn.fit import LOOK, Epoch, fit
from umbel.learn.plan import Plan
from umbel.learn.weigh import Balance
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import mmoe
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

SCHEMA = Schema(
    (Field("user", FieldKind.ID), Field("price", FieldKind.NUMBER), Field("image", FieldKind.VECTOR, width=3)),
    (Task("click"), Task("spent", REGRESSION)),
)
ROWS = 6
Spoil = Callable[[Batch], None]
INF = math.inf


def rows(step: int = 0, epoch: int = 0) -> Batch:
    """Six ordinary rows, numbered as a table would."""
    draw = torch.Generator().manual_seed(100 * epoch + step)
    fields = {
        "user": torch.randint(0, 5, (ROWS,), generator=draw), "price": torch.randn(ROWS, generator=draw),
        "image": torch.randn(ROWS, 3, generator=draw),
    }  # fmt: skip
    labels = torch.stack([torch.arange(ROWS) % 2, torch.rand(ROWS, generator=draw)], dim=1).float()
    return Batch(fields, labels, torch.ones(ROWS, 2, dtype=torch.bool), torch.arange(ROWS) + 10 * step + 500)


def model() -> Recommender:
    torch.manual_seed(3)
    return mmoe(SCHEMA, Sizes({"user": 5}, dim=2, expert=(4,), tower=()))


def label(row: int, value: float, task: int = 1) -> Spoil:
    def spoil(batch: Batch) -> None:
        batch.labels[row, task] = value

    return spoil


def price(row: int, value: float) -> Spoil:
    def spoil(batch: Batch) -> None:
        batch.fields["price"][row] = value

    return spoil


def image(row: int, slot: int, value: float) -> Spoil:
    def spoil(batch: Batch) -> None:
        batch.fields["image"][row, slot] = value

    return spoil


def told(batch: Batch, task: int = 1) -> list[Suspect]:
    return list(suspects(SCHEMA, batch, task=task))


def spoilt(*spoils: Spoil) -> Batch:
    batch = rows()
    for spoil in spoils:
        spoil(batch)
    return batch


def test_ordinary_rows_are_nobodys_fault() -> None:
    assert told(rows()) == []
    assert told(rows(), task=0) == []


@pytest.mark.parametrize(("spoil", "suspect"), [
    (label(2, INF), Suspect("the label of 'spent'", "tasks.spent", INF, (502,))),
    (label(2, -1e20), Suspect("the label of 'spent'", "tasks.spent", -1e20, (502,))),
    (price(0, -INF), Suspect("field 'price'", "fields.price", -INF, (500,))),
    (price(5, 3e7), Suspect("field 'price'", "fields.price", 3e7, (505,))),
    (image(4, 1, INF), Suspect("field 'image'", "fields.image", INF, (504,))),
    (image(4, 2, 1e30), Suspect("field 'image'", "fields.image", 1e30, (504,))),
])  # fmt: skip
def test_what_stands_out_is_named_with_its_rows(spoil: Spoil, suspect: Suspect) -> None:
    (found,) = told(spoilt(spoil))
    assert (found.name, found.key, found.rows) == (suspect.name, suspect.key, suspect.rows)
    assert found.value == pytest.approx(suspect.value, rel=1e-6)


def test_a_label_that_is_no_number_is_named() -> None:
    (found,) = told(spoilt(label(1, math.nan)))
    assert math.isnan(found.value)
    assert found.rows == (501,)


@pytest.mark.parametrize("spoil", [price(1, math.nan), image(2, 0, math.nan), price(1, 9e5), label(3, 9e5)])
def test_missing_numbers_and_merely_large_ones_do_not_stand_out(spoil: Spoil) -> None:
    assert told(spoilt(spoil)) == []


def test_a_column_that_is_large_throughout_does_not_stand_out() -> None:
    batch = rows()
    batch.labels[:, 1] = torch.linspace(1e7, 3e8, ROWS)
    assert told(batch) == []
    batch.labels[3, 1] = 1e13
    assert [one.rows for one in told(batch)] == [(503,)]


def test_a_label_that_was_not_seen_is_not_looked_at() -> None:
    batch = spoilt(label(2, INF))
    batch.seen[2, 1] = False
    assert told(batch) == []
    batch.seen[:, 1] = False
    assert told(batch) == []


def test_the_label_of_another_task_is_not_to_blame() -> None:
    assert told(spoilt(label(2, INF)), task=0) == []


def test_infinities_come_before_large_numbers_and_labels_before_fields() -> None:
    names = [one.name for one in told(spoilt(price(0, 1e9), image(1, 1, INF), label(2, 1e20)))]
    assert names == ["field 'image'", "the label of 'spent'", "field 'price'"]


@pytest.mark.parametrize(("where", "said"), [
    ((7,), "field 'x' holds inf in row 7 of the table"),
    ((7, 8, 9), "field 'x' holds inf in rows 7, 8, 9 of the table"),
    ((7, 8, 9, 10, 11), "field 'x' holds inf in rows 7, 8, 9 and 2 more of the table"),
])  # fmt: skip
def test_rows_are_told_and_the_rest_counted(where: tuple[int, ...], said: str) -> None:
    assert str(Suspect("field 'x'", "fields.x", INF, where)) == said


def test_the_step_before_is_looked_at_where_the_step_itself_is_ordinary() -> None:
    error = broken(SCHEMA, [rows(1), spoilt(price(3, INF))], task=0, epoch=2, step=9)
    assert "in epoch 2, step 9: field 'price' holds inf in row 503" in str(error)


# In a training.


def batches(spoil: Spoil | None = None, *, step: int = 3, epoch: int = 1, steps: int = 6) -> Callable[[int, int], Iterator[Batch]]:
    """Epochs of ordinary batches, one of which is spoilt."""

    def epoch_of(number: int, start: int) -> Iterator[Batch]:
        for at in range(start, steps):
            batch = rows(at, number)
            if spoil is not None and (number, at) == (epoch, step):
                spoil(batch)
            yield batch

    return epoch_of


def train(make: Callable[[int, int], Iterator[Batch]], plan: Plan, folder: Path | None = None) -> list[Epoch]:
    """Train, leaving (and beginning from) checkpoints where there is a folder."""
    epochs = []
    start = checkpoint.load(folder) if folder else None
    for epoch in fit(model(), make, plan=plan, judge=lambda _: 0.5, start=start):
        if folder:
            checkpoint.save(epoch.state, folder)
        epochs.append(epoch)
    return epochs


PLANS = {
    "fast": Plan(epochs=3, patience=9),
    "exact": Plan(epochs=3, patience=9, exact=True),
    "balanced": Plan(epochs=3, patience=9, balance=Balance(lambda tasks: balancer("pcgrad", tasks))),
    "paused": Plan(epochs=3, patience=9, pause=0.0),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize(("spoil", "said"), [
    (label(2, 1e25), "the loss of task 'spent' is not a finite number in epoch 2, step 4: the label of 'spent' holds 1e+25 in row 532 "),
    (image(4, 1, INF), "in epoch 2, step 4: field 'image' holds inf in row 534 of the table"),
    (price(1, -INF), "in epoch 2, step 4: field 'price' holds -inf in row 531 of the table"),
])  # fmt: skip
def test_a_planted_number_is_found(plan: Plan, spoil: Spoil, said: str) -> None:
    with pytest.raises(UserError) as caught:
        train(batches(spoil), plan)
    assert said in str(caught.value)
    assert "clip such numbers with sql in [" in caught.value.mend
    assert "\n" not in str(caught.value)


def test_a_rate_that_explodes_is_not_blamed_on_the_rows() -> None:
    with pytest.raises(UserError, match=r"epoch 1, step 2: no number in its batch stands out; lower the learning rate") as caught:
        train(batches(), Plan(rate=1e30))
    assert "the weights ran away" in caught.value.mend


def test_weights_that_ran_away_in_an_epochs_last_step_are_not_judged() -> None:
    """No loss was computed with them."""
    with pytest.raises(DivergedError, match=r"after epoch 1 the weights are no finite numbers; lower the learning rate"):
        train(batches(steps=1), Plan(rate=1e39))


def test_a_training_that_diverges_is_told_from_other_faults() -> None:
    with pytest.raises(DivergedError):
        train(batches(label(2, 1e25)), Plan())
    with pytest.raises(UserError) as caught:
        train(batches(steps=0), Plan())
    assert not isinstance(caught.value, DivergedError)


def test_the_first_step_of_a_training_has_none_before_it() -> None:
    with pytest.raises(UserError, match="epoch 1, step 1: the label of 'spent' holds 1e"):
        train(batches(label(0, 1e25), epoch=0, step=0), Plan())


def test_a_step_far_back_is_found_among_many() -> None:
    plan = Plan(epochs=1)
    with pytest.raises(UserError, match=f"epoch 1, step {LOOK + 3}: the label of 'spent'"):
        train(batches(label(0, 1e25), epoch=0, step=LOOK + 2, steps=LOOK + 9), plan)


@pytest.mark.parametrize("name", ["fast", "exact", "paused"])
def test_the_last_good_checkpoint_is_kept_reads_and_goes_on_once_the_rows_are_mended(name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    with pytest.raises(UserError, match="epoch 2, step 4"):
        train(batches(label(2, 1e25)), plan, tmp_path / "broken")
    kept = checkpoint.load(tmp_path / "broken")
    assert kept is not None
    assert (kept.progress.epoch, kept.progress.step) == (1, 3 if name == "paused" else 0)
    assert all(bool(tensor.isfinite().all()) for tensor in (*kept.weights.values(), *kept.best.values()))
    again = model()
    again.load_state_dict(kept.best)
    assert bool(again(rows().fields).isfinite().all())
    mended = train(batches(), plan, tmp_path / "broken")
    whole = train(batches(), plan, tmp_path / "whole")
    assert mended[-1].number == whole[-1].number == 3
    assert equal(list(mended[-1].state.weights.values()), list(whole[-1].state.weights.values()))


def test_a_rerun_of_the_same_rows_says_the_same(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            train(batches(label(2, 1e25)), PLANS["fast"], tmp_path)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_rows_on_another_step_are_no_longer_in_the_batch() -> None:
    """Row numbers are the table's, not those of the batch."""
    batch = replace(rows(), index=torch.tensor([90, 4, 33, 8, 2, 71]))
    batch.fields["price"][torch.tensor([0, 3])] = Tensor([INF, 1e12])
    (found,) = told(batch)
    assert (found.value, found.rows) == (INF, (8, 90))
