"""Search a space of settings on validation: trials in processes of their own, resumable; then the winner, judged once on test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

from umbel import durable
from umbel.cores import threads
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run import resolve
from umbel.run.run import claim, prepare, train
from umbel.run.settings import Settings
from umbel.run.watch import Silence, Watch
from umbel.study.compare import TREE_RATES
from umbel.study.entrants import TREES
from umbel.study.trees import ALIKE, standing
from umbel.study.trial import run_trees
from umbel.study.tune.dimension import Dimension
from umbel.study.tune.door import Door
from umbel.study.tune.outcome import objectives
from umbel.study.tune.page import tune_page, written
from umbel.study.tune.point import pointed
from umbel.study.tune.result import Tuned
from umbel.study.tune.runner import Failed, Interrupted, Processes, Runner
from umbel.study.tune.search import Ask, Search, Tried
from umbel.study.tune.space import dimensions
from umbel.study.verdict import Line, judge

RESULT, JUDGED = "tune.json", "test.json"
LOOKS = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class _Study:
    """One search at work in its folder."""

    settings: Settings
    folder: Path
    among: tuple[Dimension, ...]
    search: Search
    runner: Runner
    watch: Watch
    over: Event = field(default_factory=Event)


def run_tune(settings: Settings, folder: Path, *, trials: int, jobs: int, watch: Watch, runner: Runner | None = None) -> Tuned:
    """Try so many points of `[tune.space]`, each with the run file's budget of epochs; choose on validation; judge once on test.

    Pruned and failed trials count. A search that was stopped goes on with the trials that were at work, and with the rest of
    the number; a finished one is read. Leaves `tune.json`, `tune.html`, `best.toml`, `best/`, `trials/`, `trees/`, `study.db`.
    `runner` trains a point, by default in a process of its own.

    :raises UserError: for what `train` refuses, a space or objectives that the run file does not allow, if `folder` holds another
        search, another process works in it, or no trial finished.
    """
    if settings.episodes is not None:
        raise UserError("tune: no search knows what [episodes] can be set to", mend="leave it out, or use umbel compare and its methods")
    with durable.hold(folder):
        durable.sweep(folder / "trials")
        claim(settings, folder)
        resolve.check(settings)
        among = dimensions(settings)
        goals = objectives(settings.tune.objectives, [task.name for task in resolve.schema(settings).judged])
        found = Tuned.load(folder / RESULT)
        if found is not None:
            return _read(found, folder, trials=trials, watch=watch)
        if not (folder / "table").exists():
            prepare(settings, folder / "table", watch=watch)
        search = Search(folder, among, goals, seed=settings.fit.seed, prune=settings.tune.prune)
        processes = Processes(folder / "table", threads=threads(jobs))
        study = _Study(settings, folder, among, search, runner or processes, watch)
        _search(study, trials=trials, jobs=jobs)
        return _finish(study)


def _read(found: Tuned, folder: Path, *, trials: int, watch: Watch) -> Tuned:
    """A finished search; :raises UserError: if it is asked for more, as its test part has been read."""
    if trials > len(found.trials):
        raise UserError(
            f"{folder}: this search ended after {len(found.trials)} trials, and its winner has been judged on test",
            mend="a longer one would read the test part again: name another folder with -o",
        )
    watch.stage(f"{folder}: this search is finished; its result is read")
    return found


def _search(study: _Study, *, trials: int, jobs: int) -> None:
    """Trials that were at work first, then new ones up to the number; `jobs` at a time."""
    left = study.search.unfinished()
    asked: list[Ask | None] = [*left, *[None] * (trials - len(study.search.tried()))]
    done = len(study.search.tried()) - len(left)
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_try, study, trial) for trial in asked]
        try:
            for count, future in enumerate(_ending(futures), start=done + 1):
                study.watch.stage(f"{count}/{done + len(asked)}  {_line(future.result(), study)}")
                _tidy(study)
        except BaseException as error:
            study.over.set()
            study.runner.halt()
            pool.shutdown(cancel_futures=True)
            raise _cause(error, futures) from None


def _ending(futures: Iterable[Future[Tried]]) -> Iterator[Future[Tried]]:
    """Each as it ends. Where a library handles signals, too, as polars does, an interrupt wakes nobody who waits without an end."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=LOOKS, return_when=FIRST_COMPLETED)
        yield from done


def _cause(error: BaseException, futures: list[Future[Tried]]) -> BaseException:
    """Why the search ends: the failure that made others end with it, or an interrupt."""
    if not isinstance(error, Interrupted):
        return error
    others = [future.exception() for future in futures if not future.cancelled()]
    return next((one for one in others if one is not None and not isinstance(one, Interrupted)), KeyboardInterrupt())


def _try(study: _Study, trial: Ask | None) -> Tried:
    """One trial to its end; after one that has none, no other is begun: it would know of fewer than it should."""
    if study.over.is_set():
        raise Interrupted
    try:
        return _tried(study, trial or study.search.ask())
    except BaseException:
        study.over.set()
        raise


def _tried(study: _Study, trial: Ask) -> Tried:
    try:
        settings = pointed(study.settings, study.among, trial.params)
        resolve.check(settings)
    except UserError as error:
        return study.search.tell(trial, Failed(str(error)))
    return study.search.tell(trial, study.runner(settings, _place(study, trial.number), partial(study.search.heard, trial)))


def _place(study: _Study, number: int) -> Path:
    return study.folder / "trials" / f"{number:04d}"


def _line(one: Tried, study: _Study) -> str:
    values = ", ".join(f"{goal.name} {value:.5g}" for goal, value in zip(study.search.goals, one.values, strict=False))
    said = values or " ".join(part for part in (one.state, one.reason) if part)
    return f"trial {one.number}: {said}  ({written(one.point)})"


def _tidy(study: _Study) -> None:
    """Only trials that may still be chosen, or go on, keep their weights."""
    tried = study.search.tried()
    kept = {one.number for one in study.search.front(tried)}
    for one in tried:
        if one.state != "running" and one.number not in kept:
            shutil.rmtree(_place(study, one.number) / "checkpoint", ignore_errors=True)


def _finish(study: _Study) -> Tuned:
    tried = study.search.tried()
    front = study.search.front(tried)
    if not front:
        reasons = [f"trial {one.number}: {one.reason}" for one in tried if one.reason]
        said = reasons[0] if reasons else "every one was cut short"
        raise UserError(f"none of {len(tried)} trials finished ({said})", mend="mend [tune.space], and name another folder with -o")
    door = Door(study.folder)
    best = pointed(study.settings, study.among, front[0].point)
    durable.write(study.folder / "best.toml", best.to_toml())
    if not (study.folder / JUDGED).exists():
        with door.opened(f"trial {front[0].number} and boosted trees") as table:
            durable.write(study.folder / JUDGED, json.dumps(_judged(study, table, front[0], best=best)))
    found = Tuned(
        objectives=tuple(goal.name for goal in study.search.goals),
        rises=tuple(goal.rises for goal in study.search.goals),
        space={one.key: list(one.ends()) for one in study.among},
        epochs=study.settings.fit.epochs,
        trials=tried,
        front=tuple(one.number for one in front),
        importances=study.search.importances(),
        reads=door.reads,
        test=json.loads((study.folder / JUDGED).read_text()),
    )
    durable.write(study.folder / "tune.html", tune_page(found))
    durable.write(study.folder / RESULT, json.dumps(found.to_json(), indent=1))
    return found


def _judged(study: _Study, table: Table, winner: Tried, *, best: Settings) -> dict[str, object]:
    """The winner becomes a run like any other, beside boosted trees on the same columns, chosen on validation too."""
    study.watch.stage(f"trial {winner.number} is chosen; judged on test, once, beside boosted trees")
    place = _place(study, winner.number)
    _promote(place, study.folder / "best")
    train(best, study.folder / "best", table=table.under(resolve.schema(best).tasks), watch=Silence())
    durable.write(place / "predictions.npz", (study.folder / "best" / "predictions.npz").read_bytes())
    tried = len(study.search.tried())
    own = Line(f"trial {winner.number}", (place,), {"recipe": best.model.recipe, "rate": best.fit.rate, "dim": best.model.dim, "of": tried})
    lines = (own, *_trees(study, table))
    return judge(table, lines, resamples=study.settings.evaluate.resamples, margin=study.settings.compare.margin).to_json()


def _promote(trial: Path, best: Path) -> None:
    """The run that was trained in the trial, without what the search wrote beside it."""
    if (trial / "checkpoint").exists() and not best.exists():
        with durable.folder(best) as made:
            for name in ("run.toml", "made.json", "log.jsonl"):
                shutil.copy(trial / name, made / name)
            shutil.copytree(trial / "checkpoint", made / "checkpoint")


def _trees(study: _Study, table: Table) -> Iterator[Line]:
    seed = study.settings.fit.seed
    found = standing(table)
    if found != TREES:
        study.watch.stage(ALIKE)
    for means, name in enumerate(found):
        place = study.folder / "trees" / name
        study.watch.stage(name)
        run_trees(table, place, rates=TREE_RATES, means=bool(means), seed=seed)
        yield Line(name, (place,), {"recipe": name, "of": len(TREE_RATES)})
