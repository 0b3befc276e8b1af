"""One scene of the demonstration: a simulated log, recipes trained on it under several seeds, and what may be said of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from umbel import durable
from umbel.data import simulate
from umbel.data.simulate import Planted
from umbel.data.table import Table
from umbel.data.truth import Bayes, bayes
from umbel.data.truth import planted as read_back
from umbel.errors import UserError
from umbel.evaluate.intervals import Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import paired
from umbel.run.run import claim, prepare
from umbel.run.settings import DataSection, FieldSection, FitSection, ModelSection, Settings, TaskSection, TimeSplit
from umbel.run.unread import as_read
from umbel.run.watch import Watch
from umbel.study.claims import Agreement, Claim, Conflict, Gap, agreement_claims, conflict_claims
from umbel.study.entrants import Entrant, seeded
from umbel.study.trial import Lost, Trial, predicted, run_trial
from umbel.study.verdict import Comparison, Line, Standing, judge

VIEWS = 3  # of STEM on two tasks: one for each, and one for both
SEPARATE, STEM = Entrant("alone", "alone"), Entrant("stem", "stem")
NARROW, SHARED = Entrant("mmoe", "mmoe"), Entrant("shared_bottom", "shared_bottom")
WIDE = (Entrant(f"mmoe x{VIEWS}", "mmoe", VIEWS), Entrant(f"ple x{VIEWS}", "ple", VIEWS))


@dataclass(frozen=True, slots=True)
class Scene:
    """A log, its tasks, who is trained on it and how: rate, epochs and the width of a view are the same for all."""

    name: str
    planted: Planted
    tasks: tuple[str, ...]
    entrants: tuple[Entrant, ...]
    model: ModelSection
    fit: FitSection
    seeds: int = 2


@dataclass(frozen=True, slots=True)
class Played:
    """A scene that was played: every recipe judged, the best that any could do, and what may be said."""

    scene: Scene
    found: Comparison
    best: Mapping[str, Bayes]
    claims: tuple[Claim, ...]


def play(scene: Scene, folder: Path, *, jobs: int, watch: Watch) -> Played:
    """Simulate the scene's log, train its recipes under every seed, judge them on the test day.

    `jobs` runs go on at a time, each in a process of its own with one thread; with 0 they follow each other in this one.
    What is finished is found again: a demonstration that was stopped goes on.
    """
    planted = scene.planted
    watch.stage(f"{scene.name}: {planted.rows:,} rows of {planted.users:,} users and {planted.items:,} items")
    table = _table(scene, folder, watch)
    _train_all(scene, folder, jobs=jobs, watch=watch)
    dims = {one.name: scene.model.dim * one.wider for one in scene.entrants}
    wide = {STEM.name: WIDE[1].name}
    lines = tuple(Line(one.name, runs(scene, one, folder), {"dim": dims[one.name]}, wide.get(one.name, "")) for one in scene.entrants)
    found = judge(table, lines, resamples=200, margin=0.002)
    durable.write(folder / "compare.json", json.dumps(found.to_json(), indent=1))
    return Played(scene, found, bayes(folder / "log"), claims(scene, found))


def claims(scene: Scene, found: Comparison) -> tuple[Claim, ...]:
    """What may be said of a scene's recipes; the width control is the one that stands best on test, which favours it."""
    by = {one.name: one for one in found.recipes}
    alone, stem = by[SEPARATE.name], by[STEM.name]
    if not scene.planted.conflict:
        return agreement_claims(Agreement(gained=gap(by[SHARED.name], alone), kept=gap(stem, by[SHARED.name])))
    narrow = by[NARROW.name]
    wide = max((by[one.name] for one in WIDE), key=mean_auc)
    lost, regained, left = gap(alone, narrow), gap(stem, narrow), gap(stem, alone)
    return conflict_claims(Conflict(lost, regained, left, width=gap(stem, wide), widened=gap(wide, narrow)))


def gap(one: Standing, other: Standing) -> Gap:
    """The difference of two recipes' mean AUC over tasks, on the same resamples, seed by seed."""
    pair = paired(_over_tasks(one), _over_tasks(other))
    return Gap(pair.mean, pair.seeds)


def mean_auc(one: Standing) -> float:
    """A recipe's AUC, averaged over tasks and seeds."""
    return float(np.mean([each.value for each in _over_tasks(one)]))


def settings(scene: Scene, entrant: Entrant, folder: Path, *, seed: int) -> Settings:
    """The run file of one recipe in a scene: `umbel train` on its printed form repeats the run."""
    schema, source = simulate.schema(scene.tasks), simulate.source(folder / "log")
    takes = {"recipe": entrant.recipe, "dim": scene.model.dim * entrant.wider, "options": entrant.options or scene.model.options}
    first, days = simulate.START.date(), scene.planted.days
    whole = Settings(
        data=DataSection(log=source.log, user=source.user, item=source.item, time=source.time),
        fields={field.name: FieldSection(kind=field.kind.value, min_count=field.min_count) for field in schema.fields},
        tasks={task.name: TaskSection(given=task.given) for task in schema.tasks},
        split=TimeSplit(by="time", valid=first + timedelta(days=days - 2), test=first + timedelta(days=days - 1)),
        model=scene.model.model_copy(update=takes),
        fit=scene.fit,
    )
    return seeded(as_read(whole), seed)


def run(entrant: Entrant, seed: int, folder: Path) -> Path:
    """The folder of one run of a scene."""
    return folder / "runs" / entrant.name / f"seed={seed}"


def runs(scene: Scene, entrant: Entrant, folder: Path) -> tuple[Path, ...]:
    """The folders of an entrant's runs, one a seed."""
    return tuple(run(entrant, seed, folder) for seed in range(1, scene.seeds + 1))


def _table(scene: Scene, folder: Path, watch: Watch) -> Table:
    log = folder / "log"
    if not (log / "planted.json").exists():
        simulate.simulate(scene.planted, log)
    elif read_back(log) != scene.planted:
        raise UserError(f"{log}: holds a log with other things planted", mend="name another folder with -o, or remove this one")
    if (folder / "table").exists():
        return Table.open(folder / "table")
    return prepare(settings(scene, STEM, folder, seed=1), folder / "table", watch=watch)


def _train_all(scene: Scene, folder: Path, *, jobs: int, watch: Watch) -> None:
    left = [(one, seed) for seed in range(1, scene.seeds + 1) for one in scene.entrants if not _finished(scene, one, folder, seed=seed)]
    with _workers(jobs) as pool:
        trials = [pool.submit(_train, settings(scene, one, folder, seed=seed), folder, run(one, seed, folder)) for one, seed in left]
        for (one, seed), trial in zip(left, trials, strict=True):
            done = trial.result()
            if isinstance(done, str):
                raise UserError(f"{scene.name}, {one.name}: {done}", mend="the demonstration goes on where it stopped")
            watch.stage(f"{scene.name}: {one.name}, seed {seed}: validation AUC {done.score:.4f}, {done.seconds:.0f} s")


def _finished(scene: Scene, entrant: Entrant, folder: Path, *, seed: int) -> bool:
    """Whether that run is done; :raises UserError: if its folder holds a run of other settings."""
    at = run(entrant, seed, folder)
    if predicted(at) is None:
        return False
    claim(settings(scene, entrant, folder, seed=seed), at)
    return True


def _workers(jobs: int) -> Executor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) if jobs else ThreadPoolExecutor(1)


def _train(one: Settings, folder: Path, at: Path) -> Trial | str:
    # A UserError does not travel between processes whole; its line does.
    try:
        done = run_trial(one, Table.open(folder / "table"), at, test=True)
        return done.why if isinstance(done, Lost) else done
    except UserError as error:
        return str(error)


def _over_tasks(one: Standing) -> list[Sampled]:
    """The mean over tasks for each seed; :raises UserError: where a task has no AUC."""
    return [_mean(each) for each in zip(*one.draws.values(), strict=True)]


def _mean(tasks: tuple[Sampled | Undefined, ...]) -> Sampled:
    known: list[Sampled] = []
    for one in tasks:
        if isinstance(one, Undefined):
            raise UserError(f"demo: {one.reason}", mend="plant more rows")
        known.append(one)
    draws = np.mean([one.draws for one in known], axis=0)
    return Sampled(float(np.mean([one.value for one in known])), draws, min(one.users for one in known))
