"""What is wrong with `[episodes]` by the run file alone, found before the log is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests import everykind

from umbel.data.shots import Shots, episode_batch, even
from umbel.errors import UserError
from umbel.learn.adapt import Inner, Steps
from umbel.learn.episode import Learner
from umbel.learn.rates import fixed
from umbel.learn.scope import DECISION
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Sizes
from umbel.objectives import OBJECTIVES, Huber, Objective
from umbel.recipes import mmoe
from umbel.run import ready
from umbel.run.settings import Settings, parse
from umbel.schema import BINARY, REGRESSION, Field, FieldKind, Schema, Task

USERS, SUPPORT, QUERY = 3, 5, 4


def settings(**click: Any) -> Settings:  # noqa: ANN401
    tree: dict[str, Any] = {
        "data": {"log": "log.parquet", "user": "u", "item": "i", "time": "t"},
        "fields": {"u": {"kind": "id"}, "i": {"kind": "id"}},
        "tasks": {"stars": {"kind": "regression"}, "click": click},
        "split": {"by": "user", "valid": 0.1, "test": 0.1},
        "model": {"recipe": "mmoe"},
        "episodes": {},
    }
    return parse(tree, where="here")


def shots(rows: int, schema: Schema) -> Shots:
    """The same number of rows of each user, every label seen."""
    draw = torch.Generator().manual_seed(rows)
    fields = {"user": torch.zeros(USERS, rows, dtype=torch.int32), "item": torch.randint(1, 9, (USERS, rows), generator=draw).int()}
    seen = torch.ones(USERS, rows, len(schema.tasks), dtype=torch.bool)
    labels = torch.randint(0, 2, seen.shape, generator=draw).float()
    return Shots(fields, labels, seen, even(seen), torch.zeros(USERS, rows, schema.outputs[-1].stop))


def step(loss: Objective) -> None:
    """One of adaptation, and the gradient of what it leads to."""
    kind = REGRESSION if isinstance(loss, Huber) else BINARY
    schema = Schema((Field("user", FieldKind.ID), Field("item", FieldKind.ID)), (Task("click", kind, loss=loss),))
    model = everykind.awake(mmoe(schema, Sizes({"user": 5, "item": 9}, dim=4, expert=(8,), tower=())))
    learner = Learner(model, Steps(model, Inner(DECISION, steps=1), rates=fixed(0.05)), user="user")
    batch = episode_batch(shots(SUPPORT, schema), shots(QUERY, schema))
    torch.autograd.backward(learner.losses(learner(batch.fields), batch, denominator=Denominator.SEEN).sum())
    assert learner.table.grad is not None


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_loss_is_refused_if_and_only_if_no_step_can_be_taken_by_it(name: str) -> None:
    """A loss that is added later says of itself whether a user's rows can be paid for apart from others'."""
    loss = OBJECTIVES[name]()
    if loss.together:
        with pytest.raises((RuntimeError, UserError)):
            step(loss)
    else:
        step(loss)


@pytest.mark.parametrize("name", ["pairwise", "listwise"])
@pytest.mark.parametrize("share", [None, 0.3])
def test_a_loss_of_pairs_or_lists_is_one_line(name: str, share: float | None) -> None:
    loss = name if share is None else {"name": name, "share": share}
    with pytest.raises(UserError) as caught:
        ready.check(settings(loss=loss))
    assert str(caught.value) == (f"tasks.click.loss: '{name}' compares rows of a batch, and an episode is one user's; "
                                 "choose another loss, or leave [episodes] out")


@pytest.mark.parametrize("loss", ["likelihood", "focal", {"name": "cross_entropy", "positive": 3.0}])
def test_other_losses_are_taken(loss: object) -> None:
    ready.check(settings(loss=loss))


def test_negatives_are_refused_beside_it() -> None:
    with pytest.raises(UserError, match=r"tasks\.click\.negatives: episodes are trained on whole"):
        ready.check(settings(negatives=0.5))
