"""The gate before a new bundle takes over: on the same labelled rows, no task worse, chances right, answers in time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from umbel import durable
from umbel.bundle import Bundle
from umbel.chosen import spell
from umbel.data.raw import encoded
from umbel.errors import UserError, nearest
from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.judge import TaskReport
from umbel.evaluate.metrics import FALLS, Undefined
from umbel.evaluate.paired import Paired, paired
from umbel.run.use import judge_rows
from umbel.schema import BINARY, Task

ROWS = 200     # candidates of one timed answer
ROUNDS = 31    # timed answers


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a candidate must keep.

    A task may lose at most `worse` of its first metric (AUC of an event; of a regression, a share of its RMSE): the loss is shown
    when its whole interval over users lies beyond, and with `strict` it counts as soon as the interval reaches there. The ratio
    of the sums of predictions and of events stays inside `calibration`; scoring 200 rows takes at most `milliseconds` (median).
    `waived` tasks may lose.
    """

    worse: float = 0.002
    calibration: tuple[float, float] = (0.9, 1.1)
    milliseconds: float = 50.0
    strict: bool = False
    waived: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: whether it holds, the number behind it with its bounds, and the sentence that says so."""

    name: str
    holds: bool
    says: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the candidate may take over, and every check."""

    candidate: str
    stable: str
    promote: bool
    checks: tuple[Check, ...]

    @property
    def says(self) -> str:
        """One line: the answer, and what stands against it."""
        against = [check.says for check in self.checks if not check.holds]
        return f"promote {self.candidate}" if self.promote else f"keep {self.stable}: {'; '.join(against)}"


def bounds_of(asked: Sequence[str]) -> Bounds:
    """Bounds from `KEY=VALUE` words; :raises UserError: for one that is none.

    Example
    -------
    >>> bounds_of(["worse=0.001", "waived=like,buy", "strict=true"])
    Bounds(worse=0.001, calibration=(0.9, 1.1), milliseconds=50.0, strict=True, waived=('like', 'buy'))
    """
    given: dict[str, object] = {}
    known = [one.name for one in fields(Bounds)]
    for word in asked:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise UserError(f"--bound {word}: no such bound", mend=nearest(key, known))
        given[key] = value.split(",") if key in ("calibration", "waived") else value
    try:
        return TypeAdapter(Bounds).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--bound {first['loc'][0]}: {first['msg']}", mend="write for example worse=0.001 or calibration=0.9,1.1") from None


def decide(
    candidate: Path, stable: Path, log: str, *, bounds: Bounds, joins: Sequence[str] = (), out: Path | None = None
) -> Decision:
    """Judge both bundles on the same raw rows with labels, which neither was trained on, and decide.

    :raises UserError: for a bundle or log that cannot be read, bundles of different tasks, or a waived task that is none.
    """
    new, old = Bundle.load(candidate), Bundle.load(stable)
    _check_comparable(new, old, bounds)
    judged = [judge_rows(one, log, joins=joins) for one in (new, old)]
    checks = [check for pair in zip(*judged, strict=True) for check in _task(pair[0], pair[1], bounds)]
    checks.append(_latency(new, candidate, bounds))
    found = Decision(str(candidate), str(stable), all(check.holds for check in checks), tuple(checks))
    if out is not None:
        durable.write(out, json.dumps(asdict(found), indent=1))
    return found


def _task(new: TaskReport, old: TaskReport, bounds: Bounds) -> list[Check]:
    """A task's loss, and its calibration where it has one."""
    checks = [_quality(new, old, bounds)]
    ratio = new.figures.metrics.get("calibration_ratio")
    if isinstance(ratio, Interval):
        low, high = bounds.calibration
        holds = low <= ratio.value <= high
        says = f"{new.name}: predicted over observed {ratio.value:.3f}, {'inside' if holds else 'outside'} {low:g} to {high:g}"
        checks.append(Check(f"{new.name} calibration", holds, says, ratio.value, ratio.low, ratio.high))
    return checks


def _quality(new: TaskReport, old: TaskReport, bounds: Bounds) -> Check:
    metric = next(iter(new.figures.draws))
    name = f"{new.name} {metric}"
    if new.name in bounds.waived:
        return Check(name, True, f"{new.name}: waived")
    ours, theirs = new.figures.draws[metric], old.figures.draws[metric]
    if not isinstance(ours, Sampled) or not isinstance(theirs, Sampled):
        lost = next(one for one in (ours, theirs) if isinstance(one, Undefined))
        return Check(name, False, f"{new.name}: {metric} cannot be had ({lost.reason})")
    scale = abs(theirs.value) if metric in FALLS and theirs.value else 1.0
    pair: Paired = paired([ours], [theirs])
    sign = -1.0 if metric in FALLS else 1.0
    gain = sign * pair.mean.value / scale
    ends = [None if bound is None else sign * bound / scale for bound in (pair.mean.low, pair.mean.high)]
    low, high = (ends[1], ends[0]) if sign < 0 else (ends[0], ends[1])
    if low is None or high is None:
        return Check(name, False, f"{new.name}: {metric} has no interval ({pair.mean.reason})", gain)
    holds = low >= -bounds.worse if bounds.strict else high >= -bounds.worse
    moved = f"{'better' if gain >= 0 else 'worse'} by {abs(gain):.4f} ({low:+.4f} to {high:+.4f})"
    says = f"{new.name}: {metric} {moved}, {bounds.worse:g} may be lost"
    return Check(name, holds, says, gain, low, high)


def _latency(new: Bundle, folder: Path, bounds: Bounds) -> Check:
    """The median time of scoring as many rows as a request may bring, encoding included."""
    import polars as pl

    golden = pl.read_parquet(folder / "golden.parquet")
    rows = pl.concat([golden] * -(-ROWS // golden.height)).head(ROWS)
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        new.predict(encoded(rows, new.encoder))
        taken.append(1000 * (time.perf_counter() - began))
    middle = float(np.median(taken))
    holds = middle <= bounds.milliseconds
    says = f"{ROWS} rows in {middle:.1f} ms, {'inside' if holds else 'beyond'} {bounds.milliseconds:g}"
    return Check("latency", holds, says, middle)


def _check_comparable(new: Bundle, old: Bundle, bounds: Bounds) -> None:
    ours, theirs = (", ".join(map(_asked, one.schema.judged)) for one in (new, old))
    if ours != theirs:
        raise UserError(f"promote: the candidate answers {ours}; the other {theirs}", mend="compare bundles of the same tasks")
    names = [task.name for task in new.schema.judged]
    for name in bounds.waived:
        if name not in names:
            raise UserError(f"--bound waived={name}: no such task", mend=nearest(name, names))


def _asked(task: Task) -> str:
    """What a task answers, in words: its name, what it is given, and its kind unless it is an event."""
    given = "" if task.given is None else f" given {task.given}"
    kind = spell(task.kind)
    told = kind if isinstance(kind, str) else " ".join([task.kind.name, *(f"{key}={one}" for key, one in kind.items() if key != "name")])
    return f"{task.name}{given}{'' if task.kind == BINARY else f' ({told})'}"
