"""How what the readers heard becomes logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.nn.bank import Fan, Part
from umbel.nn.losses import Denominator, Labelled
from umbel.schema import Schema

Taught = tuple[tuple[Part, ...], tuple[int, ...]]  # parameters, and the tasks that teach them


class Head(nn.Module, ABC):
    """What stands on the last mixture: one tensor a voice in, logits out, the tasks' outputs first and auxiliary ones after.

    `hears[task]` are the readers whose output the task's loss teaches. Towers that speak to each other, and losses that
    read several tasks' outputs, teach more than their own reader and declare it here: the gradient law holds them to it.
    `auxiliary` says what each output after the tasks' own is.
    """

    hears: tuple[tuple[int, ...], ...]
    auxiliary: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs, then the auxiliary outputs."""

    @abstractmethod
    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """What each task pays for these logits, task and row weights in it, and a task's auxiliary terms too."""

    @abstractmethod
    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """The rows over which each task's loss is a mean, where `Denominator.SEEN` divides it."""

    @abstractmethod
    def groups(self) -> dict[str, Taught]:
        """Its parameters by name, each with the tasks that teach it; those of `tower TASK` end with the bias of that task's outputs."""


@runtime_checkable
class MakeHead(Protocol):
    """What makes a head: those that a run file names are frozen dataclasses, whose fields are what it may give (`umbel.chosen`).

    `voice[reader]` is where a reader's output stands among the inputs; `widths` are theirs and the hidden layers'.
    """

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """The head of a model."""
        ...


def towers(schema: Schema, reads: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Fan:
    """A tower a task, as wide at its end as the task's kind asks; `reads[task]` is the input it reads."""
    return Fan(reads[:len(schema.tasks)], widths, lasts=tuple(task.kind.outputs for task in schema.tasks), dropout=dropout)


def tower_groups(fan: Fan, schema: Schema, taught: Sequence[tuple[int, ...]]) -> dict[str, Taught]:
    """The towers that a head holds as `towers`, each with the tasks that teach it."""
    return {f"tower {task.name}": (tuple(part.under("towers") for part in fan.parts(number)), taught[number])
            for number, task in enumerate(schema.tasks)}


def pupils(lessons: Sequence[tuple[int, ...]], tasks: int) -> tuple[tuple[int, ...], ...]:
    """For each of `tasks` members who teaches it, where `lessons[task]` are the members that a task's loss teaches.

    Example
    -------
    >>> pupils(((0,), (0, 1)), 2)
    ((0, 1), (1,))
    """
    return tuple(tuple(task for task, own in enumerate(lessons) if member in own) for member in range(tasks))
