"""Tastes by level, the rating filter in all its forms, and who is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import rated
from torch import Tensor

from umbel.coldstart.benefit import FILTERS, Scale, agreeing, opposed, tastes
from umbel.coldstart.choice import Choice, Traits
from umbel.errors import UserError
from umbel.kinds import MultiClass
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task


def by_hand(own: Tensor, other: Tensor) -> float:
    """The published score, one pair of levels after the other."""
    total = 0.0
    for low in range(len(own)):
        for high in range(low + 1, len(own)):
            if float(own[low].norm()) > 0 and float(other[high].norm()) > 0:
                total += (high - low) * float(torch.cosine_similarity(own[low], other[high], dim=0))
    return total


def drawn(seed: int, *, users: int = 1, levels: int = 5) -> Tensor:
    found = torch.nn.functional.normalize(torch.randn(users, levels, 7, generator=torch.Generator().manual_seed(seed)), dim=2)
    found[:, seed % levels] = 0.0  # a level that nobody gave
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_published_score_is_a_scalar_recomputation(seed: int) -> None:
    own, other = drawn(seed)[0], drawn(seed + 1)[0]
    assert float(opposed(own, other)) == pytest.approx(by_hand(own, other), abs=1e-5)
    negated = FILTERS["omega_negated"]
    assert negated is not None
    assert float(negated(own, other)) == pytest.approx(-by_hand(own, other), abs=1e-5)


def test_the_symmetric_score_is_symmetric_and_the_published_is_not() -> None:
    own, other = drawn(1)[0], drawn(2)[0]
    assert float(agreeing(own, other)) == pytest.approx(float(agreeing(other, own)), abs=1e-6)
    assert abs(float(opposed(own, other)) - float(opposed(other, own))) > 1e-3


def test_levels_that_are_missing_count_nothing() -> None:
    own, nothing = drawn(1)[0], torch.zeros(5, 7)
    for rule in (agreeing, opposed):
        assert float(rule(own, nothing)) == float(rule(nothing, nothing)) == 0.0


def test_who_likes_the_same_agrees_and_who_likes_the_contrary_does_not() -> None:
    good, bad = torch.eye(2)
    own = torch.stack([bad, good])
    assert float(agreeing(own, own)) == pytest.approx(1.0)
    assert float(agreeing(own, own.flip(0))) == pytest.approx(-1.0)
    assert float(opposed(own, own.flip(0))) == pytest.approx(1.0), "published: the largest is the most conflicting"


def test_tastes_are_directions_of_mean_items() -> None:
    items = torch.tensor([[[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    level = torch.tensor([[1, 1, 0, -1]])  # the last row was not seen
    found = tastes(items, level, 3)
    assert found.tolist() == [[[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]


def scale(tmp_path: Path, ratings: list[float], tasks: tuple[Task, ...] = rated.TASKS) -> Scale:
    frame = rated.log()
    values = np.resize(ratings, len(frame))
    schema = Schema(rated.FIELDS, tasks)
    return Scale.of(rated.table(tmp_path / "log", frame.with_columns(rating=pl.Series(values)), schema))


def test_the_scale_of_few_values_has_a_level_each(tmp_path: Path) -> None:
    found = scale(tmp_path, [1.0, 2.0, 3.0])
    assert found.levels == 3
    assert found.level(torch.tensor([1.0, 2.0, 3.0, 0.0, 9.0])).tolist() == [0, 1, 2, 0, 2]


def test_a_finer_scale_has_five_steps_of_one_width(tmp_path: Path) -> None:
    found = scale(tmp_path, [float(one) for one in range(1, 12)])
    assert found.edges == (3.0, 5.0, 7.0, 9.0)


def test_an_event_has_two_levels(tmp_path: Path) -> None:
    found = scale(tmp_path, [1.0], (Task("click"),))
    assert (found.task, found.edges, found.levels) == (0, (1.0,), 2)


def test_a_log_without_levels_is_refused(tmp_path: Path) -> None:
    frame = rated.log().with_columns(rating=pl.Series(np.resize([0, 1, 2], len(rated.log()))))
    schema = Schema((Field("item", FieldKind.ID, min_count=1),), (Task("rating", MultiClass(3)),))
    with pytest.raises(UserError, match="filter = 'none'"):
        Scale.of(rated.table(tmp_path, frame, schema))


def unit(*rows: list[float]) -> Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


AMONG = Traits(unit([1.0, 0.0], [1.0, 0.2], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.1], [-1.0, 0.0]), drawn(3, users=6))
OWN = Traits(unit([1.0, 0.1]), drawn(4))
EVERYONE = torch.arange(6)[None]


def test_the_most_similar_are_chosen_and_who_pulls_the_other_way_is_not() -> None:
    found = Choice(most=6, kept=6, filter="none")(OWN, AMONG, EVERYONE, moment=0)
    cosine = (OWN.slope @ AMONG.slope.T)[0]
    by_hand = [one for one in cosine.argsort(descending=True).tolist() if cosine[one] > 0]
    assert [one for one in found.who[0].tolist() if one >= 0] == by_hand
    assert found.share[0].tolist() == pytest.approx([0.1] * 4 + [0.0] * 2)


def test_without_the_gate_all_stay() -> None:
    found = Choice(most=6, kept=6, filter="none", gate=False)(OWN, AMONG, EVERYONE, moment=0)
    assert sorted(found.who[0].tolist()) == list(range(6))


def test_who_has_no_rows_has_no_collaborators() -> None:
    nobody = Traits(torch.zeros(1, 2), torch.zeros(1, 5, 7))
    for similar in ("gradient", "random"):
        found = Choice(similar=similar, most=6, kept=6, gate=False)(nobody, AMONG, EVERYONE, moment=0)
        assert (found.who == -1).all()
        assert (found.share == 0).all()


@pytest.mark.parametrize("rule", ["agree_minus_conflict", "omega_published", "omega_negated"])
def test_the_filter_ranks_among_the_most_similar_alone(rule: str) -> None:
    found = Choice(most=3, kept=2, filter=rule)(OWN, AMONG, EVERYONE, moment=0)
    score = FILTERS[rule]
    assert score is not None
    similar = (OWN.slope @ AMONG.slope.T)[0].argsort(descending=True)[:3]
    best = similar[score(OWN.taste, AMONG.taste[similar]).argsort(descending=True)[:2]]
    assert found.who[0].tolist() == best.tolist()


def test_candidates_fewer_than_asked() -> None:
    near = torch.tensor([[3, -1, -1]])
    found = Choice(most=20, kept=10, gate=False)(OWN, AMONG, near, moment=0)
    assert found.who.shape == (1, 3)
    assert found.who[0, 0] == 3
    assert (found.who[0, 1:] == -1).all()
    none = Choice()(OWN, AMONG, torch.full((1, 2), -1), moment=0)
    assert (none.who == -1).all()


def test_softmax_shares_follow_the_cosine_and_add_up_to_as_much() -> None:
    found = Choice(most=4, kept=4, filter="none", temperature=0.5)(OWN, AMONG, EVERYONE, moment=0)
    share = found.share[0][found.who[0] >= 0]
    assert float(share.sum()) == pytest.approx(0.1 * len(share))
    assert (share.diff() < 0).all(), "the most similar have most"
    cosine = (OWN.slope @ AMONG.slope.T)[0][found.who[0, :2]]
    assert float(share[0] / share[1]) == pytest.approx(float(((cosine[0] - cosine[1]) / 0.5).exp()), rel=1e-4)


def test_random_collaborators_are_drawn_from_the_candidates_anew_each_time() -> None:
    choice = Choice(similar="random", most=3, kept=3, filter="none", seed=5)
    draws = [choice(OWN, AMONG, EVERYONE, moment=moment).who[0].tolist() for moment in range(40)]
    assert draws[0] == choice(OWN, AMONG, EVERYONE, moment=0).who[0].tolist()
    assert len({tuple(one) for one in draws}) > 20
    assert {one for draw in draws for one in draw} == set(range(6)), "who pulls the other way is drawn, too"
    random_filter = replace(choice, similar="gradient", filter="random", most=4, kept=2)
    assert len({tuple(random_filter(OWN, AMONG, EVERYONE, moment=moment).who[0].tolist()) for moment in range(20)}) > 5


@pytest.mark.parametrize("cheap", [0, 32])
def test_many_users_are_as_one(monkeypatch: pytest.MonkeyPatch, cheap: int) -> None:
    monkeypatch.setattr("umbel.coldstart.choice.CHEAP", cheap)
    draw = torch.Generator().manual_seed(0)
    own = Traits(torch.nn.functional.normalize(torch.randn(7, 2, generator=draw), dim=1), drawn(2, users=7))
    near = torch.stack([torch.randperm(6, generator=draw)[:4] for _ in range(7)])
    choice = Choice(most=3, kept=2)
    whole = choice(own, AMONG, near, moment=0)
    monkeypatch.setattr("umbel.coldstart.choice.HELD", 1)
    for one, other in zip(whole, choice(own, AMONG, near, moment=0), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cheap", [0, 32])
def test_a_gradient_that_is_no_number_is_like_nobody(monkeypatch: pytest.MonkeyPatch, cheap: int) -> None:
    monkeypatch.setattr("umbel.coldstart.choice.CHEAP", cheap)
    broken = Traits(torch.full((6, 2), torch.nan), AMONG.taste)
    assert (Choice(gate=False)(OWN, broken, EVERYONE, moment=0).who == -1).all()


@pytest.mark.parametrize(("change", "says"), [
    ({"similar": "gradint"}, "gradient"), ({"filter": "omega"}, "omega_"), ({"kept": 30}, "at most"), ({"share": -0.1}, "below 0"),
    ({"temperature": 0.0}, "below 0"), ({"kept": -1}, "below 0"),
])
def test_a_rule_that_makes_no_sense_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Choice(**change)  # type: ignore[arg-type]


def test_task_of_levels_is_the_first_that_has_some(tmp_path: Path) -> None:
    frame = rated.log().with_columns(kind=pl.Series(np.resize([0, 1, 2], len(rated.log()))))
    schema = Schema(rated.FIELDS, (Task("kind", MultiClass(3)), Task("rating", REGRESSION)))
    assert Scale.of(rated.table(tmp_path, frame, schema)).task == 1
