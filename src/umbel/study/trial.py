"""One run of a comparison, in a process of its own, so that its memory is given back."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from umbel import durable
from umbel.data.table import Table
from umbel.errors import DivergedError
from umbel.evaluate.judge import Predictions, calibrate_all, fit_calibrators
from umbel.run.coldstart import learn
from umbel.run.fitting import Fitted, begun, fit_model, logits
from umbel.run.run import claim, happened, peak_memory, save_predictions
from umbel.run.settings import Settings
from umbel.run.watch import Silence
from umbel.study.asked import save_asked
from umbel.study.trees import grow

PREDICTIONS = "predictions.npz"
ANSWERS = "answers.npz"  # of a cold-start method


@dataclass(frozen=True, slots=True)
class Trial:
    """What a run cost and how it stood on validation, where alone anything is chosen.

    `lost_steps` counts a cold-start method's inner steps that were no finite number and were not taken, on judged users too.
    """

    score: float
    parameters: int
    seconds: float
    rows_per_second: float
    peak_memory_bytes: int
    lost_steps: int = 0

    def save(self, folder: Path) -> None:
        """Write `trial.json`: the sign that the run is finished."""
        durable.write(folder / "trial.json", json.dumps(asdict(self)))

    @staticmethod
    def load(folder: Path) -> Trial | None:
        """The finished run in a folder, if it is one."""
        path = folder / "trial.json"
        return Trial(**json.loads(path.read_text())) if path.exists() else None


@dataclass(frozen=True, slots=True)
class Lost:
    """A run whose training diverged, and why: it is not tried again."""

    why: str

    def save(self, folder: Path) -> None:
        """Write `lost.json`."""
        durable.write(folder / "lost.json", json.dumps(asdict(self)))

    @staticmethod
    def load(folder: Path) -> Lost | None:
        """The lost run in a folder, if it is one."""
        path = folder / "lost.json"
        return Lost(**json.loads(path.read_text())) if path.exists() else None


def predicted(folder: Path, *, left: str = PREDICTIONS) -> Trial | None:
    """The finished run in a folder, if it is one that has left its predictions of the test rows, or what it said of test users."""
    return Trial.load(folder) if (folder / left).exists() else None


def run_trial(settings: Settings, table: Table, folder: Path, *, test: bool) -> Trial | Lost:
    """Train (or find trained) one model; with `test`, leave its predictions of the test rows too. One that diverges is lost.

    A run of a comparison that was killed may still be at work in the folder: its end is waited for, and what it made is used.
    """
    with durable.hold(folder, wait=True):
        return _trained(settings, table, folder, test=test)


def _trained(settings: Settings, table: Table, folder: Path, *, test: bool) -> Trial | Lost:
    claim(settings, folder)
    began = begun(folder)
    try:
        if settings.episodes is not None:
            return _learned(settings, table, folder, test=test)
        fitted = fit_model(settings, table, folder, watch=Silence())
    except DivergedError as error:
        lost = Lost(str(error))
        lost.save(folder)
        return lost
    if test:
        _predict(table, folder, {part: logits(fitted.model, table, part) for part in ("valid", "test")})
    found = Trial.load(folder) or spent(fitted, time.monotonic() - began)
    found.save(folder)
    return found


def _learned(settings: Settings, table: Table, folder: Path, *, test: bool) -> Trial:
    """A cold-start method; with `test`, what it says of test users."""
    began = begun(folder)
    learned = learn(settings, table, folder, watch=Silence())
    learner = learned.newcomers.prepared.learner
    judged = [one for one in learned.newcomers.judge(learner).values() if one is not None]
    if test:
        save_asked(folder / ANSWERS, learned.newcomers.asked())
    rows, busy = (sum(float(str(line[key])) for line in learned.history) for key in ("rows", "seconds"))
    parameters = sum(one.numel() for one in learner.parameters()) if learned.history else 0
    score = float(np.mean(judged)) if judged else float("-inf")
    found = Trial.load(folder) or Trial(score, parameters, time.monotonic() - began, rows / max(busy, 1e-9), peak_memory())
    found = replace(found, lost_steps=learned.newcomers.lost())  # a run that was found trained is asked by test users later on
    found.save(folder)
    return found


def spent(fitted: Fitted, seconds: float) -> Trial:
    """What a training that took so long, all told, came to and cost."""
    rows, busy = (sum(float(str(line[key])) for line in fitted.history) for key in ("rows", "seconds"))
    parameters = sum(parameter.numel() for parameter in fitted.model.parameters())
    return Trial(fitted.score, parameters, seconds, rows / max(busy, 1e-9), peak_memory())


def run_trees(table: Table, folder: Path, *, rates: tuple[float, ...], means: bool, seed: int) -> Trial:
    """Grow trees at each rate, keep the best on validation, and leave its predictions of the test rows."""
    with durable.hold(folder, wait=True):
        return predicted(folder) or _grown(table, folder, rates=rates, means=means, seed=seed)


def _grown(table: Table, folder: Path, *, rates: tuple[float, ...], means: bool, seed: int) -> Trial:
    began = time.monotonic()
    best = max((grow(table, rate=rate, means=means, seed=seed) for rate in rates), key=lambda one: one.score)
    _predict(table, folder, best.outputs)
    seconds = time.monotonic() - began
    found = Trial(best.score, best.leaves, seconds, len(table.parts["train"]) / seconds, peak_memory())
    found.save(folder)
    return found


def _predict(table: Table, folder: Path, outputs: dict[str, Float[np.ndarray, "rows outputs"]]) -> None:
    """Calibrate on validation, as every run does, and save the test rows."""
    calibrators = fit_calibrators(happened(table, "valid", outputs["valid"]))
    test: Predictions = happened(table, "test", outputs["test"])
    save_predictions(folder / PREDICTIONS, test, calibrate_all(table.schema, test.logits, calibrators))
