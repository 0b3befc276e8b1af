"""What another fusion would do: first items by hand, shifts that are differences of means, points that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from umbel.errors import UserError
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import AdditiveMonotone, Constrained, Linear, Log, Power, Shape
from umbel.serve.preview import FACTORS, Pool, Preview, PreviewRequest, preview, weighed
from umbel.serve.records import Candidates, Decision, Rung
from umbel.serve.store import Store
from umbel.serve.store.chosen import chosen_lately

COLUMNS = ("click", "like")
NOW = Fusion((Term("click", Linear()), Term("like", Linear(0.0))), "now")
THEN = Fusion((Term("click", Linear(0.0)), Term("like", Linear())), "then")


def decision(request: str, *rows: tuple[float, float], user: str | None = None, time: int = 5, masks: bool = False) -> Decision:
    """Candidates a, b, ... with their two predictions."""
    predictions = np.array(rows, np.float32)
    shape = np.ones((1, len(rows)), bool) if masks else None
    chosen = Candidates(items=tuple("abcdefgh"[: len(rows)]), predictions=predictions, fused=predictions[:, 0], masks=shape)
    return Decision(
        request=request, user=user, time=time, bundle="b", fusion="f", rung=Rung.FULL, shown=(), outputs=COLUMNS, candidates=chosen,
    )  # fmt: skip


TWO = [decision("r1", (0.9, 0.1), (0.5, 0.5), (0.1, 0.9), user="u"), decision("r2", (0.2, 0.3), (0.1, 0.2), user="v")]


def previewed(decisions: Sequence[Decision], now: Fusion = NOW, then: Fusion = THEN, *, top: int = 1, sweep: str | None = None) -> Preview:
    asked = PreviewRequest(policy={}, top=top, sweep=sweep)
    return preview(Pool.of(decisions), asked, bundle=("b", COLUMNS), policies=(now, then))


def test_first_items_by_hand() -> None:
    found = previewed(TWO)
    assert (found.decisions, found.candidates, found.changed) == (2, 5, 0.5)
    assert [(one.request_id, one.now, one.then) for one in found.examples] == [("r1", ["a"], ["c"])]
    assert found.tasks["click"].now == pytest.approx((0.9 + 0.2) / 2)
    assert found.tasks["click"].then == pytest.approx((0.1 + 0.2) / 2)
    assert found.tasks["click"].change == pytest.approx(-0.4)
    assert found.tasks["like"].change == pytest.approx(0.4)
    assert (found.tasks["like"].low, found.tasks["like"].reason) == (None, "2 users are too few to resample")


def test_a_list_in_another_order_is_another_list() -> None:
    found = previewed(TWO, top=2)
    assert (found.examples[0].now, found.examples[0].then) == (["a", "b"], ["c", "b"])
    assert previewed(TWO, top=50).changed == 0.5
    assert previewed(TWO, top=50).tasks["click"].change == pytest.approx(0.0)


def test_the_policy_in_force_changes_nothing() -> None:
    found = previewed(TWO, then=NOW)
    assert (found.changed, found.examples, found.now) == (0.0, [], found.then)
    assert {one.change for one in found.tasks.values()} == {0.0}


def test_ties_keep_the_order_that_was_sent() -> None:
    found = previewed([decision("r1", (0.5, 0.5), (0.5, 0.7), (0.5, 0.7))], top=3)
    assert found.examples[0].now == ["a", "b", "c"]
    assert found.examples[0].then == ["b", "c", "a"]


def test_a_change_has_an_interval_over_users() -> None:
    draw = np.random.default_rng(0)
    many = [decision(f"r{at}", *[tuple(row) for row in draw.random((6, 2))], user=f"u{at % 40}") for at in range(200)]
    shift = previewed(many, top=2).tasks["like"]
    assert shift.low is not None
    assert shift.high is not None
    assert 0 < shift.low < shift.change < shift.high
    assert shift.change == pytest.approx(shift.then - shift.now)


def test_decisions_without_a_user_count_each_for_itself() -> None:
    many = [decision(f"r{at}", (0.9, 0.1 + at / 100), (0.1, 0.9)) for at in range(12)]
    assert previewed(many).tasks["like"].low is not None


def test_nothing_to_choose_again() -> None:
    found = previewed([])
    assert (found.decisions, found.changed, found.tasks, found.front) == (0, None, {}, [])


def test_a_sweep_says_what_nothing_beats() -> None:
    both = Fusion((Term("click", Linear()), Term("like", Linear())), "both")
    rows = [decision("r1", (0.9, 0.0), (0.5, 0.45), (0.0, 0.6)), decision("r2", (0.3, 0.2), (0.2, 0.1))]
    front = previewed(rows, then=both, sweep="like").front
    assert [one.factor for one in front] == list(FACTORS)
    likes = [one.tasks["like"] for one in front]
    assert likes == sorted(likes), "the more a task weighs, the more of it stands on top"
    assert all(one.best for one in front)
    unwanted = replace(both, terms=(both.terms[0], replace(both.terms[1], direction=-1)))
    front = previewed(rows, then=unwanted, sweep="click").front
    good = [(one.tasks["click"], -one.tasks["like"]) for one in front]
    beaten = [any(a >= c and b >= d and (a, b) != (c, d) for a, b in good) for c, d in good]
    assert [not one.best for one in front] == beaten


@pytest.mark.parametrize(("policy", "sweep", "said"), [
    (Fusion((Term("clik", Linear()),)), None, "did you mean 'click'?"), (THEN, "likes", "sweep: 'likes' is no task of the policy"),
])  # fmt: skip
def test_what_the_bundle_does_not_predict_is_named(policy: Fusion, sweep: str | None, said: str) -> None:
    with pytest.raises(UserError) as caught:
        previewed(TWO, then=policy, sweep=sweep)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "shape", [Linear(2.0, 0.5), Log(2.0, 0.5), Power(2.0, 0.5), Constrained(2.0, 0.5), AdditiveMonotone((0.0, 0.5, 1.0), (1.0, 3.0))],
    ids=lambda shape: shape.name,
)  # fmt: skip
def test_a_weight_multiplies_the_gains_of_its_task_alone(shape: Shape) -> None:
    policy = Fusion((Term("click", shape), Term("like", shape)))
    rows = np.array([[0.2, 0.3], [0.9, 0.1]])
    before, after = policy.terms, weighed(policy, "like", 3.0).terms
    assert after[0] == before[0]
    assert np.allclose(after[1].shape.gain(rows[:, 1], 1), 3 * before[1].shape.gain(rows[:, 1], 1))


# What a store has of it


def test_the_latest_of_the_bundle_are_chosen_again(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db", window=0) as store:
        for at in range(5):
            store.log(decision(f"r{at}", (0.1, 0.2), (0.3, 0.4), time=at)).result()
        store.log(replace(decision("other", (0.1, 0.2), time=9), bundle="another")).result()
        store.log(decision("masked", (0.1, 0.2), time=9, masks=True)).result()
        store.log(replace(decision("bare", (0.1, 0.2), time=9), candidates=None)).result()
        found = chosen_lately(store.session, "b", most=3, rows=100)
        assert [one.request for one in found] == ["r4", "r3", "r2"]
        assert found[0].candidates is not None
        assert found[0].candidates.items == ("a", "b")
        assert found[0].candidates.predictions.tolist() == decision("r", (0.1, 0.2), (0.3, 0.4)).candidates.predictions.tolist()  # type: ignore[union-attr]
        assert [one.request for one in chosen_lately(store.session, "b", most=9, rows=5)] == ["r4", "r3"]
        assert chosen_lately(store.session, "nobody", most=9, rows=5) == []
