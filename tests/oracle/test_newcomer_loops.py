"""Adapters of new users - embeddings, processes, gates, steps without weights - against numpy, a user at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import rated
from torch import Tensor, nn

from umbel.coldstart.method import Method, Prepared, Setup
from umbel.coldstart.newcomers import MeanEmbedding, MetaEmbedding, MetaWarmUp, spots
from umbel.coldstart.paml import Paml
from umbel.coldstart.tanp import Tanp
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import LABELS, SEEN, WEIGHT
from umbel.data.table import Table
from umbel.learn.chain import Chain, Map
from umbel.learn.chain import Source as Place
from umbel.learn.dual import _bent, _clipped
from umbel.learn.episode import Episode, Untouched
from umbel.learn.gated import Gated, _units
from umbel.learn.newcomer import Generated, MeanUser, Spots, Warmed
from umbel.learn.offset import Centred, PriorAlone, offsets, residuals
from umbel.learn.process import Process, _sharpening
from umbel.learn.taken import ByMatrix, ByRows, Taken
from umbel.nn.recommender import Recommender

RAGGED = Protocol(support=None, query=3, history=(7, 100))
NONE = Protocol(support=0, query=None, history=(7, 100))
FEW = settings(max_examples=20, deadline=None)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def setup(table: Table) -> Setup:
    return rated.setup(table)


def asked(method: Method, setup: Setup, *, part: str = "valid", protocol: Protocol = RAGGED) -> tuple[Prepared, Batch, Episode]:
    made = method.prepare(setup)
    made.learner.eval()
    batch = made.read(episodes(setup.reader.table, part, protocol))
    return made, batch, made.learner.episode(made.learner.rows(batch.fields), batch.fields)


def network(layers: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """A line, a bend, a line."""
    first, _, last = layers
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    hidden = np.maximum(number(first.weight) @ x + number(first.bias), 0)
    found: np.ndarray = number(last.weight) @ hidden + number(last.bias)
    return found


def number(x: Tensor) -> np.ndarray:
    found: np.ndarray = x.detach().numpy().astype(np.float64)
    return found


def told(model: Recommender, rows: np.ndarray) -> np.ndarray:
    """The model's logits of rows as its views see them."""
    return number(model.beyond(torch.from_numpy(rows).float()))


@pytest.mark.parametrize(("user", "others"), [(0, (1, 2, 3)), (1, (0, 2, 3)), (3, (0, 1, 2))])
def test_a_housed_row_has_the_embedding_in_one_place_alone(user: int, others: tuple[int, ...]) -> None:
    seen, home = torch.randn(2, 5, 1, 4, 3), torch.randn(2, 1, 3)
    found = Spots(user, (), 0).housed(seen, home)
    assert found.shape == seen.shape
    for row in range(5):
        assert torch.equal(found[:, row, :, user], home)
    assert torch.equal(found[..., list(others), :], seen[..., list(others), :])


@pytest.mark.parametrize(("traits", "width"), [((), 1), ((2,), 3), ((2, 0), 6), ((0, 1, 3), 9)])
def test_who_a_user_is_is_read_from_the_first_row(setup: Setup, traits: tuple[int, ...], width: int) -> None:
    query = torch.randn(4, 5, 1, 4, 3)
    made = Spots(1, traits, 0)
    found = made.who(query)
    assert found.shape == (4, width)
    wanted = [torch.cat([query[user, 0, 0, place] for place in traits]) if traits else torch.ones(1) for user in range(4)]
    assert torch.equal(found, torch.stack(wanted))
    assert made.width(setup.build(setup.schema)) == width


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize("protocol", [RAGGED, NONE])
def test_a_warmed_embedding_by_numpy(setup: Setup, part: str, protocol: Protocol) -> None:
    made, batch, episode = asked(MetaWarmUp(), setup, part=part, protocol=protocol)
    own, where = made.learner.adapter, spots(setup, "any")
    assert isinstance(own, Warmed)
    support, query = (number(one) for one in episode.seen())
    answer = number(made.learner(batch.fields)).reshape(len(query), -1, 2)
    for user in range(len(query)):
        there = episode.support.weight[user].numpy() > 0
        items = support[user, there, 0, where.item]
        mean = items.mean(0) if there.any() else np.zeros(3)
        plain = query[user, 0, 0, where.user]
        home = plain * (1 + network(own.scale, query[user, 0, 0, where.traits[0]])) + network(own.shift, mean)
        rows = query[user].copy()
        rows[:, 0, where.user] = home
        assert answer[user] == pytest.approx(told(made.learner.model, rows) + number(episode.query_prior[user]), abs=1e-4)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_the_mean_user_by_numpy(table: Table, setup: Setup, part: str) -> None:
    made, batch, episode = asked(MeanEmbedding(), setup, part=part)
    _, query = (number(one) for one in episode.seen())
    assert isinstance(made.learner.adapter, MeanUser)
    codes = table.encoder.vocabularies["user"].size
    home = number(made.learner.model.table)[1:codes].mean(0)  # users stand first in the table, and 0 is unknown
    answer = number(made.learner(batch.fields)).reshape(len(query), -1, 2)
    for user in range(len(query)):
        rows = query[user].copy()
        rows[:, 0, 0] = home
        assert answer[user] == pytest.approx(told(made.learner.model, rows) + number(episode.query_prior[user]), abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_without_support_a_generated_embedding_is_the_traits_alone(setup: Setup, alpha: float) -> None:
    made, batch, episode = asked(MetaEmbedding(alpha=alpha, rate=9.0), setup, protocol=NONE)
    own = made.learner.adapter
    assert isinstance(own, Generated)
    _, query = (number(one) for one in episode.seen())
    answer = number(made.learner(batch.fields)).reshape(len(query), -1, 2 + (alpha > 0))
    for user in range(len(query)):
        rows = query[user].copy()
        rows[:, 0, 0] = network(own.generate, query[user, 0, 0, 2])
        assert answer[user, :, :2] == pytest.approx(told(made.learner.model, rows) + number(episode.query_prior[user]), abs=1e-4)
    assert not answer[..., 2:].any(), "nothing is told, so nothing is paid"


@pytest.mark.parametrize(("alpha", "price"), [(0.1, 1 / 9), (0.25, 1 / 3), (0.5, 1.0), (0.8, 4.0)])
def test_a_share_is_a_price_beside_the_loss(setup: Setup, alpha: float, price: float) -> None:
    """The weights are drawn by one seed, so that costs differ by their shares alone."""
    costs = []
    for one in (alpha, 0.5):
        torch.manual_seed(3)
        made, batch, _ = asked(MetaEmbedding(alpha=one), setup)
        costs.append(float(made.learner(batch.fields).detach()[0, 2]))
    assert costs[1] > 0
    assert costs[0] == pytest.approx(price * costs[1], rel=1e-4)


def test_no_rate_is_no_step(setup: Setup) -> None:
    made, batch, _ = asked(MetaEmbedding(alpha=0.0, rate=0.0), setup)
    changed = {**batch.fields, LABELS: batch.fields[LABELS] + 2}
    assert torch.equal(made.learner(changed), made.learner(batch.fields))
    made, batch, _ = asked(MetaEmbedding(alpha=0.0, rate=0.5), setup)
    changed = {**batch.fields, LABELS: batch.fields[LABELS] + 2}
    assert (made.learner(changed) - made.learner(batch.fields)).abs().max() > 1e-3


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize(("kinds", "price"), [(1, 0.0), (3, 0.0), (3, 0.7), (10, 0.1)])
def test_a_process_by_numpy(setup: Setup, part: str, kinds: int, price: float) -> None:
    made, batch, episode = asked(Tanp(kinds=kinds, price=price, hidden=6), setup, part=part)
    own, model = made.learner.adapter, made.learner.model
    assert isinstance(own, Process)
    support, query = (number(one) for one in episode.seen())
    left, seen = number(residuals(model.schema, episode.support)), number(episode.support.seen)
    memory, told_, places = number(own.memory), [], []
    for user in range(len(query)):
        there = np.flatnonzero(episode.support.weight[user].numpy() > 0)
        rows = [network(own.encode, np.concatenate([support[user, j].ravel(), left[user, j], seen[user, j]])) for j in there]
        told_.append(np.mean(rows, 0) if rows else np.zeros(6))
        near = np.array([1 / (1 + ((told_[-1] - one) ** 2).sum()) for one in memory])
        places.append(near / near.sum())
    answer = number(made.learner(batch.fields)).reshape(len(query), -1, 2 + (price > 0))
    frequency = np.sum(places, 0)
    for user, place in enumerate(places):
        task = told_[user] + place @ memory
        gain, shift = np.split(np.tanh(number(own.film.weight) @ task + number(own.film.bias)), 2)
        rows_ = query[user] * (1 + gain.reshape(own.shape)) + shift.reshape(own.shape)
        assert answer[user, :, :2] == pytest.approx(told(model, rows_) + number(episode.query_prior[user]), abs=1e-4)
        sharp = place**2 / frequency
        sharp /= sharp.sum()
        cost = price * sum(p * math.log(p / q) for p, q in zip(sharp, place, strict=True))
        assert answer[user, :, 2:] == pytest.approx(np.full((answer.shape[1], int(price > 0)), cost), abs=1e-4)


@pytest.mark.parametrize(("place", "costs"), [
    ([[1.0]], [0.0]),
    ([[0.5, 0.5], [0.5, 0.5]], [0.0, 0.0]),
    ([[0.8, 0.2], [0.2, 0.8]], [16 / 17 * math.log(20 / 17) + 1 / 17 * math.log(5 / 17)] * 2),
    ([[0.9, 0.1]], [0.0]),
])
def test_sharpening_by_hand(place: list[list[float]], costs: list[float]) -> None:
    assert _sharpening(torch.tensor(place)).tolist() == pytest.approx(costs, abs=1e-6)


@FEW
@given(seed=st.integers(0, 1000), users=st.integers(1, 5), kinds=st.integers(1, 5))
def test_sharpening_is_never_a_gain_and_teaches_places_alone(seed: int, users: int, kinds: int) -> None:
    place = torch.rand(users, kinds, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    place = (place / place.sum(1, keepdim=True)).requires_grad_()
    found = _sharpening(place)
    assert (found >= -1e-9).all()
    (slope,) = torch.autograd.grad(found.sum(), place)
    sharp = place**2 / place.sum(0, keepdim=True)
    torch.testing.assert_close(slope, -(sharp / sharp.sum(1, keepdim=True)).detach() / place.detach())


@pytest.mark.parametrize("friends", [1, 3, 5])
@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_what_friends_are_like_by_numpy(setup: Setup, part: str, friends: int) -> None:
    made, batch, episode = asked(Paml(friends=friends, steps=0), setup, part=part)
    own = made.learner.adapter
    assert isinstance(own, Gated)
    _, query = episode.seen()
    who = query[:, 0, :, list(own.traits)].flatten(1)
    near = batch.fields[own.friends].view(len(query), -1, friends)[:, 0].clone()
    near[0] = -1  # somebody without friends
    found = number(own._social(who, near))
    for user in range(len(query)):
        there = [one for one in near[user].tolist() if one >= 0]
        taste = number(own.taste.weight)[there]
        ask = number(own.ask.weight) @ number(who[user]) + number(own.ask.bias)
        share = np.exp(taste @ ask / 4)  # the root of 16
        wanted = (share / share.sum()) @ taste if there else np.zeros(16)
        assert found[user] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("shape", "units"), [
    ((5,), (5,)), ((5, 3), (5, 1)), ((2, 3, 5), (2, 1, 5)), ((1, 7, 1), (1, 1, 1)), ((1, 4), (1, 1)),
])
def test_a_gate_is_a_number_for_each_output(shape: tuple[int, ...], units: tuple[int, ...]) -> None:
    assert _units(torch.zeros(shape)) == units


@pytest.mark.parametrize("bias", [-3.0, 0.0, 3.0])
def test_gates_multiply_what_is_adapted(setup: Setup, bias: float) -> None:
    """With no weight every gate is `2 sigmoid(bias)`: the model with its decision layers so multiplied."""
    made, batch, _ = asked(Paml(steps=0), setup)
    own, model = made.learner.adapter, made.learner.model
    assert isinstance(own, Gated)
    with torch.no_grad():
        own.gate.weight.zero_()
        own.gate.bias.fill_(bias)
        found = made.learner(batch.fields)
        for one in own.inner.scope.chosen(model).values():
            one.mul_(2 / (1 + math.exp(-bias)))
        made.learner.adapter = Untouched()
        torch.testing.assert_close(found, made.learner(batch.fields), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shrink", [0.5, 5.0])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_centred_prior_is_the_prior_and_the_users_own(setup: Setup, part: str, shrink: float) -> None:
    _, _, episode = asked(MetaWarmUp(), setup, part=part)
    found = Centred(PriorAlone(), shrink=shrink)(episode.model, episode)
    whole = offsets(episode.model.schema, episode.support, shrink=shrink).whole
    torch.testing.assert_close(found - PriorAlone()(episode.model, episode), whole.expand(found.shape), rtol=1e-4, atol=1e-5)
    assert whole.abs().max() > 0.05


def test_what_a_centred_adapter_hands_on_and_says_of_cost(setup: Setup) -> None:
    _, _, episode = asked(MetaWarmUp(), setup)
    handed: list[Episode] = []
    inner = PriorAlone()
    inner.register_forward_pre_hook(lambda _, args: handed.append(args[1]))
    Centred(inner, shrink=2.0)(episode.model, episode)
    others = offsets(episode.model.schema, episode.support, shrink=2.0).others
    torch.testing.assert_close(handed[0].support.prior, episode.support.prior + others)
    assert torch.equal(handed[0].support.labels, episode.support.labels)
    paid = Generated(episode.model, spots(setup, "any"), rate=0.1, share=0.5, second=False)
    assert (Centred(paid).costs, Centred(inner).costs) == (True, False)


@pytest.mark.parametrize("method", [MetaEmbedding(alpha=0.0), MetaWarmUp(), Tanp(price=0.0), Paml(steps=1), Paml(steps=0)],
                         ids=["meta_emb", "mwuf", "tanp", "paml", "paml_still"])
@pytest.mark.parametrize("broken", [LABELS, "place"])
def test_what_pads_a_support_is_not_read(setup: Setup, method: Method, broken: str) -> None:
    made, batch, _ = asked(method, setup, part="train")
    fields = {name: one.clone() for name, one in batch.fields.items()}
    padding = fields[WEIGHT] == 0
    assert padding.any()
    assert not fields[SEEN][padding].any()
    name = LABELS if broken == LABELS else "support/item"
    fields[name][padding] = 1
    torch.testing.assert_close(made.learner(fields), made.learner(batch.fields), rtol=1e-4, atol=1e-4)


def chained(sources: list[int], inputs: int = 1) -> Chain:
    maps = tuple(Map(f"w{place}", f"b{place}", Place(one), 1, wide=False, bends=True, drops=False) for place, one in enumerate(sources))
    return Chain(inputs, maps, (Place(inputs + len(maps) - 1),))


@pytest.mark.parametrize(("sources", "inputs", "adapted", "moving"), [
    ([0, 1, 2], 1, [False, False, False], [False, False, False]),
    ([0, 1, 2], 1, [True, False, False], [True, True, True]),
    ([0, 1, 2], 1, [False, True, False], [False, True, True]),
    ([0, 1, 2], 1, [False, False, True], [False, False, True]),
    ([0, 1, 1], 1, [False, True, False], [False, True, False]),
    ([0, 1, 1], 1, [True, False, False], [True, True, True]),
    ([0, 1, 2, 3], 2, [True, False, False, False], [True, False, True, False]),
    ([0, 0, 2, 1], 1, [False, True, False, False], [False, True, True, False]),
])
def test_what_lies_behind_an_adapted_map_moves(sources: list[int], inputs: int, adapted: list[bool], moving: list[bool]) -> None:
    assert chained(sources, inputs).moving(adapted) == tuple(moving)


@pytest.mark.parametrize("dropping", [(), (0,), (2,), (0, 1, 2)])
def test_a_chain_drops_where_any_map_does(dropping: tuple[int, ...]) -> None:
    plain = chained([0, 1, 2])
    maps = tuple(replace(one, drops=place in dropping) for place, one in enumerate(plain.maps))
    assert replace(plain, maps=maps).drops is bool(dropping)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("bends", [False, True])
def test_a_wide_maps_outputs_are_told_apart_member_by_member(members: int, *, wide: bool, bends: bool) -> None:
    z = torch.randn(1 if wide else members, 2, 4, (members if wide else 1) * 5)
    found = _bent(Map("w", "b", Place(0), members, wide=wide, bends=bends, drops=False), z)
    assert found.shape == (members, 2, 4, 5)
    for member, user, row, unit in np.ndindex(members, 2, 4, 5):
        value = float(z[0, user, row, member * 5 + unit] if wide else z[member, user, row, unit])
        assert float(found[member, user, row, unit]) == (max(value, 0.0) if bends else value)


def step(seed: int, *, rows: bool) -> dict[str, ByRows] | dict[str, ByMatrix]:
    """Two maps' worth of what three users' rows say, in one of two forms."""
    draw = torch.Generator().manual_seed(seed)
    parts = {name: (torch.randn(1, 3, 4, width, generator=draw, dtype=torch.float64),
                    torch.randn(1, 3, 4, 2, generator=draw, dtype=torch.float64)) for name, width in (("a", 5), ("b", 2))}
    return {name: ByRows(*one) for name, one in parts.items()} if rows else {name: ByMatrix.of(*one) for name, one in parts.items()}


def norms(one: Mapping[str, Taken]) -> list[float]:
    matrices = [part.matrix() for part in one.values()]
    return [math.sqrt(sum(float((m.weight[:, user] ** 2).sum() + (m.bias[:, user] ** 2).sum()) for m in matrices)) for user in range(3)]


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("clip", [0.5, 12.0, 1e6])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_cut_to_its_norm_user_by_user(seed: int, clip: float, *, rows: bool) -> None:
    made = step(seed, rows=rows)
    finite, found = _clipped(dict(made), clip)
    assert finite.tolist() == [True] * 3
    assert norms(found) == pytest.approx([min(one, clip) for one in norms(made)])
    for name, part in made.items():
        ratio = [min(1.0, clip / one) for one in norms(made)]
        for user in range(3):
            torch.testing.assert_close(found[name].matrix().weight[:, user], part.matrix().weight[:, user] * ratio[user])


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("user", [0, 2])
def test_a_step_that_is_no_number_is_that_users_alone(user: int, value: float, *, rows: bool) -> None:
    made, whole = step(0, rows=rows), step(0, rows=rows)
    first = made["a"]
    (first.d if isinstance(first, ByRows) else first.weight)[0, user, 0, 0] = value
    finite, found = _clipped(dict(made), 1e6)
    assert finite.tolist() == [place != user for place in range(3)]
    assert norms(found) == pytest.approx([one if place != user else 0.0 for place, one in enumerate(norms(whole))])
