"""A comparison on the terminal: entrants x tasks, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Verdict
from umbel.evaluate.robust import Robustness
from umbel.run.screen import cell, show, tell
from umbel.study.new_users import Shown
from umbel.study.verdict import Comparison, Standing


def standings(found: Comparison) -> None:
    """Print each entrant's first metric per task, what was chosen for it and its cost; then the differences that are more than noise."""
    tasks = list(found.recipes[0].tasks)
    alike = len({next(iter(found.recipes[0].tasks[task])) for task in tasks}) == 1  # a mean of errors and AUCs is of nothing
    table = Table(title=f"test: {found.rows['test']:,} rows; mean over seeds, 95 % over users")
    for name in ("recipe", *tasks, *(["mean"] if alike else []), "rate", "dim", "parameters", "rows/s", "memory"):
        table.add_column(name, justify="left" if name == "recipe" else "right")
    for one in found.recipes:
        first = [next(iter(one.tasks[task].values())) for task in tasks]
        table.add_row(one.name, *map(cell, first), *([_mean(one)] if alike else []), *_cost(one))
    show(table)
    for shown in (*_curves(found), *_worst(found)):
        show(shown)
    pairs = Table(title="differences")
    for name in ("task", "recipe", "against", "difference", "p", "verdict"):
        pairs.add_column(name, justify="right" if name in ("difference", "p") else "left")
    for pair in found.paired:
        if pair.verdict is not Verdict.OPEN:
            pairs.add_row(pair.task, pair.recipe, pair.against, cell(pair.paired.mean), f"{pair.paired.p:.2g}", pair.verdict.value)
    show(pairs)
    hidden = sum(pair.verdict is Verdict.OPEN for pair in found.paired)
    if hidden:
        tell(f"{hidden} open difference{'s are' if hidden > 1 else ' is'} on the page alone")
    for name, why in found.lost.items():
        tell(f"lost: {name}: {why}")
    for one in found.recipes:
        if one.cost.lost_steps:
            tell(f"warning: {one.name}: {one.cost.lost_steps:,} inner steps were no finite numbers and were not taken: lower its rate")


def _curves(found: Comparison) -> Iterator[Table]:
    """A table a task: every method as the support of new users grows."""
    everyone = {one.name: one.new for one in found.recipes if one.new is not None}
    sizes = {shots: one for new in everyone.values() for shots, one in new.curve.items() if isinstance(one, Shown)}
    for task, metrics in next((one.tasks.items() for one in sizes.values()), ()):
        users = next(iter(sizes.values())).users
        table = Table(title=f"{task}: {next(iter(metrics))} of {users:,} new users by rows known of them")
        table.add_column("method")
        for shots in sizes:
            table.add_column(str(shots), justify="right")
        for name, new in everyone.items():
            told = [new.curve[shots] for shots in sizes]
            table.add_row(name, *(cell(one if isinstance(one, Undefined) else one.first(task)) for one in told))
        yield table


def _worst(found: Comparison) -> Iterator[Table]:
    """A table a task: every method's worst group by every grouping, and how far the best is from it."""
    everyone = {one.name: one.new.groups for one in found.recipes if one.new is not None}
    for task, first in next((groups.items() for groups in everyone.values() if groups), ()):
        title = f"{task}: the worst groups of new users by {first.metric}; spread: the best group less the worst"
        table = Table(title=title, show_lines=True)
        table.add_column("method")
        for by in first.by:
            table.add_column(by, justify="right")
        for name, groups in everyone.items():
            table.add_row(name, *map(_group, groups[task].by.values()))
        yield table


def _group(one: Robustness) -> str:
    if isinstance(one.worst, Undefined):
        return f"none: {one.worst.reason}"
    return f"{one.worst.name}\n{cell(one.worst.figure)}\nspread {cell(one.spread)}"


def _mean(one: Standing) -> str:
    values = [next(iter(metrics.values())) for metrics in one.tasks.values()]
    known = [value.value for value in values if isinstance(value, Interval)]
    return f"{sum(known) / len(known):.4f}" if known else "none"


def _cost(one: Standing) -> tuple[str, ...]:
    chosen = (str(one.chosen.get(name, "")) for name in ("rate", "dim"))
    return (*chosen, f"{one.cost.parameters:,}", f"{one.cost.rows_per_second:,.0f}", f"{one.cost.peak_memory_bytes / 1e9:.2f} GB")
