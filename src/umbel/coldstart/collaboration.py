"""Episodes in which others stand beside a user: those that train CCML, and with collaboration at test those that it is judged on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from umbel.coldstart.choice import Chosen, Traits
from umbel.coldstart.sampling import Sampler
from umbel.coldstart.source import Marks, Reader, Training
from umbel.data.batch import Batch
from umbel.data.episodes import PADDING, Episodes, Rows
from umbel.data.together import Beside, asked, together
from umbel.learn.episode import Learner
from umbel.learn.joint import Joint

Beneath = Int64[np.ndarray, "beneath shots"]


@dataclass(frozen=True, slots=True)
class Joining:
    """How others join a user: whether the joint loss is normalised, and the share `eta` of their query in the outer loss."""

    normalise: bool = True
    eta: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Collaboration:
    """Batches of training users with their collaborators beside them, after `warmup` epochs without.

    Collaborators are chosen at the start of every epoch, or every `refresh` steps of it, at the weights of that moment, and kept in the
    learner: a training that was interrupted goes on with those it had.
    """

    training: Training
    learner: Learner
    sampler: Sampler
    joining: Joining
    warmup: int = 1
    refresh: int | None = None

    @property
    def ids(self) -> float:
        """The share of users who are read by id."""
        return self.training.ids

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, from a step on."""
        own = self.training.episodes(epoch)
        alone = epoch < self.warmup or not self.sampler.choice.helps
        for step, (places, *marks) in enumerate(self.training.drawn(own, epoch, start), start=start):
            if alone:
                yield joined(self.sampler.reader, own.of(places), marks=Marked(*marks))
                continue
            if step % (self.refresh or step + 1) == 0:
                self._choose(own, moment=epoch * 1_000_000 + step)
            yield joined(self.sampler.reader, own.of(places), marks=Marked(*marks), others=Others(self._kept(places), own, self.joining))

    def _choose(self, own: Episodes, moment: int) -> None:
        found = self.sampler.among(self.learner, own, moment=moment)
        kept = _adapter(self.learner)
        kept.who[:, : found.who.shape[1]], kept.share[:, : found.share.shape[1]] = found.who, found.share

    def _kept(self, places: Int64[np.ndarray, "some"]) -> Chosen:
        kept, which = _adapter(self.learner), torch.from_numpy(places)
        return Chosen(kept.who.cpu()[which], kept.share.cpu()[which])


@final
@dataclass(slots=True)
class Judged:
    """Episodes of other users as batches; with `sampler.choice` and `collaborate` training users stand beside them, too.

    Only their supports are read, and of the others only those of training users; the bank of these is made anew whenever the weights have
    changed.
    """

    training: Training
    learner: Learner
    sampler: Sampler
    collaborate: bool
    joining: Joining
    _bank: tuple[bytes, Episodes, Traits] | None = field(default=None, init=False)

    def __call__(self, own: Episodes) -> Batch:
        """One batch of all of them."""
        if not self.collaborate:
            return joined(self.sampler.reader, own)
        stamp = _stamp(self.learner)
        if self._bank is None or self._bank[0] != stamp:
            among = self.training.episodes(-1)
            self._bank = (stamp, among, self.sampler.traits(self.learner, among))
        _, among, bank = self._bank
        chosen = self.sampler.new(self.learner, own, bank)
        return joined(self.sampler.reader, own, others=Others(chosen, among, Joining(self.joining.normalise)))


class Marked(NamedTuple):
    """Users whose items are read as new, and those that are read by their ids; what holds for one holds for its collaborators' rows."""

    new: Marks
    known: Marks


class Others(NamedTuple):
    """Who stands beside each user, among whom, and how."""

    chosen: Chosen
    among: Episodes
    joining: Joining


def joined(reader: Reader, own: Episodes, *, marks: Marked | None = None, others: Others | None = None) -> Batch:
    """One batch of episodes, with the rows of others beside them."""
    new, known = (None, None) if marks is None else (marks.new, torch.from_numpy(marks.known))
    support, query = reader.shots(own.support, new=new), reader.shots(own.query, new=new)
    if others is None or not bool((others.chosen.who >= 0).any()):
        return asked(support, query, index=_numbers(own.query), known=known)
    (who, share), among, joining = others
    their_new = None if new is None else np.repeat(new, who.shape[1])
    rows = _theirs(among.support, who.numpy(), first=own.query[:, :1])
    support = together(support, reader.shots(rows, new=their_new), share, normalise=joining.normalise)
    if not joining.eta:
        return asked(support, query, index=_numbers(own.query), known=known)
    there = (who >= 0).float()
    rows = _theirs(among.query, who.numpy(), first=own.query[:, :1])
    asked_of = Beside(reader.shots(rows, new=their_new), joining.eta * there / there.sum(1, keepdim=True).clamp(min=1))
    whole = np.concatenate([own.query, rows.reshape(len(own), -1)], axis=1)
    return asked(support, query, asked_of, index=_numbers(whole), known=known)


def _theirs(rows: Rows, who: Int64[np.ndarray, "users kept"], *, first: Int64[np.ndarray, "users 1"]) -> Beneath:
    """The rows of each collaborator; for nobody the `first` row of the user itself, which touches no embedding that is not read anyway."""
    found = rows[np.maximum(who, 0)]
    found[who < 0] = PADDING
    found[..., 0] = np.where(who < 0, first, found[..., 0])
    flat: Beneath = found.reshape(-1, rows.shape[1])
    return flat


def _numbers(rows: Rows) -> Tensor:
    return torch.from_numpy(np.where(rows == PADDING, 0, rows).ravel())


def _adapter(learner: Learner) -> Joint:
    assert isinstance(learner.adapter, Joint)
    return learner.adapter


def _stamp(learner: Learner) -> bytes:
    """What the weights are, in a few bytes."""
    digest = blake2b(digest_size=16)
    for one in learner.parameters():
        digest.update(one.detach().cpu().numpy().tobytes())
    return digest.digest()
