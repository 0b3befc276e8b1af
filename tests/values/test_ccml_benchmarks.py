"""The benchmarks of CCML in small: clusters are recovered, those who want the same help, strangers do not; every variant can be made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import ccml_ablation as ablation
from benchmarks import ccml_truth as truth
from tests import rated_runs

from umbel.coldstart.ccml import PUBLISHED, Ccml
from umbel.coldstart.collaboration import Collaboration
from umbel.coldstart.gradient import Melu
from umbel.coldstart.method import Setup
from umbel.coldstart.source import Reader
from umbel.data.clusters import Clustered
from umbel.data.ingest import ingest
from umbel.data.table import Table
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.run import coldstart, resolve
from umbel.run.settings import Settings, read

SMALL = Clustered(clusters=4, users=(64, 8, 64), support=16, query=8, width=6)


def test_gradients_find_who_wants_the_same_and_learning_with_them_helps(tmp_path: Path) -> None:
    """Four clusters, sixteen rows of support, a model trained by plain MAML.

    Gradients tell clusters apart far above chance; a new user who learns together with the most similar training users is better off
    than alone, over users the interval excludes 0; together with random ones it is worse off.
    """
    torch.set_num_threads(1)
    table, setup = truth.world(SMALL, tmp_path)
    made = replace(truth.CCML, warmup=99, steps=2, most=8, kept=5, share=0.5).prepare(replace(setup, size=8))
    assert isinstance(made.batches, Collaboration)
    for _ in fit(made.learner, made.batches, plan=Plan(epochs=7, patience=9, rate=1e-2, l2=0.0), judge=lambda _: 0.0):
        pass
    assert truth.recovery(made, SMALL) > 0.85
    alone = truth.errors(replace(made, read=made.served), table, "test", SMALL)
    together = truth.errors(made, table, "test", SMALL)
    made.batches.sampler.choice = replace(made.batches.sampler.choice, similar="random")
    strangers = truth.errors(made, table, "test", SMALL)
    gain = together - alone
    assert gain.mean() + 1.96 * gain.std() / len(gain) ** 0.5 < 0
    assert (strangers - alone).mean() > 0


def test_recovery_of_nothing_is_chance(tmp_path: Path) -> None:
    """Where users of all clusters want the same, their gradients tell nothing."""
    planted = replace(SMALL, clusters=1)
    _, setup = truth.world(planted, tmp_path)
    made = truth.CCML.prepare(setup)
    assert isinstance(made.batches, Collaboration)
    assert truth.recovery(made, replace(SMALL, seed=planted.seed)) == pytest.approx(0.5, abs=0.08)


def test_intervals_are_students() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    found = truth.interval(values)
    assert found["mean"] == 3.0
    assert found["high"] == pytest.approx(3.0 + 2.7764 * np.std(values, ddof=1) / 5**0.5, abs=1e-4)
    assert truth.interval([1.0])["high"] == float("inf"), "one seed says nothing of others"


def test_seeds_are_summed_up_pair_by_pair() -> None:
    done = [{"methods": {name: {"test_mse": base + lift, "auc_start": 0.5, "auc_after_warmup": 0.9, "auc_end": 0.95}
                         for name, lift in (("bias", 0.5), ("maml", 0.0), ("ccml", -0.1), ("random", 0.3), ("maml, twice as long", -0.05))}}
            for base in (1.0, 2.0, 3.0, 4.0, 5.0)]
    found = truth.summary(done)
    paired = found["paired"]
    assert isinstance(paired, dict)
    assert paired["ccml less maml"] == {"mean": -0.1, "low": -0.1, "high": -0.1, "seeds": 5}
    assert paired["ccml less maml, twice as long"]["mean"] == -0.05
    assert paired["random less maml"]["mean"] == 0.3
    assert paired["ccml less bias"]["mean"] == -0.6


def test_a_method_is_added_to_a_log_whose_others_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bias model knows the mean of all, since no two rows have an item in common, and how far a user is from it."""
    monkeypatch.setattr(truth, "PLANTED", SMALL)
    rest = {name: {"test_mse": 9.0} for name in truth.METHODS if name != "bias"}
    found = truth.seed(2, 16, epochs=1, done={"methods": rest, "cpu_seconds": 30.0})
    assert list(found["methods"]) == list(truth.METHODS)
    assert {name: found["methods"][name] for name in rest} == rest
    assert found["cpu_seconds"] >= 30.0
    assert 0.5 < found["methods"]["bias"]["test_mse"] < 2.5, "what x says is unknown to it"


def test_what_is_compared_differs_in_who_collaborates_alone() -> None:
    ccml, other = truth.METHODS["ccml"], truth.METHODS["random"]
    assert isinstance(ccml, Ccml)
    assert replace(ccml, similar="random") == other
    maml = truth.METHODS["maml"]
    assert isinstance(maml, Melu)
    assert (maml.rate, maml.steps, maml.second) == (ccml.rate, ccml.steps, ccml.second)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return read(rated_runs.write(tmp_path_factory.mktemp("ablation")))


@pytest.fixture(scope="module")
def table(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("ablation") / "table"
    return ingest(resolve.source(settings), resolve.schema(settings), resolve.split(settings), folder=folder)


def test_every_variant_is_a_method_of_a_run_file(settings: Settings, table: Table) -> None:
    for name, switches in ablation.VARIANTS.items():
        own = {key: value for key, value in switches.items() if key != "graph_items"}
        method = coldstart.method(ablation.changed(settings, own, seed=1))
        assert method.prepare(setup(settings, table)).learner is not None, name
    published = coldstart.method(ablation.changed(settings, ablation.VARIANTS["published"], seed=1))
    assert published == PUBLISHED


def setup(settings: Settings, table: Table) -> Setup:
    found = coldstart.Newcomers.of(settings, table)
    reader = Reader(found.table, found.means)
    return Setup(reader, coldstart._builder(settings, table), found.section.protocol(), size=16)


@pytest.mark.parametrize(("asked", "played"), [
    (["similar", "maml"], ["maml", "bias", "similar"]),
    (["random"], ["bias", "random"]),
    (["bias"], ["bias"]),
    ([*ablation.VARIANTS], ["maml", *(name for name in ablation.VARIANTS if name != "maml")]),
])  # fmt: skip
def test_the_bias_model_always_takes_part_and_maml_comes_first(asked: list[str], played: list[str]) -> None:
    assert ablation.in_turn(asked) == played


def test_variants_differ_from_one_another() -> None:
    spelled = [repr(sorted(one.items())) for one in ablation.VARIANTS.values()]
    assert len(set(spelled)) == len(spelled)


def test_a_variant_is_told_beside_maml_on_the_same_users(settings: Settings, table: Table) -> None:
    short = settings.model_copy(update={"fit": settings.fit.model_copy(update={"epochs": 1})})
    base = ablation.play(ablation.changed(short, ablation.VARIANTS["maml"], seed=1), table)
    other = ablation.play(ablation.changed(short, ablation.VARIANTS["similar, no warm-up"], seed=1), table)
    assert base.kept is None
    assert other.kept is not None
    assert 0 < other.kept <= 10
    assert (base.epoch, other.epoch) == (1, 1)
    found = ablation.figures(other, base, relevant=4.0)
    line = found["rating, user_cold"]
    assert isinstance(line, dict)
    assert line["mae less maml"][0] == pytest.approx(
        line["mae"][0] - ablation.figures(base, None, relevant=4.0)["rating, user_cold"]["mae"][0], abs=2e-4)  # type: ignore[index]
    bias = ablation.play(ablation.changed(short, ablation.VARIANTS["bias"], seed=1), table)
    assert (bias.epoch, bias.kept, len(bias.validation), len(base.validation)) == (0, None, 1, 1)
    assert "mae less maml" in ablation.figures(bias, base, relevant=4.0)["rating, user_cold"]  # type: ignore[operator]
    low, high = line["mae less maml"][1:]
    assert low < line["mae less maml"][0] < high
    same = ablation.figures(base, base, relevant=4.0)["rating, user_cold"]
    assert isinstance(same, dict)
    assert same["mae less maml"] == [0.0, 0.0, 0.0]
