"""Requests that choose their own seed: their chances are not those of a draw, and no estimate reads them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import polars as pl
import pytest
from tests.small import bundles

from umbel.serve.bundles import Ordering
from umbel.serve.order import Order
from umbel.serve.recommend.asked import RecommendRequest
from umbel.serve.recommend.recommend import recommend
from umbel.serve.requests import RankAnswer, RankRequest
from umbel.serve.service import Service, Serving
from umbel.serve.store.choices import write_choices
from umbel.serve.store.store import Store
from umbel.serve.wanted import State


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles(tmp_path_factory.mktemp("seeds"))


@pytest.fixture
def service(root: Path, tmp_path: Path) -> Iterator[Service]:
    """It draws."""
    first = State(stable=str(root / "a" / "bundle"))
    with Store(tmp_path / "umbel.db") as store:
        yield Service(store, Serving(first=first, ordering=Ordering(order=Order(0.5)), budget=60.0, watch=0.0))


def ranked(service: Service, seed: int | None, times: int = 1) -> list[RankAnswer]:
    async def go() -> list[RankAnswer]:
        return [await service.rank(RankRequest(items=["a", "b", "c"], user_id="1", n=2, seed=seed), monotonic()) for _ in range(times)]

    return asyncio.run(go())


def kept(service: Service, request: str) -> list[float | None]:
    decision = service.store.decision(request)
    assert decision is not None
    assert (decision.temperature, decision.candidates is None) == (0.5, False), "it can be explained all the same"
    return [one.propensity for one in decision.shown]


def test_a_seed_of_ones_own_always_shows_the_same(service: Service) -> None:
    """Of which a chance below 1 would be untrue: whoever weighs by it counts this item several times over."""
    own, drawn = (Counter(one.items[0].item_id for one in ranked(service, seed, 60)) for seed in (7, None))
    assert (len(own), len(drawn)) == (1, 3)


@pytest.mark.parametrize("seed", [0, 7, 2**53])
def test_its_chances_are_neither_told_nor_kept(service: Service, seed: int) -> None:
    (answer,) = ranked(service, seed)
    assert [one.propensity for one in answer.items] == [None, None]
    assert [one.score is None for one in answer.items] == [False, False]
    assert kept(service, answer.request_id) == [None, None]


def test_without_one_they_are_exact(service: Service) -> None:
    (answer,) = ranked(service, None)
    chances = kept(service, answer.request_id)
    assert chances == [one.propensity for one in answer.items]
    scores = {item: one.score for one in answer.items for item in (one.item_id,)}
    decision = service.store.decision(answer.request_id)
    assert decision is not None
    assert decision.candidates is not None
    logits = decision.candidates.fused.astype(float) / 0.5
    first = list(decision.candidates.items).index(next(iter(scores)))
    assert chances[0] == pytest.approx(float(np.exp(logits[first]) / np.exp(logits).sum()), rel=1e-5)


def test_choices_for_a_replay_tell_them_apart(service: Service, tmp_path: Path) -> None:
    """`umbel fuse --replay` leaves out what has no propensity, and counts it."""
    seeded, free = ({one.request_id for one in ranked(service, seed, 3)} for seed in (7, None))
    assert write_choices(service.store.session, tmp_path / "choices.parquet") == 6
    frame = pl.read_parquet(tmp_path / "choices.parquet")
    without = frame.filter(pl.col("propensity").list.eval(pl.element().is_null().any()).list.first())
    assert set(without["request_id"]) == seeded
    assert set(frame["request_id"]) == seeded | free


@pytest.mark.parametrize("seed", [None, 3])
def test_recommendations_are_alike(service: Service, seed: int | None) -> None:
    answer = asyncio.run(recommend(service, RecommendRequest(user_id="1", n=2, seed=seed), monotonic()))
    assert [one.propensity is None for one in answer.items] == [seed is not None] * 2
