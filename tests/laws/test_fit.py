"""What every training keeps: the judge's word, patience, determinism, and rows it has no business with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from tests.toys import Batches, Toy, batch, equal, schema, toy
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler

from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn.fit import Epoch, fit
from umbel.learn.plan import Plan
from umbel.learn.predict import predict
from umbel.learn.schedules import Plateau


def judge(*scores: float) -> Callable[[Toy], float]:
    """Says the given scores, one after the other."""
    left = iter(scores)
    return lambda model: next(left)


def constant(model: Toy) -> float:
    return 0.5


def run(model: Toy, plan: Plan, *scores: float) -> list[Epoch]:
    return list(fit(model, Batches(), plan=plan, judge=judge(*scores)))


def weights(model: Toy) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_it_learns() -> None:
    model = toy()
    places = torch.tensor([[1, -1, -1], [2, -1, -1], [3, -1, -1], [4, -1, -1]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    epochs = list(fit(model, lambda epoch, start: [batch(places, labels)] * 50, plan=Plan(epochs=4, rate=0.05, patience=9), judge=constant))
    assert all(one < 0.05 for one in epochs[-1].losses)
    assert all(now < before for before, now in zip(epochs[0].losses, epochs[-1].losses, strict=True))


def test_losses_are_told_on_the_way_and_no_more_often_than_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of the epoch so far, from its first look on; whoever listens changes nothing."""
    plan, heard = Plan(epochs=2, patience=5, rate=0.05), list[tuple[float, ...]]()
    plain = [one.losses for one in run(toy(), plan, 0.6, 0.7)]
    for every, looks in ((5, 4), (3, 4), (2, 3), (1, 5), (256, 3)):
        monkeypatch.setattr("umbel.learn.fit.LOOK", every)
        heard.clear()
        epochs = list(fit(toy(), Batches(), plan=plan, judge=judge(0.6, 0.7), heard=heard.append))
        assert [one.losses for one in epochs] == plain
        assert len(heard) == 2 * looks, "after 1, 2 and 4 of the five steps, and every so many"
        last = [heard[looks - 1], heard[2 * looks - 1]]
        assert (last == plain) is (every in (5, 1)), "after an epoch's last step they are the epoch's"


@pytest.mark.parametrize("steps", [1, 2, 3, 200, 600])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_an_epoch_is_heard_however_short_it_is_and_seldom_when_it_is_long(steps: int, accumulate: int) -> None:
    looked, doubled = set(range(256, steps + 1, 256)), {1, 2, 4, 8, 16, 32, 64, 128} & set(range(steps + 1))
    updates = [min(at + accumulate, steps) for at in range(0, steps, accumulate)]
    expected = {next(end for end in updates if end >= step) for step in (*looked, *doubled)}
    done, asked = list[int](), list[int]()

    def counting(epoch: int, start: int) -> Iterator[Batch]:
        for at, one in enumerate(Batches(steps=steps)(epoch, start), start=1):
            asked.append(at)
            yield one

    plan = Plan(epochs=1, accumulate=accumulate)
    list(fit(toy(), counting, plan=plan, judge=constant, heard=lambda _: done.append(asked[-1])))
    assert set(done) == expected
    assert len(done) == len(expected)
    assert done, "whoever looks on sees a loss"


def test_epochs_are_counted_and_reported() -> None:
    epochs = run(toy(), Plan(epochs=3, patience=5), 0.6, 0.7, 0.65)
    assert [one.number for one in epochs] == [1, 2, 3]
    assert [one.score for one in epochs] == [0.6, 0.7, 0.65]
    assert [one.best for one in epochs] == [0.6, 0.7, 0.7]
    assert [one.stop for one in epochs] == [False, False, True]
    assert all((one.finished, one.step, one.rows) == (True, 5, 40) for one in epochs)
    assert all(one.seconds > 0 for one in epochs)


@pytest.mark.parametrize(("patience", "scores", "expected"), [
    (1, (0.6, 0.6, 0.9), 2),
    (2, (0.6, 0.6, 0.9, 0.8, 0.8, 0.99), 5),
    (1, (0.6, 0.6 + 9e-7, 0.9), 2),       # an improvement of 1e-6 or less is none
    (1, (0.6, 0.6 + 2e-6, 0.6, 0.9), 3),
    (1, (0.6, 0.5, 0.9), 2),
])
def test_patience(patience: int, scores: tuple[float, ...], expected: int) -> None:
    epochs = run(toy(), Plan(epochs=9, patience=patience), *scores)
    assert len(epochs) == expected
    assert epochs[-1].stop


def test_best_weights_are_those_of_the_best_epoch() -> None:
    model = toy()
    kept = []
    for epoch in fit(model, Batches(), plan=Plan(epochs=4, patience=4), judge=judge(0.5, 0.8, 0.7, 0.6)):
        kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        best = epoch.state.best
    assert all(torch.equal(best[name], tensor) for name, tensor in kept[1].items())
    assert not torch.equal(kept[1]["table"], kept[3]["table"])
    model.load_state_dict(best)
    assert torch.equal(model.table, kept[1]["table"])


def test_one_seed_gives_the_same_bytes_and_another_does_not() -> None:
    runs = []
    for seed in (3, 3, 4):
        model = toy(dropout=0.5)
        run(model, Plan(epochs=2, seed=seed), 0.1, 0.2)
        runs.append(weights(model))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_the_judge_and_the_caller_may_draw_random_numbers() -> None:
    def restless(model: Toy) -> float:
        torch.rand(5)
        return 0.5

    quiet, loud = toy(dropout=0.5), toy(dropout=0.5)
    list(fit(quiet, Batches(), plan=Plan(epochs=3, patience=3), judge=constant))
    for _ in fit(loud, Batches(), plan=Plan(epochs=3, patience=3), judge=restless):
        torch.rand(7)
    assert equal(weights(quiet), weights(loud))


def test_the_judge_sees_the_trained_model() -> None:
    model = toy()
    seen = []
    before = model.table.detach().clone()

    def watch(one: Toy) -> float:
        seen.append(one.table.detach().clone())
        return 0.0

    list(fit(model, Batches(), plan=Plan(epochs=1), judge=watch))
    assert torch.equal(seen[0], model.table)
    assert not torch.equal(seen[0], before)


def test_closing_early_is_fine() -> None:
    model = toy()
    running = fit(model, Batches(), plan=Plan(), judge=constant)
    next(running)
    running.close()
    assert torch.isfinite(model.table).all()


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_the_users_to_mend(score: float) -> None:
    with pytest.raises(UserError, match=r"validation score after epoch 2 is (nan|inf); the validation part needs"):
        run(toy(), Plan(), 0.5, score)


@pytest.mark.parametrize("exact", [False, True])
def test_a_loss_that_is_no_number_names_task_epoch_and_step(exact: bool) -> None:
    def poisoned(epoch: int, start: int) -> list[Batch]:
        rows = list(Batches()(epoch))
        if epoch == 1:
            rows[3].labels[0, 1] = float("inf")
            rows[3].seen[0, 1] = True
        return rows[start:]

    said = r"task 'b' is not a finite number in epoch 2, step 4: the label of 'b' holds inf in row 0 of the table; clip such numbers"
    with pytest.raises(UserError, match=said):
        list(fit(toy(), poisoned, plan=Plan(exact=exact), judge=constant))


def test_a_pause_never_hands_out_a_broken_state() -> None:
    rows = list(Batches(steps=3)(0))
    rows[1].labels[0, 0] = float("inf")
    rows[1].seen[0, 0] = True
    running = fit(toy(), lambda epoch, start: rows[start:], plan=Plan(pause=0.0), judge=constant)
    assert next(running).step == 1
    with pytest.raises(UserError, match="task 'a' is not a finite number in epoch 1, step 2"):
        next(running)


def test_losses_are_those_of_their_own_epoch() -> None:
    rows = list(Batches(steps=2)(0))
    still = Plan(epochs=2, rate=1e-30, l2=0.0)
    first, second = fit(toy(), lambda epoch, start: rows[epoch : epoch + 1], plan=still, judge=constant)
    (alone,) = fit(toy(), lambda epoch, start: rows[1:], plan=Plan(epochs=1, rate=1e-30, l2=0.0), judge=constant)
    assert second.losses == pytest.approx(alone.losses)
    assert first.losses != pytest.approx(second.losses)


def test_no_rows_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match=r"no rows; widen"):
        list(fit(toy(), lambda epoch, start: [], plan=Plan(), judge=constant))


def test_rows_that_no_batch_reads_keep_their_bytes() -> None:
    model = toy(rows=20)
    before = model.table.detach().clone()
    run(model, Plan(epochs=2, l2=0.1), 0.1, 0.2)
    assert torch.equal(model.table[12:], before[12:])
    assert (model.table[:12] != before[:12]).any(dim=1).all()


def test_padding_reads_and_moves_nothing() -> None:
    model = toy()
    before = model.table.detach().clone()
    places = torch.tensor([[3, -1, -1], [5, -1, 5]])
    list(fit(model, lambda epoch, start: [batch(places, torch.ones(2, 2))], plan=Plan(epochs=1), judge=constant))
    moved = (model.table != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [3, 5]


def test_a_schedule_moves_both_rates() -> None:
    rates: list[float] = []

    def halved(optimizer: Optimizer) -> LRScheduler:
        rates.append(optimizer.param_groups[0]["lr"])
        return ExponentialLR(optimizer, 0.0)

    model = toy()
    plan = Plan(epochs=2, rate=0.1, schedule=halved)
    kept = [weights(model) for _ in fit(model, Batches(), plan=plan, judge=judge(0.1, 0.2))]
    assert rates == [0.1]
    assert equal(kept[0], kept[1])  # after one epoch the rate is 0, of the table too


def test_plateau_divides_the_rate_by_ten_without_improvement() -> None:
    def watched(optimizer: Optimizer) -> LRScheduler:
        groups.append(optimizer)
        return Plateau()(optimizer)

    groups: list[Optimizer] = []
    running = fit(toy(), Batches(), plan=Plan(epochs=5, patience=5, schedule=watched), judge=judge(0.5, 0.6, 0.6, 0.6 + 5e-7, 0.7))
    rates = [groups[0].param_groups[0]["lr"] for _ in running]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-5])


def test_a_pause_yields_within_the_epoch() -> None:
    parts = list(fit(toy(), Batches(steps=3), plan=Plan(epochs=2, patience=2, pause=0.0), judge=constant))
    assert [(one.number, one.step, one.finished) for one in parts] == [
        (1, 1, False), (1, 2, False), (1, 3, False), (1, 3, True), (2, 1, False), (2, 2, False), (2, 3, False), (2, 3, True),
    ]
    assert all(one.score is None and not one.stop for one in parts if not one.finished)
    assert parts[2].losses == parts[3].losses


def test_pauses_change_nothing() -> None:
    without, within = toy(dropout=0.3), toy(dropout=0.3)
    one = list(fit(without, Batches(), plan=Plan(epochs=2), judge=constant))
    other = list(fit(within, Batches(), plan=Plan(epochs=2, pause=0.0), judge=constant))
    assert equal(weights(without), weights(within))
    assert one[-1].losses == other[-1].losses


def test_losses_are_means_over_the_labels_seen() -> None:
    model = toy()
    rows = list(Batches(steps=2)(0))
    with torch.no_grad():
        loss = torch.cat([binary_cross_entropy_with_logits(model(one.fields), one.labels, reduction="none") for one in rows])
    seen = torch.cat([one.seen for one in rows])
    expected = (loss * seen).sum(0) / seen.sum(0)
    still = Plan(epochs=1, rate=1e-30, l2=0.0)
    (epoch,) = fit(model, lambda number, start: rows, plan=still, judge=constant)
    assert epoch.losses == pytest.approx(expected.tolist(), rel=1e-6)


def test_an_unseen_task_costs_and_moves_nothing() -> None:
    model = toy()
    head = model.head.weight.detach().clone()
    rows = batch(torch.tensor([[1, 2, 3]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[True, False]]))
    (epoch,) = fit(model, lambda number, start: [rows], plan=Plan(epochs=1), judge=constant)
    assert epoch.losses[1] == 0.0
    assert torch.equal(model.head.weight[1], head[1])
    assert not torch.equal(model.head.weight[0], head[0])


def test_task_weights_are_in_the_losses() -> None:
    losses = []
    for weight in (1.0, 3.0):
        model = toy(schema=schema(1.0, weight))
        (epoch,) = fit(model, Batches(steps=1), plan=Plan(epochs=1), judge=constant)
        losses.append(epoch.losses)
    assert losses[1][1] == pytest.approx(3 * losses[0][1])
    assert losses[1][0] == pytest.approx(losses[0][0])


def test_autocast_trains_in_another_precision() -> None:
    model, other = toy(), toy()
    (epoch,) = fit(model, Batches(), plan=Plan(epochs=1, precision=torch.bfloat16), judge=constant)
    (plain,) = fit(other, Batches(), plan=Plan(epochs=1), judge=constant)
    assert epoch.losses == pytest.approx(plain.losses, rel=0.02)
    assert epoch.losses != plain.losses
    assert model.table.dtype is torch.float32


@pytest.mark.parametrize("broken", [
    {"epochs": 0}, {"patience": 0}, {"rate": 0.0}, {"rate": float("nan")}, {"clip": 0.0}, {"l2": -1.0},
])
def test_a_plan_that_cannot_be_is_refused(broken: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(broken))} = "):
        Plan(**broken)  # type: ignore[arg-type]


def test_predictions_keep_order_and_mode() -> None:
    model = toy(dropout=0.5)
    rows = list(Batches()(0))
    for mode in (True, False):
        model.train(mode)
        logits = predict(model, rows)
        assert model.training is mode
    model.eval()
    assert logits.shape == (40, 2)
    assert torch.equal(torch.from_numpy(logits[8:16]), model(rows[1].fields).detach())


def test_predicting_restores_the_mode_after_a_failure() -> None:
    model = toy()
    model.train()
    with pytest.raises(KeyError):
        predict(model, [Batch({}, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.long))])
    assert model.training


def test_nothing_to_predict_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="no rows to predict"):
        predict(toy(), [])
