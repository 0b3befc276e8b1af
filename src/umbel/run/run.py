"""The main job: a run file in; a judged model, its report and its bundle out."""

from __future__ import annotations

import io
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch.distributed import ProcessGroup

from umbel import durable
from umbel.bundle import Bundle
from umbel.coldstart.figures import cold_figures, figures_of
from umbel.data.ingest import ingest
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.intervals import resample
from umbel.evaluate.judge import Predictions, TaskReport, calibrate_all, cross_calibrated, evaluate, fit_calibrators
from umbel.learn.history import Scores
from umbel.learn.ladder import Ladder
from umbel.learn.processes import most
from umbel.run import newcomers, ready, resolve
from umbel.run.candidates import Retrieved, fit_retrieval
from umbel.run.candidates import check as check_retrieval
from umbel.run.coldstart import Newcomers, fit_episodes, method
from umbel.run.elsewhere import on_spark
from umbel.run.fitting import Fitted, begun, fit_model, logits, mean_row, trained_scores
from umbel.run.fusing import start
from umbel.run.kept import Kept
from umbel.run.newcomers import Served
from umbel.run.page import page
from umbel.run.profile import profile
from umbel.run.report import Moment, Report, read_report
from umbel.run.settings import Settings, read
from umbel.run.slicing import check_kept, slices
from umbel.run.together import check_group, told
from umbel.run.warm import calibrators_of, encoder_of
from umbel.run.watch import Silence, Watch

RESOLVED = "run.toml"
CLAIM = {RESOLVED, "made.json"}  # what a run writes before anything else
# What decides a table.
MAKING: Mapping[str, bool | set[str]] = {"data": True, "fields": True, "tasks": True, "split": True, "fit": {"start"}}
LIBRARIES = ("umbel", "torch", "numpy", "polars", "scikit-learn", "safetensors")


def prepare(settings: Settings, folder: Path, *, watch: Watch | None = None, spark: str | None = None) -> Table:
    """Encode the run file's log into a table folder, read and joined on a Spark master if one is named; the run file lies with it.

    :raises UserError: for anything wrong with the log, or with the bundle to go on from.
    """
    look = watch or Silence()
    source, schema = resolve.source(settings), resolve.schema(settings)
    before = encoder_of(settings.fit, schema, resolve.built(settings, dict.fromkeys(schema.tables, 1)))
    parts = source if spark is None else on_spark(source, spark), schema, resolve.split(settings)
    table = ingest(*parts, folder=folder, progress=look.ingested, before=before)
    durable.write(folder / RESOLVED, settings.to_toml())
    return table


def train(
    settings: Settings, place: Path | str, *, table: Table | None = None, watch: Watch | None = None, group: ProcessGroup | None = None,
) -> Report:
    """Fit, stop early on validation, calibrate on validation, judge once on test; a run that was stopped goes on.

    Leaves the table (unless one is given), `log.jsonl`, `checkpoint/`, `predictions.npz`, `bundle/`, `report.json` and
    `report.html` in the folder `place`. A finished run is not trained again: its report is read. Of a `group` this is for the first;
    the others `follow`.

    :raises UserError: if it holds a run of other settings, or something else, or another process works in it.
    """
    folder = Path(place)
    with durable.hold(folder):
        return _train(settings, folder, table=table, look=watch or Silence(), group=group)


def follow(settings: Settings, folder: Path, group: ProcessGroup) -> None:
    """Take part in the run that the first process makes, on its table and from its checkpoints: all of them see the folder."""
    if told(group, False):
        model = fit_model(settings, Table.open(folder / "table"), folder, watch=Silence(), group=group).model
        most(group, peak_memory())
        with model.holder.answered(model.table):  # the first looks up what it judges by, and writes down
            pass


def _train(settings: Settings, folder: Path, *, table: Table | None, look: Watch, group: ProcessGroup | None) -> Report:
    claim(settings, folder)
    if (folder / "report.json").exists():
        told(group, False)
        look.stage(f"{folder}: this run is finished; its report is read")
        return read_report(folder / "report.json")
    resolve.check(settings)
    if group is not None:
        check_group(settings, group.size())
    elif settings.fit.tables == "shards":
        look.stage('fit.tables = "shards": one process holds every row; torchrun starts several that share them out')
    if resolve.emulated(settings.fit):
        look.stage('fit.precision = "bfloat16": this processor has no products of it (AVX512-BF16, AMX); "float32" is many times faster')
    check_retrieval(settings)
    if settings.episodes is not None:
        ready.check(settings)
    began = begun(folder)
    if table is None:
        table = Table.open(folder / "table") if (folder / "table").exists() else prepare(settings, folder / "table", watch=look)
    check_kept(table, settings.evaluate.slices)
    cold: Newcomers | None = None
    if settings.episodes is None:
        told(group, True)
        fitted = fit_model(settings, table, folder, watch=look, group=group)
    else:
        ready.check_users(settings, table)
        fitted, cold = fit_episodes(settings, table, folder, watch=look)
    peak = most(group, peak_memory())
    with fitted.model.holder.answered(fitted.model.table):
        if cold is None:
            new = NewUsers({}, None, trained_scores(fitted.model, table, window=settings.fit.window))
        else:
            new = _new_users(cold, settings, look=look)
        learned = _Learned(fitted, new, fit_retrieval(settings, table, folder, watch=look), peak)
        look.stage("best epoch loaded; calibrating on validation, then judging on test")
        return _judged(settings, folder, table, learned=learned, began=began)


def claim(settings: Settings, folder: Path) -> None:
    """Make the run folder, or find in it the same run or its table; :raises UserError: if it belongs to anything else.

    A run that was refused before it trained anything may be mended: a table that it would make otherwise now goes.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file", mend="name a folder with -o")
    found = {path.name for path in folder.iterdir() if not durable.left_behind(path.name)} if folder.exists() else set()
    resolved = folder / ("table" if found == {"table"} else "") / RESOLVED
    if not found <= CLAIM and not resolved.exists():
        raise UserError(f"{folder}: exists and is not a run", mend="name another folder with -o")
    before = None if found <= CLAIM else read(resolved)
    again = before is not None and before.model_dump(include=MAKING) == settings.model_dump(include=MAKING)
    if CLAIM < found == CLAIM | {"table"} and not again:
        durable.remove(folder / "table")
        found = CLAIM
    # New, or a run that failed before it made anything, or none but the table that it would make again.
    if found <= CLAIM or (again and found <= CLAIM | {"table"}):
        durable.write(folder / RESOLVED, settings.to_toml())
        durable.write(folder / "made.json", json.dumps(asdict(_made()) | {"seed": settings.fit.seed}, indent=1))
    elif before is not None and before != settings:
        raise UserError(f"{folder}: holds a run of other settings ({_difference(before, settings)})", mend="name another folder with -o")


def happened(table: Table, part: str, outputs: Float[np.ndarray, "rows outputs"]) -> Predictions:
    """A model's logits on one part, beside what happened."""
    events, observed = table.events(part)
    return Predictions(table.schema, outputs, events, observed, table.groups(part))


def _judged(settings: Settings, folder: Path, table: Table, *, learned: _Learned, began: float) -> Report:
    fitted, new, retrieved = learned.fitted, learned.new, learned.retrieved
    valid = happened(table, "valid", logits(fitted.model, table, "valid"))
    calibrators = fit_calibrators(valid) | calibrators_of(settings.fit, table.aside.unlabelled)
    draws = settings.evaluate.resamples
    validation = evaluate(valid, cross_calibrated(valid), by=resample(valid.groups, resamples=draws))
    test = happened(table, "test", logits(fitted.model, table, "test"))
    given = calibrate_all(table.schema, test.logits, calibrators)
    tasks = evaluate(test, given, slices=slices(table, "test", names=settings.evaluate.slices), by=resample(test.groups, resamples=draws))
    report = replace(_report(settings, table, fitted, tasks=tasks, validation=validation, began=began), episodes=new.told,
                     retrieval={} if retrieved is None else retrieved.told, kept=Kept.of(fitted.rule, fitted.scores, train=new.trained),
                     peak_memory_bytes=max(learned.peak, peak_memory()))
    centre = mean_row(fitted.model, table, window=settings.fit.window)
    bundle = Bundle(table.source, table.encoder, fitted.built, fitted.model, calibrators, report.to_json(), centre, ladder=new.ladder)
    unwanted = [name for name, task in settings.tasks.items() if task.unwanted]
    spread = profile(table, bundle.columns, bundle.calibrated(valid.logits), model=bundle.model, window=settings.fit.window)
    bundle = replace(bundle, fusion=start(bundle, valid.logits, unwanted=unwanted), feedback=resolve.feedback(settings), profile=spread,
                     retrieval=None if retrieved is None else retrieved.retrieval)
    bundle.save(folder / "bundle", golden=table.golden())
    save_predictions(folder / "predictions.npz", test, given)
    durable.write(folder / "report.html", page(report))
    durable.write(folder / "report.json", json.dumps(report.to_json(), indent=1))
    return report


def _report(
    settings: Settings, table: Table, fitted: Fitted, *, tasks: tuple[TaskReport, ...], validation: tuple[TaskReport, ...], began: float
) -> Report:
    history = tuple(Moment.of(line) for line in fitted.history)
    made = _made()
    return Report(
        recipe=settings.model.recipe,
        seed=settings.fit.seed,
        rows={part: len(rows) for part, rows in table.parts.items()},
        tasks=tasks,
        parameters=fitted.model.numbers,
        seconds=time.monotonic() - began,
        rows_per_second=sum(moment.rows for moment in history) / max(sum(moment.seconds for moment in history), 1e-9),
        peak_memory_bytes=peak_memory(),
        validation=validation,
        history=history,
        settings=settings.model_dump(mode="json", exclude_none=True),
        versions=made.versions,
        commit=made.commit,
        until=None if table.source.time is None else int(table.times("train").max()),
        aside=table.aside,
    )


@dataclass(frozen=True, slots=True)
class NewUsers:
    """What the report tells of new users, and the bundle's ladder, of a run with `[episodes]`; and the scores of training rows."""

    told: dict[str, object]
    ladder: Ladder | None
    trained: Scores


@dataclass(frozen=True, slots=True)
class _Learned:
    """All that a run trained."""

    fitted: Fitted
    new: NewUsers
    retrieved: Retrieved | None
    peak: int  # bytes that any of the processes held


def _new_users(cold: Newcomers, settings: Settings, *, look: Watch) -> NewUsers:
    look.stage("best epoch loaded; judging on new users, and choosing the ladder on validation")
    training, relevant, resamples = cold.lost(), cold.section.relevant, settings.evaluate.resamples
    figures = cold_figures(cold.asked(), relevant=relevant, resamples=resamples)
    lost = {"training": training, "test": cold.lost() - training}
    climbed = cold.climb()
    served = {} if climbed is None else figures_of(cold.served(climbed.ladder), relevant=relevant, resamples=resamples)
    told = newcomers.to_json(method(settings).name, figures, Served(climbed, served), lost=lost)
    if line := newcomers.served_line(told):
        look.stage(line)
    if line := newcomers.lost_line(told):
        look.stage(f"warning: {line}")
    return NewUsers(told, None if climbed is None else climbed.ladder, cold.trained_scores())


def peak_memory() -> int:
    """The most bytes this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def save_predictions(path: Path, test: Predictions, given: Float[np.ndarray, "rows tasks"]) -> None:
    """Leave what `compare` pairs by: logits and calibrated predictions of the test rows, in the table's order."""
    content = io.BytesIO()
    np.savez(content, logits=test.logits, calibrated=given)
    durable.write(path, content.getvalue())


@dataclass(frozen=True, slots=True)
class Made:
    """Where a run came from: the commit of the working directory, if it is one, and the versions of what it ran on."""

    commit: str | None
    versions: dict[str, str]


def _made() -> Made:
    try:
        said = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    except OSError:  # no git here
        said = ""
    return Made(said.strip() or None, {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}})


def _difference(before: Settings, now: Settings) -> str:
    """The first key in which two run files differ."""
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    key = next(key for key in [*old, *new] if old.get(key) != new.get(key))
    return f"{key} = {_said(old.get(key))} there, {_said(new.get(key))} here"


def _said(value: object) -> str:
    return "not set" if value is None else repr(value)


def _flat(tree: Mapping[str, object], above: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found
