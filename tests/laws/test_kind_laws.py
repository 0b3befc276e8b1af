"""What must hold of every kind of task, found by itself: its loss, its link, what judges it and what calibrates it."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.everykind import Labels
from tests.kindrows import ROWS, Row

from umbel.chosen import choose, spell
from umbel.data.storage import schema_from_json, schema_to_json
from umbel.evaluate.calibrate import from_json, to_json
from umbel.evaluate.crossfit import cross_fitted, fit_calibrator
from umbel.evaluate.figures import Rows
from umbel.evaluate.intervals import Interval, resample
from umbel.evaluate.kinds import answers, measures
from umbel.evaluate.metrics import FALLS, Undefined
from umbel.kinds import TASK_KINDS
from umbel.nn.kinds import link, loss, start
from umbel.nn.losses import Denominator, task_losses
from umbel.run.names import TITLES
from umbel.schema import Field, FieldKind, Schema, Task

USER = Field("user", FieldKind.ID)
EVERY = pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))


def schema(row: Row) -> Schema:
    return Schema((USER,), (Task("click"), Task("other", row.kind), Task("like")))


def test_every_kind_has_a_row() -> None:
    assert set(ROWS) == set(TASK_KINDS)
    assert all(isinstance(row.kind, TASK_KINDS[name]) for name, row in ROWS.items())


@EVERY
def test_the_loss_is_that_of_others(row: Row) -> None:
    outputs, labels = row.tensors(60, spread=1.5)
    expected = [row.other(z, y) for z, y in zip(outputs.numpy(), labels.numpy(), strict=True)]
    np.testing.assert_allclose(loss(row.kind, outputs, labels).numpy(), expected, rtol=1e-9, atol=1e-12)


@EVERY
def test_the_loss_in_float32_is_near(row: Row) -> None:
    outputs, labels = row.tensors(60)
    near = loss(row.kind, outputs.float(), labels.float())
    assert near.dtype == torch.float32
    torch.testing.assert_close(near.double(), loss(row.kind, outputs, labels), rtol=1e-4, atol=1e-5)


@EVERY
def test_outputs_of_the_label_s_unit_begin_at_its_labels_and_others_at_0(row: Row) -> None:
    """An answer of them moves with the labels, whatever these are; the first one of several is the best there is."""
    labels = torch.from_numpy(row.labels.astype(np.float64))
    begun = start(row.kind, labels)
    assert begun.shape == (row.kind.outputs,)
    if not row.kind.labels.any:
        assert not begun.any()
        return
    first, moved = (link(row.kind, start(row.kind, labels + shift)[None])[0] for shift in (0.0, 1000.0))
    torch.testing.assert_close(moved, first + 1000.0)
    assert first[0].item() == pytest.approx(row.best(row.labels)[0], abs=0.01)


@EVERY
def test_the_gradient_is_that_of_differences(row: Row) -> None:
    outputs, labels = row.tensors(9)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(row.kind, z, labels), (outputs,))
    assert torch.autograd.gradcheck(lambda z: link(row.kind, z), (outputs,))


@EVERY
def test_the_best_constant_answers_the_known_estimator(row: Row) -> None:
    labels = torch.from_numpy(row.labels)
    outputs = torch.zeros(1, row.kind.outputs, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([outputs], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def pay() -> torch.Tensor:
        descent.zero_grad()
        total = loss(row.kind, outputs.expand(len(labels), -1), labels).mean()
        torch.autograd.backward(total)
        return total

    descent.step(pay)  # type: ignore[no-untyped-call]
    # a quantile of a sample is any number between two of its labels
    near = 0.05 if row.kind.name == "quantile" else 1e-4
    np.testing.assert_allclose(link(row.kind, outputs.detach())[0].numpy(), row.best(row.labels), rtol=near, atol=near / 10)


@EVERY
@pytest.mark.parametrize("denominator", list(Denominator))
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -1e30])
def test_what_was_not_seen_does_not_count(row: Row, denominator: Denominator, bad: float) -> None:
    outputs, own = row.tensors(12)
    logits = torch.cat([outputs[:, :1], outputs, outputs[:, -1:]], dim=1)
    labels = torch.stack([torch.ones(12, dtype=torch.float64), own, torch.zeros(12, dtype=torch.float64)], dim=1)
    seen = torch.ones(12, 3, dtype=torch.bool)
    seen[3:6, 1] = False
    spoilt, found = labels.clone(), []
    spoilt[3:6, 1] = bad
    for one in (labels, spoilt):
        z = logits.clone().requires_grad_()
        losses = task_losses(z, Labels(one, seen), schema(row), denominator=denominator)
        found.append((losses, *torch.autograd.grad(losses.sum(), z)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not found[1][1][3:6, schema(row).outputs[1]].any()
    rows = 9 if denominator is Denominator.SEEN else 12
    kept = loss(row.kind, outputs, own)[seen[:, 1]].sum() / rows
    torch.testing.assert_close(found[1][0][1], kept)


@EVERY
def test_row_weights_multiply(row: Row) -> None:
    outputs, own = row.tensors(8)
    weight = torch.linspace(0.0, 3.0, 8, dtype=torch.float64)[:, None]
    one = Schema((USER,), (Task("t", row.kind),))
    found = task_losses(outputs, Labels(own[:, None], torch.ones(8, 1, dtype=torch.bool), weight), one)
    torch.testing.assert_close(found[0], (loss(row.kind, outputs, own) * weight[:, 0]).mean())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_outputs_stay_finite(row: Row, dtype: torch.dtype) -> None:
    corners = torch.cartesian_prod(*[torch.tensor([-1e4, 0.0, 1e4])] * row.kind.outputs).reshape(-1, row.kind.outputs).to(dtype)
    for label in {row.labels.min(), row.labels.max(), row.kind.labels.some}:
        z = corners.clone().requires_grad_()
        paid = loss(row.kind, z, torch.full((len(corners),), float(label), dtype=dtype))
        (gradient,) = torch.autograd.grad(paid.sum(), z)
        assert paid.isfinite().all()
        assert gradient.isfinite().all()
        assert link(row.kind, z).isfinite().all()


@EVERY
def test_answers_are_inside_what_labels_may_be(row: Row) -> None:
    found = link(row.kind, row.tensors(300, spread=4.0)[0])
    assert found.shape == (300, len(row.kind.answers))
    if row.kind.name in ("ordinal", "multiclass"):
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum(dim=1), torch.ones(300, dtype=torch.float64))
    else:
        assert (found >= row.kind.labels.low).all()
        assert (found <= row.kind.labels.high).all()
        assert (found.diff(dim=1) >= 0).all(), "quantiles rise"


@EVERY
def test_the_first_output_raises_the_answer(row: Row) -> None:
    """The first output: a logit, a mean, a logarithm of one, a lowest quantile, a first class; of grades the expected one rises."""
    outputs, _ = row.tensors(50)
    raised = outputs.clone()
    raised[:, 0] += 0.3
    before, after = link(row.kind, outputs), link(row.kind, raised)
    if row.kind.name == "ordinal":
        grade = torch.arange(4.0, dtype=torch.float64)
        before, after = before @ grade[:, None], after @ grade[:, None]
    assert (after[:, 0] > before[:, 0]).all()


@EVERY
def test_a_row_alone_pays_what_it_pays_among_others(row: Row) -> None:
    outputs, labels = row.tensors(7)
    together = loss(row.kind, outputs, labels)
    for at in range(7):
        torch.testing.assert_close(loss(row.kind, outputs[at : at + 1], labels[at : at + 1])[0], together[at])


@EVERY
def test_batched_over_models(row: Row) -> None:
    outputs = torch.stack([row.tensors(6, seed=seed)[0] for seed in range(3)])
    labels = row.tensors(6)[1]
    found = torch.func.vmap(lambda z: loss(row.kind, z, labels))(outputs)
    torch.testing.assert_close(found, torch.stack([loss(row.kind, z, labels) for z in outputs]))


@EVERY
def test_round_trips(row: Row) -> None:
    assert choose("here", json.loads(json.dumps(spell(row.kind))), TASK_KINDS) == row.kind
    saved = json.loads(json.dumps(schema_to_json(schema(row))))
    assert schema_from_json(saved) == schema(row)


@EVERY
def test_labels_outside_are_found(row: Row) -> None:
    allowed = row.kind.labels
    assert not allowed.outside(row.labels).any()
    assert not allowed.outside(np.array([allowed.some, np.nan])).any()
    wrong = [allowed.low - 1, allowed.high + 1, *([allowed.low] if allowed.above else []), *([0.5] if allowed.whole else [])]
    assert allowed.outside(np.array([float(one) for one in wrong if np.isfinite(one)])).all()


def judged(row: Row, seed: int = 0, rows: int = 400) -> tuple[Rows, np.ndarray]:
    draw = np.random.default_rng(seed)
    outputs = 0.7 * draw.normal(size=(rows, row.kind.outputs))
    given = answers(row.kind, outputs)
    groups = draw.integers(40, size=rows)
    linked = given if measures(row.kind).linked else link(row.kind, torch.from_numpy(outputs))[:, 0].numpy()
    return Rows(row.labels[:rows], outputs[:, 0], linked, groups, resample(groups, resamples=50)), given


@EVERY
def test_every_metric_has_a_name_a_value_and_bounds_around_it(row: Row) -> None:
    rows, _ = judged(row)
    own = measures(row.kind)
    found = own.figures(rows)
    assert tuple(found.metrics) == own.metrics
    assert set(own.metrics) <= set(TITLES)
    for name, value in found.metrics.items():
        assert isinstance(value, Interval), (name, value)
        assert value.low is not None, name
        assert value.high is not None, name
        assert value.low <= value.value <= value.high, name
        assert value.low < value.high, name


@EVERY
def test_draws_are_the_metrics_of_the_drawn_rows(row: Row) -> None:
    """A resample that repeats whole users is judged as the log that repeats their rows."""
    rows, _ = judged(row)
    own = measures(row.kind)
    found = own.figures(rows)
    drawn = np.repeat(np.arange(400), rows.by.count[7][rows.by.code])
    alone = own.figures(replace(rows.where(drawn), by=resample(rows.groups[drawn], resamples=2)))
    for name, one in found.draws.items():
        value = alone.metrics[name]
        assert not isinstance(one, Undefined)
        assert isinstance(value, Interval)
        if name not in ("ece", "decile_error", "decile_slope"):  # their bins are those of the rows as they are
            near = 0.05 if (row.kind.name, name) == ("quantile", "d2") else 1e-9  # the constants are those of the rows as they are
            assert one.draws[7] == pytest.approx(value.value, rel=near, abs=near), name


@EVERY
def test_nothing_is_undefined_without_a_reason(row: Row) -> None:
    rows, _ = judged(row)
    own = measures(row.kind)
    for some in (rows.where(np.arange(0)), replace(rows, predictions=np.full_like(rows.predictions, np.nan), scores=np.full(400, np.nan))):
        found = own.figures(some)
        assert tuple(found.metrics) == own.metrics
        assert all(isinstance(value, Undefined) and value.reason for value in found.metrics.values())
        assert isinstance(own.primary(some.labels, some.predictions), Undefined)


@EVERY
def test_a_constant_label_is_never_half_right(row: Row) -> None:
    rows, _ = judged(row)
    same = replace(rows, labels=np.full(400, row.kind.labels.some))
    found = measures(row.kind).primary(same.labels, same.predictions)
    assert isinstance(found, Undefined), found


@EVERY
def test_the_primary_is_better_for_a_better_model(row: Row) -> None:
    """Outputs that know the label beat those that do not, on the number that stops training and on the first metric."""
    rows, _ = judged(row)
    own = measures(row.kind)
    outputs = torch.zeros(400, row.kind.outputs, dtype=torch.float64, requires_grad=True)
    labels = torch.from_numpy(row.labels)
    descent = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(30):
        descent.zero_grad()
        torch.autograd.backward(loss(row.kind, outputs, labels).sum())
        descent.step()
    taught = outputs.detach().numpy()
    random = np.random.default_rng(1).normal(size=taught.shape)
    better, worse = (own.primary(rows.labels, answers(row.kind, one)) for one in (taught, random))
    assert isinstance(better, float)
    assert isinstance(worse, float)
    assert better > worse
    assert better <= 1
    sign = -1 if own.metrics[0] in FALLS else 1
    predictions = link(row.kind, outputs.detach()).numpy()
    seen = replace(rows, scores=taught[:, 0], predictions=predictions if predictions.shape[1] > 1 else predictions[:, 0])
    first = own.figures(seen).metrics[own.metrics[0]]
    before = own.figures(rows).metrics[own.metrics[0]]
    assert isinstance(first, Interval)
    assert isinstance(before, Interval)
    assert sign * first.value > sign * before.value


@EVERY
def test_calibration_keeps_the_range_and_comes_back_from_json(row: Row) -> None:
    rows, given = judged(row)
    found = fit_calibrator(given, rows.labels, kind=row.kind)
    assert from_json(json.loads(json.dumps(to_json(found)))) == found
    out = found(given)
    assert out.shape == given.shape
    assert np.isfinite(out).all()
    if out.ndim == 1:
        assert (out >= row.kind.labels.low).all()
        order = np.argsort(given, kind="stable")
        assert (np.diff(out[order]) >= 0).all(), "calibration turns no order round"
    elif row.kind.name == "quantile":
        assert (np.diff(out, axis=1) >= 0).all()
    else:
        np.testing.assert_allclose(out.sum(axis=1), 1.0)
        assert (out.argmax(axis=1) == given.argmax(axis=1)).all()


@EVERY
def test_calibration_of_a_model_that_ran_away_is_none(row: Row) -> None:
    rows, given = judged(row)
    broken = np.full_like(given, np.nan)
    assert fit_calibrator(broken, rows.labels, kind=row.kind) == fit_calibrator(given[:0], rows.labels[:0], kind=row.kind)


@EVERY
def test_cross_fitting_reads_other_users_only(row: Row) -> None:
    rows, given = judged(row)
    before = cross_fitted(given, rows.labels, rows.groups, kind=row.kind)
    own = rows.groups == rows.groups[0]
    changed = np.where(own, row.kind.labels.some, rows.labels)
    after = cross_fitted(given, changed, rows.groups, kind=row.kind)
    np.testing.assert_array_equal(after[own], before[own])
    assert before.shape == given.shape


@EVERY
def test_parameters_are_data(row: Row) -> None:
    assert hash(row.kind) == hash(replace(row.kind))
    assert len({row.kind, replace(row.kind)}) == 1


def test_kinds_are_compared_and_not_identified() -> None:
    """Kinds are read from files: two objects may be one kind."""
    for path in (Path(__file__).parents[2] / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(one, ast.Is | ast.IsNot) for one in node.ops):
                names = {one.id for one in node.comparators if isinstance(one, ast.Name)}
                assert not names & {"BINARY", "REGRESSION", "LIKELIHOOD"}, f"{path}:{node.lineno}"
