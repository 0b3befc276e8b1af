"""One training with somebody looking: after every epoch, what the tasks want of each other and whom they listen to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from umbel import durable
from umbel.data.batch import Batch
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.learn.fit import Epoch
from umbel.run import resolve
from umbel.run.fitting import SCORED, fit_model
from umbel.run.settings import Settings
from umbel.run.watch import Watch
from umbel.study.transfer.gradients import Affinity, Conflict, affinities, conflicts
from umbel.study.transfer.listening import Abundance, Ear, Expert, Listening, abundances, listen, listen_by

BATCHES = 8  # that the probes look at, the same ones after every epoch
SEED = 1_000_003


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen after one epoch."""

    epoch: int
    conflicts: tuple[Conflict, ...]
    affinities: tuple[Affinity, ...]
    gates: tuple[Listening, ...]
    experts: tuple[Expert, ...]


@dataclass(frozen=True, slots=True)
class Witnessed:
    """All epochs of the training; the tables of its best one, and whom its tasks listen to on each group of test rows."""

    epochs: tuple[Probe, ...]
    tables: tuple[Abundance, ...]
    ears: tuple[Ear, ...] = ()

    @property
    def late(self) -> tuple[Probe, ...]:
        """The later half of the epochs.

        In the first ones tasks learn hardly more than how frequent they are, and help or hurt each other by that: loudly, and
        whatever they are about.
        """
        return self.epochs[len(self.epochs) // 2 :]

    def affinity(self, tasks: Sequence[str]) -> Float[np.ndarray, "tasks tasks"]:
        """How much a step for the task of the row helps the task of the column, over late epochs; 0 where it was not seen."""
        at: dict[tuple[str, str], list[float]] = {}
        for one in (each for epoch in self.late for each in epoch.affinities):
            at.setdefault((one.helper, one.helped), []).append(one.percent)
        return np.array([[np.mean(at.get((helper, helped), [0.0])) for helped in tasks] for helper in tasks])

    def conflict(self, layer: str) -> float | None:
        """The share of batches in which two tasks pull a layer apart, over pairs and late epochs; None where none of them share it."""
        found = [one.conflicts for epoch in self.late for one in epoch.conflicts if one.layer == layer]
        return float(np.mean(found)) if found else None


def witness(settings: Settings, table: Table, folder: Path, *, watch: Watch, splits: Mapping[str, np.ndarray] | None = None) -> Witnessed:
    """Train as `umbel train` would and look at the model after each epoch: the training is the same to the byte.

    `splits` have a label per test row: at the end the gates are looked at group by group.

    What was seen is kept in `probes.json`, epoch by epoch, so that a training that goes on keeps what it saw.
    """
    looking = _Looking(settings, table, folder / "probes.json", watch=watch)
    fitted = fit_model(settings, table, folder, watch=looking)
    ears = listen_by(fitted.model, Loader(table, "test", SCORED, shuffle=False)(0), splits or {})
    return Witnessed(tuple(sorted(looking.seen.values(), key=lambda probe: probe.epoch)), abundances(fitted.model, looking.sizes), ears)


@final
class _Looking:
    """A watch that probes a copy of the model when an epoch is over, and passes everything on."""

    def __init__(self, settings: Settings, table: Table, file: Path, *, watch: Watch) -> None:
        self._watch, self._file = watch, file
        self._batches = _batches(table, settings.fit.batch)
        self.sizes = {name: vocabulary.size for name, vocabulary in table.encoder.vocabularies.items()}
        self._model = resolve.built(settings, self.sizes, edges=table.encoder.edges)(table.schema)
        probes = TypeAdapter(list[Probe]).validate_json(file.read_bytes()) if file.exists() else []
        self.seen = {probe.epoch: probe for probe in probes}

    def ingested(self, rows: int) -> None:
        self._watch.ingested(rows)

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        self._watch.stepped(epoch, done=done, rows=rows)

    def learned(self, losses: tuple[float, ...]) -> None:
        self._watch.learned(losses)

    def stage(self, name: str) -> None:
        self._watch.stage(name)

    def finished(self, epoch: Epoch) -> None:
        self._model.load_state_dict({name: tensor.cpu() for name, tensor in epoch.state.weights.items()})
        self.seen[epoch.number] = self._probe(epoch.number)
        durable.write(self._file, json.dumps([asdict(one) for one in self.seen.values()]))
        self._watch.finished(epoch)

    def _probe(self, epoch: int) -> Probe:
        model, batches = self._model.eval(), self._batches
        gates, experts = listen(model, batches)
        return Probe(epoch, conflicts(model, batches, self.sizes), affinities(model, batches), gates, experts)


def _batches(table: Table, size: int) -> tuple[Batch, ...]:
    """The first batches of a shuffle of the training rows that no training uses."""
    loader = Loader(table, "train", size, seed=SEED)
    return tuple(batch for batch, _ in zip(loader(0), range(BATCHES), strict=False))
