"""What a cold-start method is: a recommender and an adapter over episodes, and the batches that train it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from umbel.coldstart.source import Reader, Training
from umbel.data.batch import Batch
from umbel.data.episodes import Episodes, user_field
from umbel.data.episodes import Protocol as Division
from umbel.learn.episode import Adapter, Learner
from umbel.nn.recommender import Recommender
from umbel.schema import Schema


@dataclass(frozen=True, slots=True)
class Setup:
    """What every method starts from: a table's reader, how an untrained model is made, and how training draws episodes.

    `build` makes a model over a schema: the table's, or that with fields of a method's own.
    """

    reader: Reader
    build: Callable[[Schema], Recommender]
    protocol: Division
    size: int = 32
    seed: int = 1
    forget: float = 0.0
    ids: float = 0.0

    @property
    def schema(self) -> Schema:
        """The table's."""
        return self.reader.table.schema

    @property
    def training(self) -> Training:
        """Episodes of training users, drawn anew every epoch."""
        return Training(self.reader, self.protocol, size=self.size, seed=self.seed, forget=self.forget, ids=self.ids)

    def new_user(self, model: Recommender, adapter: Adapter) -> Learner:
        """A learner that knows no user by id."""
        return Learner(model, adapter, user=user_field(self.reader.table))


@runtime_checkable
class Teaching(Protocol):
    """The batches that train a method, and the share `ids` of their users who are read by id."""

    @property
    def ids(self) -> float:
        """0: nobody ever is; 1: everyone always."""
        ...

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, from a step on."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A method at its start: what is trained, on which batches (None: nothing is), and how episodes become what it reads.

    `lone` reads a user without the help of training users, as a bundle has to; None where `read` does.
    """

    learner: Learner
    batches: Teaching | None
    read: Callable[[Episodes], Batch]
    lone: Callable[[Episodes], Batch] | None = None

    @property
    def ids(self) -> float:
        """The share of users whom training reads by id; 0 where nothing is trained."""
        return 0.0 if self.batches is None else self.batches.ids

    @property
    def served(self) -> Callable[[Episodes], Batch]:
        """How episodes become what a bundle reads of a user."""
        return self.lone or self.read


class Method(ABC):
    """A way to serve a user from a few rows; a frozen dataclass, whose fields are what a run file may give (`umbel.chosen`).

    To add one: its class in a file here, its line in `METHODS`, a row in the tests. Laws find it there: an empty support is no error, no
    label of the query reaches a prediction, users together are users alone, padding and the order of users change nothing.
    """

    name: ClassVar[str]

    @abstractmethod
    def prepare(self, setup: Setup) -> Prepared:
        """Its learner, untrained, and what trains it."""
