"""Recipes x seeds on the same rows: paired differences with intervals, width controls and boosted trees; resumable."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from umbel import durable
from umbel.cores import threads
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run import ready, resolve
from umbel.run.comparison import comparison_page
from umbel.run.run import RESOLVED, claim, prepare
from umbel.run.settings import Settings, read
from umbel.run.watch import Watch
from umbel.study.entrants import TREES, Candidate, Entrant, candidates, controls, entrants, seeded
from umbel.study.trees import ALIKE, standing
from umbel.study.trial import ANSWERS, PREDICTIONS, Lost, Trial, predicted
from umbel.study.verdict import Comparison, Line, judge, judge_methods

TREE_RATES = (0.03, 0.06, 0.1)
RUNS_OF_THEIR_OWN = {"seeds", "trees", "controls"}  # what a comparison may have more or less of without touching what else it holds


@dataclass(frozen=True, slots=True)
class Run:
    """One process of a comparison: what it is called, where it leaves its files, and its command line."""

    name: str
    folder: Path
    words: tuple[str, ...]


def run_compare(settings: Settings, folder: Path, *, jobs: int, watch: Watch, more: tuple[Entrant, ...] = ()) -> Comparison:
    """Choose each entrant's rate and width on validation from one equal budget, run its seeds, judge all on the same test rows.

    `more` takes part beside whom the run file names.

    Every run is a process of its own; finished ones are found again, so that a stopped comparison goes on. Leaves
    `compare.json`, `compare.html` and `runs/`. A run whose training diverges is counted as lost and told; the others go on.

    :raises UserError: for what `train` refuses, if every run diverges, if `folder` holds another comparison, or another process works
        in it.
    """
    with durable.hold(folder):
        for place in (folder / "runs").glob("*"):
            durable.sweep(place)
        return _compare(settings, folder, jobs=jobs, watch=watch, more=more)


def _compare(settings: Settings, folder: Path, *, jobs: int, watch: Watch, more: tuple[Entrant, ...]) -> Comparison:
    _claim(settings, folder)
    resolve.check(settings)
    cold = settings.episodes is not None
    if cold:
        ready.check(settings)
    names: tuple[Entrant | Candidate, ...] = candidates(settings) if cold else entrants(settings)
    names = tuple({entrant.name: entrant for entrant in (*names, *more)}.values())
    for entrant in names:
        if isinstance(entrant, Entrant):
            resolve.check(entrant.grid(settings)[0])
    table = Table.open(folder / "table") if (folder / "table").exists() else prepare(settings, folder / "table", watch=watch)
    chosen = _choose(settings, folder, names, jobs=jobs, watch=watch)
    names = tuple(entrant for entrant in names if entrant.name in chosen)
    trees = _forest(settings, table, watch)
    _run_all([*_trees(settings, folder, trees), *_finals(chosen, folder, names, seeds=_seeds(settings))], jobs=jobs, watch=watch)
    held = controls((one for one in names if isinstance(one, Entrant) and one.wider == 1), settings)
    plain = (_line(folder, entrant, chosen[entrant.name], settings=settings) for entrant in names)
    neural = (replace(one, control=held[one.name].name) if one.name in held else one for one in plain)
    lines = (*neural, *_tree_lines(settings, folder, trees))
    lost = _lost(folder)
    if not any(line.finished for line in lines if line.name not in TREES):
        first = next((f"{name}: {why}" for name, why in lost.items()), "none was begun")
        raise UserError(f"compare: every run diverged ({first})", mend="lower fit.rate, or compare.rates")
    if cold:
        found = judge_methods(table, lines, settings, lost=lost)
    else:
        found = judge(table, lines, resamples=settings.evaluate.resamples, margin=settings.compare.margin, lost=lost)
    durable.write(folder / "compare.html", comparison_page(found.to_json()))
    durable.write(folder / "compare.json", json.dumps(found.to_json(), indent=1))
    return found


def _claim(settings: Settings, folder: Path) -> None:
    """`claim`, but that `folder` may hold the same comparison with other numbers of seeds, without trees or controls, or with them."""
    resolved = folder / RESOLVED
    if resolved.exists():
        before = read(resolved)
        own = settings.compare.model_dump(include=RUNS_OF_THEIR_OWN)
        if before.model_copy(update={"compare": before.compare.model_copy(update=own)}) == settings:
            durable.write(resolved, settings.to_toml())
    claim(settings, folder)


def _line(folder: Path, entrant: Entrant | Candidate, chosen: Settings, *, settings: Settings) -> Line:
    folders = tuple(_folder(folder, entrant, seeded(chosen, seed)) for seed in _seeds(settings))
    among = len(entrant.grid(settings))
    told: dict[str, float | int | str] = {"recipe": entrant.recipe, "rate": chosen.fit.rate, "dim": chosen.model.dim, "of": among}
    return Line(entrant.name, folders, told | _parameters(chosen))


def _parameters(chosen: Settings) -> dict[str, float | int | str]:
    """What was chosen for a cold-start method."""
    method = "" if chosen.episodes is None else chosen.episodes.method
    return {} if isinstance(method, str) else {key: str(value) for key, value in method.items() if key != "name"}


def _tree_lines(settings: Settings, folder: Path, names: tuple[str, ...]) -> Iterator[Line]:
    for name in names:
        folders = tuple(folder / "runs" / name / f"seed={seed}" for seed in _seeds(settings))
        yield Line(name, folders, {"recipe": name, "of": len(TREE_RATES)})


def _forest(settings: Settings, table: Table, watch: Watch) -> tuple[str, ...]:
    """The boosted trees that take part; they adapt to nobody, so none do beside cold-start methods."""
    if not settings.compare.trees or settings.episodes is not None:
        return ()
    found = standing(table)
    if found != TREES:
        watch.stage(ALIKE)
    return found


def _choose(settings: Settings, folder: Path, names: tuple[Entrant | Candidate, ...], *, jobs: int, watch: Watch) -> dict[str, Settings]:
    """For each entrant the settings that stood best on validation, by the first seed; the test rows are not read.

    Settings under which training diverges are passed over; an entrant that lost all of them is left out.
    """
    trials = {entrant.name: [(one, _folder(folder, entrant, one)) for one in entrant.grid(settings)] for entrant in names}
    asked = [(name, pair) for name, pairs in trials.items() if len(pairs) > 1 for pair in pairs]
    due = [(name, pair) for name, pair in asked if Trial.load(pair[1]) is None and Lost.load(pair[1]) is None]
    _run_all([_neural(name, one, at, test=False) for name, (one, at) in due], jobs=jobs, watch=watch)
    return {name: best for name, pairs in trials.items() if (best := _best(pairs)) is not None}


def _best(pairs: list[tuple[Settings, Path]]) -> Settings | None:
    """The one setting there is, or that of the best finished trial; None where all were lost."""
    if len(pairs) == 1:
        return pairs[0][0]
    scores = [(trial.score, one) for one, at in pairs if (trial := Trial.load(at)) is not None]
    return max(scores, key=lambda each: each[0])[1] if scores else None


def _lost(folder: Path) -> dict[str, str]:
    """Every run that diverged, by recipe and settings, and why."""
    found = {place.parent: Lost.load(place.parent) for place in sorted((folder / "runs").glob("*/*/lost.json"))}
    return {f"{at.parent.name} {at.name}": lost.why for at, lost in found.items() if lost is not None}


def _finals(chosen: dict[str, Settings], folder: Path, names: tuple[Entrant | Candidate, ...], *, seeds: range) -> Iterator[Run]:
    """Every entrant's runs that are left, seed by seed: a comparison that is stopped has about as many of each."""
    for seed, entrant in itertools.product(seeds, names):
        one = seeded(chosen[entrant.name], seed)
        at = _folder(folder, entrant, one)
        left = PREDICTIONS if one.episodes is None else ANSWERS
        if predicted(at, left=left) is None and Lost.load(at) is None:
            yield _neural(entrant.name, one, at, test=True)


def _folder(folder: Path, entrant: Entrant | Candidate, settings: Settings) -> Path:
    """One folder a run; a trial that is chosen becomes its first seed's run."""
    return folder / "runs" / entrant.place(settings)


def _neural(name: str, settings: Settings, at: Path, *, test: bool) -> Run:
    file = at.parent / f"{at.name}.toml"
    durable.write(file, settings.to_toml())
    return Run(f"{name} {at.name}", at, ("trial", str(file), *(("--test",) if test else ())))


def _trees(settings: Settings, folder: Path, names: tuple[str, ...]) -> Iterator[Run]:
    for means, name in enumerate(names):
        for seed in _seeds(settings):
            at = folder / "runs" / name / f"seed={seed}"
            if predicted(at) is None:
                rates = [word for rate in TREE_RATES for word in ("--rate", f"{rate:g}")]
                yield Run(f"{name} {at.name}", at, ("trees", *rates, "--seed", str(seed), *(("--means",) if means else ())))


def _seeds(settings: Settings) -> range:
    return range(settings.fit.seed, settings.fit.seed + settings.compare.seeds)


def _run_all(runs: list[Run], *, jobs: int, watch: Watch) -> None:
    """Each run in a process of its own, `jobs` at a time, the cores shared evenly among them."""
    each = threads(jobs)
    with ThreadPoolExecutor(jobs) as pool:
        for done, run in enumerate(pool.map(lambda run: _run_one(run, each), runs), start=1):
            watch.stage(f"{done}/{len(runs)}  {run.name}{'  lost: its training diverged' if Lost.load(run.folder) else ''}")


def _run_one(run: Run, each: int) -> Run:
    table = run.folder.parents[2] / "table"
    command = [sys.executable, "-m", "umbel", *run.words, "--table", str(table), "-o", str(run.folder)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(each)}, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return run
    last = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("umbel: ")
    if done.returncode == 2:
        raise UserError(f"{run.name}: {last}", mend="the comparison goes on where it stopped once this is mended")
    raise RuntimeError(f"{run.name} ended with {done.returncode}: {last}")
