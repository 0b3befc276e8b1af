"""What a log means: its fields, its tasks, and which outputs of a model belong to which task (no torch here)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, log
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from umbel.errors import UserError, nearest
from umbel.kinds import BINARY as BINARY
from umbel.kinds import REGRESSION as REGRESSION
from umbel.kinds import TASK_KINDS as TASK_KINDS
from umbel.kinds import MultiClass
from umbel.kinds import TaskKind as TaskKind
from umbel.objectives import LIKELIHOOD, Objective, check_objective
from umbel.statistic import Statistic as Statistic
from umbel.statistic import check_statistic


class FieldKind(StrEnum):
    """How a raw column becomes a tensor."""

    ID = "id"              # one of many values: rows, 0 = unknown or missing
    CATEGORY = "category"  # one of few values: rows, 0 = unknown or missing
    NUMBER = "number"      # a scalar, standardised by training statistics: rows, NaN = missing
    BAG = "bag"            # several values without order: rows x length, -1 = padding
    SEQUENCE = "sequence"  # several values in order, the last `length` kept: rows x length, -1 = padding
    VECTOR = "vector"      # precomputed numbers: rows x width, a row of NaN = missing
    STATISTIC = "statistic"  # means of labels and a count by id, of training rows alone: rows x width


Edges = Mapping[str, Sequence[Sequence[float]]]  # of each field with bins, the edges for each of its numbers
NO_EDGES: Edges = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a model.

    `column` is the raw column (the field's own name by default); `sql` derives the value instead.
    `like` names the field whose vocabulary and embedding table this one shares; `target` names the field a
    sequence is a history of (its candidate). `length` caps bags and sequences, `width` is a vector's; `statistic` says what a
    statistic is made of. A number or statistic with `bins` is read piece by piece (`umbel.nn.encode.Bins`).
    Values seen fewer than `min_count` times in the training rows are unknown.

    Example
    -------
    >>> Field("watched", FieldKind.SEQUENCE, like="video_id", length=50).table
    'video_id'
    """

    name: str
    kind: FieldKind
    column: str | None = None
    sql: str | None = None
    like: str | None = None
    target: str | None = None
    length: int = 50
    width: int = 0
    min_count: int = 2
    statistic: Statistic | None = None
    bins: int = 0

    @property
    def coded(self) -> bool:
        """Whether its values are codes of a vocabulary (id, category, bag, sequence)."""
        return self.kind is not FieldKind.NUMBER and not self.wide

    @property
    def wide(self) -> bool:
        """Whether a row holds several numbers (vector, statistic)."""
        return self.kind in (FieldKind.VECTOR, FieldKind.STATISTIC)

    @property
    def mapped(self) -> bool:
        """Whether a matrix makes its embedding: of several numbers, or of the bins of one."""
        return self.wide or self.bins > 0

    @property
    def many(self) -> bool:
        """Whether a row holds several values (bag, sequence)."""
        return self.kind in (FieldKind.BAG, FieldKind.SEQUENCE)

    @property
    def table(self) -> str:
        """The name of the vocabulary and embedding table it reads."""
        return self.like or self.name

    @property
    def size(self) -> int:
        """Columns it takes in a packed table."""
        if self.statistic is not None:
            return self.statistic.width
        if self.kind is FieldKind.VECTOR:
            return self.width
        return self.length if self.many else 1


@dataclass(frozen=True, slots=True)
class Task:
    """One objective: the event in column `label` (or `sql`), modelled where the event of `given` holds.

    The output of a binary task is the logit of p(task | its `given` holds); the label stays the plain event.
    `weight` multiplies the task's loss, `loss` says which it is. Of a binary task's training rows without the event the
    share `negatives` is trained on, drawn anew each epoch; predictions are corrected for it. An `auxiliary` task is trained for what the
    others learn from it, and not judged. `range` is the scale of a rating, ends included: labels outside it are refused. Predictions
    are not cut to it, since what lies beyond an end would tie there and lose its order.
    """

    name: str
    kind: TaskKind = BINARY
    given: str | None = None
    weight: float = 1.0
    label: str | None = None
    sql: str | None = None
    auxiliary: bool = False
    loss: Objective = LIKELIHOOD
    negatives: float = 1.0
    range: tuple[float, float] | None = None

    @property
    def raised(self) -> float:
        """By how much training raises its logits above the true log-odds: `log(class weight) - log(negatives)`.

        Keeping a share w of the rows without the event multiplies the odds by 1/w, exactly
        (He et al., ADKDD 2014, https://doi.org/10.1145/2648584.2648589).
        """
        return self.loss.raised - log(self.negatives)


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields a model reads and the tasks it answers, in order.

    Example
    -------
    >>> schema = Schema((Field("user", FieldKind.ID),), (Task("click"), Task("buy", given="click")))
    >>> schema.outputs, schema.chain("buy")
    ((slice(0, 1, None), slice(1, 2, None)), ('click', 'buy'))
    """

    fields: tuple[Field, ...]
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        _check_names("fields", [field.name for field in self.fields])
        _check_names("tasks", [task.name for task in self.tasks])
        for field in self.fields:
            self._check_field(field)
            self._check_statistic(field)
        for task in self.tasks:
            self.chain(task.name)
            _check_task(task)
        if all(task.auxiliary for task in self.tasks):
            raise UserError("tasks: all are auxiliary", mend="leave one to be judged")

    def field(self, name: str, *, where: str = "fields") -> Field:
        """The field of that name; :raises UserError: if there is none, saying `where` it is named."""
        return _named(name, self.fields, f"{where}: no field")

    def task(self, name: str, *, where: str = "tasks") -> Task:
        """The task of that name; :raises UserError: if there is none, saying `where` it is named."""
        return _named(name, self.tasks, f"{where}: no task")

    @property
    def tables(self) -> tuple[str, ...]:
        """The vocabularies, each once, in the order of the fields that own them."""
        return tuple(field.name for field in self.fields if field.coded and field.like is None)

    @property
    def judged(self) -> tuple[Task, ...]:
        """The tasks whose figures count: all but the auxiliary ones."""
        return tuple(task for task in self.tasks if not task.auxiliary)

    @property
    def outputs(self) -> tuple[slice, ...]:
        """The slice of a model's outputs that each task owns."""
        return _slices([task.kind.outputs for task in self.tasks])

    @property
    def answers(self) -> tuple[slice, ...]:
        """The slice of the predictions that each task owns."""
        return _slices([len(task.kind.answers) for task in self.tasks])

    @property
    def raised(self) -> Float[np.ndarray, "outputs"]:
        """By how much training raises each output of the tasks (`Task.raised` at the logit of a binary one, else 0)."""
        return np.array([task.raised for task in self.tasks for _ in range(task.kind.outputs)])

    def chain(self, name: str) -> tuple[str, ...]:
        """A task behind the tasks it is given, the outermost first; :raises UserError: on a circle, or where a given is no event."""
        found: list[str] = []
        step: str | None = name
        while step is not None:
            if step in found:
                raise UserError(f"tasks.{name}: 'given' runs in a circle", mend=f"cut one of {' -> '.join([*found, step])}")
            above = self.task(step, where=f"tasks.{found[-1]}.given" if found else "tasks")
            if found and above.kind != BINARY:
                raise UserError(f"tasks.{found[-1]}: given {step!r} is not binary", mend="a sample space must be a binary task")
            found.append(step)
            step = above.given
        return tuple(reversed(found))

    def marginal(self, logits: Float[np.ndarray, "rows outputs"], name: str) -> Float[np.ndarray, "rows"]:
        """log p(task): the sum of log-sigmoids of the logits along its chain.

        `log p(buy) = log p(click) + log p(buy | click)`, so that no product of small numbers underflows.
        """
        column = {task.name: part.start for task, part in zip(self.tasks, self.outputs, strict=True)}
        total = np.zeros(len(logits))
        for step in self.chain(name):
            total -= np.logaddexp(0.0, -logits[:, column[step]])
        return total

    def _check_field(self, field: Field) -> None:
        where = f"fields.{field.name}"
        if field.column is not None and field.sql is not None:
            raise UserError(f"{where}: both 'column' and 'sql'", mend="keep one")
        if field.like is not None:
            owner = self.field(field.like, where=f"{where}.like")
            if not (field.coded and owner.coded and owner.like is None):
                raise UserError(f"{where}: like = {field.like!r} owns no vocabulary", mend="name a coded field without 'like'")
        if field.target is not None and self.field(field.target, where=f"{where}.target").table != field.table:
            raise UserError(f"{where}: target {field.target!r} has another vocabulary", mend=f"add like = {field.target!r}")
        if field.kind is FieldKind.VECTOR and field.width < 1:
            raise UserError(f"{where}: a vector needs its width", mend="add width = N")
        if field.bins and field.kind not in (FieldKind.NUMBER, FieldKind.STATISTIC):
            raise UserError(f"{where}: bins of a {field.kind}", mend="only a number or a statistic takes them")
        if field.bins < 0:
            raise UserError(f"{where}: bins = {field.bins}", mend="give how many, 0 for none")
        if field.length < 1 or field.min_count < 1:
            raise UserError(f"{where}: length and min_count are at least 1", mend="raise them")

    def _check_statistic(self, field: Field) -> None:
        where = f"fields.{field.name}"
        if (field.kind is FieldKind.STATISTIC) != (field.statistic is not None):
            raise UserError(f"{where}: a statistic is said by 'by'", mend="give kind = 'statistic' and by = ['COLUMN', ...] together")
        if field.statistic is None:
            return
        check_statistic(where, field.statistic)
        for task in field.statistic.tasks:
            if isinstance(self.task(task, where=f"{where}.tasks").kind, MultiClass):
                raise UserError(f"{where}: {task!r} has classes, and no mean", mend="leave it out of tasks = [...]")
        for by in field.statistic.by:
            if any(one.name == by and (one.many or one.wide) for one in self.fields):
                raise UserError(f"{where}: by {by!r}, which holds several values a row", mend="name fields or columns of one value")


Named = TypeVar("Named", Field, Task)


def _slices(widths: list[int]) -> tuple[slice, ...]:
    ends = np.cumsum(widths).tolist()
    return tuple(slice(end - width, end) for width, end in zip(widths, ends, strict=True))


def _check_task(task: Task) -> None:
    where = f"tasks.{task.name}"
    check_objective(where, task.loss, task.kind)
    if not 0 < task.negatives <= 1:
        raise UserError(f"{where}: negatives = {task.negatives:g}", mend="give the share of rows to keep, above 0 and at most 1")
    if task.range is not None:
        low, high = task.range
        if not low < high:
            raise UserError(f"{where}: range = [{low:g}, {high:g}]", mend="give its least and its greatest label, in this order")
        if isfinite(task.kind.labels.high) or low < task.kind.labels.low:
            raise UserError(f"{where}: a range of a {task.kind.name} task", mend=f"its labels are {task.kind.labels}")
    if task.negatives < 1 and task.kind != BINARY:
        raise UserError(f"{where}: negatives of a {task.kind.name} task", mend="only a binary task has rows without the event")


def _check_names(what: str, names: list[str]) -> None:
    if not names:
        raise UserError(f"{what}: none", mend=f"declare at least one under [{what}.NAME]")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{what}: {twice[0]!r} is declared twice", mend="rename one")


def _named(name: str, among: tuple[Named, ...], what: str) -> Named:
    for one in among:
        if one.name == name:
            return one
    raise UserError(f"{what} {name!r}", mend=nearest(name, [one.name for one in among]))
