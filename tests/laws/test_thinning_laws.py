"""Fewer rows without the event, and ids that are dropped: what must hold of predictions, of resumed runs, and of users nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from tests.toys import toy
from torch.optim.lr_scheduler import ExponentialLR

from umbel.data import simulate
from umbel.data.batch import Batch
from umbel.data.ingest import ingest
from umbel.data.loader import Loader
from umbel.data.source import Source
from umbel.data.split import ByColumn, ByUser
from umbel.data.table import Table
from umbel.data.thin import thin
from umbel.evaluate.judge import calibrate_all, fit_calibrators
from umbel.evaluate.metrics import auc
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.learn.predict import predict
from umbel.objectives import CrossEntropy
from umbel.run import fitting, resolve
from umbel.run.fitting import fit_model, logits
from umbel.run.run import happened
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence
from umbel.schema import Field, FieldKind, Schema, Task

ROWS = 500
SHARES = st.lists(st.sampled_from([1.0, 0.5, 0.1, 1e-6]), min_size=2, max_size=2)


def batch(seed: int = 0, rate: float = 0.2) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    seen = torch.rand(ROWS, 2, generator=draw) < 0.9
    labels = (torch.rand(ROWS, 2, generator=draw) < rate).float() * seen
    index = torch.arange(ROWS) + 1000
    return Batch({"user": index % 7, "tags": index[:, None] % 3}, labels, seen, index, weight=torch.rand(ROWS, 2), group=index % 5)


# What falls out.


@settings(max_examples=40, deadline=None)
@given(SHARES, st.integers(0, 99))
def test_only_labels_without_the_event_fall_out_and_rows_stay_whole(shares: list[float], seed: int) -> None:
    before = batch()
    after = thin(before, shares, seed=[seed, 0, 0])
    at = after.index - 1000
    assert bool((after.index.diff() > 0).all()), "the order stays"
    assert torch.equal(after.labels, before.labels[at])
    assert bool((after.seen <= before.seen[at]).all())
    for column in ("user", "tags"):
        assert torch.equal(after.fields[column], before.fields[column][at])
    assert torch.equal(after.weight, before.weight[at])  # type: ignore[arg-type,index]
    assert torch.equal(after.group, before.group[at])  # type: ignore[arg-type,index]
    events = before.seen & (before.labels == 1)
    assert set(events.any(1).nonzero().flatten().tolist()) <= set(at.tolist())
    assert torch.equal(after.seen & (after.labels == 1), events[at])
    if len(at) < ROWS:
        assert bool(after.seen.any(1).all()), "who is seen by nobody leaves"


@pytest.mark.parametrize(("shares", "expected"), [([0.1, 1.0], (0.1, 1.0)), ([0.5, 0.25], (0.5, 0.25)), ([1.0, 1.0], (1.0, 1.0))])
def test_the_share_that_stays_is_the_share_asked(shares: list[float], expected: tuple[float, float]) -> None:
    kept = torch.zeros(2)
    whole = torch.zeros(2)
    for step in range(40):
        before = batch(step)
        whole += (before.seen & (before.labels == 0)).sum(0)
        after = thin(before, shares, seed=[1, 0, step])
        kept += (after.seen & (after.labels == 0)).sum(0)
    assert (kept / whole).tolist() == pytest.approx(expected, abs=0.015)


def test_whole_shares_are_the_batch_itself() -> None:
    one = batch()
    assert thin(one, [1.0, 1.0], seed=[1, 0, 0]) is one


def test_each_epoch_and_step_draws_anew_and_the_same_again() -> None:
    drawn = [tuple(thin(batch(), [0.3, 0.3], seed=[1, *place]).index.tolist()) for place in ((0, 0), (1, 0), (0, 1), (0, 0))]
    assert drawn[0] == drawn[3]
    assert len({*drawn}) == 3


def test_drawing_leaves_the_trainings_own_random_numbers_alone() -> None:
    one, before = batch(), torch.get_rng_state()
    thin(one, [0.3, 0.3], seed=[1, 0, 0])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_that_would_be_empty_stays_unseen() -> None:
    one = batch(rate=0.0)
    after = thin(one, [1e-9, 1e-9], seed=[1, 0, 0])
    assert len(after.labels) == ROWS
    assert not bool(after.seen.any())


# What is taken back.


@pytest.mark.parametrize(("task", "shift"), [
    (Task("b", negatives=0.1), np.log(10)),
    (Task("b", loss=CrossEntropy(positive=4.0)), np.log(4)),
    (Task("b", loss=CrossEntropy(positive=4.0), negatives=0.5), np.log(8)),
    (Task("b"), 0.0),
])  # fmt: skip
def test_predictions_come_down_by_what_training_raised_them(task: Task, shift: float) -> None:
    fields = (Field("user", FieldKind.ID), Field("tags", FieldKind.BAG, length=2))
    plain, raised = (toy(schema=Schema(fields, (Task("a"), one))) for one in (Task("b"), task))
    given = {"user": torch.tensor([1, 2]), "tags": torch.tensor([[1, -1], [2, 3]])}
    rows = Batch(given, torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool), torch.arange(2))
    np.testing.assert_allclose(predict(plain, [rows]) - predict(raised, [rows]), [[0.0, shift]] * 2, atol=1e-6)


def columns(rows: int, seed: int) -> pl.DataFrame:
    """Two events, of one row in twelve to fourteen; train, valid and test have the same base rates, so that no error comes from them."""
    draw = np.random.default_rng(seed)
    shop, hour, age = draw.integers(12, size=rows), draw.integers(6, size=rows), draw.normal(size=rows)
    effect = np.random.default_rng(0).normal(scale=0.9, size=(2, 18))
    slope, base = (0.5, -0.5), (-2.2, -2.8)
    logit = np.stack([effect[task, shop] + effect[task, 12 + hour] + slope[task] * age + base[task] for task in (0, 1)], axis=1)
    events = (draw.random((rows, 2)) < 1 / (1 + np.exp(-logit))).astype(int)
    among = np.argsort(np.argsort(events @ [2, 1], kind="stable"), kind="stable") % 10
    part = np.where(among < 4, "train", np.where(among < 6, "valid", "test"))
    return pl.DataFrame({"shop": shop, "hour": hour, "age": age, "click": events[:, 0], "like": events[:, 1], "part": part})


def run(negatives: float, *, epochs: int = 8, minutes: float = 5.0) -> Settings:
    tree: dict[str, object] = {
        "data": {"log": "log.parquet"},
        "fields": {"shop": {"kind": "category"}, "hour": {"kind": "category"}, "age": {"kind": "number"}},
        "tasks": {"click": {"negatives": negatives}, "like": {"negatives": negatives}},
        "split": {"by": "column", "column": "part"},
        "model": {"recipe": "mmoe", "dim": 4, "expert": [16], "tower": [], "specific": 1, "shared": 1},
        "fit": {"epochs": epochs, "patience": 9, "batch": 500, "rate": 0.003, "threads": 1, "minutes": minutes},
    }
    return parse(tree, where="here")


def table(folder: Path, negatives: float, rows: int = 100_000) -> Table:
    folder.mkdir(parents=True)
    columns(rows, seed=4).write_parquet(folder / "log.parquet")
    fields = (Field("shop", FieldKind.CATEGORY), Field("hour", FieldKind.CATEGORY), Field("age", FieldKind.NUMBER))
    schema = Schema(fields, (Task("click", negatives=negatives), Task("like", negatives=negatives)))
    return ingest(Source(str(folder / "log.parquet")), schema, ByColumn("part", "valid", "test"), folder=folder / "table")


@dataclass(frozen=True)
class Played:
    """What a training on a share of the rows without the event came to: logits and calibrated chances of the test rows, rows by epoch."""

    table: Table
    outputs: Float[np.ndarray, "rows tasks"]
    calibrated: Float[np.ndarray, "rows tasks"]
    rows: tuple[int, ...]


def play(folder: Path, share: float) -> Played:
    """The rate is halved after every epoch, so that what is left of the mean prediction's error is no noise of the last steps."""
    made, asked = table(folder, share), run(share)
    model = resolve.built(asked, {name: one.size for name, one in made.encoder.vocabularies.items()})(made.schema)
    plan = Plan(epochs=8, patience=9, rate=0.02, schedule=lambda optimizer: ExponentialLR(optimizer, 0.5))
    batches = fitting._Watched(Loader(made, "train", 500, seed=1), Silence())
    rows = tuple(epoch.rows for epoch in fit(model, batches, plan=plan, judge=lambda _: 0.0))
    valid, test = (happened(made, part, logits(model, made, part)) for part in ("valid", "test"))
    return Played(made, test.logits, calibrate_all(made.schema, test.logits, fit_calibrators(valid)), rows)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Played]:
    """One log trained on whole, and on a tenth of the rows without the event."""
    return {share: play(tmp_path_factory.mktemp("thin") / str(share), share) for share in (1.0, 0.1)}


@pytest.mark.parametrize("task", [0, 1])
def test_a_tenth_of_the_negatives_keeps_predictions_and_ranking(played: dict[float, Played], task: int) -> None:
    """The shift alone brings the mean prediction back to the base rate, within 5 %, and calibration keeps it; AUC stays within .003."""
    whole, thinned = played[1.0], played[0.1]
    labels, trained = (whole.table.labels(part)[0][:, task] for part in ("test", "train"))
    assert trained.sum() >= 1_000
    for one in (whole, thinned):
        for chances in (1 / (1 + np.exp(-one.outputs[:, task])), one.calibrated[:, task]):
            assert 0.95 <= chances.mean() / labels.mean() <= 1.05
    uncorrected = 1 / (1 + np.exp(-thinned.outputs[:, task] - np.log(10)))
    assert uncorrected.mean() / labels.mean() > 2, "without the shift it would be far off"
    areas = [auc(labels, one.outputs[:, task]) for one in (whole, thinned)]
    assert all(isinstance(area, float) and area > 0.7 for area in areas)
    assert abs(areas[0] - areas[1]) <= 0.003  # type: ignore[operator]


def test_rows_that_nobody_trains_on_cost_nothing(played: dict[float, Played]) -> None:
    rows = len(played[1.0].table.parts["train"])
    labels, _ = played[1.0].table.labels("train")
    assert set(played[1.0].rows) == {rows}
    quiet = rows - int(labels.any(1).sum())
    expected = rows - quiet * 0.9**2  # both labels fell out; rows with one event stay
    assert all(abs(count / expected - 1) < 0.03 for count in played[0.1].rows)
    assert len({*played[0.1].rows}) > 1, "drawn anew each epoch"


def test_a_thinned_run_that_was_stopped_ends_on_the_same_bytes(tmp_path: Path) -> None:
    class StopError(Exception):
        """A kill."""

    class Stopping(Silence):  # type: ignore[misc]
        """Ends the run at the fifth step heard."""

        def __init__(self) -> None:
            self.left = 5

        def stepped(self, epoch: int, *, done: int, rows: int) -> None:
            self.left -= 1
            if self.left == 0:
                raise StopError

    made = table(tmp_path / "made", 0.2, rows=6_000)
    with pytest.raises(StopError):
        fit_model(run(0.2, epochs=2, minutes=1e-12), made, tmp_path / "cut", watch=Stopping())
    ends = [fit_model(run(0.2, epochs=2, minutes=minutes), made, tmp_path / name, watch=Silence())
            for name, minutes in (("cut", 1e-12), ("whole", 5.0))]
    cut, whole = ([tensor.numpy().tobytes() for tensor in one.model.state_dict().values()] for one in ends)
    assert cut == whole
    assert [line["rows"] for line in ends[0].history] == [line["rows"] for line in ends[1].history]


# Users nobody knows.


Asked = tuple[Table, Float[np.ndarray, "rows tasks"], torch.Tensor]


def of_strangers(folder: Path, id_dropout: float) -> Asked:
    """Trained on a simulated log of some users, and asked about others; the table's row of unknown users beside it."""
    planted = simulate.Planted(users=300, items=40, rows=12_000, dim=2, conflict=0.0, explained=0.3, unobserved=0.0, days=4)
    simulate.simulate(planted, folder / "log")
    made = ingest(simulate.source(folder / "log"), simulate.schema(("click", "like")), ByUser(0.15, 0.25), folder=folder / "table")
    tree: dict[str, object] = {
        "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id"}}, "tasks": {"click": {}, "like": {}},
        "split": {"by": "user", "valid": 0.15, "test": 0.25},
        "model": {"recipe": "stem", "dim": 4, "expert": [16], "tower": [8], "id_dropout": id_dropout},
        "fit": {"epochs": 5, "patience": 9, "batch": 256, "rate": 0.01, "threads": 1},
    }  # fmt: skip
    model = fit_model(parse(tree, where="here"), made, folder / "run", watch=Silence()).model
    return made, logits(model, made, "test"), model.table.detach()[0]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Asked]:
    """By the share of ids that were dropped."""
    return {share: of_strangers(tmp_path_factory.mktemp("strangers"), share) for share in (0.0, 0.2)}


def test_dropped_ids_teach_a_model_what_to_say_of_users_it_does_not_know(strangers: dict[float, Asked]) -> None:
    """Row 0 of the table is then a learned mean: on users none of whom was trained on, log-loss is no worse than the base rate's."""
    made, outputs, _ = strangers[0.2]
    assert not made.column("user", "test").any(), "nobody is known"
    labels, _ = made.labels("test")
    trained, _ = made.labels("train")
    for task in (0, 1):
        rate = float(trained[:, task].mean())
        base = -(labels[:, task] * np.log(rate) + (1 - labels[:, task]) * np.log(1 - rate)).mean()
        loss = np.logaddexp(0.0, np.where(labels[:, task] == 1, -outputs[:, task], outputs[:, task])).mean()
        assert loss <= base


def test_row_0_is_learned_only_where_ids_are_dropped(strangers: dict[float, Asked]) -> None:
    assert float(strangers[0.0][2].abs().max()) < 1e-3, "as it was drawn"
    assert float(strangers[0.2][2].abs().max()) > 1e-2
