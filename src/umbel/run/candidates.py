"""Training what retrieves, as a run file's `[retrieval]` says, and how often it brings what users then liked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64

from umbel.data.batch import Batch
from umbel.data.loader import Loader, Replay
from umbel.data.table import Table
from umbel.errors import UserError, nearest
from umbel.evaluate.intervals import Resamples, Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.recall import NEVER, ranks, recall
from umbel.kinds import BINARY
from umbel.nn.towers import Sides, TowerSizes, TwoTower
from umbel.retrieve.neighbours import neighbours
from umbel.retrieve.queries import Queries, placed, positives
from umbel.retrieve.retrieval import Retrieval
from umbel.retrieve.sides import schema_of, sides
from umbel.run import resolve
from umbel.run.fitting import trained
from umbel.run.recalls import to_json
from umbel.run.retrieving import RetrievalSection
from umbel.run.settings import Settings
from umbel.run.watch import Watch

FOLDER = "retrieval"  # of a run, for checkpoints and the log of epochs
JUDGED = 100          # items that training is judged by; of a small catalogue a tenth of it
TOPS = (20, 100)      # and those of a report
SCORED = 16_384       # rows put through a tower at a time
Ranks = dict[str, Int64[np.ndarray, "rows"]]


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What retrieves, and what the report tells of it."""

    retrieval: Retrieval
    told: dict[str, object]


def check(settings: Settings) -> None:
    """:raises UserError: for a task that does not exist or is no event, or a log without an item."""
    section = settings.retrieval
    if section is None:
        return
    events = [name for name, task in settings.tasks.items() if task.kind == BINARY.name]
    for name in section.tasks:
        if name not in events:
            raise UserError(f"retrieval.task: no binary task {name!r}", mend=nearest(name, events))
    if not section.tasks:
        raise UserError("retrieval.task: none", mend="name a binary task")
    if settings.data.item is None:
        raise UserError("retrieval: [data] names no item column", mend="add item = 'COLUMN' under [data]")


def fit_retrieval(settings: Settings, table: Table, folder: Path, *, watch: Watch) -> Retrieved | None:
    """Train the towers, going on from a checkpoint in `folder`, and find neighbours; none where the run file has no `[retrieval]`.

    :raises UserError: for a log without items or without positives, or fields on the wrong side.
    """
    section = settings.retrieval
    if section is None:
        return None
    check(settings)
    found = _Training.of(section, table)
    watch.stage(f"retrieval: towers of {int(found.liked.sum()):,} positives of {len(found.codes):,} items")
    towers, epochs = found.fit(settings, folder / FOLDER, watch=watch)
    retrieval = found.retrieval(towers)
    queries = found.queries("test")
    drawn = found.recalls(retrieval, queries, resamples=settings.evaluate.resamples)
    about = {
        "tasks": list(section.tasks), "items": len(found.codes), "positives": int(found.liked.sum()), "rows": len(queries.rows),
        "users": len(np.unique(queries.user)), "lost": dict(queries.lost), "user_fields": list(found.sides.user),
        "item_fields": list(found.sides.item), "epochs": epochs,
    }  # fmt: skip
    return Retrieved(retrieval, to_json(about, drawn))


@dataclass(frozen=True, slots=True)
class _Training:
    """The training rows as retrieval sees them: which are positives, and the items by code."""

    section: RetrievalSection
    table: Table
    sides: Sides
    liked: Bool[np.ndarray, "rows"]
    codes: Int32[np.ndarray, "items"]
    code: Int32[np.ndarray, "rows"]

    @staticmethod
    def of(section: RetrievalSection, table: Table) -> _Training:
        own = sides(table, item=section.item, user=section.user)
        liked, code = positives(table, "train", section.tasks), table.column(own.id, "train")
        if not liked.any():
            raise UserError(f"retrieval: no training row has {' or '.join(section.tasks)}", mend="name a task that has positives")
        return _Training(section, table, own, liked, np.setdiff1d(code, [0]).astype(np.int32), code)

    def fit(self, settings: Settings, folder: Path, *, watch: Watch) -> tuple[TwoTower, list[dict[str, object]]]:
        section, table = self.section, self.table
        if settings.fit.threads:
            torch.set_num_threads(settings.fit.threads)
        torch.manual_seed(settings.fit.seed)
        sizes, own = self.sizes(), table.schema.field(self.sides.id)
        count = np.bincount(self.code[self.liked], minlength=sizes.vocabulary[own.table])
        share = torch.from_numpy(count / count.sum()).float()
        towers = TwoTower(schema_of(table.schema, self.sides), sizes, self.sides, share=share)
        plan = replace(
            resolve.plan(settings.fit), epochs=section.epochs, patience=section.patience, rate=section.rate, l2=section.l2, exact=False,
            fresh=False, decay=0.0, compiled=False, accumulate=1, schedule=None,
        )  # fmt: skip
        liked, fit = Replay(~self.liked, 0.0), settings.fit
        loader = Loader(table, "train", section.batch, seed=fit.seed, replay=liked, window=fit.window)
        epochs = trained(towers, _Positives(loader, watch), folder, plan=plan, judge=_Judge(self, self.queries("valid")), watch=watch)
        return towers.cpu().eval(), list(epochs)

    def sizes(self) -> TowerSizes:
        section, encoder = self.section, self.table.encoder
        rows = {name: one.size for name, one in encoder.vocabularies.items()}
        shape = section.model_dump(include={"dim", "hidden", "width", "temperature"})
        return TowerSizes(rows, edges=dict(encoder.edges), **shape)

    def queries(self, part: str) -> Queries:
        return Queries.of(self.table, part, item=self.sides.id, tasks=self.section.tasks, codes=self.codes)

    def retrieval(self, towers: TwoTower) -> Retrieval:
        place = placed(self.code, self.codes)
        liked = self.liked & (place >= 0)
        near = neighbours(
            self.table.groups("train")[liked], place[liked], len(self.codes), most=self.section.neighbours, shrink=self.section.shrink,
        )  # fmt: skip
        count = np.bincount(place[liked], minlength=len(self.codes))
        return Retrieval(self.sides, self.sizes(), towers, self.codes, count, self.vectors(towers), near)

    def vectors(self, towers: TwoTower) -> Float32[np.ndarray, "items width"]:
        """Every item as its last training row has it."""
        codes, last = np.unique(self.code[::-1], return_index=True)
        rows = (len(self.code) - 1 - last)[codes != 0] + self.table.parts["train"].start
        return _through(towers, self.table, rows, items=True)

    def recalls(self, retrieval: Retrieval, queries: Queries, *, resamples: int) -> dict[int, dict[str, Sampled | Undefined]]:
        """The recall of every source, and of all that any of them brings, at every number of items."""
        found = _ranked(retrieval, self.table, queries)
        found["union"] = np.minimum.reduce(list(found.values()))
        by: Resamples = resample(queries.user, resamples=resamples)
        return {k: {name: recall(own, k, by) for name, own in found.items()} for k in TOPS}


@dataclass(frozen=True, slots=True)
class _Positives:
    """The positive rows of a loader, every one a label of the one task that stands for them; the watch is told of every step."""

    loader: Loader
    watch: Watch

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        for step, batch in enumerate(self.loader(epoch, start), start=start):
            self.watch.stepped(epoch + 1, done=step * self.loader.size, rows=self.loader.rows)
            happened = torch.ones(len(batch.index), 1)
            yield replace(batch, labels=happened, seen=happened.bool())


@dataclass(frozen=True, slots=True)
class _Judge:
    """Recall@100 (or of a tenth of the items) of the towers on validation, higher is better."""

    training: _Training
    queries: Queries

    def __call__(self, towers: TwoTower) -> float:
        if not len(self.queries.rows):
            what = "retrieval: no validation row of these tasks asks for an item of training that its user had not met"
            raise UserError(what, mend="widen the validation part in [split], or name another task")
        was = towers.training
        towers.train(False)
        found = _nearest(towers, self.training.vectors(towers), self.queries, table=self.training.table)
        towers.train(was)
        return float((found < min(JUDGED, max(1, len(self.training.codes) // 10))).mean())


def _ranked(retrieval: Retrieval, table: Table, queries: Queries) -> Ranks:
    """The rank that each source gives what each row wants."""
    popular, similar = np.empty(len(queries.rows), np.int64), np.empty(len(queries.rows), np.int64)
    for some in queries.chunks():
        users = queries.user[some].tolist()
        count = np.tile(retrieval.positives.astype(np.float64), (len(users), 1))
        popular[some] = ranks(queries.unmet(count, some), queries.wanted[some])
        nobody = np.empty(0, np.int64)
        alike = np.stack([retrieval.neighbours.scores(queries.recent.get(one, nobody)) for one in users])
        alike[alike <= 0] = -np.inf
        similar[some] = ranks(queries.unmet(alike, some), queries.wanted[some])
    near = _nearest(retrieval.towers, retrieval.vectors, queries, table=table)
    return {"two_tower": near, "popular": popular, "similar": similar}


def _nearest(
    towers: TwoTower, items: Float32[np.ndarray, "items width"], queries: Queries, *, table: Table,
) -> Int64[np.ndarray, "rows"]:
    users = _through(towers, table, queries.rows, items=False)
    found = np.full(len(queries.rows), NEVER)
    for some in queries.chunks():
        found[some] = ranks(queries.unmet(users[some] @ items.T, some), queries.wanted[some])
    return found


def _through(towers: TwoTower, table: Table, rows: Int64[np.ndarray, "rows"], *, items: bool) -> Float32[np.ndarray, "rows width"]:
    """Rows of a table through one of the towers."""
    device, tower = towers.table.device, towers.items if items else towers.users
    with torch.inference_mode():
        parts = [tower(table.batch(rows[at : at + SCORED]).to(device).fields).cpu().numpy() for at in range(0, len(rows), SCORED)]
    return np.concatenate(parts)
