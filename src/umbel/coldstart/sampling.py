"""Collaborators for training users and for new ones: a bank of everybody's gradients and tastes, candidates on paper, the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from umbel.coldstart.attributes import Attributes
from umbel.coldstart.benefit import Scale, tastes
from umbel.coldstart.choice import Choice, Chosen, Traits
from umbel.coldstart.pool import Described, Places, Pool, described
from umbel.coldstart.source import Reader
from umbel.data.episodes import Episodes
from umbel.learn.encoding import TASTE
from umbel.learn.episode import Episode, Learner
from umbel.learn.joint import Joint
from umbel.learn.scope import Scope
from umbel.learn.slopes import sketched, slopes

CHUNK = 128  # users whose gradients are taken at a time


@dataclass(frozen=True, slots=True)
class Looks:
    """How users are compared: gradients over `scope`, shortened to `sketch` numbers (0: not).

    With `query` a training user asks with the gradient of its query instead of its support's: directly whose step helps there.
    """

    scope: Scope
    sketch: int = 2048
    query: bool = False


@final
class Sampler:
    """Chooses collaborators among the training users, at the weights that the learner has when it is asked.

    `pool` is made once, from what is known of training users without labels.
    """

    def __init__(self, reader: Reader, choice: Choice, looks: Looks, *, known: tuple[Attributes, Described, Pool]) -> None:
        self.reader, self.choice, self.looks = reader, choice, looks
        self.attributes, self.described, self.pool = known
        self.scale = Scale.of(reader.table)
        self._near: Tensor | None = None

    @property
    def near(self) -> Tensor:
        """The candidates of each training user."""
        if self._near is None:
            self._near = torch.from_numpy(self.pool.near(self.described))
        return self._near

    def among(self, learner: Learner, own: Episodes, *, moment: int) -> Chosen:
        """The collaborators of all training users, told by the rows that they have in `own`."""
        bank = self.traits(learner, own)
        asking = self.traits(learner, Episodes(own.user, own.query, own.support)) if self.looks.query else bank
        return self.choice(Traits(asking.slope, bank.taste), bank, self.near, moment=moment)

    def new(self, learner: Learner, own: Episodes, bank: Traits) -> Chosen:
        """The collaborators of other users, told by their support alone."""
        near: Places = self.pool.near(described(self.reader.table, own, self.attributes.users, query=False))
        return self.choice(self.traits(learner, own), bank, torch.from_numpy(near), moment=-1)

    def traits(self, learner: Learner, own: Episodes) -> Traits:
        """Gradients and tastes of users, by their support, in evaluation mode."""
        was = learner.training
        learner.train(False)
        try:
            with torch.inference_mode(False), torch.no_grad():
                parts = [self._some(learner, own.of(places)) for places in _pieces(len(own))]
        finally:
            learner.train(was)
        return Traits(*(torch.cat(one) for one in zip(*parts, strict=True)))

    def _some(self, learner: Learner, own: Episodes) -> Traits:
        batch = self.reader.batch(Episodes(own.user, own.support, own.query[:, :1])).to(learner.table.device)
        assert isinstance(learner.adapter, Joint)
        episode = learner.adapter.read(learner.model, learner.episode(learner.rows(batch.fields), batch.fields)).episode
        slope = slopes(learner.model, episode, self.looks.scope, chunk=CHUNK)
        slope = sketched(slope, self.looks.sketch) if self.looks.sketch else slope
        return Traits(torch.nn.functional.normalize(slope, dim=1).cpu(), self._tastes(learner, episode).cpu())

    def _tastes(self, learner: Learner, episode: Episode) -> Tensor:
        told = {*self.attributes.users, learner.user, TASTE}
        items = [place for place, field in enumerate(learner.schema.fields) if field.name not in told]
        seen, _ = episode.seen()
        task = self.scale.task
        there = episode.support.seen[:, :, task] & (episode.support.weight > 0)
        level = torch.where(there, self.scale.level(episode.support.labels[:, :, task]), -1)
        return tastes(seen[:, :, :, items].flatten(2), level, self.scale.levels)


def _pieces(count: int) -> list[Int64[np.ndarray, "some"]]:
    return [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
