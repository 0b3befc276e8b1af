"""A run on the terminal: a progress bar with loss per task, rows/s and time left, and the table at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from umbel.evaluate.figures import Figures
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import TaskReport
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst
from umbel.learn.fit import Epoch
from umbel.run.report import Report

LEFT_OUT = ("pr_auc",)  # stands in the report; a terminal is narrow


@final
class RowsPerSecond(ProgressColumn):
    """Rows a second of the running task."""

    def render(self, task: Task) -> Text:
        """`1.2 M rows/s`, or nothing before the first rows."""
        return Text(f"{_short(task.speed)} rows/s" if task.speed else "", style="cyan")


@final
class Screen:
    """A `Watch` that draws on standard error; on no terminal it prints one line an epoch."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, markup=False, emoji=False)
        self.bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RowsPerSecond(), TimeRemainingColumn(),
            console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.line = self.bar.add_task("", visible=False, total=None)
        self.epoch = 0
        self.losses = ""

    def __enter__(self) -> Screen:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def ingested(self, rows: int) -> None:
        """Move the bar of the ingest."""
        self.bar.update(self.line, description="ingest", completed=rows, visible=True)

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        """Move the bar of the epoch."""
        if epoch != self.epoch:
            self.epoch, self.losses = epoch, ""
            self.bar.reset(self.line, total=rows, visible=True)
        self.bar.update(self.line, description=f"epoch {epoch}  {self.losses}", completed=done)

    def learned(self, losses: tuple[float, ...]) -> None:
        """Keep the epoch's losses so far, which stand in its bar from the next step on."""
        self.losses = _told(losses)

    def finished(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        score = "" if epoch.score is None else f"valid {epoch.score:.4f}{' best' if epoch.kept == epoch.number else ''}"
        speed = f"{_short(epoch.rows / max(epoch.seconds, 1e-9))} rows/s"
        compiling = f", after {epoch.compiling:,.0f} s of compiling" if epoch.compiling else ""
        self.console.print(f"epoch {epoch.number:>3}  {_told(epoch.losses)}  {score}  {speed}{compiling}", highlight=False, soft_wrap=True)

    def stage(self, name: str) -> None:
        """Print what comes now."""
        self.bar.update(self.line, visible=False)
        self.console.print(name, style="dim", highlight=False, soft_wrap=True)


def _told(losses: Sequence[float]) -> str:
    return "loss " + " ".join(f"{loss:.4f}" for loss in losses)


def _short(number: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"


def _plain(width: int | None = None) -> Console:
    """Standard output, which takes names as they are: brackets and colons in them are no markup."""
    return Console(width=width, markup=False, emoji=False)


def show(table: Table) -> None:
    """Print a table to standard output, as wide as it needs where that is no terminal."""
    console = _plain()
    (console if console.is_terminal else _plain(width=140)).print(table)


def tell(line: str) -> None:
    """Print one line to standard output, unbroken."""
    _plain().print(line, highlight=False, soft_wrap=True)


def headline(report: Report) -> None:
    """Print a report's figures, a line a task and a table for each set of metrics, intervals at 95 %, and what is odd about its rows."""
    title: str | None = f"{report.recipe}, {', '.join(f'{count:,} {part}' for part, count in report.rows.items())} rows"
    for names in dict.fromkeys(tuple(task.figures.metrics) for task in report.tasks):
        show(_figures(title, [task for task in report.tasks if tuple(task.figures.metrics) == names], names))
        title = None
    for task in report.tasks:
        if isinstance(task.worst, Worst):
            worst = task.worst
            where = f"{worst.slice} = {worst.label}"
            _plain().print(f"worst slice of {task.name}: {where}, {worst.metric} {cell(worst.value)}", highlight=False)
    for line in report.aside.lines():
        tell(line)


def _figures(title: str | None, tasks: Sequence[TaskReport], metrics: Sequence[str]) -> Table:
    table = Table(title=title)
    table.add_column("task", no_wrap=True)
    names = [name for name in metrics if name not in LEFT_OUT]
    counted = ("positives",) if any(task.figures.positives is not None for task in tasks) else ()
    for name in (*names, *counted):
        table.add_column(name.removeprefix("calibration_"), justify="right")
    for task in tasks:
        _add(table, task.name, task.figures, names=names)
        if task.marginal is not None:
            _add(table, f"{task.name} (marginal)", task.marginal, names=names)
    return table


def _add(table: Table, name: str, figures: Figures, *, names: Sequence[str]) -> None:
    cells = [cell(figures.metrics[one]) if one in figures.metrics else "" for one in names]
    table.add_row(name, *cells, *([] if figures.positives is None else [f"{figures.positives:,}"]))


def cell(measured: Interval | Undefined) -> str:
    """`value ±half the interval`, or why there is none."""
    if isinstance(measured, Undefined):
        return f"none: {measured.reason}"
    if measured.low is None or measured.high is None:
        return f"{measured.value:.4f}"
    return f"{measured.value:.4f} ±{(measured.high - measured.low) / 2:.4f}"
