"""Why a decision was as it was: contributions that add up, fields that add up, and the reason where either cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from tests.untrained import bundle

from umbel.data.raw import encoded
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import AdditiveMonotone, Linear, Log, Power, Shape
from umbel.serve.ranker import Asked, Policy, Ranker, Raw
from umbel.serve.records import Decision, Rung, Shown
from umbel.serve.served import Served, load
from umbel.serve.store import Store
from umbel.serve.why import ITEMS, policy_of, remember, why

SHAPES: tuple[Shape, ...] = (Linear(0.7, 0.2), Log(2.0, 0.1), Power(0.5, 0.3), AdditiveMonotone((0.0, 0.1, 1.0), (0.3, 2.0)))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A bundle without a mean row."""
    return load(bundle(tmp_path_factory.mktemp("why")))


@pytest.fixture(scope="module")
def served(bare: Served) -> Served:
    """The same with that of its golden rows."""
    batch = encoded(pl.read_parquet(bare.folder / "golden.parquet"), bare.bundle.encoder)
    return replace(bare, bundle=replace(bare.bundle, centre=bare.bundle.model.seen(batch.fields).mean(0).detach()))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "umbel.db", window=0) as made:
        yield made


def decided(served: Served, policy: Fusion, count: int = 5) -> Decision:
    """What a ranker decides of some items."""
    items = tuple(str(number) for number in range(count))
    column = served.bundle.source.item
    own: tuple[Raw, ...] = tuple({} if column is None else {column: one} for one in items)
    asked = Asked(request="r1", user="1", time=5, shared={}, items=items, own=own, deadline=float("inf"), count=count, seed=1)
    return Ranker(served, Policy(fusion=policy)).rank(asked).decision


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_contributions_are_those_of_the_logged_score(served: Served, store: Store, shape: Shape) -> None:
    policy = Fusion((Term("click", shape), Term("buy_marginal", shape, -1)), "mine")
    decision = decided(served, policy)
    remember(store.session, policy)
    found = why(store.session, decision, [served])
    assert (found.no_contributions, found.fusion) == (None, f"mine@{policy.version}")
    assert found.gap is not None
    assert found.gap <= 1e-12
    for one in found.items:
        assert list(one.contributions or {}) == ["click", "buy_marginal"]
        assert sum((one.contributions or {}).values()) == pytest.approx(one.score, abs=1e-12)


def test_a_score_that_was_not_this_policy_s_is_seen(served: Served, store: Store) -> None:
    policy = served.bundle.fusion
    assert policy is not None
    decision = decided(served, policy)
    wrong = replace(decision, shown=(replace(decision.shown[0], fused=(decision.shown[0].fused or 0.0) + 0.5), *decision.shown[1:]))
    assert why(store.session, wrong, [served]).gap == pytest.approx(0.5)


def test_fields_and_base_add_up_to_what_the_model_says(served: Served, store: Store) -> None:
    policy = served.bundle.fusion
    assert policy is not None
    decision = decided(served, policy)
    found = why(store.session, decision, [served])
    assert found.no_moved is None
    assert found.units["click"] == "logit"
    fields = {field.name for field in served.bundle.schema.fields}
    for item, shown in zip(found.items, decision.shown, strict=True):
        assert item.moved is not None
        assert set(item.moved["click"]) == fields
        told = found.base["click"] + sum(item.moved["click"].values())
        assert_allclose(1 / (1 + np.exp(-told)), shown.predictions[0], atol=1e-4)  # its calibrator is the identity


def test_a_bundle_that_kept_no_mean_row_says_so(bare: Served, store: Store) -> None:
    policy = bare.bundle.fusion
    assert policy is not None
    found = why(store.session, decided(bare, policy), [bare])
    assert found.no_moved == "bundle: holds no mean row to explain against; train it again with this umbel"
    assert found.gap is not None
    assert found.units == {}


def test_what_is_not_at_hand_is_said(served: Served, store: Store) -> None:
    policy = served.bundle.fusion
    assert policy is not None
    decision = decided(served, policy)
    found = why(store.session, replace(decision, bundle="gone", fusion="old@1"), [served])
    assert found.no_contributions == "the policy old@1 is not at hand any more"
    assert found.no_moved == "the bundle gone is not at hand any more"
    assert [one.contributions for one in found.items] == [None] * 5
    assert found.gap is None
    nothing = why(store.session, replace(decision, rung=Rung.POPULAR, shown=(Shown(item="1"),), outputs=()), [served])
    assert nothing.no_contributions == "nothing was predicted: the answer is of the rung popular"
    assert nothing.items[0].predictions == {}
    assert why(store.session, replace(decision, shown=()), [served]).no_moved == "nothing was shown"


def test_a_value_that_cannot_be_read_is_the_reason(served: Served, store: Store) -> None:
    policy = served.bundle.fusion
    assert policy is not None
    decision = decided(served, policy)
    shown = tuple(replace(one, fields={**one.fields, "age": "old"}) for one in decision.shown)
    found = why(store.session, replace(decision, shown=shown), [served])
    assert found.no_moved is not None
    assert found.no_moved.startswith("fields.age: 'old' is no number")


def test_no_more_than_the_first_are_explained(served: Served, store: Store) -> None:
    policy = served.bundle.fusion
    assert policy is not None
    found = why(store.session, decided(served, policy, ITEMS + 7), [served])
    assert (found.shown, len(found.items), found.candidates) == (ITEMS + 7, ITEMS, ITEMS + 7)


def test_a_policy_is_found_by_its_name(served: Served, store: Store) -> None:
    own, other = served.bundle.fusion, Fusion((Term("click", Log(3.0)),), "other")
    assert own is not None
    assert policy_of(store.session, f"{own.name}@{own.version}", [served]) == own
    assert policy_of(store.session, f"{own.name}@{own.version}", []) is None
    assert policy_of(store.session, f"other@{other.version}", [served]) is None
    remember(store.session, other)
    assert policy_of(store.session, f"other@{other.version}", []) == other
