"""How every recipe does on each group of users, task by task, against separate models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from umbel.data.table import Table
from umbel.evaluate.figures import Figures, Rows, binary_figures
from umbel.evaluate.intervals import Interval, Resamples, Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import MARGIN, Paired, Verdict, average, paired, verdicts
from umbel.evaluate.slices import cut, too_small
from umbel.run.run import happened
from umbel.schema import BINARY
from umbel.study.verdict import Line

AGAINST = "alone"


@dataclass(frozen=True, slots=True)
class Cell:
    """One recipe on one task in one group: AUC and GAUC over seeds, and AUC less that of separate models on the same resamples.

    The verdict is that of `paired.verdicts` over all recipes, tasks and groups of the split together.
    """

    split: str
    group: str
    task: str
    recipe: str
    rows: int
    positives: int
    auc: Interval | Undefined
    gauc: Interval | Undefined
    gain: Paired | None
    verdict: Verdict = Verdict.OPEN

    def to_json(self) -> dict[str, object]:
        """Plain values; what cannot be had is null, with its reason."""
        gain = self.gain
        figures = {"auc": _bounds(self.auc), "gauc": _bounds(self.gauc), "gain": _bounds(gain.mean) if gain else None}
        names = {"split": self.split, "group": self.group, "task": self.task, "recipe": self.recipe}
        return {**names, "rows": self.rows, "positives": self.positives, **figures,
                "seeds": list(gain.seeds) if gain else None, "verdict": self.verdict.value if gain else None}  # fmt: skip

    @property
    def loses(self) -> bool:
        """Negative transfer: the gain is below 0, and significantly so."""
        return self.verdict is Verdict.LOWER

    @property
    def wins(self) -> bool:
        """The same on the other side."""
        return self.verdict is Verdict.HIGHER


def by_group(
    table: Table, lines: tuple[Line, ...], splits: Mapping[str, np.ndarray], *, resamples: int, margin: float = MARGIN
) -> tuple[Cell, ...]:
    """Every recipe, binary task, split and group of the test rows; `splits` maps a name to a label per test row.

    Users are resampled once for all of them; Holm's rule is applied within a split.
    """
    by = resample(table.groups("test"), resamples=resamples)
    masks = {(split, group): mask for split, labels in splits.items() for group, mask in cut(labels).items()}
    rows = {line.name: [_rows(table, folder / "predictions.npz", by) for folder in line.folders] for line in lines}
    found = []
    for (split, group), mask in masks.items():
        for task in rows[lines[0].name][0] if lines else ():
            figures = {name: [_figures(*one[task], mask) for one in seeds] for name, seeds in rows.items()}
            found += [_cell((split, group, task, name), seeds, figures.get(AGAINST)) for name, seeds in figures.items()]
    return tuple(one for split in splits for one in _judged([cell for cell in found if cell.split == split], margin))


Judged = tuple[Rows, Bool[np.ndarray, "rows"]]  # a task's rows, and where it is seen


def _judged(cells: list[Cell], margin: float) -> list[Cell]:
    """The cells of one split with their verdicts."""
    pairs = {at: cell.gain for at, cell in enumerate(cells) if cell.gain is not None}
    known = verdicts(pairs, margin=margin)
    return [replace(cell, verdict=known[at]) if at in known else cell for at, cell in enumerate(cells)]


def _rows(table: Table, path: object, by: Resamples) -> dict[str, Judged]:
    with np.load(str(path)) as saved:
        predictions, calibrated = happened(table, "test", saved["logits"]), saved["calibrated"]
    binary = [(at, task.name) for at, task in enumerate(table.schema.tasks) if task.kind == BINARY]
    return {
        name: (Rows(predictions.event(name), predictions.output(name), calibrated[:, at], predictions.groups, by), predictions.seen(name))
        for at, name in binary
    }


def _figures(rows: Rows, seen: Bool[np.ndarray, "rows"], mask: Bool[np.ndarray, "rows"]) -> Figures:
    own = rows.where(np.flatnonzero(seen & mask))
    positives = int(own.labels.sum())
    small = too_small(len(own.labels), positives)
    if small is None:
        return binary_figures(own)
    return Figures(len(own.labels), own.by.users, positives, {}, draws={"auc": small, "gauc": small})


def _cell(names: tuple[str, str, str, str], seeds: list[Figures], against: list[Figures] | None) -> Cell:
    gain = None
    if against is not None and names[3] != AGAINST:
        sides = [[draw for one in side if isinstance(draw := one.draws["auc"], Sampled)] for side in (seeds, against)]
        gain = paired(*sides) if len(sides[0]) == len(sides[1]) == len(seeds) else None
    first = seeds[0]
    return Cell(*names, first.rows, first.positives or 0, _mean(seeds, "auc"), _mean(seeds, "gauc"), gain)


def _mean(seeds: list[Figures], metric: str) -> Interval | Undefined:
    draws = [one.draws[metric] for one in seeds]
    known = [draw for draw in draws if isinstance(draw, Sampled)]
    return average(known).interval() if len(known) == len(draws) else next(draw for draw in draws if isinstance(draw, Undefined))


def _bounds(value: Interval | Undefined) -> dict[str, object]:
    if isinstance(value, Undefined):
        return {"value": None, "reason": value.reason}
    return {"value": value.value, "low": value.low, "high": value.high}
