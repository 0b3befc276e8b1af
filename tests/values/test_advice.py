"""The answer in words follows from validation scores and verdicts, and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Paired, Verdict
from umbel.run.section import OptionSection
from umbel.study.transfer.advice import Action, Advice, Choice, Confidence, advise
from umbel.study.transfer.groups import Cell
from umbel.study.transfer.labels import Labels, Overlap, Supply
from umbel.study.transfer.probed import Grouping, Probed
from umbel.study.transfer.result import delta_m
from umbel.study.trial import Trial
from umbel.study.verdict import Comparison, Difference, Standing

ACTIONS = {"alone": Choice(Action.SEPARATE), "mmoe": Choice(Action.SHARE), "stem": Choice(Action.OWN_VIEWS)}
H, L, E, O = Verdict.HIGHER, Verdict.LOWER, Verdict.EQUAL, Verdict.OPEN  # noqa: E741


def standing(name: str, score: float, **auc: float) -> Standing:
    tasks: dict[str, Mapping[str, Interval | Undefined]] = {task: {"auc": Interval(value, None, None)} for task, value in auc.items()}
    draws = {task: (Sampled(value, np.zeros(2), 9),) for task, value in auc.items()}
    return Standing(name, {}, tasks, {}, Trial(score, 1, 1.0, 1.0, 1), draws)


def difference(recipe: str, task: str, verdict: Verdict, value: float = 0.01, metric: str = "auc") -> Difference:
    return Difference(task, recipe, "alone", metric, Paired(Interval(value, None, None), (value,), Undefined("one seed"), 0.5), verdict)


def comparison(scores: Mapping[str, float], verdicts: Mapping[str, Sequence[Verdict]]) -> Comparison:
    found = tuple(
        difference(recipe, task, verdict, 0.01 if verdict is not L else -0.01)
        for recipe, each in verdicts.items() for task, verdict in zip(("click", "like"), each, strict=True)
    )  # fmt: skip
    return Comparison({}, tuple(standing(name, score, click=0.7, like=0.8) for name, score in scores.items()), found)


def said(scores: Mapping[str, float], verdicts: Mapping[str, Sequence[Verdict]], cells: Sequence[Cell] = ()) -> Advice:
    return advise(comparison(scores, verdicts), ACTIONS, cells=cells)


@pytest.mark.parametrize(("verdicts", "confidence"), [
    ({"mmoe": (O, O), "stem": (H, O)}, Confidence.CONFIRMED),
    ({"mmoe": (O, O), "stem": (H, L)}, Confidence.CONTRADICTED),
    ({"mmoe": (H, H), "stem": (O, O)}, Confidence.OPEN),
    ({"mmoe": (O, O), "stem": (E, E)}, Confidence.EQUAL),
    ({"mmoe": (O, O), "stem": (E, O)}, Confidence.OPEN),
])
def test_how_sure_a_shared_model_is(verdicts: Mapping[str, Sequence[Verdict]], confidence: Confidence) -> None:
    found = said({"alone": 0.70, "mmoe": 0.71, "stem": 0.72}, verdicts)
    assert (found.recipe, found.action, found.confidence) == ("stem", Action.OWN_VIEWS, confidence)
    assert found.says[0].startswith("Share, and give every task embeddings of its own beside the shared ones (stem")


APART = {"alone": 0.73, "mmoe": 0.71, "stem": 0.72}


@pytest.mark.parametrize(("verdicts", "confidence"), [
    ({"mmoe": (L, L), "stem": (L, L)}, Confidence.CONFIRMED),
    ({"mmoe": (L, O), "stem": (O, O)}, Confidence.CONFIRMED),
    ({"mmoe": (E, E), "stem": (E, L)}, Confidence.CONFIRMED),
    ({"mmoe": (E, E), "stem": (E, E)}, Confidence.EQUAL),
    ({"mmoe": (E, E), "stem": (E, O)}, Confidence.OPEN),
    ({"mmoe": (O, O), "stem": (O, O)}, Confidence.OPEN),
    ({"mmoe": (L, H), "stem": (H, L)}, Confidence.OPEN),
    ({"mmoe": (L, L), "stem": (H, L)}, Confidence.OPEN),
    ({"mmoe": (L, O), "stem": (H, O)}, Confidence.CONTRADICTED),
    ({}, Confidence.OPEN),
])
def test_how_sure_separate_models_are(verdicts: Mapping[str, Sequence[Verdict]], confidence: Confidence) -> None:
    found = said(APART, verdicts)
    assert (found.recipe, found.action, found.confidence) == ("alone", Action.SEPARATE, confidence)


@pytest.mark.parametrize(("verdicts", "says"), [
    ((L, L), "on test a model that shares is worse on at least one task and none is better on any."),
    ((E, E), "on test every model that shares is within the margin of it on every task."),
    ((O, E), "test rows do not settle whether a model that shares differs from it."),
    ((H, E), "test rows contradict it: more data or seeds are needed before this is acted upon."),
])
def test_the_answer_says_what_separate_models_were_held_against(verdicts: Sequence[Verdict], says: str) -> None:
    found = said(APART, {"mmoe": (E, E), "stem": verdicts})
    assert found.says[0] == f"Train the tasks apart (alone, the best on validation): {says}"


@pytest.mark.parametrize(("verdicts", "says"), [
    ((H, E), "on test it is better than separate models on at least one task and worse on none."),
    ((E, E), "on test it is within the margin of separate models on every task."),
    ((O, E), "test rows do not settle whether it differs from separate models."),
    ((L, E), "test rows contradict it: more data or seeds are needed before this is acted upon."),
])
def test_the_answer_says_what_a_shared_model_was_held_against(verdicts: Sequence[Verdict], says: str) -> None:
    """Separate models alone: that another model is far better than both is no matter of how sure this one is."""
    found = said({"alone": 0.70, "mmoe": 0.71, "stem": 0.72}, {"mmoe": (H, H), "stem": verdicts})
    assert found.says[0].endswith(f"(stem, the best on validation): {says}")


def test_the_answer_agrees_with_the_sentences_after_it() -> None:
    """Where separate models are confirmed, a task is told that is hurt; a width control, which is never named, does not confirm them."""
    plain = said(APART, {"mmoe": (L, O), "stem": (E, O)})
    assert "click: learning together hurts with mmoe -0.0100." in plain.says
    wide = said(APART, {"mmoe": (E, E), "stem": (E, E), "ple x3": (L, L)})
    assert wide.confidence is Confidence.OPEN
    assert not any("hurts" in one for one in wide.says)


@pytest.mark.parametrize(("control", "confidence"), [
    ((E, E), Confidence.EQUAL), ((E, O), Confidence.OPEN), ((H, L), Confidence.OPEN), ((H, O), Confidence.CONTRADICTED),
])
def test_a_width_control_can_speak_against_separate_models(control: Sequence[Verdict], confidence: Confidence) -> None:
    assert said(APART, {"mmoe": (E, E), "stem": (E, E), "ple x3": control}).confidence is confidence


@pytest.mark.parametrize("other", ["trees", "trees + target means", "alone, 4 experts"])
@pytest.mark.parametrize("theirs", [(H, H), (L, L), (O, O)])
def test_who_shares_nothing_says_nothing_of_sharing(other: str, theirs: Sequence[Verdict]) -> None:
    """Trees, and separate models changed by a variant of the run file."""
    found = said(APART, {"mmoe": (E, E), "stem": (E, E), other: theirs})
    assert (found.recipe, found.confidence) == ("alone", Confidence.EQUAL)


def test_the_choice_is_made_on_validation_whatever_test_says() -> None:
    found = said({"alone": 0.70, "mmoe": 0.74, "stem": 0.72}, {"mmoe": (L, L), "stem": (H, H)})
    assert (found.recipe, found.action, found.confidence) == ("mmoe", Action.SHARE, Confidence.CONTRADICTED)


def test_only_what_may_be_recommended_is() -> None:
    found = comparison({"alone": 0.70, "mmoe": 0.71, "stem": 0.72, "trees": 0.9, "ple x3": 0.95}, {})
    assert advise(found, ACTIONS).recipe == "stem"


def test_every_task_has_its_sentence() -> None:
    found = said({"alone": 0.7, "mmoe": 0.71, "stem": 0.72}, {"mmoe": (L, O), "stem": (H, O)})
    assert "click: learning together helps with stem +0.0100 and hurts with mmoe -0.0100." in found.says
    assert "like: learning together makes no difference that is more than noise." in found.says


def test_a_lower_error_is_better() -> None:
    pairs = (difference("stem", "seconds", L, -2.0, "rmse"), difference("mmoe", "seconds", H, 2.0, "rmse"))
    scores = {"alone": 0.1, "mmoe": 0.2, "stem": 0.3}
    found = Comparison({}, tuple(standing(name, score, seconds=1.0) for name, score in scores.items()), pairs)
    advice = advise(found, ACTIONS)
    assert advice.confidence is Confidence.CONFIRMED
    assert "seconds: learning together helps with stem -2.0000 and hurts with mmoe +2.0000." in advice.says


def cell(recipe: str, value: float, verdict: Verdict) -> Cell:
    gain, auc = Paired(Interval(value, value - 0.01, value + 0.01), (value,), Undefined("few"), 0.5), Interval(0.7, None, None)
    return Cell("click against like", "comparable", "like", recipe, 500, 50, auc, auc, gain, verdict)


def test_negative_transfer_is_named_where_it_is_more_than_noise() -> None:
    cells = [cell("mmoe", -0.02, L), cell("mmoe", -0.03, O), cell("stem", 0.02, H), cell("trees", -0.2, L), cell("mmoe x3", -0.01, L)]
    found = said({"alone": 0.7, "mmoe": 0.71, "stem": 0.72}, {}, cells=cells)
    assert [one for one in found.says if "comparable" in one] == [
        "mmoe loses 0.0200 on like for users in click against like: comparable.",
        "mmoe x3 loses 0.0100 on like for users in click against like: comparable.",
    ]


def test_what_labels_say_is_told() -> None:
    supplies = (Supply("like", 100, 1.0, 9, 0.09, 4.0), Supply("click", 10_000, 1.0, 5_000, 0.5, 900.0))
    overlaps = (
        Overlap("click", "tap", 1.0, 0.99, 1.0, 1.0), Overlap("click", "buy", 0.2, 0.1, 1.0, 0.1),
        Overlap("click", "order", 0.2, 0.1, 1.0, 0.1, later="order"),
    )  # fmt: skip
    labels = Labels(supplies, overlaps)
    found = advise(comparison({"alone": 0.7}, {}), ACTIONS, labels=labels.sentences())
    assert found.confidence is Confidence.OPEN
    assert [one for one in found.says if "click" in one or "like" in one][-3:] == [
        "like rests on 4 users' worth of positives: its figures are noise.",
        "tap is a duplicate of click (correlation 1.00): drop one.",
        "buy happens only where click does: consider given = 'click'.",
    ]


def test_mean_gain_by_hand() -> None:
    recipes = (standing("alone", 0.7, click=0.5, like=0.8), standing("stem", 0.7, click=0.6, like=0.76))
    assert delta_m(Comparison({}, recipes, ())) == {"alone": 0.0, "stem": pytest.approx(100 * (0.2 - 0.05) / 2)}


def test_mean_gain_of_an_error_turns_its_sign_and_an_undefined_task_is_left_out() -> None:
    def one(name: str, rmse: float) -> Standing:
        plain = standing(name, 0.7)
        watch, like = {"rmse": Interval(rmse, None, None)}, {"auc": Undefined("none")}
        return Standing(name, {}, {"watch": watch, "like": like}, {}, plain.cost, {})

    assert delta_m(Comparison({}, (one("alone", 2.0), one("stem", 1.5)), ()))["stem"] == pytest.approx(25.0)


def gained(metric: str, apart: float, shared: float, *, click: tuple[float, float] | None = None) -> float | None:
    """The mean gain of a shared model over separate ones: on a task of that metric and, if asked, on an event."""
    events = click or (0.0, 0.0)
    both = (("alone", apart, events[0]), ("stem", shared, events[1]))
    made = []
    for name, value, auc in both:
        own: dict[str, Mapping[str, Interval | Undefined]] = {"watch": {metric: Interval(value, None, None)}}
        made.append(replace(standing(name, 0.7), tasks={**own, **({"click": {"auc": Interval(auc, None, None)}} if click else {})}))
    return delta_m(Comparison({}, tuple(made), ()))["stem"]


@pytest.mark.parametrize("metric", ["d2", "gini", "r2"])
@pytest.mark.parametrize("apart", [-0.05, -1e-9, 0.0])
def test_a_figure_that_is_not_above_nothing_is_no_measure_of_gains(metric: str, apart: float) -> None:
    """A better one is no loss, whatever the sign of what it is held against; the other tasks make the mean."""
    assert gained(metric, apart, 0.02) is None
    assert gained(metric, apart, 0.02, click=(0.5, 0.6)) == pytest.approx(20.0)
    assert gained(metric, apart, -0.5, click=(0.5, 0.6)) == pytest.approx(20.0)


def test_a_figure_that_falls_below_nothing_still_counts() -> None:
    assert gained("d2", 0.2, -0.1) == pytest.approx(-150.0)
    assert gained("d2", 0.2, -0.1, click=(0.5, 0.6)) == pytest.approx((-150.0 + 20.0) / 2)


GROUPS = (("click", "like"), ("buy",))
PARTED = "{click, like} {buy}"
MORE = {
    **ACTIONS, PARTED: Choice(Action.GROUP, OptionSection(groups=GROUPS)),
    "stem_fields user": Choice(Action.OWN_FIELDS, OptionSection(own=("user",))),
}  # fmt: skip


def asked(*entrants: str) -> Probed:
    """Groupings in this order; only their entrants matter here."""
    return Probed(("click", "like", "buy"), (), tuple(Grouping((), 0.0, name) for name in entrants), {}, ())


def told(scores: Mapping[str, float], verdicts: Mapping[str, Sequence[Verdict]], *entrants: str) -> Advice:
    return advise(comparison(scores, verdicts), MORE, probes=asked(*entrants) if entrants else None)


def test_groups_are_named() -> None:
    found = told({"alone": 0.70, "mmoe": 0.71, PARTED: 0.74}, {PARTED: (H, O)})
    assert (found.action, found.groups, found.fields, found.confidence) == (Action.GROUP, GROUPS, None, Confidence.CONFIRMED)
    assert found.says[0].startswith(
        "Share inside these groups of tasks and nowhere else: click with like; buy alone (grouped, the best on validation): ")


def test_fields_are_named() -> None:
    found = told({"alone": 0.70, "stem": 0.71, "stem_fields user": 0.74}, {"stem_fields user": (O, O)})
    assert (found.action, found.groups, found.fields, found.confidence) == (Action.OWN_FIELDS, None, ("user",), Confidence.OPEN)
    assert "for these fields only: user (stem_fields, the best on validation)" in found.says[0]


def test_probes_that_training_bears_out() -> None:
    found = told({"alone": 0.70, "mmoe": 0.71, "stem": 0.78, PARTED: 0.74}, {}, PARTED, "{click} {like, buy}", "mmoe", "alone")
    assert found.recipe == "stem"  # no grouping at all, and better on validation
    assert found.check is not None
    assert (found.check.asked, found.check.best, found.check.gap, found.check.trained) == (PARTED, PARTED, 0.0, 3)
    assert found.check.agrees
    assert "The probes asked for {click, like} {buy}; trained, it is the best of 3 groupings on validation too." in found.says


def seeded(scores: Mapping[str, Sequence[float | None]]) -> Advice:
    """The probes ask for `PARTED`; everybody's validation score by seed."""
    means = {name: float(np.mean([value for value in each if value is not None])) for name, each in scores.items()}
    plain = comparison(means, {})
    recipes = tuple(replace(one, valid=tuple(scores[one.name])) for one in plain.recipes)
    return advise(Comparison({}, recipes, ()), MORE, probes=asked(PARTED, "mmoe", "alone"))


def test_a_disagreement_beyond_the_spread_is_decided_by_training() -> None:
    """Gaps of .0012 and .0016: mean .0014, deviation .00028."""
    found = seeded({"alone": [0.7213, 0.7221], "mmoe": [0.71, 0.71], PARTED: [0.7201, 0.7205]})
    assert found.recipe == "alone"
    assert found.check is not None
    assert found.check.overruled
    assert found.check.gap == pytest.approx(0.0014)
    assert found.check.spread == pytest.approx(0.0004 / 2**0.5)
    assert ("The probes asked for {click, like} {buy}, but trained it is 0.0014 lower on validation than separate models: "
            "they disagree, and training decides.") in found.says  # fmt: skip


def test_a_disagreement_within_the_spread_leaves_the_probes_grouping() -> None:
    """Gaps of -.001 and .005: mean .002, deviation .0042."""
    found = seeded({"alone": [0.720, 0.726], "mmoe": [0.71, 0.71], PARTED: [0.721, 0.721]})
    assert (found.recipe, found.groups) == (PARTED, GROUPS)
    assert "buy alone (grouped, which the probes ask for): " in found.says[0]
    assert ("The probes asked for {click, like} {buy}, but trained it is 0.0020 lower on validation than separate models: "
            "they disagree, within the seeds' spread of 0.0042, so the probes' grouping stands.") in found.says  # fmt: skip


@pytest.mark.parametrize("scores", [
    {"alone": [0.7213], "mmoe": [0.71], PARTED: [0.7201]},
    {"alone": [0.7213, None], "mmoe": [0.71, 0.71], PARTED: [0.7201, 0.7201]},
])
def test_one_seed_does_not_overrule_the_probes(scores: Mapping[str, Sequence[float | None]]) -> None:
    found = seeded(scores)
    assert found.recipe == PARTED
    assert found.check is not None
    assert found.check.spread is None
    assert any("they disagree, and one seed cannot tell that from chance, so the probes' grouping stands." in one for one in found.says)


def test_who_is_no_grouping_wins_by_validation_alone() -> None:
    found = seeded({"alone": [0.720, 0.726], "mmoe": [0.71, 0.71], "stem": [0.7231, 0.7231], PARTED: [0.721, 0.721]})
    assert found.recipe == "stem"
    assert "(stem, the best on validation): " in found.says[0]


def test_one_group_of_all_is_called_what_it_is() -> None:
    found = told({"alone": 0.72, "mmoe": 0.71}, {}, "mmoe", "alone")
    assert any("asked for one group of all (mmoe), but" in one for one in found.says)


@pytest.mark.parametrize("entrants", [(PARTED, "mmoe", "alone"), ("mmoe",)])
def test_what_was_not_trained_is_not_checked(entrants: tuple[str, ...]) -> None:
    found = told({"alone": 0.70, "mmoe": 0.71}, {}, *entrants)
    assert found.check is None
    assert not any("probes" in one for one in found.says)


def test_the_recommended_views_meet_their_width() -> None:
    told = (("click", H, 0.003), ("like", O, -0.001))
    wide = [replace(difference("stem", task, verdict, value), against="ple x3") for task, verdict, value in told]
    other = replace(difference("mmoe", "click", H, 0.5), against="mmoe x2")
    scores = {"alone": 0.7, "mmoe": 0.71, "stem": 0.72}
    plain = comparison(scores, {"stem": (H, O)})
    found = advise(Comparison({}, plain.recipes, (*plain.paired, *wide, other)), ACTIONS)
    assert found.says[1] == "Against one shared view as wide as its views together (ple x3): click +0.0030 (higher), like -0.0010 (open)."
    assert not any("mmoe x2" in one for one in found.says)
