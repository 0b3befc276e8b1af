"""One trial in a process of its own: it tells each epoch's score, and ends early if told so; the test part is sealed for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch

from umbel import durable
from umbel.data.batch import Batch
from umbel.data.table import Table
from umbel.errors import DivergedError
from umbel.learn.fit import Epoch
from umbel.learn.keep import Mean
from umbel.learn.predict import predict
from umbel.nn.recommender import Recommender
from umbel.run import resolve
from umbel.run.fitting import fit_model
from umbel.run.run import claim
from umbel.run.settings import Settings
from umbel.study.trial import Lost, spent
from umbel.study.tune.outcome import Outcome

CANDIDATES = 200  # rows of one request whose scoring is timed
TIMED, WARM = 30, 5  # times it is scored, and before that unheard
GO = "go"
MEAN = Mean()
Ask = Callable[[str], str]


class StoppedError(Exception):
    """Whoever asked for the trial wants no more of it, or is gone."""


def over_pipe(line: str) -> str:
    """Tell a line to whoever started this process, and hear the answer; nothing if there is nobody any more."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return ""
    return sys.stdin.readline().strip()


@final
class Asking:
    """A `Watch` that tells every epoch and waits to hear whether to go on."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

    def finished(self, epoch: Epoch) -> None:
        """Tell `epoch mean`, and `last` if training ends here; :raises StoppedError: unless the answer is `go`."""
        if self.ask(f"{epoch.number} {MEAN.score(epoch.scores)!r}{' last' if epoch.stop else ''}") != GO:
            raise StoppedError

    def ingested(self, rows: int) -> None:
        """Nothing."""

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        """Nothing."""

    def learned(self, losses: tuple[float, ...]) -> None:
        """Nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""


def attempt(settings: Settings, table: Path, folder: Path, *, ask: Ask = over_pipe) -> Outcome | Lost | None:
    """Train one model under the eyes of the search, which is asked after every epoch; None where it ended it. One that diverges is lost.

    Its rows are those of training and validation: of the test part it knows no more than how many there are.
    A trial whose process was killed goes on from its checkpoint; one that is finished is read.
    """
    with durable.hold(folder, wait=True):
        claim(settings, folder)
        return Outcome.load(folder) or Lost.load(folder) or _attempted(settings, table, folder, ask=ask)


def _attempted(settings: Settings, table: Path, folder: Path, *, ask: Ask) -> Outcome | Lost | None:
    began = time.monotonic()
    rows = Table.open(table).seal("test").under(resolve.schema(settings).tasks)
    try:
        fitted = fit_model(settings, rows, folder, watch=Asking(ask))
    except StoppedError:
        return None
    except DivergedError as error:
        lost = Lost(str(error))
        lost.save(folder)
        return lost
    cost = spent(fitted, time.monotonic() - began)
    kept = fitted.scores[fitted.rule.best(fitted.scores)]
    found = Outcome(cost, dict(kept), len(fitted.history), latency(fitted.model, rows))
    cost.save(folder)
    found.save(folder)
    return found


def latency(model: Recommender, table: Table) -> float:
    """The median of milliseconds to score 200 validation rows on one thread; rows repeat where there are fewer."""
    rows = table.parts["valid"]
    batch = table.batch(rows.start + np.arange(CANDIDATES) % len(rows))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken = [_taken(model, batch) for _ in range(WARM + TIMED)][WARM:]
    finally:
        torch.set_num_threads(threads)
    return 1000 * float(np.median(taken))


def _taken(model: Recommender, batch: Batch) -> float:
    began = time.perf_counter()
    predict(model, [batch])
    return time.perf_counter() - began
