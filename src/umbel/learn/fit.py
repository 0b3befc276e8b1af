"""The one training loop: a generator, so that the caller's own loop logs, saves and stops."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Generic, TypeVar, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from umbel.data.batch import Batch
from umbel.errors import DivergedError, UserError
from umbel.learn.blame import broken
from umbel.learn.history import Scores
from umbel.learn.memory import keep_freed
from umbel.learn.plan import Plan
from umbel.learn.seam import Model
from umbel.learn.state import Progress, State, finite, random_state, set_random_state
from umbel.learn.step import Exact, Fast, Step
from umbel.learn.tally import Tally, counted
from umbel.nn.encode import SPREAD

LOOK = 256  # steps between two looks at the losses for a number that is not finite: each look waits for the device
# Before, an epoch is looked at whenever it is twice as long: eight times.
Trained = TypeVar("Trained", bound=Model)
Judge = Callable[[Trained], float | Scores]
Batches = Callable[[int, int], Iterable[Batch]]
Heard = Callable[[tuple[float, ...]], None]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch, or the part of it until a pause, came to.

    `number` counts epochs, and `step` batches of this one, from 1. `losses` are means per task over the labels so far,
    task weights included; `weights` are the balancer's, on average (none without one). `scores` are the judge's (none until
    `finished`), `score` the one number that the plan's rule makes of them, `kept` the epoch that the rule keeps so far, counted
    from 1, and `best` its score; `stop` says whether training ends here.
    `rows` were trained on in `seconds`, judging and pauses not counted, nor the `compiling` seconds in which the model was compiled.
    """

    number: int
    step: int
    finished: bool
    losses: tuple[float, ...]
    score: float | None
    best: float | None
    stop: bool
    rows: int
    seconds: float
    state: State
    compiling: float = 0.0
    weights: tuple[float, ...] = ()
    scores: Scores = field(default_factory=dict)
    kept: int | None = None


def fit(
    model: Trained,
    batches: Batches,
    *,
    plan: Plan,
    judge: Judge[Trained],
    start: State | None = None,
    heard: Heard | None = None,
) -> Generator[Epoch, None, None]:
    """Train the model in place and yield each epoch; after the last, `state.best` holds the weights that `plan.keep` chose.

    `batches(epoch, step)` gives the batches of an epoch, counted from 0, from that step on; `judge` scores the model after every
    epoch, the higher the better: a score a task (None where it cannot be had), or one number. `start` continues a training from
    where it stood: on a CPU, to the same bytes as if it had never stopped. It is copied and let go, so that whoever lets go of it, too,
    has its memory again.
    `heard` is told each task's mean loss so far in the epoch, after 1, 2, 4, ... and then every `LOOK` steps, when the device is waited
    for anyway.
    The judge and the caller may draw random numbers, which changes nothing here. The process keeps its freed memory from then on
    (`umbel.learn.memory`).

    :raises DivergedError: when a loss, or a weight at the end of an epoch, is not a finite number.
    :raises UserError: when the judge's score is not, when there are no rows, or when `start` belongs to another model or plan.

    Example
    -------
    ``for epoch in fit(model, loader, plan=Plan(), judge=judge): save(epoch.state, folder)``
    """
    training = _Training(model, plan, judge=judge, batches=batches, heard=heard)
    training.begin(start)
    del start  # which this frame would hold to the last epoch
    while not training.progress.over(plan):
        for part in training.parts():
            with training.apart():
                yield part


@final
class _Training(Generic[Trained]):
    """The moving parts of one `fit`."""

    def __init__(self, model: Trained, plan: Plan, *, judge: Judge[Trained], batches: Batches, heard: Heard | None) -> None:
        keep_freed()
        model.to(plan.device)
        self.model = model
        self.plan = plan
        self.judge = judge
        self.batches = batches
        self.heard = heard
        self.step: Step = Exact(model, plan) if plan.exact else Fast(model, plan)
        self.schedule = plan.schedule(self.step.optimizer) if plan.schedule is not None else None
        self.progress = Progress()
        self.kept: Mapping[str, Tensor] = {}
        self.prepared = not plan.compiled
        self.tally = Tally(len(model.schema.tasks), plan.device)

    def begin(self, start: State | None) -> None:
        if start is None:
            torch.manual_seed(self.plan.seed)
        else:
            self._resume(start)
        self.step.processes.draw_apart(self.progress.epoch, self.progress.step)

    def _resume(self, start: State) -> None:
        self._check_fits("weights", start.weights, self.model.state_dict())
        self._check_fits("row optimiser", start.table, self.step.table_state())
        self._check_fits("balancer", start.balance, self.step.balance_state())
        self.model.load_state_dict(start.weights)
        self.step.load(start.dense)
        self.step.load_table(start.table)
        self.step.load_balance(start.balance)
        self.tally.load(start.tally)
        self.progress, self.kept = start.progress, {name: tensor.clone() for name, tensor in start.kept.items()}
        self._check_kept()
        # A schedule is replayed from the scores, so that no object of it is ever written down.
        for scores in start.progress.scores:
            _advance(self.schedule, self.plan.keep.score(scores))
        set_random_state(start.random, self.plan.device)

    def _check_fits(self, what: str, given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """Refuse a state that another model or plan has left; :raises UserError: naming the first tensor that differs."""
        left, asked = self._shapes(given), self._shapes(expected)
        for name in sorted({*left, *asked}):
            if left.get(name) != asked.get(name):
                raise UserError(
                    f"checkpoint: {what} {name!r} is {left.get(name)}, the model and plan ask for {asked.get(name)}",
                    mend="train into a new folder, or go back to the recipe and plan it came from",
                )

    def _shapes(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """Of the whole table, so that whoever holds a share of it finds what the others find."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        return {name: (self.step.held.rows(shape[0]), *shape[1:]) if name == "table" else shape for name, shape in shapes.items()}

    def _check_kept(self) -> None:
        """Refuse a state whose rule let go of the epoch that this plan's rule keeps."""
        if self.progress.scores and self.plan.keep.best(self.progress.scores) != self.progress.best:
            raise UserError("checkpoint: another rule than this plan's chose its best epoch", mend="go on with the rule it began with")

    def apart(self) -> AbstractContextManager[None]:
        """While this lasts, others may draw random numbers."""
        return torch.random.fork_rng([self.plan.device] if self.plan.device.type == "cuda" else [])

    def parts(self) -> Iterator[Epoch]:
        """The rest of one epoch: an unfinished report at every pause, then the judged one."""
        for _ in self._train():
            yield self._report(self.progress, finished=False)
        if not self.progress.rows:
            raise UserError("training: no rows", mend="widen the training part of [split]")
        trained = self.progress
        losses, weights = self.tally.means(), self.step.weights()
        self._close(self._judged())
        yield replace(self._report(trained, finished=True), losses=losses, weights=weights)

    def _train(self) -> Iterator[None]:
        self.model.train(True)
        before, began = self.progress.seconds, time.monotonic()
        batches = iter(self.batches(self.progress.epoch, self.progress.step))
        while some := [batch.to(self.plan.device) for batch in islice(batches, self.plan.accumulate)]:
            began += self._prepare(some)
            self._learn(some)
            passed = time.monotonic() - began
            if self.plan.pause is not None and self.step.held.every(passed >= self.plan.pause):
                self._look()
                self.progress = replace(self.progress, seconds=before + passed)
                yield
                before, began = self.progress.seconds, time.monotonic()
        self._look()
        self.progress = replace(self.progress, seconds=before + time.monotonic() - began)

    def _prepare(self, batches: list[Batch]) -> float:
        """Have the model compiled, once in a process; the seconds that took."""
        if self.prepared:
            return 0.0
        began = time.monotonic()
        with self.apart():
            self.step.prepare(batches)
        self.prepared, passed = True, time.monotonic() - began
        self.progress = replace(self.progress, compiling=self.progress.compiling + passed)
        return passed

    def _learn(self, batches: list[Batch]) -> None:
        step = self.progress.step
        for at, (batch, losses) in enumerate(zip(batches, self.step.take(batches), strict=True), start=step):
            self.tally.add(losses, counted(self.model.paid(batch), self.plan.denominator), step=at)
        rows = self.progress.rows + sum(len(batch.labels) for batch in batches)
        self.progress = replace(self.progress, step=step + len(batches), rows=rows)
        done = self.progress.step
        if done // LOOK > step // LOOK or done.bit_length() > step.bit_length():
            self._look()
            if self.heard is not None:
                self.heard(self.tally.means())

    def _look(self) -> None:
        """Wait for the device, and see whether every loss so far was a number; where one was not, its batch is asked for again."""
        found = self.tally.broke()
        if found is not None:
            step, task = found
            first = max(step - step % self.plan.accumulate - self.plan.accumulate, 0)  # of the batches that made the update before
            again = list(islice(self.batches(self.progress.epoch, first), step - first + 1))
            raise broken(self.model.schema, reversed(again), task=task, epoch=self.progress.epoch + 1, step=step + 1)

    def _judged(self) -> Scores:
        if not self.step.held.every(finite(self.model.state_dict().values())):
            what = f"training: after epoch {self.progress.epoch + 1} the weights are no finite numbers"
            raise DivergedError(what, mend="lower the learning rate ([fit] rate)")
        with self.apart():
            judged = self.judge(self.model)
        scores = judged if isinstance(judged, Mapping) else {"score": float(judged)}
        score = self.plan.keep.score(scores)
        if not math.isfinite(score):
            raise UserError(
                f"training: the validation score after epoch {self.progress.epoch + 1} is {score}",
                mend="the validation part needs rows with both labels for at least one task that [fit] keep goes by; widen it in [split]",
            )
        return scores

    def _close(self, scores: Scores) -> None:
        """End an epoch: the scores, the weights to hold, the schedule, empty sums."""
        history, done = (*self.progress.scores, scores), self.progress.epoch
        self.progress = Progress(epoch=done + 1, scores=history, best=self.plan.keep.best(history))
        self._hold(done, self.plan.keep.contenders(history))
        _advance(self.schedule, self.plan.keep.score(scores))
        self.tally = Tally(len(self.model.schema.tasks), self.plan.device)
        self.step.turn()
        if self.plan.fresh:
            self.step.processes.agreed(nn.init.normal_(self.model.table, std=SPREAD).detach())
            self.step.forget_table()

    def _hold(self, done: int, contenders: Collection[int]) -> None:
        """Let go of what can no longer be chosen; this epoch's weights go where one of those was, so that never both are held."""
        gone = {name for name in self.kept if int(name.partition("/")[0]) not in contenders}
        free = {name.partition("/")[2]: self.kept[name] for name in gone}
        now = self.model.state_dict().items() if done in contenders else ()
        new = {f"{done}/{name}": free[name].copy_(tensor) if name in free else tensor.detach().clone() for name, tensor in now}
        self.kept = {**{name: tensor for name, tensor in self.kept.items() if name not in gone}, **new}

    def _report(self, trained: Progress, *, finished: bool) -> Epoch:
        best, history = self.progress.best, self.progress.scores
        return Epoch(
            number=trained.epoch + 1,
            step=trained.step,
            finished=finished,
            losses=self.tally.means(),
            weights=self.step.weights(),
            score=self.plan.keep.score(history[-1]) if finished else None,
            best=None if best is None else self.plan.keep.score(history[best]),
            stop=finished and self.progress.over(self.plan),
            rows=trained.rows,
            seconds=trained.seconds,
            compiling=trained.compiling,
            state=self._state(),
            scores=history[-1] if finished else {},
            kept=None if best is None else best + 1,
        )

    def _state(self) -> State:
        return State(
            progress=self.progress,
            weights={name: tensor.detach() for name, tensor in self.model.state_dict().items()},
            kept=self.kept,
            dense=self.step.state(),
            table=self.step.table_state(),
            tally=self.tally.state(),
            random=random_state(self.plan.device),
            balance=self.step.balance_state(),
        )


def _advance(schedule: LRScheduler | None, score: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects a step of the optimiser before each of these, which a replay has not
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(score)
        elif schedule is not None:
            schedule.step()
