"""Using a bundle on raw rows: score them, or judge the bundle on them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from jaxtyping import Float

from umbel import durable
from umbel.bundle import Bundle
from umbel.data.aside import Aside
from umbel.data.batch import Batch
from umbel.data.derive import label_value, reads
from umbel.data.files import check_suffix, column_names
from umbel.data.groups import nobody
from umbel.data.labels import events
from umbel.data.raw import rows as raw_rows
from umbel.data.rejoin import rejoined
from umbel.data.source import Log, Source
from umbel.errors import UserError, nearest
from umbel.evaluate.intervals import resample
from umbel.evaluate.judge import Predictions, TaskReport, calibrate_all, evaluate
from umbel.learn.predict import predict
from umbel.run.report import Report
from umbel.run.run import peak_memory
from umbel.run.settings import EvaluateSection
from umbel.run.slicing import Slice, beside, slicing

SIZE = 16384     # raw rows at a time
RESAMPLES = 200  # of bundles that are compared, whatever their runs asked for


def score_log(bundle: Path, log: str, out: Path, *, joins: Sequence[str] = ()) -> int:
    """Write user, item, time and one calibrated prediction a task for every raw row, in order; the number of rows.

    A task that is `given` another has two columns: TASK, where its sample space holds, and TASK_marginal. The log is joined
    to the tables that the bundle was trained with, except where it has their columns itself; each of `joins`, "KEY=TABLE",
    puts another table in the place of the one joined on that key (NAME=TABLE: of the one of that file name). `out` is CSV
    or Parquet by its suffix; it appears whole or not at all.

    :raises UserError: for another suffix, a bundle or log that cannot be read, a log without rows, or a full disk.
    """
    check_suffix(out, ".parquet", ".csv")
    made = Bundle.load(bundle)
    source = source_of(made, log, joins=joins, labels=False)
    frames = (_scored(made, source, frame, scores=scores) for frame, scores in made.score(source, SIZE))
    with durable.file(out) as partial:
        rows = _write_csv(frames, partial) if out.suffix == ".csv" else _write_parquet(frames, partial)
        if not rows:
            raise UserError(f"{log}: no rows", mend="give a log that has some")
    return rows


def judge_log(
    bundle: Path, log: str, *, joins: Sequence[str] = (), slices: Sequence[str] = (), out: Path | None = None
) -> Report:
    """Judge a bundle on raw rows that carry labels, as a run judges its test rows: with the run's slices, and those named here.

    The log is read in pieces; of a row only its logits, labels, user and slices are kept. `joins` are those
    of `score_log`; `out` is the report as JSON.

    :raises UserError: for a bundle or log that cannot be read, a log without rows or labels, or a slice that cannot be had.
    """
    began = time.monotonic()
    made = Bundle.load(bundle)
    trained = Report.from_json(made.report)
    asked = EvaluateSection.model_validate(trained.settings.get("evaluate", {}))
    names = list(dict.fromkeys([*asked.slices, *slices]))
    raw = beside(made.schema, names, where="--slice")
    source = source_of(made, log, joins=joins, labels=True, beside=raw.values())
    _check_there(source, [raw[name] for name in slices if name in raw])
    cuts = slicing(made.encoder, source, names=names, where="--slice")
    test, labels = _happened(made, source, cuts)
    by = resample(test.groups, resamples=asked.resamples)
    tasks = evaluate(test, calibrate_all(made.schema, test.logits, made.calibrators), slices=labels, by=by)
    seconds = time.monotonic() - began
    aside = Aside(without_user=int(nobody(test.groups).sum()))
    report = replace(trained, rows={"log": len(test.groups)}, tasks=tasks, seconds=seconds, peak_memory_bytes=peak_memory(), aside=aside)
    if out is not None:
        durable.write(out, json.dumps(report.to_json(), indent=1))
    return report


def judge_rows(bundle: Bundle, log: str, *, joins: Sequence[str] = ()) -> tuple[TaskReport, ...]:
    """A loaded bundle's figures on raw rows that carry labels, users drawn alike and as often for every bundle."""
    test, _ = _happened(bundle, source_of(bundle, log, joins=joins, labels=True), ())
    by = resample(test.groups, resamples=RESAMPLES)
    return evaluate(test, calibrate_all(bundle.schema, test.logits, bundle.calibrators), by=by)


def source_of(bundle: Bundle, log: str, *, joins: Sequence[str], labels: bool, beside: Iterable[str] = ()) -> Source:
    """The bundle's source with another log, and other tables where `joins` ask for them; of columns that no field reads, `beside`.

    :raises UserError: for what is no join.
    """
    tables: dict[str, str] = {}
    for one in joins:
        which, equals, table = one.partition("=")
        if not (which and equals and table):
            raise UserError(f"--join {one}: not KEY=TABLE", mend="write for example --join user_id=users.parquet")
        if which in tables:
            raise UserError(f"--join {which}: given twice", mend="keep one of them")
        tables[which] = table
    source = replace(bundle.source, log=log, beside=tuple(dict.fromkeys(beside)))
    own = column_names(log) if source.joins else ()
    return rejoined(source, list(reads(bundle.schema, source, labels=labels)), own=own, tables=tables)


def _check_there(source: Source, columns: Sequence[str]) -> None:
    known = Log(source).names if columns else []
    for name in columns:
        if name not in known:
            raise UserError(f"--slice: no column {name!r} in {source.log} or its joins", mend=nearest(name, known))


def _happened(bundle: Bundle, source: Source, cuts: Sequence[Slice]) -> tuple[Predictions, Mapping[str, np.ndarray]]:
    """A bundle's logits on a raw log beside what happened, and the label of each row for each slice."""
    parts = [_kept(bundle, frame, batch, cuts=cuts) for frame, batch in raw_rows(source, bundle.encoder, SIZE)]
    if not parts:
        raise UserError(f"{source.log}: no rows", mend="give a log that has some")
    logits, labels, groups, *codes = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    observed = ~np.isnan(labels)
    if not observed.any():
        names = dict.fromkeys(name for task in bundle.schema.tasks for name in label_value(task).reads)
        raise UserError(f"{source.log}: no label to judge by", mend=f"the log needs at least one of {', '.join(names)}")
    found = {cut.name: cut.labels(code) for cut, code in zip(cuts, codes, strict=True)}
    return Predictions(bundle.schema, logits, np.nan_to_num(labels), observed, groups), found


def _kept(bundle: Bundle, frame: pl.DataFrame, batch: Batch, *, cuts: Sequence[Slice]) -> tuple[np.ndarray, ...]:
    """What stays of a batch: logits, plain events, groups, and its codes for each slice."""
    assert batch.group is not None
    codes = (cut.codes(frame, batch) for cut in cuts)
    return predict(bundle.model, [batch]), events(frame, bundle.schema, int(batch.index[0])), batch.group.numpy(), *codes


def _scored(bundle: Bundle, source: Source, frame: pl.DataFrame, *, scores: Float[np.ndarray, "rows columns"]) -> pl.DataFrame:
    keys = [name for name in dict.fromkeys((source.user, source.item, source.time)) if name is not None]
    return frame.select(keys).with_columns(pl.Series(name, scores[:, at]) for at, name in enumerate(bundle.columns))


def _write_csv(frames: Iterator[pl.DataFrame], path: Path) -> int:
    rows = 0
    with path.open("wb") as file:
        for frame in frames:
            frame.write_csv(file, include_header=rows == 0)
            rows += frame.height
    return rows


def _write_parquet(frames: Iterator[pl.DataFrame], path: Path) -> int:
    rows, writer = 0, None
    for frame in frames:
        table = frame.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        rows += frame.height
    if writer is not None:
        writer.close()
    return rows
