"""What a learner says of episodes, beside what happened, and the one number a task that training goes by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from umbel.data.batch import Batch
from umbel.data.episodes import Episodes
from umbel.evaluate.metrics import Undefined, auc
from umbel.kinds import BINARY, REGRESSION
from umbel.learn.episode import Learner
from umbel.learn.history import Scores
from umbel.schema import Schema

Read = Callable[[Episodes], Batch]
SIZE = 64  # users at a time; of those, a method that adapts embeddings copies every row that any of them touches


@dataclass(frozen=True, slots=True)
class Answers:
    """Logits, labels and what was seen of every user's query, padded; users in the order of the episodes."""

    schema: Schema
    users: Int64[np.ndarray, "users"]
    logits: Float[np.ndarray, "users shots outputs"]
    labels: Float[np.ndarray, "users shots tasks"]
    seen: Bool[np.ndarray, "users shots tasks"]

    def of(self, task: str) -> tuple[Float[np.ndarray, "users shots"], Float[np.ndarray, "users shots"], Bool[np.ndarray, "users shots"]]:
        """Labels, predictions (a regression's own, an event's logit) and what was seen of one task."""
        place = [one.name for one in self.schema.tasks].index(task)
        return self.labels[..., place], self.logits[..., self.schema.outputs[place].start], self.seen[..., place]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a learner says of test users; why it says nothing, where nobody has rows enough.

    By scenario; of new users by the size of the support, before one fixed query (`curve`); and of new users as a scenario has them
    (`new`), with the group of each one of them in every grouping.
    """

    scenarios: Mapping[str, Answers | Undefined]
    curve: Mapping[int, Answers | Undefined]
    new: Answers | Undefined
    groups: Mapping[str, Sequence[object]]


def answers(learner: Learner, own: Episodes, read: Read, *, size: int = SIZE) -> Answers:
    """Ask a learner about every episode, users of like lengths together; it is left in training mode, or not, as it was."""
    was = learner.training
    learner.train(False)
    order = np.argsort(own.sizes, kind="stable")
    tasks, outputs = len(learner.schema.tasks), sum(task.kind.outputs for task in learner.schema.tasks)
    shape = own.query.shape
    found = np.zeros((*shape, outputs), np.float32)
    labels, seen = np.zeros((*shape, tasks), np.float32), np.zeros((*shape, tasks), bool)
    with torch.no_grad():
        for start in range(0, len(order), size):
            places = order[start : start + size]
            batch = read(own.of(places)).to(learner.table.device)
            width = len(batch.labels) // len(places)
            logits = learner(batch.fields)[:, :outputs]
            found[places, :width] = logits.view(len(places), width, outputs).cpu().numpy()
            labels[places, :width] = batch.labels.view(len(places), width, tasks).cpu().numpy()
            seen[places, :width] = batch.seen.view(len(places), width, tasks).cpu().numpy()
    learner.train(was)
    return Answers(learner.schema, own.user, found, labels, seen)


def scores(told: Answers) -> Scores:
    """A number a task, the higher the better: minus the mean over users of their mean absolute error, of an event the mean of AUCs.

    Users without a figure are left out of it, and None stands where no user has one.
    """
    judged = [task for task in told.schema.judged if task.kind in (BINARY, REGRESSION)]
    return {task.name: _score(told, task.name, event=task.kind == BINARY) for task in judged}


def _score(told: Answers, task: str, *, event: bool) -> float | None:
    labels, predictions, seen = told.of(task)
    if not event:
        count = seen.sum(1)
        errors = np.where(seen, np.abs(predictions - labels), 0.0).sum(1)
        return -float((errors[count > 0] / count[count > 0]).mean()) if count.any() else None
    each = [auc(labels[user, own], predictions[user, own]) for user, own in enumerate(seen)]
    known = [one for one in each if not isinstance(one, Undefined)]
    return float(np.mean(known)) if known else None
