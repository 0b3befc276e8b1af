"""What every cold-start method holds to: users are apart, padding and order are nothing, no query label is read, bad rows are defined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields as parameters
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import rated
from torch import Tensor

from umbel.coldstart.ccml import Ccml
from umbel.coldstart.method import Method, Prepared
from umbel.coldstart.methods import METHODS
from umbel.data.batch import Batch
from umbel.data.episodes import Episodes, Protocol, episodes
from umbel.data.shots import LABELS, PRIOR, SEEN, SUPPORT, WEIGHT
from umbel.data.table import Table
from umbel.learn.episode import Learner
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.nn.losses import Denominator

RAGGED = Protocol(support=None, query=3, history=(7, 100))
EMPTY = Protocol(support=0, query=None, history=(7, 100))
ENTRANTS: dict[str, Method] = {name: make() for name, make in METHODS.items()}
ENTRANTS |= {f"{name}, centred": make(centred=True) for name, make in METHODS.items()  # type: ignore[call-arg]
             if "centred" in [one.name for one in parameters(make)]}  # type: ignore[arg-type]
ENTRANTS |= {
    "ccml, every part": Ccml(predictor="avae", graph_items=("genres",), gamma=0.1, eta=0.1, centred=True, gate=False),
}
every_method = pytest.mark.parametrize("name", ENTRANTS)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def prepared(table: Table) -> Callable[[str], Prepared]:
    made: dict[str, Prepared] = {}

    def give(name: str) -> Prepared:
        if name not in made:
            made[name] = fresh(table, name)
        return made[name]

    return give


def fresh(table: Table, name: str) -> Prepared:
    """A method with a learner whose parameters were moved away from zeros and other places where nothing is to be seen."""
    torch.manual_seed(7)
    found = ENTRANTS[name].prepare(rated.setup(table))
    with torch.no_grad():
        for one in found.learner.adapter.parameters():
            if one.requires_grad:
                one.add_(0.05 * torch.randn_like(one))
    found.learner.eval()
    return found


def answers(made: Prepared, batch: Batch, users: int) -> Tensor:
    """Logits by user; evaluation draws no number, so the seed does not matter."""
    logits = made.learner(batch.fields).detach()[:, : batch.labels.shape[1]]
    found: Tensor = logits.reshape(users, -1, logits.shape[1])
    return found


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@every_method
def test_users_together_are_users_alone(table: Table, prepared: Callable[[str], Prepared], name: str) -> None:
    made, own = prepared(name), episodes(table, "test", RAGGED)
    together = answers(made, made.read(own), len(own))
    assert together.isfinite().all()
    for place in range(len(own)):
        alone = own.of(np.array([place]))
        close(answers(made, made.read(alone), 1)[0], together[place])


@every_method
def test_the_order_of_users_and_of_their_rows_changes_nothing(table: Table, prepared: Callable[[str], Prepared], name: str) -> None:
    made, own = prepared(name), episodes(table, "train", RAGGED)
    there = answers(made, made.read(own), len(own))
    close(answers(made, made.read(own.of(np.arange(len(own))[::-1].copy())), len(own)).flip(0), there)
    assert len(np.unique(own.lengths)) > 1, "supports of several lengths"
    close(answers(made, shuffled(made.read(own)), len(own)), there)


def shuffled(batch: Batch) -> Batch:
    """The support's rows the other way round, padding first."""
    return replace(batch, fields={key: one.flip(1) if key.startswith(SUPPORT) else one for key, one in batch.fields.items()})


def padded(batch: Batch, rows: int) -> Batch:
    """The support with some of its rows once more, at weight 0 and unseen, other labels on them."""
    found = {key: torch.cat([one, one[:, :rows]], 1) if key.startswith(SUPPORT) else one for key, one in batch.fields.items()}
    size = batch.fields[WEIGHT].shape[1]
    found[WEIGHT][:, size:] = 0.0
    found[LABELS][:, size:] = 99.0
    found[SEEN][:, size:] = False
    return replace(batch, fields=found)


@every_method
def test_padding_changes_nothing(table: Table, prepared: Callable[[str], Prepared], name: str) -> None:
    made, own = prepared(name), episodes(table, "test", RAGGED)
    batch = made.read(own)
    close(answers(made, padded(batch, 3), len(own)), answers(made, batch, len(own)))


@every_method
def test_an_empty_support_is_no_error(table: Table, prepared: Callable[[str], Prepared], name: str) -> None:
    """A user without rows is the same user beside others who have some."""
    made, own = prepared(name), episodes(table, "test", EMPTY)
    none = answers(made, made.read(own), len(own))
    assert none.isfinite().all()
    batch = made.read(Episodes(own.user, own.query[:, :4], own.query))
    without = {key: one.clone() for key, one in batch.fields.items()}
    without[WEIGHT][0], without[SEEN][0] = 0.0, False
    close(answers(made, replace(batch, fields=without), len(own))[0], none[0])


@every_method
def test_no_query_label_reaches_a_prediction(tmp_path: Path, table: Table, name: str) -> None:
    """Other labels on the query's rows of test users, in the log itself, leave every prediction as it was."""
    own = episodes(table, "test", RAGGED)
    asked = table.times("test")[own.query[own.query >= 0] - table.parts["test"].start]  # a row's time is its number in that log
    changed = pl.col("time").is_in(asked.tolist())
    other = rated.log().with_columns(
        rating=pl.when(changed).then(6 - pl.col("rating")).otherwise(pl.col("rating")),
        click=pl.when(changed).then(1 - pl.col("click")).otherwise(pl.col("click")),
    )
    turned = rated.table(tmp_path / "turned", other)
    before, after = fresh(table, name), fresh(turned, name)
    one, two = before.read(own), after.read(own)
    assert (one.labels[:, 1] != two.labels[:, 1]).all()
    assert torch.equal(one.fields[LABELS], two.fields[LABELS])
    close(answers(after, two, len(own)), answers(before, one, len(own)))


@every_method
def test_every_task_is_answered(table: Table, prepared: Callable[[str], Prepared], name: str) -> None:
    made, own = prepared(name), episodes(table, "valid", RAGGED)
    batch = made.read(own)
    logits = made.learner(batch.fields)
    assert logits.shape[0] == len(batch.labels)
    assert logits.shape[1] - int(made.learner.adapter.costs) == len(table.schema.tasks) == 2
    losses = made.learner.losses(logits, batch, denominator=Denominator.SEEN)
    assert losses.shape == (2,)
    assert losses.isfinite().all()
    assert (losses > 0).all()


def judged(learner: Learner, *, batch: Batch) -> float:
    with torch.no_grad():
        return -float(learner.losses(learner(batch.fields), batch, denominator=Denominator.SEEN).sum())


@every_method
def test_it_trains_in_the_one_loop_the_same_by_the_same_seed(table: Table, name: str) -> None:
    own = episodes(table, "valid", RAGGED)
    trained = []
    for _ in range(2):
        torch.manual_seed(11)
        made = ENTRANTS[name].prepare(rated.setup(table))
        if made.batches is None:
            assert name in ("bias", "popularity"), "nothing is trained"
            return
        before = {key: one.detach().clone() for key, one in made.learner.state_dict().items()}
        batch = made.read(own)
        (epoch,) = fit(made.learner, made.batches, plan=Plan(epochs=1), judge=partial(judged, batch=batch))
        assert all(np.isfinite(epoch.losses))
        trained.append({key: one.detach().clone() for key, one in made.learner.state_dict().items()})
        assert any(not torch.equal(one, before[key]) for key, one in trained[-1].items())
    assert all(torch.equal(one, trained[1][key]) for key, one in trained[0].items())


@every_method
def test_every_trained_parameter_is_taught(table: Table, name: str) -> None:
    made = fresh(table, name)
    if made.batches is None:
        return
    made.learner.train()
    taught: dict[str, bool] = {}
    for epoch in range(3):
        for batch in made.batches(epoch, 0):
            made.learner.zero_grad()
            logits = made.learner(batch.fields)
            made.learner.losses(logits, batch, denominator=Denominator.SEEN).sum().backward()  # type: ignore[no-untyped-call]
            for key, one in made.learner.named_parameters():
                if one.requires_grad:
                    taught[key] = taught.get(key, False) or (one.grad is not None and bool((one.grad != 0).any()))
    missing = {"model.views.numbers.missing", "model.views.vectors.0.missing"}  # no year is missing in that log, and no encoding ever
    assert {key for key, one in taught.items() if not one} <= missing


@every_method
def test_bad_rows_are_defined(table: Table, prepared: Callable[[str], Prepared], name: str) -> None:
    """An item without attributes, values nobody knows, a rating far outside the scale, the same row twice: numbers all the same."""
    made, own = prepared(name), episodes(table, "test", RAGGED)
    batch = made.read(own)
    for change in (bare, strange, loud, twice):
        found = answers(made, replace(batch, fields=change(dict(batch.fields))), len(own))
        assert found.isfinite().all(), change.__name__


def bare(fields: dict[str, Tensor]) -> dict[str, Tensor]:
    empty = {"genres": -1, "year": float("nan"), f"{SUPPORT}genres": -1, f"{SUPPORT}year": float("nan")}
    return fields | {key: torch.full_like(fields[key], one) for key, one in empty.items()}


def strange(fields: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [f"{prefix}{key}" for prefix in ("", SUPPORT) for key in ("item", "age", "genres")]
    return fields | {key: torch.full_like(fields[key], 10_000) for key in names}


def loud(fields: dict[str, Tensor]) -> dict[str, Tensor]:
    return fields | {LABELS: torch.where(torch.tensor([True, False]), 1e6, fields[LABELS])}


def twice(fields: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {key: torch.cat([one, one], 1) if key.startswith(SUPPORT) else one for key, one in fields.items()}
    found[WEIGHT] = found[WEIGHT] / 2
    return found


@every_method
def test_the_prior_is_what_an_answer_starts_from(table: Table, prepared: Callable[[str], Prepared], name: str) -> None:
    """Raising every prior and every rating alike raises the answer alike."""
    made, own = prepared(name), episodes(table, "test", RAGGED)
    batch = made.read(own)
    raise_by = torch.tensor([0.25, 0.0])
    higher = {key: batch.fields[key] + raise_by for key in (":prior", PRIOR, LABELS)}
    close(answers(made, replace(batch, fields={**batch.fields, **higher}), len(own)), answers(made, batch, len(own)) + raise_by)
