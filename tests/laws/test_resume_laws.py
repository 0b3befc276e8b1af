"""Meta-training goes on from any step to the same bytes, and counts the inner steps that it could not take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tests import rated
from torch import Tensor

from umbel.coldstart.gradient import Anil, Maml, Melu, MetaSgd
from umbel.coldstart.method import Method, Prepared, Teaching
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import PRIOR
from umbel.data.table import Table
from umbel.learn import checkpoint
from umbel.learn.episode import Learner
from umbel.learn.fit import Epoch, fit
from umbel.learn.plan import Plan
from umbel.nn.losses import Denominator

PLAN = Plan(epochs=2, rate=0.01, pause=0.0)
METHODS: list[Method] = [Melu(steps=2), Maml(), Anil(second=True), MetaSgd()]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"), rated.log(users=24))


def prepared(table: Table, method: Method) -> Prepared:
    torch.manual_seed(3)
    return method.prepare(replace(rated.setup(table), forget=0.3, ids=0.3))


def judged(learner: Learner, *, batch: Batch) -> float:
    with torch.no_grad():
        return -float(learner.losses(learner(batch.fields), batch, denominator=Denominator.SEEN).sum())


def judge(table: Table, made: Prepared) -> partial[float]:
    return partial(judged, batch=made.read(episodes(table, "valid", rated.SHORT)))


def trained(table: Table, made: Prepared) -> list[Epoch]:
    assert made.batches is not None
    return list(fit(made.learner, made.batches, plan=PLAN, judge=judge(table, made)))


def weights(made: Prepared) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in made.learner.state_dict().items()}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_it_goes_on_from_every_step_to_the_same_bytes(table: Table, tmp_path: Path, method: Method) -> None:
    whole = prepared(table, method)
    assert whole.batches is not None
    stops = 0
    for place, epoch in enumerate(fit(whole.learner, whole.batches, plan=PLAN, judge=judge(table, whole))):
        if not epoch.finished and place in (1, 3, 6):
            checkpoint.save(epoch.state, tmp_path / str(place))
            stops += 1
    assert stops == 3
    end = weights(whole)
    for place in (1, 3, 6):
        other = prepared(table, method)
        assert other.batches is not None
        for _ in fit(other.learner, other.batches, plan=PLAN, judge=judge(table, other), start=checkpoint.load(tmp_path / str(place))):
            pass
        assert all(torch.equal(one, end[name]) for name, one in weights(other).items()), place


@dataclass(frozen=True, slots=True)
class Spoilt:
    """Batches whose first user's support has no finite prior at some steps."""

    batches: Teaching
    steps: tuple[int, ...] = (0,)

    @property
    def ids(self) -> float:
        return self.batches.ids

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        for step, batch in enumerate(self.batches(epoch, start), start=start):
            if step in self.steps:
                prior = batch.fields[PRIOR].clone()
                prior[0] = float("inf")
                yield replace(batch, fields={**batch.fields, PRIOR: prior})
            else:
                yield batch


def test_lost_steps_are_counted_and_never_reach_the_weights(table: Table) -> None:
    made = prepared(table, Melu(steps=3))
    assert made.batches is not None
    spoilt = replace(made, batches=Spoilt(made.batches, steps=(0, 2)))
    trained(table, spoilt)
    assert int(spoilt.learner.state_dict()["adapter.lost"]) == 2 * 2 * 3, "two epochs, two users, three steps each"
    assert all(one.isfinite().all() for one in spoilt.learner.state_dict().values())


def test_the_count_goes_on_after_a_stop(table: Table, tmp_path: Path) -> None:
    made = prepared(table, Melu(steps=3))
    assert made.batches is not None
    epochs = fit(made.learner, Spoilt(made.batches), plan=PLAN, judge=judge(table, made))
    checkpoint.save(next(epochs).state, tmp_path / "one")
    other = prepared(table, Melu(steps=3))
    assert other.batches is not None
    for _ in fit(other.learner, Spoilt(other.batches), plan=PLAN, judge=judge(table, other), start=checkpoint.load(tmp_path / "one")):
        pass
    assert int(other.learner.state_dict()["adapter.lost"]) == 6


def test_plain_training_loses_none(table: Table) -> None:
    made = prepared(table, Melu(steps=3))
    trained(table, made)
    assert int(made.learner.state_dict()["adapter.lost"]) == 0


def test_a_protocol_for_training_and_one_for_judging(table: Table) -> None:
    """What is drawn in training never depends on what the judge asked for."""
    one, other = (prepared(table, Melu()) for _ in range(2))
    assert one.batches is not None
    assert other.batches is not None
    short = partial(judged, batch=one.read(episodes(table, "valid", Protocol(support=1, query=None, history=(7, 100)))))
    list(fit(one.learner, one.batches, plan=replace(PLAN, pause=None), judge=short))
    list(fit(other.learner, other.batches, plan=replace(PLAN, pause=None), judge=judge(table, other)))
    assert all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))
