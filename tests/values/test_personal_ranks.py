"""Ranking by a user's own state: the bundle's alone, told on every rung, online what is offline on every rung of the ladder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import rated
from tests.coldserve import HEAD, IDS, ITEMS, POLICY, rows
from tests.coldserve import served as a_bundle

from umbel.data.raw import encoded
from umbel.learn.ladder import Ladder, Rung, UserState
from umbel.serve import records
from umbel.serve.ranker import Asked, Policy, Ranker
from umbel.serve.reader import Reader
from umbel.serve.records import Adapted
from umbel.serve.served import Served
from umbel.serve.states import Personal

ADAPTED = Adapted(rung="head", rows=3, clock=5, until=4, before=(6, "r"), seal="ab")
SHARED = {"user": "77", "age": "a1"}
ITEM_FIELDS = [ITEMS[one] for one in IDS]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return a_bundle(tmp_path_factory.mktemp("served"))


def support(count: int = 3) -> pl.DataFrame:
    return rows("77", {one: (float(1 + 2 * place), place % 2) for place, one in enumerate(IDS[:count])})


def asked(personal: Personal | None, *, deadline: float = 1e18) -> Asked:
    return Asked(
        request="q", user="77", time=9, shared=SHARED, items=tuple(IDS), own=tuple(ITEM_FIELDS), deadline=deadline, count=99, seed=1,
        personal=personal,
    )  # fmt: skip


def own(served: Served) -> Personal:
    return Personal(served.name, served.bundle.adapt(support()), ADAPTED)


def stepping(ladder: Ladder, served: Served) -> Ladder:
    rates = {name: torch.tensor(0.1) for name, _ in served.bundle.model.named_parameters() if name.startswith(("layers.", "head."))}
    return replace(ladder, head=None, steps_from=1, steps=2, rates=rates)


@pytest.mark.parametrize("rung", list(Rung))
@pytest.mark.parametrize("recipe", ["shared_bottom", "stem", "alone"])
@pytest.mark.parametrize("offset", ["item", None])
def test_online_is_offline_on_every_rung(tmp_path: Path, rung: Rung, recipe: str, offset: str | None) -> None:
    made = rated.bundle(rated.table(tmp_path), HEAD, recipe=recipe, tower=(4,))
    if offset is None:
        made.model.offsets = None
    plain = Served("a", tmp_path, made, Reader(made))
    ladder = {
        Rung.CONTENT: replace(HEAD, head=9), Rung.HEAD: HEAD, Rung.STEPS: stepping(HEAD, plain), Rung.ID: replace(HEAD, known=1),
    }[rung]  # fmt: skip
    bundle = replace(made, ladder=ladder)
    user = "0" if rung is Rung.ID else "77"
    state = bundle.adapt(support().with_columns(user=pl.lit(int(user))))
    assert state.rung is rung
    offline = bundle.predict(encoded(rows(user, dict.fromkeys(IDS, (None, None))), bundle.encoder), state)
    reader = Reader(bundle)
    for _ in range(2):  # the second time all items are remembered
        np.testing.assert_allclose(reader.predict({**SHARED, "user": user}, ITEM_FIELDS, state), offline, atol=1e-6, rtol=0)


def test_an_answer_tells_how_far_it_is_the_users_own(served: Served) -> None:
    personal = own(served)
    ranked = Ranker(served, Policy(fusion=POLICY)).rank(asked(personal))
    assert ranked.adapted == ranked.decision.adapted == ADAPTED
    expected = served.reader.predict(SHARED, ITEM_FIELDS, personal.state)
    np.testing.assert_array_equal(np.array([one.predictions for one in ranked.decision.shown]), expected[ranked.places])


def test_without_a_state_it_is_the_shared_model_bit_for_bit(served: Served) -> None:
    ranker = Ranker(served, Policy(fusion=POLICY))
    none = ranker.rank(asked(Personal(served.name, None, replace(ADAPTED, rung="content", rows=0))))
    plain = ranker.rank(asked(None))
    assert none.adapted is not None
    assert plain.adapted is None
    assert [one.predictions for one in none.decision.shown] == [one.predictions for one in plain.decision.shown]


def test_another_bundle_answers_without_it(served: Served) -> None:
    """A shadow is asked what the stable one was; a state fits the weights that it was made by alone."""
    ranker = Ranker(served, Policy(fusion=POLICY))
    strange = Personal("another", UserState(Rung.HEAD, 3, torch.full((2, 99), 7.0)), ADAPTED)
    ranked = ranker.rank(asked(strange))
    assert ranked.adapted is None
    assert [one.predictions for one in ranked.decision.shown] == [one.predictions for one in ranker.rank(asked(None)).decision.shown]


def test_an_earlier_answer_tells_what_it_was_and_can_be_forgotten(served: Served) -> None:
    ranker = Ranker(served, Policy(fusion=POLICY))
    first = ranker.rank(asked(own(served)))
    late = ranker.rank(asked(None, deadline=0.0))
    assert (late.rung, late.adapted) == (records.Rung.CACHED, ADAPTED)
    assert [one.predictions for one in late.decision.shown] == [one.predictions for one in first.decision.shown]
    ranker.forget()
    popular = ranker.rank(asked(own(served), deadline=0.0))
    assert (popular.rung, popular.adapted) == (records.Rung.POPULAR, None)


def test_items_that_say_whose_they_are_are_noticed(served: Served) -> None:
    assert not served.reader.whose(ITEM_FIELDS)
    assert served.reader.whose([*ITEM_FIELDS, {"item": "i0", "user": 7}])


def test_predictions_are_of_the_true_odds_with_a_state_too(served: Served) -> None:
    """A task that keeps one in four rows without the event: logits are log 4 too high, before and after adapting."""
    from umbel.schema import Schema

    schema = served.bundle.schema
    thin = Schema(schema.fields, (schema.tasks[0], replace(schema.tasks[1], negatives=0.25)))
    encoder = served.bundle.encoder
    assert encoder.schema is schema
    batch = encoded(rows("77", dict.fromkeys(IDS, (None, None))), encoder)
    nothing = UserState(Rung.HEAD, 1, torch.zeros(2, 6))
    try:
        encoder.schema = served.bundle.model.schema = thin
        np.testing.assert_allclose(served.bundle.predict(batch, nothing), served.bundle.predict(batch), atol=1e-6)
        thinned = served.bundle.adapt(support())
    finally:
        encoder.schema = served.bundle.model.schema = schema
    assert not torch.allclose(thinned.lean[1], served.bundle.adapt(support()).lean[1])  # type: ignore[index]
