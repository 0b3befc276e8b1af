"""The ranker: its scores are the offline ones, it obeys its policy, it answers whatever happens, and says how far it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.laws.test_reader_laws import MORE, offline, raw
from tests.logs import SPLIT, source
from tests.values.test_bundle import RICH, made

from umbel.data.ingest import ingest
from umbel.errors import UserError
from umbel.fusion import SHAPES, Fusion, Term, equal
from umbel.fusion.shapes import Linear
from umbel.serve import ranker as module
from umbel.serve.order import Order
from umbel.serve.ranker import Asked, Policy, Ranker
from umbel.serve.reader import Reader
from umbel.serve.records import Rung, Value, request_id, wrong_decision
from umbel.serve.served import Served, load

FUSION = Fusion((Term("click", Linear(1.0)), Term("buy_marginal", Linear(5.0)), Term("spent", Linear(0.1), -1)))
SHARED = ("user", "age", "watched")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("ranker")
    table = ingest(source(folder, RICH), MORE, SPLIT, folder=folder / "table")
    made(table).save(folder / "bundle", golden=table.golden())
    return load(folder / "bundle")


class Clock:
    """A clock that goes on by one each time it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def asked(rows: Sequence[int] = (0, 1, 3, 7, 9), *, user: str | None = "1", deadline: float = 1e9, count: int = 99, seed: int = 7) -> Asked:
    shared: dict[str, Value] = {name: value for name, value in raw(rows[0]).items() if name in SHARED}
    own = tuple({name: value for name, value in raw(row).items() if name not in SHARED} for row in rows)
    items = tuple(f"{own[at]['item']}{at}" for at in range(len(rows)))
    return Asked(
        request=request_id(5), user=user, time=5, shared=shared, items=items, own=own, deadline=deadline, count=count, seed=seed
    )


def whole(one: Asked) -> list[dict[str, Value]]:
    return [{**one.shared, **own} for own in one.own]


@pytest.mark.parametrize("family", SHAPES)
def test_scores_are_the_offline_ones_fused(served: Served, tmp_path: Path, family: str) -> None:
    one = asked()
    expected = offline(served.bundle, tmp_path, whole(one))
    columns = served.bundle.columns
    fusion = equal(family, {name: expected[:, columns.index(name)] for name in ("click", "spent", "buy_marginal")}, unwanted=["spent"])
    ranked = Ranker(served, Policy(fusion=fusion)).rank(one)
    fused = fusion.score(expected[:, fusion.places(columns)])
    assert ranked.decision.outputs == columns
    for position, shown in enumerate(ranked.decision.shown):
        at = one.items.index(shown.item)
        assert_allclose(shown.predictions, expected[at], atol=1e-6)
        assert shown.fused == pytest.approx(fused[at], abs=1e-5)
        assert shown.fused == pytest.approx(ranked.contributions[position].sum(), rel=1e-9, abs=1e-12)
        assert shown.fields == one.own[at]
    scores = [shown.fused for shown in ranked.decision.shown]
    assert scores == sorted(scores, key=lambda score: -float(score or 0))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 5.0), st.sampled_from((0.0, 0.3)), st.integers(0, 2**40), st.integers(1, 6))
def test_a_decision_says_all_that_choosing_again_needs(served: Served, temperature: float, penalty: float, seed: int, count: int) -> None:
    ranker = Ranker(served, Policy(fusion=FUSION, order=Order(temperature, penalty), diversity="place"))
    one = asked(count=count, seed=seed)
    decision = ranker.rank(one).decision
    assert wrong_decision(decision) is None
    assert decision.rung is Rung.FULL
    assert decision.candidates is not None
    assert len(decision.shown) == min(count, 5)
    assert (decision.temperature, decision.user, decision.time, decision.arm) == (temperature, "1", 5, "stable")
    places = FUSION.places(decision.outputs)
    assert_allclose(FUSION.score(decision.candidates.predictions[:, places]), decision.candidates.fused, rtol=1e-4, atol=1e-5)
    kinds = np.unique([repr(own["place"]) for own in one.own], return_inverse=True)[1]
    scores, left = decision.candidates.fused.astype(float), list(range(5))
    for shown in decision.shown:
        above = [one.items.index(other.item) for other in decision.shown[: decision.shown.index(shown)]]
        logits = np.array([scores[at] - penalty * sum(kinds[at] == kinds[other] for other in above) for at in left]) / temperature
        weights = np.exp(logits - logits.max())
        place = one.items.index(shown.item)
        assert shown.propensity == pytest.approx(weights[left.index(place)] / weights.sum(), rel=1e-3)
        left.remove(place)


def test_a_seed_gives_the_same_answer_and_another_one_another(served: Served) -> None:
    ranker = Ranker(served, Policy(fusion=FUSION, order=Order(2.0)))
    one, again = (ranker.rank(asked(seed=3)).decision for _ in range(2))
    assert [shown.item for shown in one.shown] == [shown.item for shown in again.shown]
    assert [shown.propensity for shown in one.shown] == [shown.propensity for shown in again.shown]
    assert len({tuple(shown.item for shown in ranker.rank(asked(seed=seed)).decision.shown) for seed in range(20)}) > 3


def test_without_heat_every_step_is_sure(served: Served) -> None:
    decision = Ranker(served, Policy(fusion=FUSION)).rank(asked()).decision
    assert [shown.propensity for shown in decision.shown] == [1.0] * 5
    assert decision.temperature == 0.0


def test_every_answer_names_what_gave_it(served: Served) -> None:
    decision = Ranker(served, Policy(fusion=FUSION), arm="canary").rank(asked()).decision
    assert decision.bundle == served.name
    assert len(served.name) == 12
    assert decision.fusion == f"default@{FUSION.version}"
    assert decision.arm == "canary"


def test_the_order_of_candidates_does_not_matter_without_heat(served: Served) -> None:
    ranker = Ranker(served, Policy(fusion=FUSION))
    one = asked()
    back = replace(one, items=one.items[::-1], own=one.own[::-1])
    assert [shown.item for shown in ranker.rank(one).decision.shown] == [shown.item for shown in ranker.rank(back).decision.shown]


def test_with_time_for_some_the_first_are_ranked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    ranked = Ranker(served, Policy(fusion=FUSION, order=Order(1.0)), clock=Clock()).rank(asked(deadline=2.5))
    decision = ranked.decision
    assert decision.rung is Rung.FEWER
    assert {shown.item for shown in decision.shown} == set(asked().items[:4])
    assert all(shown.propensity is None and shown.fused is not None for shown in decision.shown)
    assert decision.candidates is None
    assert decision.temperature is None
    assert wrong_decision(decision) is None
    assert ranked.contributions.shape == (4, 3)


def test_chunks_change_no_score(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Ranker(served, Policy(fusion=FUSION)).rank(asked()).decision
    monkeypatch.setattr(module, "CHUNK", 2)
    found = Ranker(served, Policy(fusion=FUSION)).rank(asked()).decision
    for one, other in zip(found.shown, expected.shown, strict=True):
        assert one.item == other.item
        assert_allclose(one.predictions, other.predictions, atol=1e-6)


def test_without_time_an_earlier_answer_is_shown_again(served: Served) -> None:
    ranker = Ranker(served, Policy(fusion=FUSION, order=Order(1.0)))
    first = ranker.rank(asked(seed=4)).decision
    later = ranker.rank(asked(deadline=0.0, count=3, seed=99))
    assert later.decision.rung is Rung.CACHED
    assert [shown.item for shown in later.decision.shown] == [shown.item for shown in first.shown[:3]]
    assert [shown.fused for shown in later.decision.shown] == [shown.fused for shown in first.shown[:3]]
    assert all(shown.propensity is None for shown in later.decision.shown)
    assert later.decision.temperature is None
    assert wrong_decision(later.decision) is None
    assert_allclose(later.contributions, ranker.rank(asked(seed=4)).contributions[:3])


@pytest.mark.parametrize("other", [{"user": "2"}, {"user": None}, {"rows": (0, 1, 3, 7)}])
def test_an_earlier_answer_is_nobody_elses(served: Served, other: dict[str, object]) -> None:
    ranker = Ranker(served, Policy(fusion=FUSION))
    ranker.rank(asked())
    ranker.rank(asked(user=None))
    made = {"user": "1", "rows": (0, 1, 3, 7, 9), **other}
    rows, user = made["rows"], made["user"]
    assert isinstance(rows, tuple)
    assert isinstance(user, str | None)
    assert ranker.rank(asked(rows, user=user, deadline=0.0)).decision.rung is Rung.POPULAR


def test_only_so_many_earlier_answers_are_kept(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS", 2)
    ranker = Ranker(served, Policy(fusion=FUSION))
    for user in ("a", "b", "a", "c"):
        ranker.rank(asked(user=user))
    rungs = {user: ranker.rank(asked(user=user, deadline=0.0)).decision.rung for user in "abc"}
    assert rungs == {"a": Rung.CACHED, "b": Rung.POPULAR, "c": Rung.CACHED}


def test_without_all_that_popularity_ranks(served: Served) -> None:
    items = ("nobody-knows", "c", "b", "a", "z")
    one = replace(asked(deadline=0.0), items=items)
    decision = Ranker(served, Policy(fusion=FUSION)).rank(one).decision
    assert decision.rung is Rung.POPULAR
    counts = dict(zip(items, served.popularity(items).tolist(), strict=True))
    assert counts["nobody-knows"] == 0
    assert counts["a"] == list(RICH["item"])[:6].count("a")
    assert [shown.item for shown in decision.shown][:3] == ["a", "b", "c"]
    assert all(shown.fused is None and not shown.predictions and shown.propensity is None for shown in decision.shown)
    assert wrong_decision(decision) is None


def test_a_model_that_fails_is_told_of_and_answered_without(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Exception] = []

    def broken(self: Reader, shared: object, items: object, state: object) -> np.ndarray:
        raise RuntimeError("no memory")

    monkeypatch.setattr(Reader, "predict", broken)
    decision = Ranker(served, Policy(fusion=FUSION), failed=told.append).rank(asked()).decision
    assert decision.rung is Rung.POPULAR
    assert [str(error) for error in told] == ["no memory"]


def test_a_field_that_cannot_be_read_is_the_clients(served: Served) -> None:
    ranker = Ranker(served, Policy(fusion=FUSION))
    with pytest.raises(UserError, match="age: 'old' is no number"):
        ranker.rank(replace(asked(), shared={"age": "old"}))
    with pytest.raises(UserError, match="items: none"):
        ranker.rank(replace(asked(), items=(), own=()))


def test_a_policy_of_tasks_that_are_not_there_is_refused(served: Served) -> None:
    with pytest.raises(UserError, match=r"no prediction 'clik'; did you mean 'click'\?"):
        Ranker(served, Policy(fusion=Fusion((Term("clik", Linear()),))))


def test_more_of_what_is_wanted_never_ranks_lower(served: Served) -> None:
    one = asked()
    fused = {shown.item: shown for shown in Ranker(served, Policy(fusion=FUSION)).rank(one).decision.shown}
    for column, direction in (("click", 1), ("buy_marginal", 1), ("spent", -1)):
        at = served.bundle.columns.index(column)
        for item in one.items:
            raised = {name: list(shown.predictions) for name, shown in fused.items()}
            raised[item][at] += direction * 0.5
            rank = _rank(item, {name: shown.predictions for name, shown in fused.items()}, served)
            assert _rank(item, raised, served) <= rank


def _rank(item: str, predictions: Mapping[str, Sequence[float]], served: Served) -> int:
    places = FUSION.places(served.bundle.columns)
    scores = {name: float(FUSION.score(np.array([row])[:, places])[0]) for name, row in predictions.items()}
    return sum(score > scores[item] for score in scores.values())

