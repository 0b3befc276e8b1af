"""Does sharing help? Recipes against separate models, users by how they lean, gradients, gates, labels; then an answer in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from umbel import durable
from umbel.data.table import Table
from umbel.errors import DivergedError, UserError
from umbel.recipes import views_of
from umbel.recipes.members import owned, parted
from umbel.run import resolve
from umbel.run.run import claim
from umbel.run.section import OptionSection
from umbel.run.settings import Settings
from umbel.run.slicing import slices
from umbel.run.watch import Watch
from umbel.schema import Schema
from umbel.study.compare import run_compare
from umbel.study.entrants import TREES, Entrant
from umbel.study.transfer.advice import Action, Choice, advise
from umbel.study.transfer.comparable import leaning
from umbel.study.transfer.groups import AGAINST, by_group
from umbel.study.transfer.labels import look
from umbel.study.transfer.page import transfer_page
from umbel.study.transfer.probed import PROBED, TOGETHER, Probed, checks, probed
from umbel.study.transfer.result import Transfer
from umbel.study.transfer.witness import Witnessed, witness
from umbel.study.verdict import Comparison, Line

SHARED, OWN = TOGETHER, "stem"  # one shared view, and views of one's own beside it


def run_transfer(settings: Settings, folder: Path, *, jobs: int, watch: Watch) -> Transfer:
    """Answer for one run file; leaves `transfer.json`, `transfer.html` and the comparison they rest on.

    Separate models, a shared view, views of one's own and the run's own recipe are compared as `umbel compare` does, with
    their width controls; the models that share are trained once more under observation. What their probes ask for (groups of
    tasks, fields with tables of the tasks' own) is trained too, under the same seeds and budget, and the best on validation of
    all is recommended.

    :raises UserError: for what `umbel compare` refuses, for a run file with `[episodes]`, or if `folder` holds another study.
    """
    names = tuple(dict.fromkeys((AGAINST, SHARED, OWN, settings.model.recipe)))
    settings = settings.model_copy(update={"compare": settings.compare.model_copy(update={"recipes": names})})
    if settings.episodes is not None:
        raise UserError("transfer: [episodes] adapts to users and shares by that alone", mend="leave the section out, or use umbel compare")
    with durable.hold(folder):
        claim(settings, folder)
        found = run_compare(settings, folder / "compare", jobs=jobs, watch=watch)
        table = Table.open(folder / "compare" / "table")
        judged = {one.name for one in found.recipes}
        if AGAINST not in judged:
            raise UserError("transfer: every run of the separate models diverged", mend="lower fit.rate")
        groups = leaning(table, how=settings.transfer)
        seen = [name for name in names if name in judged - {AGAINST}]
        chosen = _chosen(settings, found)
        looked = {name: _witness(chosen[name], name, folder, groups=groups, watch=watch) for name in dict.fromkeys((PROBED, *seen))}
        why = {name: one for name, one in looked.items() if one is not None}
        probes = probed(table.schema, why[PROBED]) if PROBED in why else None
        more = checks(probes, table.schema, trained=settings.transfer.trained, controls=settings.compare.controls) if probes else ()
        found = run_compare(settings, folder / "compare", jobs=jobs, watch=watch, more=more)
        study = _study(settings, table, found, more=more, seen=Seen(why, groups, probes))
        durable.write(folder / "transfer.html", transfer_page(study))
        durable.write(folder / "transfer.json", json.dumps(study.to_json(), indent=1))
    return study


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at beside the comparison: trainings by recipe, test rows by how users lean, what the probes ask for."""

    why: Mapping[str, Witnessed]
    groups: Mapping[str, np.ndarray]
    probes: Probed | None


def _study(settings: Settings, table: Table, found: Comparison, *, more: tuple[Entrant, ...], seen: Seen) -> Transfer:
    splits = {**seen.groups, **slices(table, "test", names=settings.evaluate.slices)}
    cells = by_group(table, _whole(found), splits, resamples=settings.evaluate.resamples, margin=settings.compare.margin)
    labels = look(table)
    choices = {**{name: _choice(settings, table.schema, name) for name in settings.compare.recipes}, **_choices(more, table.schema)}
    advice = advise(found, choices, cells=cells, labels=labels.sentences(), probes=seen.probes)
    return Transfer(found, cells, seen.why, labels, advice, seen.probes)


def _whole(found: Comparison) -> tuple[Line, ...]:
    """Everybody that lost no run (groups are compared seed by seed), but the trees: they have no views to share."""
    return tuple(line for line in found.lines if line.finished == line.folders and line.name not in TREES)


def _choices(more: tuple[Entrant, ...], schema: Schema) -> dict[str, Choice]:
    """What the probes' entrants mean; width controls are recommended to nobody."""
    return {one.name: PARTED[one.recipe](schema, one.options or OptionSection()) for one in more if one.recipe in PARTED}


def _chosen(settings: Settings, found: Comparison) -> dict[str, Settings]:
    """Each recipe as it was compared, with the rate and the width that it chose; who was not compared as the run file says."""
    best = {one.name: (one.chosen["rate"], one.chosen["dim"]) for one in found.recipes if one.name not in TREES}
    made = {}
    for name in dict.fromkeys((PROBED, *settings.compare.recipes)):
        grid = Entrant(name, name).grid(settings)
        made[name] = next((one for one in grid if (one.fit.rate, one.model.dim) == best.get(name)), grid[0])
    return made


def _witness(own: Settings, recipe: str, folder: Path, *, groups: Mapping[str, np.ndarray], watch: Watch) -> Witnessed | None:
    """What was seen of it; None where its training diverged."""
    watch.stage(f"{recipe}, observed")
    try:
        return witness(own, Table.open(folder / "compare" / "table"), folder / "observed" / recipe, watch=watch, splits=groups)
    except DivergedError as error:
        watch.stage(f"{recipe}: lost: {error}")
        return None


def _choice(settings: Settings, schema: Schema, recipe: str) -> Choice:
    """What a recipe means as the run file has it: groups or fields (its own where none are named), several views of every field, or one."""
    own = Entrant(recipe, recipe).grid(settings)[0]
    if recipe == AGAINST:
        return Choice(Action.SEPARATE)
    if recipe in PARTED:
        return PARTED[recipe](schema, own.model.options)
    several = views_of(partial(resolve.built(own, dict.fromkeys(schema.tables, 1)), schema)) > 1
    return Choice(Action.OWN_VIEWS if several else Action.SHARE)


def _by_groups(schema: Schema, options: OptionSection) -> Choice:
    return Choice(Action.GROUP, OptionSection(groups=parted(schema, options.groups or ())))


def _by_fields(schema: Schema, options: OptionSection) -> Choice:
    return Choice(Action.OWN_FIELDS, OptionSection(own=owned(schema, options.own or ())))


PARTED = {"grouped": _by_groups, "stem_fields": _by_fields}  # recipes that say what is parted, and what they mean
