"""The demonstration: two simulated logs with known answers, a few recipes on each, the verdicts, one scored request."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from umbel import durable
from umbel.bundle import Bundle
from umbel.cores import cores
from umbel.data.simulate import AGREEING, CONFLICTING
from umbel.data.table import Table
from umbel.run.run import train
from umbel.run.screen import Screen, show
from umbel.run.settings import FitSection, ModelSection
from umbel.run.watch import Silence, Watch
from umbel.study.program import lines, page, table
from umbel.study.scene import NARROW, SEPARATE, SHARED, STEM, WIDE, Played, Scene, play, runs, settings
from umbel.study.trial import Trial

_MODEL = ModelSection(recipe="stem", dim=6, expert=(64, 32), tower=(16,), shared=1)
_FIT = FitSection(epochs=20, patience=3, batch=1024, rate=0.01, threads=1)
# One taste may serve both tasks: rows of the tables that nothing pulls at are drawn to 0. Of 1e-4, 3e-4 and 1e-3 this l2 had
# the highest mean validation AUC over the three recipes (.8869, .8878 and .8860).
_DRAWN = _FIT.model_copy(update={"patience": 4, "epochs": 14, "l2": 3e-4})
SCENES = (
    Scene("conflicting", CONFLICTING, ("click", "like"), (SEPARATE, NARROW, *WIDE, STEM), _MODEL, _FIT),
    Scene("agreeing", AGREEING, ("click", "like"), (SEPARATE, SHARED, STEM), _MODEL, _DRAWN),
)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """All scenes, and the bundle of the run that stood best on validation in the first."""

    scenes: tuple[Played, ...]
    bundle: Path

    @property
    def found(self) -> bool:
        """Whether every claim held: the known answer was found."""
        return all(claim.holds for played in self.scenes for claim in played.claims)


def demo(
    folder: Path,
    *,
    scenes: tuple[Scene, ...] = SCENES,
    jobs: int | None = None,
    progress: Watch | None = None,
    tell: Callable[[Played], None] | None = None,
) -> DemoResult:
    """Play every scene (see `play`; `jobs` is the number of cores by default) and keep the best bundle of the first.

    `tell` hears of each scene as soon as it is played, and of the first after one seed already, without claims.
    Leaves a folder a scene, `bundle/` and `demo.html` in `folder`.

    :raises UserError: if another process works in `folder`, or another demonstration lies there.
    """
    with durable.hold(folder):
        return _demo(folder, scenes=scenes, jobs=jobs, progress=progress, tell=tell)


def _demo(
    folder: Path, *, scenes: tuple[Scene, ...], jobs: int | None, progress: Watch | None, tell: Callable[[Played], None] | None
) -> DemoResult:
    watch = progress or Silence()
    at_once = cores() if jobs is None else jobs
    played: list[Played] = []
    for scene in scenes:
        at = folder / scene.name
        if tell is not None and not played and scene.seeds > 1:
            tell(replace(play(replace(scene, seeds=1), at, jobs=at_once, watch=watch), claims=()))
        played.append(play(scene, at, jobs=at_once, watch=watch))
        durable.write(folder / "demo.html", page(played))
        if tell is not None:
            tell(played[-1])
    return DemoResult(tuple(played), keep_best(played[0], folder, watch=watch))


def run_demo(folder: Path, *, scenes: tuple[Scene, ...] = SCENES, jobs: int | None = None) -> None:
    """Play the demonstration on a terminal: a table and claims a scene, then one scored request."""
    say = Console(width=140, highlight=False).print
    with Screen() as screen:
        result = demo(folder, scenes=scenes, jobs=jobs, progress=screen, tell=_tell)
    asked, answer = score_one(result.bundle)
    say(f"one request: {', '.join(f'{name} {value}' for name, value in asked.items())}")
    say(f"the answer of {result.bundle}: {', '.join(f'{name} {chance:.4f}' for name, chance in answer.items())}")
    say(f"{'the known answer was found' if result.found else 'not all of the known answer was found'}: {folder / 'demo.html'}")


def _tell(played: Played) -> None:
    show(table(played))
    for line in lines(played.claims):
        Console(width=140, highlight=False, soft_wrap=True).print(line, markup=False)


def keep_best(played: Played, folder: Path, *, watch: Watch) -> Path:
    """Finish the run that stood best on validation in a scene (its report, its bundle) and leave its bundle in `folder/bundle`."""
    scene, at = played.scene, folder / played.scene.name
    among = [(one, seed, run) for one in scene.entrants for seed, run in enumerate(runs(scene, one, at), start=1)]
    best, seed, run = max(among, key=lambda each: _score(each[2]))
    watch.stage(f"{scene.name}: {best.name}, seed {seed}, stood best on validation; its report and bundle follow")
    train(settings(scene, best, at, seed=seed), run, table=Table.open(at / "table"), watch=Silence())
    with durable.folder(folder / "bundle") as made:
        shutil.copytree(run / "bundle", made, dirs_exist_ok=True)
    return folder / "bundle"


def score_one(bundle: Path) -> tuple[Mapping[str, object], Mapping[str, float]]:
    """The first row of a bundle's log as a request, and the calibrated probability of every task."""
    loaded = Bundle.load(bundle)
    rows, scores = next(loaded.score(loaded.source, 1))
    asked = rows.select([field.column or field.name for field in loaded.schema.fields]).row(0, named=True)
    return asked, dict(zip(loaded.columns, scores[0].tolist(), strict=True))


def _score(run: Path) -> float:
    trial = Trial.load(run)
    assert trial is not None, run
    return trial.score
