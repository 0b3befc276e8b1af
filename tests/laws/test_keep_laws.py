"""Laws of the rules that keep an epoch: every rule is found, and none can let go of what it will want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.laws.test_checkpoint import assert_same
from tests.toys import Batches, Toy, equal, toy

from umbel.chosen import choose, spell
from umbel.errors import UserError
from umbel.learn import checkpoint
from umbel.learn.fit import Epoch, fit
from umbel.learn.history import IMPROVEMENT, Scores, frontier
from umbel.learn.keep import KEEPS, Keep, Mean, Pareto, Primary, stale
from umbel.learn.plan import Plan

TASKS = ("click", "like", "buy")
RULES: dict[str, Keep] = {
    "mean": Mean(),
    "mean, weighted": Mean({"like": 3.0}),
    "primary": Primary("click"),
    "primary, guarded": Primary("click", {"like": 0.05}),
    "primary, guarded twice": Primary("like", {"click": 0.0, "buy": 0.2}),
    "pareto": Pareto(),
}
GRID = st.integers(0, 20).map(lambda place: place / 20)
EPOCH = st.fixed_dictionaries(dict.fromkeys(TASKS, GRID))
HISTORY = st.lists(EPOCH, min_size=1, max_size=8)
MISSING = st.lists(st.fixed_dictionaries(dict.fromkeys(TASKS, st.one_of(st.none(), GRID))), min_size=1, max_size=8)
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def test_every_rule_is_here() -> None:
    assert {type(rule) for rule in RULES.values()} == set(KEEPS.values())
    assert all(rule.name == name for name, rule in KEEPS.items())


@every_rule
def test_a_run_file_spells_it(rule: Keep) -> None:
    assert choose("fit.keep", spell(rule), KEEPS) == rule


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=HISTORY)
def test_what_is_kept_now_or_later_was_never_let_go(rule: Keep, history: list[Scores]) -> None:
    held: set[int] = set()
    for count in range(1, len(history) + 1):
        contenders = set(rule.contenders(history[:count]))
        assert rule.best(history[:count]) in contenders
        assert contenders <= held | {count - 1}
        held = contenders


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=MISSING)
def test_missing_scores_let_go_of_nothing_either(rule: Keep, history: list[Scores]) -> None:
    held: set[int] = set()
    for count in range(1, len(history) + 1):
        contenders = set(rule.contenders(history[:count]))
        assert rule.best(history[:count]) in contenders
        assert contenders <= held | {count - 1}
        held = contenders


@pytest.mark.parametrize("rule", [Mean(), Mean({"click": 3.0}), Primary("click"), Primary("click", {"click": 0.1}), Pareto()])
@settings(max_examples=60, deadline=None)
@given(values=st.lists(GRID, min_size=1, max_size=8))
def test_of_one_task_the_best_epoch_is_kept(rule: Keep, values: list[float]) -> None:
    history = [{"click": value} for value in values]
    assert rule.best(history) == values.index(max(values))
    assert stale(rule, history) == len(values) - 1 - values.index(max(values))


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=HISTORY, order=st.permutations(TASKS))
def test_the_order_of_tasks_is_nothing(rule: Keep, history: list[Mapping[str, float]], order: Sequence[str]) -> None:
    turned = [{task: scores[task] for task in order} for scores in history]
    means = [rule.score(scores) for scores in history]
    assume(not any(0 < abs(one - other) < 1e-9 for one in means for other in means))  # sums in another order differ by a bit
    assert rule.best(turned) == rule.best(history)
    assert rule.contenders(turned) == rule.contenders(history)


def renamed(rule: Keep, names: Mapping[str, str]) -> Keep:
    if isinstance(rule, Mean):
        return Mean({names[task]: weight for task, weight in rule.weights.items()})
    if isinstance(rule, Primary):
        return Primary(names[rule.task], {names[task]: bound for task, bound in rule.guards.items()})
    return rule


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=HISTORY, order=st.permutations(TASKS))
def test_permuting_tasks_permutes_what_is_kept(rule: Keep, history: list[Mapping[str, float]], order: Sequence[str]) -> None:
    names = dict(zip(TASKS, order, strict=True))
    assert renamed(rule, names).best([{names[task]: value for task, value in scores.items()} for scores in history]) == rule.best(history)


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=HISTORY, more=st.floats(0.001, 0.5))
def test_an_epoch_above_all_others_is_kept(rule: Keep, history: list[Mapping[str, float]], more: float) -> None:
    above = {task: max(scores[task] for scores in history) + more for task in TASKS}
    for place in range(len(history) + 1):
        assert rule.best([*history[:place], above, *history[place:]]) == place


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=HISTORY, less=st.floats(0.0, 0.5))
def test_an_epoch_below_another_changes_nothing(rule: Keep, history: list[Mapping[str, float]], less: float) -> None:
    kept = rule.best(history)
    for scores in history:
        assert rule.best([*history, {task: value - less for task, value in scores.items()}]) == kept


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=HISTORY)
def test_a_task_that_never_has_a_score_changes_nothing(rule: Keep, history: list[Mapping[str, float]]) -> None:
    blind: list[Scores] = [{"share": None, **scores} for scores in history]
    for found in (rule.best, rule.contenders, lambda seen: stale(rule, seen)):
        assert found(blind) == found(history)
    assert [rule.score(scores) for scores in blind] == [rule.score(scores) for scores in history]


@settings(max_examples=80, deadline=None)
@given(HISTORY)
def test_the_frontier_is_what_a_loop_says(history: list[Mapping[str, float]]) -> None:
    found = []
    for at, one in enumerate(history):
        beaten = [
            all(other[task] >= one[task] for task in TASKS) and (any(other[task] > one[task] for task in TASKS) or before < at)
            for before, other in enumerate(history) if before != at
        ]  # fmt: skip
        if not any(beaten):
            found.append(at)
    assert list(frontier(history, TASKS)) == found


@settings(max_examples=80, deadline=None)
@given(HISTORY, st.floats(0, 0.3))
def test_a_guard_that_can_hold_holds(history: list[Mapping[str, float]], bound: float) -> None:
    best = {task: max(scores[task] for scores in history) for task in TASKS}
    guards = {"like": bound, "buy": bound}
    holds = [scores for scores in history if all(best[task] - scores[task] <= bound + IMPROVEMENT for task in guards)]
    kept = history[Primary("click", guards).best(history)]
    if holds:
        assert kept in holds
        assert kept["click"] == max(scores["click"] for scores in holds)
    else:
        short = [max(best[task] - scores[task] for task in guards) for scores in history]
        assert max(best[task] - kept[task] for task in guards) == pytest.approx(min(short))


@settings(max_examples=80, deadline=None)
@given(HISTORY)
def test_pareto_keeps_the_least_greatest_regret(history: list[Mapping[str, float]]) -> None:
    best = {task: max(scores[task] for scores in history) for task in TASKS}
    regret = [max(best[task] - scores[task] for task in TASKS) for scores in history]
    assert regret[Pareto().best(history)] == min(regret)


@every_rule
@settings(max_examples=60, deadline=None)
@given(history=HISTORY)
def test_it_waits_while_anything_watched_rises(rule: Keep, history: list[Mapping[str, float]]) -> None:
    above = {task: max(scores[task] for scores in history) + 0.1 for task in TASKS}
    assert stale(rule, [*history, above]) == 0
    worst = dict.fromkeys(TASKS, -1.0)
    assert stale(rule, [*history, worst]) == stale(rule, history) + 1


# In a training.


def played(history: Sequence[Scores], rule: Keep, *, folder: Path | None = None, start: int = 0) -> list[Epoch]:
    """Epochs judged by these scores; with a folder, each leaves its checkpoint, and the training begins from the one at `start`."""
    left = iter(history[start:])
    plan = Plan(epochs=len(history), patience=99, rate=0.1, keep=rule)
    state = checkpoint.load(folder / str(start)) if folder and start else None
    epochs = []
    for epoch in fit(toy(dropout=0.3), Batches(steps=2), plan=plan, judge=lambda _: next(left), start=state):
        if folder and not start:
            checkpoint.save(epoch.state, folder / str(epoch.number))
        epochs.append(epoch)
    return epochs


WAVES: list[Scores] = [
    {"click": 0.50, "like": 0.90, "buy": 0.5},
    {"click": 0.80, "like": 0.60, "buy": None},
    {"click": 0.70, "like": 0.86, "buy": 0.6},
    {"click": 0.75, "like": 0.70, "buy": 0.4},
    {"click": 0.60, "like": 0.95, "buy": 0.6},
]


@every_rule
def test_the_weights_are_those_of_the_kept_epoch_after_every_epoch(rule: Keep) -> None:
    after: list[dict[str, torch.Tensor]] = []
    model: Toy = toy()
    left = iter(WAVES)
    for epoch in fit(model, Batches(), plan=Plan(epochs=5, patience=9, rate=0.1, keep=rule), judge=lambda _: next(left)):
        after.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        kept = rule.best(WAVES[: len(after)])
        assert epoch.kept == kept + 1
        assert epoch.best == rule.score(WAVES[kept])
        assert epoch.scores == WAVES[len(after) - 1]
        assert epoch.state.best.keys() == after[kept].keys()
        assert equal(list(epoch.state.best.values()), list(after[kept].values()))
        for number, weights in enumerate(after):
            held = epoch.state.after(number)
            assert bool(held) == (number in rule.contenders(WAVES[: len(after)]))
            assert not held or equal(list(held.values()), list(weights.values()))


@every_rule
def test_a_resumed_training_keeps_the_same_bytes(rule: Keep, tmp_path: Path) -> None:
    whole = played(WAVES, rule, folder=tmp_path)
    end = checkpoint.load(tmp_path / str(len(WAVES)))
    for start in range(1, len(WAVES)):
        rest = played(WAVES, rule, folder=tmp_path, start=start)
        assert_same(rest[-1].state, end)
        assert [epoch.kept for epoch in rest] == [epoch.kept for epoch in whole[start:]]


def test_another_rule_does_not_go_on_where_this_one_let_go() -> None:
    state = played(WAVES, Mean())[-1].state
    with pytest.raises(UserError, match=r"checkpoint: another rule than this plan's chose its best epoch; go on with"):
        next(fit(toy(), Batches(), plan=Plan(epochs=9, keep=Primary("click")), judge=lambda _: WAVES[0], start=state))


@pytest.mark.parametrize("rule", [Mean(), Primary("click", {"like": 0.1}), Pareto()])
def test_a_score_that_the_rule_cannot_do_without_is_the_users_to_mend(rule: Keep) -> None:
    with pytest.raises(UserError, match=r"validation score after epoch 1 is nan; the validation part needs"):
        played([{"click": None, "like": None, "buy": None}], rule)


def test_a_guard_nobody_can_check_is_no_guard() -> None:
    history = [{"click": 0.6, "like": None}, {"click": 0.7, "like": None}]
    assert Primary("click", {"like": 0.0}).best(history) == 1
