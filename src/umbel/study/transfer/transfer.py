"""Does sharing help? Recipes against separate models, users by how they lean, gradients, gates, labels; then an answer in words."""

from __future__ import annotations

import json
from pathlib import Path

from umbel import durable
from umbel.data.table import Table
from umbel.errors import DivergedError, UserError
from umbel.nn.recommender import Sizes
from umbel.recipes import RECIPES, views_of
from umbel.run.run import claim
from umbel.run.settings import Settings
from umbel.run.slicing import slices
from umbel.run.watch import Watch
from umbel.schema import Schema
from umbel.study.compare import run_compare
from umbel.study.transfer.advice import Action, advise
from umbel.study.transfer.comparable import leans
from umbel.study.transfer.groups import AGAINST, Cell, by_group
from umbel.study.transfer.labels import look
from umbel.study.transfer.page import transfer_page
from umbel.study.transfer.result import Transfer
from umbel.study.transfer.witness import Witnessed, witness
from umbel.study.verdict import Comparison

SHARED, OWN = "mmoe", "stem"  # one shared view, and views of one's own beside it


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
        judged = {one.name for one in found.recipes}
        if AGAINST not in judged:
            raise UserError("transfer: every run of the separate models diverged", mend="lower fit.rate")
        seen = {name: _witness(settings, name, folder, watch=watch) for name in names if name in judged - {AGAINST}}
        why = {name: one for name, one in seen.items() if one is not None}
        study = _study(table, found, cells=_cells(settings, table, found), why=why)
        durable.write(folder / "transfer.html", transfer_page(study))
        durable.write(folder / "transfer.json", json.dumps(study.to_json(), indent=1))
    return study


def _cells(settings: Settings, table: Table, found: Comparison) -> tuple[Cell, ...]:
    """Every compared recipe by how users lean and by the report's slices."""
    by_lean = {name: one.labels(table.groups("test")) for name, one in leans(table).items()}
    whole = [line for line in found.lines if line.finished == line.folders]  # groups are compared seed by seed
    lines = tuple(line for line in whole if line.name in settings.compare.recipes)
    splits = {**by_lean, **slices(table, "test", names=settings.evaluate.slices)}
    return by_group(table, lines, splits, resamples=settings.evaluate.resamples)


def _study(table: Table, found: Comparison, *, cells: tuple[Cell, ...], why: dict[str, Witnessed]) -> Transfer:
    labels = look(table)
    actions = {AGAINST: Action.SEPARATE, **{name: _action(table.schema, name) for name in why}}
    return Transfer(found, cells, why, labels, advise(found, actions, cells=cells, labels=labels.sentences()))


def _witness(settings: Settings, recipe: str, folder: Path, *, watch: Watch) -> Witnessed | None:
    """What was seen of it; None where its training diverged."""
    watch.stage(f"{recipe}, observed")
    own = settings.model_copy(update={"model": settings.model.model_copy(update={"recipe": recipe})})
    try:
        return witness(own, Table.open(folder / "compare" / "table"), folder / "observed" / recipe, watch=watch)
    except DivergedError as error:
        watch.stage(f"{recipe}: lost: {error}")
        return None


def _action(schema: Schema, recipe: str) -> Action:
    """What a recipe means: several views of every field, or one."""
    own = views_of(lambda: RECIPES[recipe](schema, Sizes(dict.fromkeys(schema.tables, 1)))) > 1
    return Action.OWN_VIEWS if own else Action.SHARE
