"""Whom tasks listen to, as votes: what the study of listening hears, without a hook; and drift of them against the rows that trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from tests import everykind, logs
from tests.values.test_bundle import made

from umbel.bundle import Bundle
from umbel.data.batch import Batch
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.drift import Profile, Shares, moved
from umbel.learn.predict import votes
from umbel.nn.mixture import Mixture
from umbel.nn.recommender import Recommender
from umbel.recipes import RECIPES
from umbel.run.drifting import Drifting
from umbel.run.profile import profile
from umbel.study.transfer.listening import hear

TASKS = 3


def batch(seed: int = 0) -> Batch:
    labels = torch.zeros(24, TASKS)
    return Batch(everykind.fields(seed=seed), labels, labels == 0, torch.arange(24))


def built(recipe: str, *, layers: int = 1) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(RECIPES[recipe](everykind.schema(TASKS), everykind.sizes(specific=1, layers=layers))).eval()


@pytest.mark.parametrize("recipe", ["mmoe", "omoe", "ple", "stem"])
@pytest.mark.parametrize("layers", [1, 2])
def test_votes_are_what_the_study_hears(recipe: str, layers: int) -> None:
    model, last = built(recipe, layers=layers), layers - 1
    found = votes(model, [batch(0), batch(1)])
    heard = hear(model, [batch(0), batch(1)])[last].mean
    assert list(found) == list(everykind.NAMES[:TASKS])
    for number, one in enumerate(found.values()):
        assert_allclose(one, 48 * heard[number], rtol=1e-5)
        assert one.sum() == pytest.approx(48, rel=1e-5), "one vote a row"


@pytest.mark.parametrize("recipe", ["alone", "shared_bottom"])
def test_who_hears_one_expert_has_no_vote(recipe: str) -> None:
    assert votes(built(recipe), [batch()]) == {}


def test_every_recipe_votes_or_has_none() -> None:
    """Whatever the last layer is, nothing fails and a vote is a row's."""
    for name in RECIPES:
        model = RECIPES[name](everykind.schema(TASKS), everykind.sizes())
        assert all(one.sum() == pytest.approx(24, rel=1e-5) for one in votes(model.eval(), [batch()]).values()), name


def test_voting_leaves_the_model_as_it_was() -> None:
    model = built("mmoe").train()
    votes(model, [batch()])
    assert model.training
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_below_is_what_the_last_layer_reads() -> None:
    model, read = built("ple", layers=2), list[torch.Tensor]()
    last = model.layers[-1]
    assert isinstance(last, Mixture)
    hook = last.register_forward_pre_hook(lambda layer, given: read.extend(given[0]))
    with torch.inference_mode():
        model(batch().fields)
        found = model.below(batch().fields)
    hook.remove()
    assert len(found) == len(read)
    for one, other in zip(found, read, strict=True):
        assert_allclose(one.numpy(), other.numpy())


def test_votes_are_bins_of_choices() -> None:
    shares = Shares.of_votes(np.array([30.4, 0.0, 69.6]))
    assert shares == Shares((30, 0, 70, 0), codes=(1, 2, 3))
    assert shares.rows == 100
    assert shares.missing == 0


def test_a_gate_that_turns_to_another_expert_has_drifted() -> None:
    before = Shares.of_votes(np.array([5_000.0, 5_000.0]))
    assert not moved(before, Shares.of_votes(np.array([505.0, 495.0]))).drifted
    assert moved(before, Shares.of_votes(np.array([700.0, 300.0]))).drifted


def test_quiet_gates_raise_few_alarms() -> None:
    """Rows split their votes as a softmax of noise does: windows of 300, 1,000 of them."""
    rng = np.random.default_rng(1)

    def drawn(rows: int) -> Shares:
        shares = rng.dirichlet([1.0, 2.0, 0.5], rows)
        return Shares.of_votes(shares.sum(0))

    before = drawn(16_384)
    assert np.mean([moved(before, drawn(300)).drifted for _ in range(1_000)]) <= 0.02


# In a bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Table]:
    table = logs.table(tmp_path_factory.mktemp("votes"), logs.ROWS, logs.SCHEMA)
    plain = made(table)
    spread = profile(table, plain.columns, np.zeros((3, len(plain.columns))), model=plain.model)
    return replace(plain, profile=spread), table


def test_a_profile_keeps_the_votes_of_training_rows(bundle: tuple[Bundle, Table]) -> None:
    own, table = bundle
    assert own.profile is not None
    heard = votes(own.model, [table.batch(torch.arange(len(table.parts["train"])))])
    assert {name: one.counts for name, one in own.profile.gates.items()} == {
        name: Shares.of_votes(one).counts for name, one in heard.items()
    }
    assert Profile.from_json(own.profile.to_json()) == own.profile


def test_a_profile_of_an_older_bundle_has_no_gates(bundle: tuple[Bundle, Table]) -> None:
    assert bundle[0].profile is not None
    saved = bundle[0].profile.to_json()
    del saved["gates"]
    assert Profile.from_json(saved).gates == {}
    plain = replace(bundle[0], profile=Profile.from_json(saved))
    drifting = Drifting(plain, where="b")
    one = bundle[1].batch(torch.arange(3))
    drifting.count(one, plain.predict(one))
    assert not [each for each in drifting.findings() if each.what.startswith("gate ")]


def test_gates_are_among_what_is_watched(bundle: tuple[Bundle, Table]) -> None:
    own, table = bundle
    drifting, one = Drifting(own, where="b"), table.batch(torch.arange(3))
    for _ in range(2):
        drifting.count(one, own.predict(one))
    found = {each.what: each for each in drifting.findings()}
    assert own.profile is not None
    assert {name for name in found if name.startswith("gate ")} == {f"gate {name}" for name in own.profile.gates}
    assert {"prediction " + name for name in own.columns} <= set(found)
    assert all("6 rows, too few to judge (200 needed)" in each.says for each in found.values())


def test_a_bundle_without_a_profile_is_told(bundle: tuple[Bundle, Table]) -> None:
    with pytest.raises(UserError, match="runs/old: keeps no spread"):
        Drifting(replace(bundle[0], profile=None), where="runs/old")


def test_a_run_keeps_its_profile(tmp_path: Path, bundle: tuple[Bundle, Table]) -> None:
    own, table = bundle
    own.save(tmp_path / "bundle", golden=table.golden())
    assert Bundle.load(tmp_path / "bundle").profile == own.profile
