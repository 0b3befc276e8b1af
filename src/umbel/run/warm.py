"""Training on from a bundle: its weights by raw id, its scales, and a share of the rows that it has seen already."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from umbel.bundle import Built, Bundle
from umbel.data.frequency import VALUE
from umbel.data.loader import Replay
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator
from umbel.nn.recommender import Recommender
from umbel.run.settings import FitSection
from umbel.schema import Field, Schema

APART = ("sizes", "offset", "tables")  # looked at by themselves, or of no meaning
FREE = ("vocabulary", "dropout", "id_dropout")  # sizes that no weight has
OFFSETS = "offsets."  # of a model's state: of the items of its own log, made anew
UNTIL = "until"  # of a bundle's report: the time of its latest training row


def encoder_of(fit: FitSection, schema: Schema, built: Built) -> Encoder | None:
    """Whose scales and edges a table for this training is encoded with: the bundle's, since its weights know no others.

    :raises UserError: for a bundle that `warm_start` would refuse, as far as can be told without the log.
    """
    if fit.start is None:
        return None
    bundle = Bundle.load(Path(fit.start))
    _check_alike(bundle, replace(built, sizes=replace(built.sizes, edges=bundle.built.sizes.edges)), schema, start=fit.start)
    return bundle.encoder


def calibrators_of(fit: FitSection, unlabelled: Collection[str]) -> dict[str, Calibrator]:
    """The bundle's calibrators of tasks that the new log has no label of, and that go on as they were."""
    if fit.start is None or not unlabelled:
        return {}
    return {name: one for name, one in Bundle.load(Path(fit.start)).calibrators.items() if name in unlabelled}


def warm_start(model: Recommender, table: Table, built: Built, *, start: str) -> Bundle:
    """Give a new model a bundle's weights: embedding rows by raw value, whatever their codes, and all else as it is.

    A value that the bundle does not know starts as its unknown row, which is what is true of values on average. Every row whose
    values the bundle knows scores as it did, but for target statistics and item offsets, which are made of the new log.

    :raises UserError: for a bundle of another recipe, other sizes, fields or tasks.
    """
    bundle = Bundle.load(Path(start))
    _check_alike(bundle, built, table.schema, start=start)
    state = model.state_dict()
    for name, tensor in bundle.model.state_dict().items():
        if name != "table" and not name.startswith(OFFSETS):
            state[name].copy_(tensor)
    rows = torch.from_numpy(_rows(bundle.encoder, table.encoder))
    state["table"].copy_(bundle.model.taken(rows).detach())
    return bundle


def check_plain(bundle: Bundle, *, start: str) -> None:
    """:raises UserError: for a bundle whose weights stand on item offsets, which a training without episodes does not have."""
    if bundle.built.offset is not None:
        what = f"fit.start: {start} adds offsets of {bundle.built.offset!r} to its outputs, the run file has no [episodes]"
        raise UserError(what, mend="add [episodes], or start from a bundle that was trained without it")


def replay_of(bundle: Bundle, table: Table, share: float) -> Replay | None:
    """Which training rows the bundle has seen, of which a share is trained on again; None where all are.

    :raises UserError: if the log or the bundle cannot tell.
    """
    if share >= 1:
        return None
    until = bundle.report.get(UNTIL)
    if not isinstance(until, int) or table.source.time is None:
        raise UserError("fit.replay: which rows the bundle has seen is told by time", mend="name it in [data], at both trainings")
    return Replay(table.times("train") <= until, share)


def _rows(old: Encoder, new: Encoder) -> np.ndarray:
    """For every row of the new embedding table, the row of the old one to take."""
    sizes = [old.vocabularies[name].size for name in old.schema.tables]
    starts = dict(zip(old.schema.tables, accumulate(sizes, initial=0), strict=False))
    found = []
    for name in new.schema.tables:
        known = old.vocabularies[name].encode(new.vocabularies[name].frame[VALUE])
        found.append(np.concatenate([np.zeros(1, np.int64), known.astype(np.int64)]) + starts[name])
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _check_alike(bundle: Bundle, built: Built, schema: Schema, *, start: str) -> None:
    """Refuse a bundle whose weights mean something else; what may differ is how often a value must be seen, and losses."""
    ours, theirs = _meaning(schema, built), _meaning(bundle.schema, bundle.built)
    for name in dict.fromkeys([*theirs, *ours]):
        if ours.get(name) != theirs.get(name):
            what = f"fit.start: {start} has {name} = {theirs.get(name)}, the run file {ours.get(name)}"
            raise UserError(what, mend="make them alike, or train from nothing")


def _meaning(schema: Schema, built: Built) -> dict[str, object]:
    """What weights depend on, by name."""
    fields = {f"fields.{one.name}": _read(one) for one in schema.fields}
    tasks = {f"tasks.{one.name}": (str(one.kind), one.given) for one in schema.tasks}
    sizes = {f"model.{one.name}": getattr(built.sizes, one.name) for one in dataclass_fields(built.sizes) if one.name not in FREE}
    pieces = {f"model.{one.name}": getattr(built, one.name) for one in dataclass_fields(built) if one.name not in APART}
    return {"order of fields": list(fields), "order of tasks": list(tasks), **fields, **tasks, **pieces, **sizes}


def _read(field: Field) -> tuple[object, ...]:
    """What a field's weights depend on."""
    made = () if field.statistic is None else (field.statistic.by, field.statistic.tasks)
    return (field.kind.value, field.table, field.size, field.target, field.bins, *made)
