"""PAML: who has friends of a similar taste starts from what they are like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

from umbel.coldstart.attributes import Attributes
from umbel.coldstart.friends import FRIENDS, Friends
from umbel.coldstart.gradient import over
from umbel.coldstart.method import Method, Prepared, Setup
from umbel.coldstart.source import Reader, Training
from umbel.data.batch import Batch
from umbel.data.episodes import Episodes
from umbel.errors import UserError
from umbel.learn.adapt import Inner
from umbel.learn.gated import Gated
from umbel.learn.scope import DECISION


@final
@dataclass(frozen=True, slots=True)
class Paml(Method):
    """`paml`: units of the decision layers open and close by what a user's friends are like, then one first-order step.

    Wang et al., IJCAI 2021. Theirs finds friends in a social network and along paths in ratings, reads their histories coarse to fine,
    and gates every weight. Ours are training users who rated the support's items alike (`umbel.coldstart.friends`), each with a
    learned taste, read with attention; a gate is a unit's.
    """

    name: ClassVar[str] = "paml"
    friends: int = 5
    steps: int = 1
    rate: float = 0.05
    centred: bool = False

    def __post_init__(self) -> None:
        if self.friends < 1 or self.steps < 0:
            raise UserError("paml: friends is at least 1, steps at least 0", mend="raise them")

    def prepare(self, setup: Setup) -> Prepared:
        """Gates over a new model, and batches in which users have friends."""
        table, model = setup.reader.table, setup.build(setup.schema)
        names = [field.name for field in setup.schema.fields]
        friends = Friends.of(table, self.friends)
        gated = Gated(model, Inner(DECISION, steps=self.steps), friends=FRIENDS, users=len(friends.users),
                      traits=tuple(map(names.index, Attributes.of(table).users)), rate=self.rate)
        read = Befriended(setup.reader, friends)
        return Prepared(setup.new_user(model, over(gated, centred=self.centred)), Among(setup.training, friends), read)


@dataclass(frozen=True, slots=True)
class Befriended:
    """Episodes as batches, with friends."""

    reader: Reader
    friends: Friends

    def __call__(self, own: Episodes) -> Batch:
        """One batch of all of them."""
        return self.friends.joined(self.reader.batch(own), own.user)


@dataclass(frozen=True, slots=True)
class Among:
    """Batches of training users, with friends."""

    training: Training
    friends: Friends

    @property
    def ids(self) -> float:
        """The share of users who are read by id."""
        return self.training.ids

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, from a step on."""
        own = self.training.episodes(epoch)
        for places, new, known in self.training.drawn(own, epoch, start):
            some = own.of(places)
            yield self.friends.joined(self.training.reader.batch(some, new=new, known=known), some.user)
