"""The policy that a run leaves: which predictions it ranks by, that they weigh alike, and which way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from tests.journeys.conftest import RUN, say
from tests.logs import SPLIT, source

from umbel.bundle import Built, Bundle
from umbel.data.ingest import ingest
from umbel.data.simulate import Planted, simulate
from umbel.evaluate.calibrate import Identity, Platt
from umbel.fusion import Fusion, read
from umbel.kinds import BINARY, REGRESSION, MultiClass, Ordinal, Quantile, TaskKind
from umbel.nn.recommender import Sizes
from umbel.run.fusing import column, start
from umbel.schema import Field, FieldKind, Schema, Task


@pytest.mark.parametrize(
    ("kind", "given", "ranked"),
    [
        (BINARY, None, "t"), (BINARY, "click", "t_marginal"), (REGRESSION, None, "t"), (REGRESSION, "click", "t"),
        (Quantile((0.1, 0.5, 0.9)), None, "t_q50"), (Quantile((0.2, 0.4, 0.6, 0.8)), None, "t_q60"),
        (Ordinal(5), None, None), (MultiClass(3), None, None),
    ],
)  # fmt: skip
def test_a_task_is_ranked_by_what_holds_on_every_row(kind: TaskKind, given: str | None, ranked: str | None) -> None:
    assert column(Task("t", kind, given=given)) == ranked


def bundle(folder: Path, *tasks: Task) -> Bundle:
    schema = Schema((Field("user", FieldKind.ID, min_count=1),), tasks)
    table = ingest(source(folder), schema, SPLIT, folder=folder / "table")
    built = Built("shared_bottom", Sizes({"user": table.encoder.vocabularies["user"].size}, dim=2, expert=(2,), tower=(2,)))
    torch.manual_seed(0)
    calibrators = {task.name: Platt() if task.kind == BINARY else Identity() for task in tasks}
    return Bundle(table.source, table.encoder, built, built(schema).eval(), calibrators, {})


def test_judged_tasks_have_an_equal_say(tmp_path: Path) -> None:
    made = bundle(tmp_path, Task("click"), Task("buy", given="click"), Task("spent", REGRESSION), Task("age", REGRESSION, auxiliary=True))
    logits = np.random.default_rng(0).normal(2.0, 1.0, (500, 4))
    policy = start(made, logits, unwanted=["spent"])
    assert isinstance(policy, Fusion)
    assert policy.tasks == ("click", "buy_marginal", "spent")
    assert [term.direction for term in policy.terms] == [1, 1, -1]
    found = policy.contributions(made.calibrated(logits)[:, policy.places(made.columns)])
    assert_allclose(np.abs(found[:, :2]).mean(0), 1 / 3)
    assert found[:, 2].mean() < -0.3


def test_a_bundle_of_classes_alone_has_none(tmp_path: Path) -> None:
    made = bundle(tmp_path, Task("click", MultiClass(2)))
    assert start(made, np.zeros((3, 2)), unwanted=[]) is None


def test_a_run_leaves_its_policy_and_ranks_the_unwanted_down(tmp_path: Path) -> None:
    simulate(Planted(users=20, items=10, rows=1_000, days=6, seed=3), tmp_path)
    file = tmp_path / "run.toml"
    text = RUN.format(log=tmp_path / "log.parquet").replace("like = { }", "like = { unwanted = true }").replace("epochs = 3", "epochs = 1")
    file.write_text(text)
    assert say("train", file, "-o", tmp_path / "run").code == 0
    policy = read(tmp_path / "run" / "bundle" / "fusion.json")
    assert {term.task: term.direction for term in policy.terms} == {"click": 1, "like": -1, "buy_marginal": 1}
    assert Bundle.load(tmp_path / "run" / "bundle").fusion == policy
