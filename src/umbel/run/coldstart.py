"""Training and judging a run with `[episodes]`: users never seen, a few rows of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64

from umbel.chosen import choose
from umbel.coldstart.answers import Answers, Asked, answers, scores
from umbel.coldstart.method import Method, Prepared, Setup
from umbel.coldstart.methods import METHODS
from umbel.coldstart.prior import ItemMeans
from umbel.coldstart.rungs import FEWEST, Climb, climb, known_from, serving
from umbel.coldstart.source import Reader
from umbel.coldstart.unknown import average_unknown
from umbel.data.batch import Batch
from umbel.data.episodes import Episodes, Protocol, Scenario, episodes, item_field, scenarios, user_field
from umbel.data.table import Table
from umbel.errors import DivergedError, UserError
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.robust import quarters
from umbel.learn.episode import Learner
from umbel.learn.fit import Batches
from umbel.learn.history import Scores
from umbel.learn.keep import Keep
from umbel.learn.ladder import Ladder
from umbel.nn.offset import Offsets
from umbel.nn.recommender import Recommender
from umbel.run import resolve
from umbel.run.episodic import EpisodeSection
from umbel.run.fitting import Fitted, trained
from umbel.run.settings import Settings
from umbel.run.warm import warm_start
from umbel.run.watch import Watch
from umbel.schema import Schema


@dataclass(frozen=True, slots=True)
class Newcomers:
    """A cold-start method over a table, as a run file says it."""

    section: EpisodeSection
    table: Table
    means: ItemMeans
    prepared: Prepared

    @staticmethod
    def of(settings: Settings, table: Table) -> Newcomers:
        """Before training; :raises UserError: for a method that does not exist, or a log without users or items."""
        section = section_of(settings)
        means = ItemMeans.of(table, items=section.prior == "item")
        setup = Setup(Reader(table, means), _builder(settings, table), section.training(), size=section.users, seed=settings.fit.seed,
                      forget=section.forget, ids=section.ids)
        return Newcomers(section, table, means, method(settings).prepare(setup))

    def taught(self) -> Int64[np.ndarray, "users"]:
        """Raw users who may have been read by id in training."""
        own: Int64[np.ndarray, "users"] = episodes(self.table, "train", self.section.training()).user
        return own if self.prepared.ids else own[:0]

    def valid(self) -> Episodes:
        """Validation users by the protocol of training."""
        return episodes(self.table, "valid", self.section.protocol())

    def judge(self, learner: Learner) -> Scores:
        """The validation score that training goes by."""
        return scores(answers(learner, self.valid(), self.prepared.read))

    def trained_scores(self) -> Scores:
        """The same of as many training users, the first of them: how much better those are known."""
        own = episodes(self.table, "train", self.section.protocol())
        some = own.of(np.arange(min(len(own), len(self.valid()))))
        return scores(answers(self.prepared.learner, some, self.prepared.read))

    def asked(self) -> Asked:
        """What the learner says of test users: in every scenario, of new users as their support grows, and of new users by groups."""
        among = _newest(scenarios(self.table, "test"))
        curve = {shots: self._answers(self._tested(self.section.at(shots), among)) for shots in self.section.curve}
        new = self._tested(self.section.protocol(), among)
        return Asked(self.told(), curve, self._answers(new), {} if isinstance(new, Undefined) else self._groups(new))

    def told(self) -> dict[str, Answers | Undefined]:
        """What it says of them in every scenario."""
        parts = scenarios(self.table, "test")
        return {name.value: self._answers(self._tested(self.section.protocol(), among)) for name, among in parts.items()}

    def served(self, ladder: Ladder) -> dict[int, Answers | Undefined]:
        """The curve as the ladder answers it: for each size of the support by the rung that is for it."""
        among, learner = _newest(scenarios(self.table, "test")), self.prepared.learner
        return {shots: self._answers(self._tested(self.section.at(shots), among), by=serving(learner, ladder, shots))
                for shots in self.section.curve}

    def climb(self) -> Climb | None:
        """The ladder, chosen on validation users; none where the run file has no curve to choose by."""
        curve = {shots: episodes(self.table, "valid", self.section.at(shots)) for shots in self.section.curve if shots}
        if not curve:
            return None
        found = climb(self.prepared.learner, curve, self.prepared.served)
        known, why = self._known(found.ladder)
        return replace(found, ladder=replace(found.ladder, known=known), no_id=why)

    def _known(self, ladder: Ladder) -> tuple[int | None, str]:
        """From how many training rows a user's id answers, chosen on validation rows of users who trained; None, and why it does not."""
        if not self.prepared.ids:
            return None, "training read no user by id ([episodes] ids = 0)"
        parts = scenarios(self.table, "valid")
        try:
            own = episodes(self.table, "valid", self.section.protocol(), among=parts[Scenario.WARM] | parts[Scenario.ITEM_COLD])
        except UserError:
            return None, "no validation row is of a user who trained (a split by rows or time has some)"
        users, counts = np.unique(self.table.groups("train"), return_counts=True)
        trained = np.where(np.isin(own.user, self.taught()), counts[np.searchsorted(users, own.user)], 0)
        known = known_from(self.prepared.learner, ladder, own, read=self.prepared.served, trained=trained)
        return known, "" if known else f"on validation it is nowhere better than the user's rows, or fewer than {FEWEST} users say so"

    def finish(self) -> None:
        """After training: values that it met too rarely as unknown are the mean of the known ones, users it never read by id unknown."""
        learned = [user_field(self.table), item_field(self.table) if self.section.forget else None]
        average_unknown(self.prepared.learner.model, self.table, learned=[name for name in learned if name is not None])
        _as_unknown(self.prepared.learner.model, self.table, self.taught(), always=self.prepared.ids == 1)

    def lost(self) -> int:
        """Inner steps that were no finite number and were not taken, since the learner was made or its weights were loaded."""
        counts = [one for name, one in self.prepared.learner.named_buffers() if name.rpartition(".")[2] == "lost"]
        return sum(int(one) for one in counts)

    def _tested(self, protocol: Protocol, among: Bool[np.ndarray, "rows"]) -> Episodes | Undefined:
        """The users of some test rows; why there are none, where no user has rows enough."""
        try:
            return episodes(self.table, "test", protocol, among=among)
        except UserError as error:
            return Undefined(error.what.removeprefix("episodes: "))

    def _answers(self, own: Episodes | Undefined, *, by: Learner | None = None) -> Answers | Undefined:
        if isinstance(own, Undefined):
            return own
        return answers(by or self.prepared.learner, own, self.prepared.read if by is None else self.prepared.served)

    def _groups(self, own: Episodes) -> dict[str, Sequence[object]]:
        """Everybody's group by how many rows they have, and by the fields that the run file names."""
        first = own.query[:, 0] - self.table.parts["test"].start
        fields = {name: [*self.table.encoder.decode(name, self.table.column(name, "test")[first])] for name in self.section.groups}
        return {"activity": quarters(own.sizes.astype(float)), **fields}


@dataclass(frozen=True, slots=True)
class Learned:
    """A method that has been trained, where it trains anything, and what its epochs came to."""

    newcomers: Newcomers
    history: tuple[dict[str, object], ...]
    keep: Keep


def learn(settings: Settings, table: Table, folder: Path, *, watch: Watch) -> Learned:
    """Train a method's learner, going on from a checkpoint in `folder`; a method that trains nothing is ready as it is."""
    if settings.fit.threads:
        torch.set_num_threads(settings.fit.threads)
    torch.manual_seed(settings.fit.seed)
    found = Newcomers.of(settings, table)
    prepared = found.prepared
    plan = resolve.plan(settings.fit, resolve.balance(settings), resolve.keep(settings))
    history: tuple[dict[str, object], ...] = ()
    if settings.fit.start is not None:
        made = resolve.built(settings, vocabulary(table), edges=table.encoder.edges)
        warm_start(prepared.learner.model, table, made, start=settings.fit.start)
    if prepared.batches is not None:
        watched = _Watched(prepared.batches, watch, rows=len(table.parts["train"]))
        try:
            history = trained(prepared.learner, watched, folder, plan=plan, judge=found.judge, watch=watch)
        except DivergedError as error:
            raise DivergedError(error.what, mend=f"{error.mend}; or lower the rate of [episodes] method, if it has one") from None
        found.finish()
    prepared.learner.cpu().eval()
    return Learned(found, history, plan.keep)


def fit_episodes(settings: Settings, table: Table, folder: Path, *, watch: Watch) -> tuple[Fitted, Newcomers]:
    """The same for a run: its model, with the item priors as offsets, is what a bundle takes."""
    learned = learn(settings, table, folder, watch=watch)
    found = learned.newcomers
    model = found.prepared.learner.model
    item, rows = item_field(table), vocabulary(table)
    built = replace(resolve.built(settings, rows, edges=table.encoder.edges), offset=item)
    offset = _take_offsets(model, found.means, field=item, codes=rows[table.schema.field(item).table])
    return Fitted(offset, built, learned.history, learned.keep), found


def method(settings: Settings) -> Method:
    """The method that a run file names; :raises UserError: for one that does not exist."""
    return choose("episodes.method", section_of(settings).method, METHODS)


def section_of(settings: Settings) -> EpisodeSection:
    """`[episodes]`; :raises UserError: where there is none."""
    if settings.episodes is None:
        raise UserError("episodes: the run file has no [episodes]", mend="add the section, with a method")
    return settings.episodes


def vocabulary(table: Table) -> dict[str, int]:
    """Rows of every embedding table."""
    return {name: one.size for name, one in table.encoder.vocabularies.items()}


@dataclass(frozen=True, slots=True)
class _Watched:
    """Batches that tell the watch of every step, in query rows: not quite the part's, of which an epoch's episodes are most."""

    batches: Batches
    watch: Watch
    rows: int

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        done = 0
        for batch in self.batches(epoch, start):
            self.watch.stepped(epoch + 1, done=min(done, self.rows), rows=self.rows)
            done += int(batch.seen.any(1).sum())
            yield batch


def _newest(parts: Mapping[Scenario, Bool[np.ndarray, "rows"]]) -> Bool[np.ndarray, "rows"]:
    """The rows of new users; all others where the part has none."""
    new: Bool[np.ndarray, "rows"] = parts[Scenario.USER_COLD] | parts[Scenario.BOTH_COLD]
    return new if new.any() else ~new


def _builder(settings: Settings, table: Table) -> Callable[[Schema], Recommender]:
    return resolve.built(settings, vocabulary(table), edges=table.encoder.edges)


def _take_offsets(model: Recommender, means: ItemMeans, *, field: str, codes: int) -> Recommender:
    """The model with every item's prior as its offset: what its rows are without episodes."""
    model.offsets = Offsets(field, (codes, sum(task.kind.outputs for task in model.schema.tasks)))
    model.offsets.values.copy_(torch.from_numpy(means(np.arange(codes))))
    return model


def _as_unknown(model: Recommender, table: Table, taught: Int64[np.ndarray, "users"], *, always: bool) -> None:
    """Users whom no episode read by id become the unknown user: their own rows of the table are as they were drawn, near 0.

    So is the unknown user's where the others were `always` read by id: it becomes their mean.
    """
    name = user_field(table)
    if name is None or sum(field.table == table.schema.field(name).table for field in table.schema.fields if field.coded) > 1:
        return
    codes = table.column(name, "train")[np.isin(table.groups("train"), taught)]
    rows = model.places.span(name)
    with torch.no_grad():
        own = model.table[rows.start : rows.stop]
        new = torch.ones(len(own), dtype=torch.bool).index_fill(0, torch.from_numpy(codes).long(), False)
        new[0] = True
        if always and not new.all():
            own[0] = own[~new].mean(0)
        own[new] = own[0].clone()
