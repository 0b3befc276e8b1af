"""Using a bundle on raw rows: score them, or judge the bundle on them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from jaxtyping import Float

from umbel import durable
from umbel.bundle import Bundle
from umbel.data.labels import events
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Source
from umbel.errors import UserError
from umbel.evaluate.intervals import resample
from umbel.evaluate.judge import Predictions, calibrate_all, evaluate
from umbel.learn.predict import predict
from umbel.run.report import Report
from umbel.run.run import peak_memory

SIZE = 16384  # raw rows at a time


def score_log(bundle: Path, log: str, out: Path) -> int:
    """Write user, item, time and one calibrated prediction a task for every raw row, in order; the number of rows.

    A task that is `given` another has two columns: TASK, where its sample space holds, and TASK_marginal. The log is
    joined to the tables that the bundle was trained with. `out` is CSV by suffix, else Parquet; it appears whole or not at all.

    :raises UserError: for a bundle or log that cannot be read, a log without rows, or a full disk.
    """
    made = Bundle.load(bundle)
    source = replace(made.source, log=log)
    frames = (_scored(made, source, frame, scores=scores) for frame, scores in made.score(source, SIZE))
    with durable.file(out) as partial:
        rows = _write_csv(frames, partial) if out.suffix == ".csv" else _write_parquet(frames, partial)
        if not rows:
            raise UserError(f"{log}: no rows", mend="give a log that has some")
    return rows


def judge_log(bundle: Path, log: str, *, resamples: int = 200) -> Report:
    """Judge a bundle on raw rows that carry labels, as a run judges its test rows."""
    began = time.monotonic()
    made = Bundle.load(bundle)
    source = replace(made.source, log=log)
    test = _happened(made, source)
    tasks = evaluate(test, calibrate_all(made.schema, test.logits, made.calibrators), by=resample(test.groups, resamples=resamples))
    trained = Report.from_json(made.report)
    seconds = time.monotonic() - began
    return replace(trained, rows={"log": len(test.groups)}, tasks=tasks, seconds=seconds, peak_memory_bytes=peak_memory())


def _happened(bundle: Bundle, source: Source) -> Predictions:
    parts = [(events(frame, bundle.schema, int(batch.index[0])), batch) for frame, batch in raw_rows(source, bundle.encoder, SIZE)]
    if not parts:
        raise UserError(f"{source.log}: no rows", mend="give a log that has some")
    labels = np.concatenate([plain for plain, _ in parts])
    observed = ~np.isnan(labels)
    if not observed.any():
        names = ", ".join(task.label or task.name for task in bundle.schema.tasks)
        raise UserError(f"{source.log}: no label to judge by", mend=f"the log needs at least one of {names}")
    groups = np.concatenate([batch.group.numpy() for _, batch in parts if batch.group is not None])
    logits = predict(bundle.model, (batch for _, batch in parts))
    return Predictions(bundle.schema, logits, np.nan_to_num(labels), observed, groups)


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
