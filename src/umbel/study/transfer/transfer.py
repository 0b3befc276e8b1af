"""Does sharing help? Recipes against separate models, users by how they lean, gradients, gates, labels; then an answer in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from umbel import durable
from umbel.data.table import Table
from umbel.evaluate.intervals import Interval
from umbel.nn.recommender import Sizes
from umbel.recipes import RECIPES, views_of
from umbel.run.run import claim
from umbel.run.settings import Settings
from umbel.run.slicing import slices
from umbel.run.watch import Watch
from umbel.schema import Schema
from umbel.study.compare import run_compare
from umbel.study.transfer.advice import Action, Advice, advise
from umbel.study.transfer.comparable import leans
from umbel.study.transfer.groups import AGAINST, Cell, cells
from umbel.study.transfer.labels import Overlap, Supply, overlaps, supplies
from umbel.study.transfer.page import transfer_page
from umbel.study.transfer.witness import Witnessed, witness
from umbel.study.verdict import Comparison

SHARED, OWN = "mmoe", "stem"  # one shared view, and views of one's own beside it


@dataclass(frozen=True, slots=True)
class Transfer:
    """Everything the study found: `gains` is the mean relative gain over separate models in percent (Delta-M) of each recipe."""

    found: Comparison
    gains: Mapping[str, float]
    cells: tuple[Cell, ...]
    witnessed: Mapping[str, Witnessed]
    supplies: tuple[Supply, ...]
    overlaps: tuple[Overlap, ...]
    advice: Advice

    def to_json(self) -> dict[str, object]:
        """`transfer.json`."""
        return {
            "advice": {**asdict(self.advice)},
            "compare": self.found.to_json(),
            "delta_m": dict(self.gains),
            "groups": [one.to_json() for one in self.cells],
            "why": {name: asdict(one) for name, one in self.witnessed.items()},
            "labels": {
                "supply": [{**asdict(one), "sparse": one.sparse} for one in self.supplies],
                "overlap": [{**asdict(one), "duplicate": one.duplicate} for one in self.overlaps],
            },
        }


def run_transfer(settings: Settings, folder: Path, *, jobs: int, watch: Watch) -> Transfer:
    """Answer for one run file; leaves `transfer.json`, `transfer.html` and the comparison they rest on.

    Separate models, a shared view, views of one's own and the run's own recipe are compared as `umbel compare` does, with
    their width controls; then the models that share are trained once more under observation.

    :raises UserError: for what `umbel compare` refuses, or if `folder` holds another study.
    """
    names = tuple(dict.fromkeys((AGAINST, SHARED, OWN, settings.model.recipe)))
    settings = settings.model_copy(update={"compare": settings.compare.model_copy(update={"recipes": names})})
    with durable.hold(folder):
        claim(settings, folder)
        found = run_compare(settings, folder / "compare", jobs=jobs, watch=watch)
        table = Table.open(folder / "compare" / "table")
        splits = {**{name: one.labels(table.groups("test")) for name, one in leans(table).items()}, **_slices(settings, table)}
        lines = tuple(line for line in found.lines if line.name in names)
        judged = cells(table, lines, splits, resamples=settings.evaluate.resamples)
        seen = {name: _witness(settings, name, table, folder, watch=watch) for name in names if name != AGAINST}
        study = _study(found, judged, seen, table)
        durable.write(folder / "transfer.html", transfer_page(study.to_json()))
        durable.write(folder / "transfer.json", json.dumps(study.to_json(), indent=1))
    return study


def _study(found: Comparison, judged: tuple[Cell, ...], seen: Mapping[str, Witnessed], table: Table) -> Transfer:
    supply, overlap = supplies(table), overlaps(table)
    actions = {AGAINST: Action.SEPARATE, **{name: _action(table.schema, name) for name in seen}}
    advice = advise(found, actions, cells=judged, supplies=supply, overlaps=overlap)
    return Transfer(found, delta_m(found), judged, seen, supply, overlap, advice)


def delta_m(found: Comparison) -> dict[str, float]:
    """Per recipe `100 / T * sum_t s_t (M_t - M_alone,t) / M_alone,t`, s_t = -1 where lower is better; tasks without a figure are left out.

    M is each task's first metric, over seeds (Maninis et al., https://arxiv.org/abs/1904.08918).
    """
    base = next(one for one in found.recipes if one.name == AGAINST)
    gains = {}
    for one in found.recipes:
        each = []
        for task, metrics in one.tasks.items():
            name, value = next(iter(metrics.items()))
            against = base.tasks[task][name]
            if isinstance(value, Interval) and isinstance(against, Interval) and against.value:
                each.append((1 if name == "auc" else -1) * (value.value - against.value) / against.value)
        gains[one.name] = 100 * float(np.mean(each)) if each else float("nan")
    return gains


def _slices(settings: Settings, table: Table) -> Mapping[str, np.ndarray]:
    return slices(table, "test", names=settings.evaluate.slices)


def _witness(settings: Settings, recipe: str, table: Table, folder: Path, *, watch: Watch) -> Witnessed:
    watch.stage(f"{recipe}, observed")
    own = settings.model_copy(update={"model": settings.model.model_copy(update={"recipe": recipe})})
    return witness(own, table, folder / "observed" / recipe, watch=watch)


def _action(schema: Schema, recipe: str) -> Action:
    """What a recipe means: several views of every field, or one."""
    own = views_of(RECIPES[recipe], len(schema.tasks), sizes=Sizes({})) > 1
    return Action.OWN_VIEWS if own else Action.SHARE
