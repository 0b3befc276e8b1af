"""The judge on rows made by hand: sample spaces, marginals, slices, the worst slice, the number that stops training."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Bool, Float

from umbel.evaluate import metrics
from umbel.evaluate.calibrate import Calibrator, Isotonic, Linear, Platt
from umbel.evaluate.intervals import Interval, Sampled, resample
from umbel.evaluate.judge import (
    Predictions,
    TaskReport,
    calibrate_all,
    cross_calibrated,
    evaluate,
    fit_calibrators,
    headline,
    marginals,
    mean_score,
    scores,
)
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

FUNNEL = Schema(
    (Field("user", FieldKind.ID),),
    (Task("click"), Task("cart", given="click"), Task("buy", given="cart"), Task("stars", REGRESSION, given="buy")),
)
PLAIN = Schema((Field("user", FieldKind.ID),), (Task("click"), Task("like")))
MIXED = Schema((Field("user", FieldKind.ID),), (Task("seconds", REGRESSION), Task("click")))


def funnel(count: int = 4000, seed: int = 0) -> Predictions:
    """A log where each event needs the one before, with logits that know something."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, 4))
    chance = 1 / (1 + np.exp(-logits))
    events = np.zeros((count, 4))
    events[:, 0] = draw.random(count) < chance[:, 0]
    for step in (1, 2):
        events[:, step] = events[:, step - 1] * (draw.random(count) < chance[:, step])
    events[:, 3] = events[:, 2] * (3 + logits[:, 3] + draw.normal(size=count) * 0.2)
    return Predictions(FUNNEL, logits, events, np.ones((count, 4), dtype=bool), draw.integers(0, 200, count) * 31)


def plain(count: int = 2000, seed: int = 0) -> Predictions:
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, 2)).astype(np.float32)
    events = (draw.random((count, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return Predictions(PLAIN, logits, events, np.ones((count, 2), dtype=bool), draw.integers(0, 100, count))


def value(found: Interval | Undefined) -> float:
    assert isinstance(found, Interval), found
    return found.value


def by_name(reports: tuple[TaskReport, ...]) -> dict[str, TaskReport]:
    return {report.name: report for report in reports}


def own(predictions: Predictions) -> Float[np.ndarray, "rows tasks"]:
    """The model's own probabilities, uncalibrated."""
    identity: dict[str, Calibrator] = {task.name: Platt() for task in predictions.schema.tasks}
    return calibrate_all(predictions.schema, predictions.logits, identity | {"stars": Linear(), "seconds": Linear()})


def test_a_conditional_is_seen_where_its_whole_chain_holds() -> None:
    log = funnel()
    click, cart, buy = (log.events[:, at] == 1 for at in range(3))
    assert log.seen("click").all()
    assert (log.seen("cart") == click).all()
    assert (log.seen("buy") == (click & cart)).all()
    assert (log.seen("stars") == (click & cart & buy)).all()


def test_an_unobserved_event_along_the_chain_hides_the_row() -> None:
    log = funnel()
    observed = log.observed.copy()
    observed[:100, 0] = False
    hidden = Predictions(log.schema, log.logits, log.events, observed, log.groups)
    assert not hidden.seen("click")[:100].any()
    assert not hidden.seen("buy")[:100].any()
    assert (hidden.seen("buy")[100:] == log.seen("buy")[100:]).all()


def test_what_unobserved_labels_hold_does_not_matter() -> None:
    log = funnel()
    observed = np.random.default_rng(1).random(log.observed.shape) < 0.8
    first, second = log.events.copy(), log.events.copy()
    first[~observed], second[~observed] = np.nan, 1e9
    reports = [evaluate(Predictions(log.schema, log.logits, events, observed, log.groups), own(log)) for events in (first, second)]
    assert reports[0] == reports[1]
    assert all(isinstance(task.figures.metrics["auc"], Interval) for task in reports[0][:3])


def test_conditional_and_marginal_figures_are_the_metrics_of_their_rows() -> None:
    log = funnel()
    chance = own(log)
    found = by_name(evaluate(log, chance))["buy"]
    seen = log.seen("buy")
    conditional = found.figures
    assert conditional.rows == seen.sum()
    assert conditional.positives == log.events[seen, 2].sum()
    assert conditional.users == len(np.unique(log.groups[seen]))
    assert value(conditional.metrics["auc"]) == metrics.auc(log.events[seen, 2], log.logits[seen, 2])
    assert value(conditional.metrics["gauc"]) == metrics.gauc(log.events[seen, 2], log.logits[seen, 2], log.groups[seen])
    assert value(conditional.metrics["logloss"]) == metrics.logloss(log.events[seen, 2], chance[seen, 2])
    assert found.marginal is not None
    whole = chance[:, 0] * chance[:, 1] * chance[:, 2]
    assert found.marginal.rows == len(log.events)
    assert value(found.marginal.metrics["auc"]) == metrics.auc(log.events[:, 2], whole)
    assert value(found.marginal.metrics["logloss"]) == pytest.approx(metrics.logloss(log.events[:, 2], whole), rel=1e-9)
    assert value(found.marginal.metrics["calibration_ratio"]) == pytest.approx(whole.sum() / log.events[:, 2].sum(), rel=1e-9)


def test_a_marginal_counts_the_rows_where_its_event_is_settled() -> None:
    """Its own label was observed, or an earlier event of its chain did not happen."""
    log = funnel()
    observed = log.observed.copy()
    observed[:700, 0] = False
    observed[500:900, 2] = False
    found = by_name(evaluate(Predictions(FUNNEL, log.logits, log.events, observed, log.groups), own(log)))["buy"]
    assert found.marginal is not None
    stopped = (observed[:, :2] & (log.events[:, :2] == 0)).any(axis=1)
    assert 4000 - 400 < found.marginal.rows == (observed[:, 2] | stopped).sum() < 4000
    assert found.marginal.positives == log.events[observed[:, 2], 2].sum()


def test_only_binary_tasks_with_a_given_have_a_marginal() -> None:
    found = by_name(evaluate(funnel(), own(funnel())))
    assert {name: report.marginal is not None for name, report in found.items()} == {
        "click": False,
        "cart": True,
        "buy": True,
        "stars": False,
    }
    assert {name: report.given for name, report in found.items()} == {"click": None, "cart": "click", "buy": "cart", "stars": "buy"}


def test_a_regression_is_judged_where_its_given_holds() -> None:
    log = funnel()
    found = by_name(evaluate(log, own(log)))["stars"]
    seen = log.seen("stars")
    assert list(found.figures.metrics) == ["rmse", "mae", "r2"]
    assert found.figures.positives is None
    assert value(found.figures.metrics["rmse"]) == pytest.approx(metrics.rmse(log.events[seen, 3], log.logits[seen, 3]))


def test_marginals_are_products_of_calibrated_conditionals() -> None:
    chance = np.array([[0.5, 0.4, 0.5, 3.0], [1e-9, 1e-9, 1e-9, 3.0]])
    assert marginals(FUNNEL, chance, "click") == pytest.approx([0.5, 1e-9])
    assert marginals(FUNNEL, chance, "buy") == pytest.approx([0.1, 1e-27])


def test_the_ranking_of_a_task_is_read_from_logits_and_the_rest_from_what_was_calibrated() -> None:
    log = plain()
    first, second = evaluate(log, own(log)), evaluate(log, np.full((2000, 2), 0.5))
    for before, after in zip(first, second, strict=True):
        for name in ("auc", "gauc", "pr_auc"):
            assert before.figures.metrics[name] == after.figures.metrics[name]
        assert before.figures.metrics["logloss"] != after.figures.metrics["logloss"]


def test_a_marginal_is_ranked_by_the_product_that_is_delivered() -> None:
    """A click at .4 and a cart at .6 came out as .1 and .9: the order of the products turns round, that of each factor does not."""
    chance = np.array([[0.4, 0.6], [0.6, 0.5], [0.4, 0.5]])
    told = np.array([[0.1, 0.9], [0.3, 0.2], [0.1, 0.2]])  # .09 .06 .02, of .24 .30 .20
    schema = Schema(PLAIN.fields, (Task("click"), Task("cart", given="click")))
    events = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    log = Predictions(schema, np.log(chance / (1 - chance)), events, np.ones((3, 2), dtype=bool), np.array([1, 1, 1]))
    plain, delivered = (evaluate(log, one)[1].marginal for one in (chance, told))
    assert plain is not None
    assert delivered is not None
    for name, (before, after) in {"auc": (0.5, 1.0), "gauc": (0.5, 1.0), "pr_auc": (0.5, 1.0)}.items():
        assert (value(plain.metrics[name]), value(delivered.metrics[name])) == pytest.approx((before, after)), name


def test_calibrators_are_fitted_where_the_conditional_is_seen() -> None:
    log = funnel(20_000)
    found = fit_calibrators(log)
    assert isinstance(found["click"], Isotonic)
    assert isinstance(found["stars"], Linear)
    # rows where there was no click say nothing about a cart after a click
    spoiled = log.logits.copy()
    spoiled[~log.seen("cart"), 1] = 99.0
    again = fit_calibrators(Predictions(FUNNEL, spoiled, log.events, log.observed, log.groups))
    assert again["cart"] == found["cart"]


def test_calibration_mends_logits_that_were_stretched() -> None:
    log = funnel(20_000)
    stretched = Predictions(FUNNEL, log.logits * 3 + 1, log.events, log.observed, log.groups)
    before = by_name(evaluate(stretched, own(stretched)))
    after = by_name(evaluate(stretched, calibrate_all(FUNNEL, stretched.logits, fit_calibrators(stretched))))
    crossed = by_name(evaluate(stretched, cross_calibrated(stretched)))
    for name in ("click", "cart", "buy"):
        assert value(after[name].figures.metrics["ece"]) < 0.2 * value(before[name].figures.metrics["ece"])
        assert value(after[name].figures.metrics["calibration_ratio"]) == pytest.approx(1.0, abs=0.02)
        gain = value(crossed[name].figures.metrics["logloss"]) - value(after[name].figures.metrics["logloss"])
        assert 0 < gain < 0.02


def test_a_marginal_of_calibrated_conditionals_keeps_its_promise() -> None:
    log = funnel(20_000)
    found = by_name(evaluate(log, calibrate_all(FUNNEL, log.logits, fit_calibrators(log))))["buy"]
    assert found.marginal is not None
    ratio = found.marginal.metrics["calibration_ratio"]
    assert isinstance(ratio, Interval)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 1.02
    assert ratio.high > 0.98


def test_the_same_draws_serve_two_models() -> None:
    log = plain()
    by = resample(log.groups, resamples=30, seed=4)
    other = Predictions(PLAIN, log.logits * 2, log.events, log.observed, log.groups)
    first, second = evaluate(log, own(log), by=by), evaluate(other, own(log), by=by)
    one, two = first[0].figures.draws["auc"], second[0].figures.draws["auc"]
    assert isinstance(one, Sampled)
    assert isinstance(two, Sampled)
    assert (one.draws == two.draws).all()


def test_slices_are_the_figures_of_their_rows() -> None:
    log = plain()
    tab = np.where(np.arange(2000) % 3 == 0, "home", "feed")
    found = evaluate(log, own(log), slices={"tab": tab})[1]
    rows = tab == "home"
    assert set(found.slices["tab"]) == {"home", "feed"}
    home = found.slices["tab"]["home"]
    assert (home.rows, home.positives) == (rows.sum(), log.events[rows, 1].sum())
    assert value(home.metrics["auc"]) == metrics.auc(log.events[rows, 1], log.logits[rows, 1])


def test_slices_of_a_conditional_hold_only_its_rows() -> None:
    log = funnel()
    half = np.arange(4000) % 2
    found = by_name(evaluate(log, own(log), slices={"half": half}))["cart"]
    assert found.slices["half"]["0"].rows == (log.seen("cart") & (half == 0)).sum()


def test_a_tiny_slice_keeps_its_counts_and_says_why_it_is_not_judged() -> None:
    log = plain()
    found = evaluate(log, own(log), slices={"who": np.where(np.arange(2000) < 40, "few", "many")})[0]
    few = found.slices["who"]["few"]
    assert few.rows == 40
    assert set(few.metrics) == set(found.figures.metrics)
    assert set(few.metrics.values()) == {Undefined("40 rows: fewer than 100")}
    assert isinstance(found.worst, Worst)
    assert found.worst.label == "many"


def test_the_worst_slice_is_the_one_with_the_lowest_auc() -> None:
    log = plain(6000)
    tab = np.array(["good", "bad", "fair"])[np.arange(6000) % 3]
    logits = log.logits.copy()
    logits[tab == "bad"] *= -1
    spoiled = Predictions(PLAIN, logits, log.events, log.observed, log.groups)
    for report in evaluate(spoiled, own(spoiled), slices={"constant": np.zeros(6000, dtype=np.int64), "tab": tab}):
        assert isinstance(report.worst, Worst)
        assert (report.worst.slice, report.worst.label, report.worst.metric) == ("tab", "bad", "auc")
        assert report.worst.value == report.slices["tab"]["bad"].metrics["auc"]


def test_the_worst_slice_of_a_regression_has_the_highest_rmse() -> None:
    draw = np.random.default_rng(0)
    logits, noisy = draw.normal(size=(3000, 2)), np.arange(3000) % 2
    seconds = logits[:, 0] + draw.normal(size=3000) * (0.1 + noisy)
    events = np.stack([seconds, (draw.random(3000) < 0.5).astype(np.float64)], axis=1)
    log = Predictions(MIXED, logits, events, np.ones((3000, 2), dtype=bool), draw.integers(0, 90, 3000))
    found = evaluate(log, own(log), slices={"noisy": noisy})[0]
    assert isinstance(found.worst, Worst)
    assert (found.worst.label, found.worst.metric) == ("1", "rmse")
    assert isinstance(headline(found), Interval)


def test_without_slices_there_is_no_worst_one() -> None:
    log = plain()
    assert evaluate(log, own(log))[0].worst == Undefined("no slice was asked for")
    tiny = plain(90)
    assert evaluate(tiny, own(tiny), slices={"all": np.zeros(90)})[0].worst == Undefined("no slice has enough rows")


def test_a_task_without_any_label_is_undefined_and_breaks_nothing() -> None:
    log = plain()
    observed = log.observed.copy()
    observed[:, 1] = False
    found = evaluate(Predictions(PLAIN, log.logits, log.events, observed, log.groups), own(log), slices={"all": np.zeros(2000)})
    assert set(found[1].figures.metrics.values()) == {Undefined("no row")}
    assert isinstance(found[0].figures.metrics["auc"], Interval)
    assert found[1].worst == Undefined("no slice has enough rows")


def test_mean_auc_is_the_mean_over_tasks() -> None:
    log = plain()
    seen = np.ones((2000, 2), dtype=bool)
    parts = [metrics.auc(log.events[:, at], log.logits[:, at]) for at in (0, 1)]
    known = [part for part in parts if isinstance(part, float)]
    assert mean_score(PLAIN, log.events, seen, logits=log.logits) == pytest.approx(sum(known) / 2)


def test_mean_auc_reads_r2_of_a_regression() -> None:
    events = np.array([[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    logits = np.array([[1.0, 3.0], [2.0, 1.0], [4.0, 2.0]])
    # R2 = 1 - 1/2, AUC = 1
    assert mean_score(MIXED, events, np.ones((3, 2), dtype=bool), logits=logits) == pytest.approx((0.5 + 1.0) / 2)


def test_every_judged_task_has_its_own_score_and_what_cannot_be_had_its_reason() -> None:
    log = plain()
    events, seen = log.events.copy(), np.ones((2000, 2), dtype=bool)
    events[:, 1] = 1
    found = scores(PLAIN, events, seen, logits=log.logits)
    assert found == {"click": metrics.auc(log.events[:, 0], log.logits[:, 0]), "like": Undefined("no negative row")}


@pytest.mark.parametrize(("spread", "score"), [(0.0, 1.0), (1.0, 0.0), (2.0, -0.75), (1e6, -1.0)])
def test_a_regression_worse_than_a_constant_scores_above_minus_one(spread: float, score: float) -> None:
    """R2 = 1 - spread^2 counts as v / (1 - v) below 0."""
    labels = np.array([[1.0, -1.0], [0.0, 1.0], [1.0, 1.0], [0.0, -1.0]])
    logits = np.column_stack([labels[:, 1] * (1 + spread), labels[:, 0]])
    found = scores(MIXED, labels[:, [1, 0]], np.ones((4, 2), dtype=bool), logits=logits)
    assert found["click"] == 1.0
    assert found["seconds"] == pytest.approx(score, abs=1e-9)


def test_mean_auc_masks_unseen_labels() -> None:
    log = plain()
    seen: Bool[np.ndarray, "rows tasks"] = np.random.default_rng(0).random((2000, 2)) < 0.5
    spoiled = np.where(seen, log.events, 1 - log.events)
    assert mean_score(PLAIN, spoiled, seen, logits=log.logits) == mean_score(PLAIN, log.events, seen, logits=log.logits)


def test_mean_auc_leaves_out_what_is_undefined_and_says_why_if_all_is() -> None:
    log = plain()
    events = log.events.copy()
    events[:, 1] = 1
    seen = np.ones((2000, 2), dtype=bool)
    assert mean_score(PLAIN, events, seen, logits=log.logits) == metrics.auc(log.events[:, 0], log.logits[:, 0])
    events[:, 0] = 0
    assert mean_score(PLAIN, events, seen, logits=log.logits) == Undefined("click: no positive row; like: no negative row")


def test_mean_auc_of_a_model_that_ran_away_is_undefined() -> None:
    log = plain()
    broken = np.full_like(log.logits, np.nan)
    found = mean_score(PLAIN, log.events, np.ones((2000, 2), dtype=bool), logits=broken)
    assert isinstance(found, Undefined)
    assert "2000 of 2000 rows are not a number" in found.reason
