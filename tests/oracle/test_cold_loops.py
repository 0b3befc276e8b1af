"""What cold starts count on - offsets, item means, likeness on paper, agreement, choice, friends - against plain loops."""

from __future__ import annotations

import itertools
import math
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.sparse import csr_matrix

from umbel.coldstart.benefit import Scale, agreeing, opposed, tastes
from umbel.coldstart.choice import Choice, Traits
from umbel.coldstart.friends import Friends
from umbel.coldstart.pool import Described, Pool
from umbel.coldstart.prior import FOLDS, ItemMeans, fold
from umbel.data.shots import Shots, even
from umbel.kinds import MultiClass, Poisson
from umbel.learn.offset import offsets, residuals
from umbel.learn.slopes import sketched
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

TASKS = (Task("rating", REGRESSION), Task("click"), Task("views", Poisson()), Task("shelf", MultiClass(3)), Task("price", REGRESSION))
SCHEMA = Schema((Field("item", FieldKind.ID),), TASKS)
OUTPUT = (0, 1, 2, 3, 6)  # where the first output of each task stands
SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=25, deadline=None)


def chance(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def shots(seed: int, *, users: int = 3, rows: int = 5, uneven: bool = False) -> Shots:
    """Ragged supports in which some labels were not seen."""
    rng = np.random.default_rng(seed)
    event = rng.integers(0, 2, (users, rows))
    labels = np.stack([rng.normal(3, 1, (users, rows)), event, rng.integers(0, 9, (users, rows)), rng.integers(0, 3, (users, rows)),
                       rng.normal(0, 5, (users, rows))], 2)
    there = np.arange(rows) < rng.integers(0, rows + 1, (users, 1))
    seen = torch.from_numpy((rng.random((users, rows, 5)) < 0.8) & there[..., None])
    weight = even(seen)
    if uneven:
        weight = weight * torch.from_numpy(rng.uniform(0.5, 2, (users, rows))).float()
    prior = torch.from_numpy(rng.normal(0, 1.5, (users, rows, 7))).float()
    return Shots({}, torch.from_numpy(labels).float(), seen, weight, prior)


def looped_offset(told: Shots, user: int, place: int, shrink: float, *, without: int | None = None) -> float:
    """One sum after the other, a row left out on request."""
    weights = told.weight[user].tolist()
    present = sum(weight > 0 for weight in weights)
    kind = ("number", "event", None, None, "number")[place]
    if kind is None:
        return 0.0
    up, down = 0.0, shrink * (1.0 if kind == "number" else 0.25)
    for row, weight in enumerate(weights):
        if row == without or not bool(told.seen[user, row, place]):
            continue
        prior, label = float(told.prior[user, row, OUTPUT[place]]), float(told.labels[user, row, place])
        expected = prior if kind == "number" else chance(prior)
        up += weight * present * (label - expected)
        down += weight * present * (1.0 if kind == "number" else expected * (1 - expected))
    return up / down if down > 0 else 0.0


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("shrink", [0.5, 5.0, 40.0])
@pytest.mark.parametrize("seed", range(4))
def test_offsets_are_one_sum_after_the_other(seed: int, shrink: float, *, uneven: bool) -> None:
    told = shots(seed, uneven=uneven)
    found = offsets(SCHEMA, told, shrink=shrink)
    for user in range(3):
        for place, output in enumerate(OUTPUT):
            assert float(found.whole[user, 0, output]) == pytest.approx(looped_offset(told, user, place, shrink), abs=1e-4)
            for row in range(5):
                wanted = looped_offset(told, user, place, shrink, without=row)
                assert float(found.others[user, row, output]) == pytest.approx(wanted, abs=1e-4)
        assert not found.whole[user, 0, 2:6].any(), "counts and classes have no offset, whichever of their outputs"


@FEW
@given(seed=SEEDS, factor=st.sampled_from([0.0, 1e3]))
def test_offsets_do_not_read_what_was_not_seen(seed: int, factor: float) -> None:
    told = shots(seed)
    changed = told._replace(labels=torch.where(told.seen, told.labels, torch.full_like(told.labels, factor or torch.nan)))
    for one, other in zip(offsets(SCHEMA, told), offsets(SCHEMA, changed), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(residuals(SCHEMA, told), residuals(SCHEMA, changed))


@FEW
@given(seed=SEEDS)
def test_more_shrinkage_is_a_smaller_offset_of_the_same_sign(seed: int) -> None:
    told = shots(seed)
    weak, strong = (offsets(SCHEMA, told, shrink=shrink).whole for shrink in (1.0, 10.0))
    assert (strong.abs() <= weak.abs()).all()
    assert torch.equal(strong.sign(), weak.sign())
    assert (strong.abs() < weak.abs())[weak != 0].all()


@pytest.mark.parametrize("seed", range(4))
def test_residuals_are_labels_less_what_was_expected_of_them(seed: int) -> None:
    told = shots(seed)
    found = residuals(SCHEMA, told)
    for user, row, place in np.ndindex(3, 5, 5):
        label, prior = float(told.labels[user, row, place]), float(told.prior[user, row, OUTPUT[place]])
        expected = (prior, chance(prior), 0.0, 0.0, prior)[place]
        wanted = label - expected if bool(told.seen[user, row, place]) else 0.0
        assert float(found[user, row, place]) == pytest.approx(wanted, abs=1e-5)


def means(seed: int, *, shrink: float = 10.0, items: int = 6) -> ItemMeans:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (FOLDS, items, 5)).astype(float)
    sums = counts * np.array([3.0, 0.4, 2.0, 1.0, -5.0]) * rng.uniform(0.5, 1.5, (FOLDS, items, 5))
    return ItemMeans(TASKS, sums, counts, shrink)


@pytest.mark.parametrize("shrink", [0.5, 10.0])
@pytest.mark.parametrize("left_out", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_item_means_are_one_item_after_the_other(seed: int, shrink: float, *, left_out: bool) -> None:
    made = means(seed, shrink=shrink)
    items = np.array([0, 1, 2, 3, 4, 5, 5, 1])
    folds = np.array([0, 1, 2, 3, 4, 0, 1, 2])
    found = made(items, folds=folds if left_out else None)
    assert found.shape == (8, 7)
    for row, (item, own) in enumerate(zip(items.tolist(), folds.tolist(), strict=True)):
        for place, output in enumerate(OUTPUT):
            total = float(sum(made.sums[f, i, place] for f in range(FOLDS) for i in range(6)))
            number = float(sum(made.counts[f, i, place] for f in range(FOLDS) for i in range(6)))
            kept = [one for one in range(FOLDS) if not (left_out and one == own)] if item > 0 else []
            up = sum(float(made.sums[one, item, place]) for one in kept) + shrink * total / number
            mean = up / (sum(float(made.counts[one, item, place]) for one in kept) + shrink)
            wanted = math.log(mean / (1 - mean)) if place == 1 else (mean, mean, 0.0, 0.0, mean)[place]
            assert found[row, output] == pytest.approx(wanted)
        assert not found[row, 2:6].any()


@FEW
@given(users=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=30))
def test_a_users_fold_is_its_own_whoever_stands_beside(users: list[int]) -> None:
    together = fold(np.array(users, np.int64))
    assert together.tolist() == [int(fold(np.array([one], np.int64))[0]) for one in users]
    assert ((together >= 0) & (together < FOLDS)).all()


def described(seed: int, users: int, *, first: int) -> Described:
    """Ids from `first` on; profiles of few values, of which 0 is unknown; items, of which many are shared."""
    rng = np.random.default_rng(seed)
    met = (rng.random((users, 7)) < 0.4).astype(float)
    return Described(np.arange(first, first + users), rng.integers(0, 3, (users, 2)), csr_matrix(met))


def likeness(own: Described, user: int, among: Described, other: int) -> float:
    """Rare attributes in common, and the share of items."""
    met, theirs = (set(one.items[[place]].indices.tolist()) for one, place in ((own, user), (among, other)))
    found = len(met & theirs) / max(len(met | theirs), 1)
    for field in range(2):
        value = own.profile[user, field]
        if value > 0 and value == among.profile[other, field]:
            found += math.log(len(among.user) / int((among.profile[:, field] == value).sum()))
    return found


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("first", [0, 4, 100])
@pytest.mark.parametrize("size", [0, 3, 50])
@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_the_likest_on_paper(seed: int, size: int, first: int, *, exact: bool) -> None:
    among, own = described(seed, 9, first=0), described(seed + 50, 6, first=first)
    found = Pool(among, size=size, exact=exact).near(own)
    width = min(size or 9, 9)
    assert found.shape == (6, width)
    for user in range(6):
        allowed = {other for other in range(9) if among.user[other] != own.user[user]}
        if exact:
            allowed = {other for other in allowed
                       if all(0 < own.profile[user, field] == among.profile[other, field] for field in range(2))}
        chosen = [other for other in found[user].tolist() if other >= 0]
        assert len(chosen) == len(set(chosen)) == min(width, len(allowed))
        assert set(chosen) <= allowed
        assert found[user, len(chosen):].tolist() == [-1] * (width - len(chosen)), "nobody stands last"
        scores = [likeness(own, user, among, other) for other in chosen]
        assert all(one >= next_one - 1e-6 for one, next_one in itertools.pairwise(scores))
        left = [likeness(own, user, among, other) for other in allowed - set(chosen)]
        assert not left or max(left) <= min(scores, default=0.0) + 1e-6


def taste(seed: int, levels: int = 4) -> Float[torch.Tensor, "levels width"]:
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(levels, 3)) * (rng.random((levels, 1)) < 0.7)
    return torch.nn.functional.normalize(torch.from_numpy(found), dim=1)


def looped_agreement(own: np.ndarray, other: np.ndarray) -> float:
    """The mean cosine on the diagonal, less that off it by distance."""
    same, far, weight = [], 0.0, 0.0
    for i, mine in enumerate(own):
        for j, theirs in enumerate(other):
            if np.linalg.norm(mine) == 0 or np.linalg.norm(theirs) == 0:
                continue
            cosine = float(mine @ theirs)
            if i == j:
                same.append(cosine)
            far, weight = far + abs(i - j) * cosine, weight + abs(i - j)
    return (sum(same) / len(same) if same else 0.0) - (far / weight if weight else 0.0)


@FEW
@given(seed=SEEDS)
def test_agreement_is_two_means_of_cosines(seed: int) -> None:
    own, other = taste(seed), taste(seed + 1)
    assert float(agreeing(own, other)) == pytest.approx(looped_agreement(own.numpy(), other.numpy()), abs=1e-6)


@pytest.mark.parametrize("rule", [agreeing, opposed])
def test_many_users_are_scored_as_each_alone(rule: object) -> None:
    assert callable(rule)
    own, others = torch.stack([taste(seed) for seed in range(3)]), torch.stack([taste(seed) for seed in range(10, 14)])
    found = rule(own[:, None], others[None])
    for user, other in np.ndindex(3, 4):
        assert float(found[user, other]) == pytest.approx(float(rule(own[user], others[other])), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_tastes_are_means_of_what_was_given_a_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items, level = rng.normal(size=(4, 6, 3)), rng.integers(-1, 3, (4, 6))
    found = tastes(torch.from_numpy(items), torch.from_numpy(level), 3)
    for user, step in np.ndindex(4, 3):
        mine = items[user][level[user] == step]
        wanted = mine.mean(0) / np.linalg.norm(mine.mean(0)) if len(mine) else np.zeros(3)
        assert found[user, step].numpy() == pytest.approx(wanted, abs=1e-9)


def traits(seed: int, users: int) -> Traits:
    rng = np.random.default_rng(seed)
    slope = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(users, 4))), dim=1)
    return Traits(slope, torch.stack([taste(seed * 100 + user) for user in range(users)]))


def looped_choice(choice: Choice, own: Traits, among: Traits, near: list[int], user: int) -> list[int]:
    """Sort, cut, sort again, cut."""
    there = [other for other in near if other >= 0]
    cosine = {other: float(own.slope[user] @ among.slope[other]) for other in there}
    best = sorted(there, key=lambda other: -cosine[other])[: choice.most]
    rule = {"agree_minus_conflict": agreeing, "omega_published": opposed}.get(choice.filter)
    if rule is not None:
        best.sort(key=lambda other: -float(rule(own.taste[user], among.taste[other])))
    return [other for other in best[: choice.kept] if not choice.gate or cosine[other] > 0]


@pytest.fixture(params=[0, 32], ids=["gathered", "product"])
def cosines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to have the cosines: of candidates' gradients that are gathered, and of everybody's."""
    monkeypatch.setattr("umbel.coldstart.choice.CHEAP", request.param)


@pytest.mark.usefixtures("cosines")
@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("filter_", ["agree_minus_conflict", "omega_published", "none"])
@pytest.mark.parametrize(("most", "kept"), [(8, 8), (5, 2), (3, 3), (20, 1), (4, 0)])
def test_collaborators_are_sorted_and_cut_twice(most: int, kept: int, filter_: str, *, gate: bool) -> None:
    own, among = traits(1, 4), traits(2, 9)
    near = torch.tensor([[0, 3, 5, 7, 8, 1], [2, 4, -1, 6, 0, -1], [-1] * 6, [8, 7, 6, 5, 4, 3]])
    choice = Choice(most=most, kept=kept, filter=filter_, gate=gate)
    found = choice(own, among, near, moment=3)
    for user in range(4):
        wanted = looped_choice(choice, own, among, near[user].tolist(), user)
        assert [one for one in found.who[user].tolist() if one >= 0] == wanted
        assert found.share[user].tolist() == pytest.approx([0.1 * (one >= 0) for one in found.who[user].tolist()])


@pytest.mark.usefixtures("cosines")
@pytest.mark.parametrize("filter_", ["agree_minus_conflict", "omega_published", "omega_negated", "none", "random"])
@pytest.mark.parametrize("similar", ["gradient", "random"])
@pytest.mark.parametrize("temperature", [None, 0.5])
@pytest.mark.parametrize("kept", [1, 2, 3, 5])
def test_nobody_takes_no_place_and_no_share(kept: int, temperature: float | None, similar: str, filter_: str) -> None:
    """Lists of three candidates, filled up with nobody: each of the three comes before the first of those."""
    own, among = traits(1, 4), traits(2, 9)
    near = torch.tensor([[-1, 3, -1, 7, 8, -1], [2, 4, 6, -1, -1, -1], [-1, -1, -1, 1, 2, 3], [8, -1, 6, -1, 4, -1]])
    choice = Choice(similar, most=6, filter=filter_, kept=kept, gate=False, temperature=temperature, share=0.2)
    found = choice(own, among, near, moment=0)
    assert (found.who >= 0).sum(1).tolist() == [min(kept, 3)] * 4
    assert not found.share[found.who < 0].any()
    assert found.share.sum(1).tolist() == pytest.approx([0.2 * min(kept, 3)] * 4, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 5.0])
def test_shares_are_a_softmax_of_cosines(temperature: float) -> None:
    own, among = traits(1, 4), traits(2, 9)
    near = torch.arange(9).expand(4, 9)
    found = Choice(most=9, kept=4, filter="none", temperature=temperature, share=0.3)(own, among, near, moment=0)
    for user in range(4):
        chosen = [one for one in found.who[user].tolist() if one >= 0]
        raw = [math.exp(float(own.slope[user] @ among.slope[one]) / temperature) for one in chosen]
        wanted = [0.3 * len(chosen) * one / sum(raw) for one in raw]
        assert [one for one in found.share[user].tolist() if one > 0] == pytest.approx(wanted, rel=1e-5)


def test_a_choice_is_the_same_by_seed_and_moment_alone() -> None:
    own, among, near = traits(1, 4), traits(2, 9), torch.arange(9).expand(4, 9)
    draws = [Choice(similar="random", filter="random", most=9, kept=5, gate=False, seed=seed)(own, among, near, moment=moment).who
             for seed, moment in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


@pytest.mark.parametrize(("edges", "labels", "levels"), [
    ((), [-1.0, 0.0, 7.0], [0, 0, 0]),
    ((1.0,), [0.0, 0.999, 1.0, 2.0], [0, 0, 1, 1]),
    ((2.0, 3.0, 4.0, 5.0), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0, 1, 2, 3, 4, 4]),
    ((-0.5, 0.5), [-0.5, 0.0, 0.5], [1, 1, 2]),
])
def test_a_label_on_an_edge_is_above_it(edges: tuple[float, ...], labels: list[float], levels: list[int]) -> None:
    scale = Scale(0, edges)
    assert scale.level(torch.tensor(labels)).tolist() == levels
    assert scale.levels == len(edges) + 1


@FEW
@given(data=st.data(), most=st.integers(1, 6), own=st.integers(-1, 4))
def test_friends_are_counted_key_by_key(data: st.DataObject, most: int, own: int) -> None:
    raters = data.draw(st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=6))
    keys = data.draw(st.lists(st.integers(0, len(raters) - 1), max_size=8))
    starts = np.cumsum([0, *map(len, raters)])
    flat = np.array([one for some in raters for one in some], np.int64)
    made = Friends(np.arange(5), starts, flat, Scale(0, (3.0,)), "item", most)
    agreed = [sum(raters[key].count(who) for key in keys) if who != own else 0 for who in range(5)]
    best = [who for who in sorted(range(5), key=lambda who: (-agreed[who], who)) if agreed[who]][:most]
    assert made._found(np.array(keys, np.int64), own).tolist() == best + [-1] * (most - len(best))


@pytest.mark.parametrize("width", [1, 3, 64])
def test_a_sketch_adds_every_weight_once_with_a_sign(width: int) -> None:
    """Of a unit vector one place alone is not 0; of sums of vectors the sketch is the sum of sketches."""
    found = sketched(torch.eye(20, dtype=torch.float64), width, seed=4)
    assert found.abs().sum(1).tolist() == [1.0] * 20
    assert {-1.0, 1.0} <= set(found.flatten().tolist())
    vector = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 20)))
    torch.testing.assert_close(sketched(vector, width, seed=4), vector @ found)
    assert not torch.equal(sketched(vector, width, seed=5), sketched(vector, width, seed=4))


def test_a_sketch_is_no_favourite_of_any_place() -> None:
    """2,000 weights over 4 sums: 500 each, but for chance (4 deviations)."""
    found = cast("list[float]", sketched(torch.eye(2000), 4).abs().sum(0).tolist())
    assert all(abs(one - 500) < 4 * math.sqrt(2000 * 0.25 * 0.75) for one in found)
