"""A click, a cart and a purchase on eight rows: every figure of the conditional and of the marginal done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from jaxtyping import Float

from umbel.evaluate.calibrate import Platt
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import Predictions, TaskReport, calibrate_all, evaluate, fit_calibrators, headline, marginals, mean_score
from umbel.evaluate.metrics import Undefined
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

SCHEMA = Schema(
    (Field("user", FieldKind.ID),),
    (Task("buy", given="cart"), Task("click"), Task("cart", given="click")),  # the chain is not the order of the tasks
)
# user, click, cart, buy; the tables below are in chances: p(click), p(cart | click), p(buy | cart)
EVENTS = np.array([
    [1, 1, 1, 1],
    [1, 1, 1, 0],
    [1, 1, 0, 0],
    [1, 0, 0, 0],
    [2, 1, 1, 1],
    [2, 1, 1, 0],
    [2, 0, 0, 0],
    [2, 0, 0, 0],
])
CHANCE = np.array([
    [0.8, 0.5, 0.5],
    [0.5, 0.8, 0.2],
    [0.8, 0.2, 0.8],
    [0.2, 0.5, 0.5],
    [0.5, 0.5, 0.2],
    [0.8, 0.8, 0.5],
    [0.2, 0.2, 0.2],
    [0.5, 0.2, 0.8],
])
ORDER = [2, 0, 1]  # buy, click, cart


def log(observed: dict[int, tuple[int, ...]] | None = None) -> Predictions:
    """The eight rows; `observed` names, per task of the schema, rows whose label is not known."""
    known = np.ones((8, 3), dtype=bool)
    for task, hidden in (observed or {}).items():
        known[list(hidden), task] = False
    chance = CHANCE[:, ORDER]
    return Predictions(SCHEMA, np.log(chance / (1 - chance)), EVENTS[:, 1:][:, ORDER].astype(np.float64), known, EVENTS[:, 0])


def judged(one: Predictions) -> dict[str, TaskReport]:
    calibrators = {task.name: Platt() for task in SCHEMA.tasks}
    return {report.name: report for report in evaluate(one, calibrate_all(SCHEMA, one.logits, calibrators))}


def value(report: TaskReport, metric: str, *, marginal: bool = False) -> float:
    figures = report.marginal if marginal else report.figures
    assert figures is not None
    found = figures.metrics[metric]
    assert isinstance(found, Interval), found
    return found.value


def mean_loss(*chances: float) -> float:
    """Of the chances given to what happened."""
    return -math.fsum(map(math.log, chances)) / len(chances)


def test_tasks_come_in_the_order_of_the_schema() -> None:
    found = judged(log())
    assert list(found) == ["buy", "click", "cart"]
    assert [report.given for report in found.values()] == ["cart", None, "click"]


def test_rows_and_positives_of_each_sample_space() -> None:
    found = judged(log())
    counts = {name: (report.figures.rows, report.figures.positives, report.figures.users) for name, report in found.items()}
    assert counts == {"buy": (4, 2, 2), "click": (8, 5, 2), "cart": (5, 4, 2)}
    wholes = {name: (report.marginal.rows, report.marginal.positives) for name, report in found.items() if report.marginal is not None}
    assert wholes == {"buy": (8, 2), "cart": (8, 4)}


def test_the_click() -> None:
    """Positives .8 .5 .8 .5 .8 against .2 .2 .5: of 15 pairs 13 are won and 2 tied. User 1: .8 .5 .8 against .2; user 2: .5 .8, .2 .5."""
    click = judged(log())["click"]
    assert value(click, "auc") == pytest.approx(14 / 15)
    assert value(click, "gauc") == pytest.approx((4 * 1.0 + 4 * 3.5 / 4) / 8)
    assert value(click, "logloss") == pytest.approx(mean_loss(0.8, 0.5, 0.8, 0.8, 0.5, 0.8, 0.8, 0.5))
    assert value(click, "calibration_ratio") == pytest.approx(4.3 / 5)


def test_the_cart_where_there_was_a_click() -> None:
    """Rows 1 2 3 5 6: .5 .8 .5 .8 all above the one without, .2. User 2 put both in the cart and counts for nothing in GAUC."""
    cart = judged(log())["cart"]
    assert value(cart, "auc") == 1.0
    assert value(cart, "gauc") == 1.0
    assert value(cart, "logloss") == pytest.approx(mean_loss(0.5, 0.8, 0.8, 0.5, 0.8))
    assert value(cart, "calibration_ratio") == pytest.approx((0.5 + 0.8 + 0.2 + 0.5 + 0.8) / 4)


def test_the_purchase_where_there_was_a_cart() -> None:
    """Rows 1 2 5 6: bought at .5 and .2, not at .2 and .5: two ties, one won, one lost. User 1 is right, user 2 wrong."""
    buy = judged(log())["buy"]
    assert value(buy, "auc") == 0.5
    assert value(buy, "gauc") == 0.5
    assert value(buy, "logloss") == pytest.approx(mean_loss(0.5, 0.8, 0.2, 0.5))
    assert value(buy, "ne") == pytest.approx(mean_loss(0.5, 0.8, 0.2, 0.5) / math.log(2))


def test_the_purchase_on_all_rows() -> None:
    """Products .2 .08 .128 .05 .05 .32 .008 .08 : bought .2 and .05; .2 loses to .32 alone; .05 ties one, beats one, loses to four."""
    buy = judged(log())["buy"]
    products = CHANCE.prod(axis=1)
    assert products == pytest.approx([0.2, 0.08, 0.128, 0.05, 0.05, 0.32, 0.008, 0.08])
    assert value(buy, "auc", marginal=True) == pytest.approx((5 + 1 + 0.5) / 12)
    assert value(buy, "gauc", marginal=True) == pytest.approx((4 * 1.0 + 4 * 1 / 3) / 8)
    assert value(buy, "calibration_ratio", marginal=True) == pytest.approx(products.sum() / 2, rel=1e-6)
    expected = mean_loss(0.2, 0.92, 0.872, 0.95, 0.05, 0.68, 0.992, 0.92)
    assert value(buy, "logloss", marginal=True) == pytest.approx(expected, rel=1e-6)


def test_marginals_are_logarithms_of_products() -> None:
    one = log()
    for name, tasks in {"click": [0], "cart": [0, 1], "buy": [0, 1, 2]}.items():
        expected = CHANCE[:, tasks].prod(axis=1)
        assert np.exp(SCHEMA.marginal(one.logits, name)) == pytest.approx(expected)
        assert marginals(SCHEMA, CHANCE[:, ORDER], name) == pytest.approx(expected)


def test_an_unknown_click_hides_what_hangs_on_it_and_not_the_marginal() -> None:
    found = judged(log({1: (0, 6)}))
    assert (found["click"].figures.rows, found["click"].figures.positives) == (6, 4)
    assert (found["cart"].figures.rows, found["buy"].figures.rows) == (4, 3)
    assert found["buy"].marginal is not None
    assert found["buy"].marginal.rows == 8


def test_an_unknown_purchase_hides_itself_alone() -> None:
    found = judged(log({0: (0, 1)}))
    assert (found["click"].figures.rows, found["cart"].figures.rows, found["buy"].figures.rows) == (8, 5, 2)
    assert found["buy"].marginal is not None
    assert (found["buy"].marginal.rows, found["buy"].marginal.positives) == (6, 1)


def test_a_click_that_nobody_knows_leaves_no_sample_space() -> None:
    found = judged(log({1: tuple(range(8))}))
    for name in ("click", "cart", "buy"):
        assert found[name].figures.rows == 0
        assert found[name].figures.metrics["auc"] == Undefined("no row")
    assert value(found["buy"], "auc", marginal=True) == pytest.approx(6.5 / 12)


def test_the_figure_a_task_is_judged_by() -> None:
    found = judged(log())
    shown = headline(found["click"])
    assert isinstance(shown, Interval)
    assert shown.value == pytest.approx(14 / 15)
    assert shown.low is None
    assert shown.reason == "2 users are too few to resample"


def test_the_number_that_stops_a_training_reads_the_conditionals() -> None:
    one = log()
    seen = np.stack([one.seen(task.name) for task in SCHEMA.tasks], axis=1)
    labels = np.where(seen, one.events, 0.0)
    assert mean_score(SCHEMA, labels, seen, logits=one.logits) == pytest.approx((0.5 + 14 / 15 + 1) / 3)


def test_calibrators_of_so_few_rows_are_platts_and_rise() -> None:
    found = fit_calibrators(log())
    assert set(found) == {"buy", "click", "cart"}
    for calibrator in found.values():
        assert isinstance(calibrator, Platt)
        assert calibrator.slope > 0
    # what was bought had on average the same chance as what was not: Platt is nearly flat at a half
    assert found["buy"](np.array([-1.0, 1.0])) == pytest.approx([0.5, 0.5], abs=1e-3)


@pytest.mark.parametrize("length", [1, 5, 40])
def test_a_long_chain_of_small_chances_does_not_vanish(length: int) -> None:
    """40 steps of e^-30 are e^-1200, which no float64 holds; its logarithm is a plain number."""
    steps = tuple(Task(f"step {at}", given=f"step {at - 1}" if at else None) for at in range(length))
    schema = Schema(SCHEMA.fields, steps)
    logits: Float[np.ndarray, "rows outputs"] = np.full((2, length), -30.0)
    logits[1] = 40.0
    found = schema.marginal(logits, f"step {length - 1}")
    assert found[0] == pytest.approx(-30.0 * length, rel=1e-9)
    assert -1e-12 < found[1] < 0


def test_a_regression_at_the_end_of_a_chain_is_an_output_and_no_chance() -> None:
    """Stars are given a purchase: the rows are those bought, the prediction is the third output as it stands."""
    schema = Schema(SCHEMA.fields, (Task("click"), Task("buy", given="click"), Task("stars", REGRESSION, given="buy")))
    logits = np.array([[1.0, 1.0, 4.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 2.0], [0.5, 0.5, 5.0]])
    events = np.array([[1.0, 1.0, 5.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 3.0]])
    one = Predictions(schema, logits, events, np.ones((4, 3), dtype=bool), np.arange(4))
    calibrated = np.concatenate([np.full((4, 2), 0.5), logits[:, 2:]], axis=1)
    stars = evaluate(one, calibrated)[2]
    assert (stars.figures.rows, stars.figures.positives, stars.marginal) == (2, None, None)
    assert value(stars, "rmse") == pytest.approx(math.sqrt((1 + 4) / 2))
    assert value(stars, "mae") == pytest.approx(1.5)
    assert value(stars, "r2") == pytest.approx(1 - 5 / 2)
    assert [(point.predicted, point.observed, point.rows) for point in stars.figures.curve] == [(4.0, 5.0, 1), (5.0, 3.0, 1)]


def test_a_purchase_without_a_click_is_settled_even_where_its_label_is_missing() -> None:
    """Logs often leave `buy` empty where nothing was clicked: those rows count for p(buy), not for p(buy | click)."""
    schema = Schema((Field("user", FieldKind.ID),), (Task("click"), Task("buy", given="click")))
    events = np.array([[0.0, np.nan], [1.0, 1.0], [1.0, 0.0], [np.nan, np.nan], [1.0, np.nan]])
    rows = Predictions(schema, np.zeros((5, 2), np.float32), np.nan_to_num(events), ~np.isnan(events), np.arange(5))
    assert rows.settled("buy").tolist() == [True, True, True, False, False]
    assert rows.seen("buy").tolist() == [False, True, True, False, False]
    assert rows.settled("click").tolist() == [True, True, True, False, True]
