"""Asking a learner about episodes: every answer stands where its episode does, and scores leave out whom they must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float
from tests import rated

from umbel.coldstart.answers import Answers, answers, scores
from umbel.coldstart.bias import Bias
from umbel.coldstart.gradient import Melu
from umbel.coldstart.method import Prepared
from umbel.data.episodes import PADDING, Episodes, Protocol, episodes
from umbel.data.table import Table
from umbel.kinds import Poisson
from umbel.learn.episode import Learner
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

RAGGED = Protocol(support=None, query=3, history=(7, 100))
OPEN = Protocol(support=4, query=None, history=(7, 100))
SCHEMA = Schema((Field("item", FieldKind.ID),), (Task("rating", REGRESSION), Task("click"), Task("views", Poisson())))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"), rated.log(users=24))


@pytest.fixture(scope="module")
def prepared(table: Table) -> Prepared:
    return Melu(rate=0.125).prepare(rated.setup(table))


@pytest.mark.parametrize("protocol", [RAGGED, OPEN])
@pytest.mark.parametrize("size", [1, 3, 5, 256])
def test_answers_stand_in_the_order_of_the_episodes_however_they_are_batched(
    table: Table, prepared: Prepared, protocol: Protocol, size: int
) -> None:
    own = episodes(table, "train", protocol)
    found = answers(prepared.learner, own, prepared.read, size=size)
    assert found.users.tolist() == own.user.tolist()
    for place in range(len(own)):
        alone = own.of(np.array([place]))
        logits = prepared.learner.eval()(prepared.read(alone).fields).detach().numpy()
        there = found.seen[place].any(1)
        assert found.logits[place][there] == pytest.approx(logits, abs=1e-5)
        assert found.labels[place][there].tolist() == table.batch(alone.query.ravel()).labels.tolist()
        assert int(there.sum()) == int((own.query[place] != PADDING).sum())


def test_the_order_of_the_episodes_is_the_callers(table: Table, prepared: Prepared) -> None:
    own = episodes(table, "train", OPEN)
    turned = np.arange(len(own))[::-1].copy()
    one, other = (answers(prepared.learner, some, prepared.read) for some in (own, own.of(turned)))
    assert one.users[turned].tolist() == other.users.tolist()
    assert one.labels[turned][one.seen[turned]].tolist() == other.labels[other.seen].tolist()


def test_padding_is_unseen(table: Table, prepared: Prepared) -> None:
    own = episodes(table, "train", OPEN)
    found = answers(prepared.learner, own, prepared.read)
    assert (found.seen.any(2) == (own.query != PADDING)).all()


def test_nobody_is_asked(table: Table, prepared: Prepared) -> None:
    nobody = Episodes(np.empty(0, np.int64), np.empty((0, 0), np.int64), np.empty((0, 0), np.int64))
    found = answers(prepared.learner, nobody, prepared.read)
    assert found.logits.shape == (0, 0, 2)
    assert scores(found) == {"rating": None, "click": None}


def test_the_learner_is_left_as_it_was(table: Table, prepared: Prepared) -> None:
    own = episodes(table, "train", RAGGED)
    learner: Learner = prepared.learner
    for mode in (True, False):
        learner.train(mode)
        answers(learner, own, prepared.read)
        assert learner.training is mode
        assert all(one.grad is None for one in learner.parameters())


def test_auxiliary_outputs_are_no_answers(table: Table) -> None:
    found = Bias().prepare(rated.setup(table))
    assert answers(found.learner, episodes(table, "valid", RAGGED), found.read).logits.shape[2] == 2


def told(
    labels: list[list[float]], logits: list[list[float]], *, seen: list[list[bool]] | None = None, task: int = 0
) -> Answers:
    """Answers of one task, the others unseen."""
    y, z = np.zeros((*np.shape(labels), 3), np.float32), np.zeros((*np.shape(labels), 3), np.float32)
    there: Bool[np.ndarray, "users shots tasks"] = np.zeros(y.shape, bool)
    y[..., task], z[..., task] = labels, logits
    there[..., task] = True if seen is None else seen
    return Answers(SCHEMA, np.arange(len(labels)), z, y, there)


def test_a_ratings_score_is_minus_the_mean_of_users_mean_errors() -> None:
    found = scores(told([[1, 2], [5, 5]], [[2, 2], [2, 9]], seen=[[True, True], [True, False]]))
    assert found["rating"] == pytest.approx(-(0.5 + 3.0) / 2)
    assert found["click"] is None


def test_an_events_score_is_the_mean_of_users_aucs() -> None:
    found = scores(told([[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[3, 1, 2], [1, 3, 2], [1, 2, 3]], task=1))
    assert found["click"] == pytest.approx((1.0 + 0.5) / 2), "the third user saw one class alone"
    assert found["rating"] is None


def test_a_user_of_one_class_alone_is_no_half() -> None:
    assert scores(told([[1, 1], [0, 0]], [[1, 2], [1, 2]], task=1))["click"] is None


def test_a_user_who_saw_nothing_is_left_out() -> None:
    seen = [[True, True], [False, False]]
    assert scores(told([[1, 2], [9, 9]], [[1, 2], [0, 0]], seen=seen))["rating"] == 0.0


def test_tasks_of_other_kinds_have_no_score() -> None:
    assert set(scores(told([[1]], [[1]]))) == {"rating", "click"}


def test_an_auxiliary_task_has_none() -> None:
    schema = Schema(SCHEMA.fields, (Task("rating", REGRESSION), Task("click", auxiliary=True)))
    made = told([[1, 2]], [[1, 1]])
    assert set(scores(replace(made, schema=schema))) == {"rating"}


def test_one_task_of_many() -> None:
    made = told([[1, 0]], [[3, 4]], task=1)
    labels, predictions, seen = made.of("click")
    assert (labels.tolist(), predictions.tolist()) == ([[1.0, 0.0]], [[3.0, 4.0]])
    assert seen.all()


def test_a_plain_loop_agrees(table: Table, prepared: Prepared) -> None:
    own = episodes(table, "valid", RAGGED)
    found = answers(prepared.learner, own, prepared.read)
    each: list[Float[np.ndarray, ""]] = []
    for user in range(len(own)):
        rows = found.seen[user, :, 0]
        each.append(np.abs(found.logits[user, rows, 0] - found.labels[user, rows, 0]).mean())
    assert scores(found)["rating"] == pytest.approx(-float(np.mean(each)), rel=1e-6)


def test_dropout_is_off_while_asked(table: Table) -> None:
    made = rated.model(table)
    made.places.drop = 0.9
    learner = Learner(made, Melu(rate=0.1).prepare(rated.setup(table)).learner.adapter, user="user").train()
    prepared = rated.setup(table).reader
    own = episodes(table, "valid", RAGGED)
    torch.manual_seed(0)
    one = answers(learner, own, prepared.batch)
    other = answers(learner, own, prepared.batch)
    assert np.array_equal(one.logits, other.logits)
