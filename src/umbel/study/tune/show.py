"""A search on the terminal: its best trials, the chosen one on test beside boosted trees, and how often the test part was read."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from umbel.run.compared import Compared
from umbel.run.screen import cell, show
from umbel.study.tune.page import written
from umbel.study.tune.result import Tuned
from umbel.study.tune.search import Tried

SHOWN = 10


def tuned(found: Tuned) -> None:
    """Print the trials that are in front, then the best of the others; then the test part."""
    first = ", those that none beats first" if len(found.rises) > 1 else ""
    table = Table(title=f"validation: the best of {len(found.trials)} trials{first}")
    for name in ("trial", *found.objectives, "settings"):
        table.add_column(name, justify="right" if name in found.objectives else "left")
    for one in _best(found):
        marks = "chosen" if one is found.chosen else "front" if one.number in found.front else ""
        table.add_row(f"{one.number} {marks}".strip(), *(f"{value:.5g}" for value in one.values), written(one.point))
    show(table)
    show(_test(found))


def said(found: Tuned) -> str:
    """The last line: how the trials ended, which was chosen, and how often the test part was read."""
    counts = ", ".join(f"{number} {state}" for state, number in found.counts.items())
    how = f"the best {found.objectives[0]} of {len(found.front)} that none beats" if len(found.objectives) > 1 else "the best"
    return f"{len(found.trials)} trials: {counts}; trial {found.chosen.number} is chosen ({how} on validation); test reads: {found.reads}"


def _best(found: Tuned) -> Iterator[Tried]:
    yield from (found.trials[number] for number in found.front)
    others = [one for one in found.trials if one.values and one.number not in found.front]
    others.sort(key=lambda one: one.values[0], reverse=found.rises[0])
    yield from others[: max(0, SHOWN - len(found.front))]


def _test(found: Tuned) -> Table:
    test = Compared.of(found.test)
    tasks = list(test.entrants[0].tasks)
    table = Table(title=f"test: {test.rows['test']:,} rows, 95 % over users")
    for name in ("", *tasks):
        table.add_column(name, justify="left" if not name else "right")
    for one in test.entrants:
        table.add_row(one.name, *(cell(next(iter(one.tasks[task].values())).measured) for task in tasks))
    return table
