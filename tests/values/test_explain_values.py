"""Explanations by hand: the baseline, linear models, rankings, pushes, the deletion check and its words, and which rows are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import logs
from tests.logs import ID, NUMBER, changed
from tests.values.test_bundle import EVERY, RICH, made

from umbel.bundle import Bundle
from umbel.data.ingest import ingest
from umbel.data.raw import encoded, one, some
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.calibrate import Identity
from umbel.evaluate.intervals import Interval, resample
from umbel.evaluate.metrics import Undefined
from umbel.kinds import REGRESSION, LogNormal, MultiClass, ZeroInflated
from umbel.learn.predict import centre, predict
from umbel.run.fitting import mean_row
from umbel.schema import Field, Schema, Task
from umbel.study.explain.deletion import Deletion, deletions
from umbel.study.explain.explain import Explainer, Explanation, explain
from umbel.study.explain.gates import Gate, gates
from umbel.study.explain.ranking import Push, Weight, mean_intervals, ranking
from umbel.study.explain.scale import scale
from umbel.study.explain.words import holds, main_parameters


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("explain")
    return ingest(logs.source(folder, RICH), EVERY, logs.SPLIT, folder=folder / "table")


@pytest.fixture(scope="module")
def bundle(table: Table) -> Bundle:
    return whole(made(table), table)


def whole(bundle: Bundle, table: Table) -> Bundle:
    """With the mean row that training leaves."""
    return replace(bundle, centre=mean_row(bundle.model, table))


def raw(rows: logs.Rows = RICH) -> pl.DataFrame:
    return pl.DataFrame(rows, strict=False)


def linear(folder: Path) -> Bundle:
    """A bundle whose one task is `bias + weights . fields`: experts and towers whose ReLU never bends, over two numbers."""
    schema = Schema((Field("size", NUMBER), Field("price", NUMBER)), (Task("spent", REGRESSION),))
    rows = {**logs.ROWS, "size": [3.0, -1.0, 0.5, 2.0, 2.0, 1.0, 9.0, 0.0, 4.0, -2.0], "price": [float(row + 1) for row in range(10)]}
    table = logs.table(folder, rows, schema)
    bundle = made(table, "shared_bottom", calibrators={"spent": Identity()})
    with torch.no_grad():
        for name, parameter in bundle.model.named_parameters():
            if "biases" in name:
                parameter.fill_(1e3)  # far from the kink
    return whole(bundle, table)


def test_a_linear_model_is_weight_times_difference(tmp_path: Path) -> None:
    """The slope of each raw number, found by moving it, times its distance to the mean of the six training rows, on every row."""
    bundle = linear(tmp_path)
    rows = pl.DataFrame({"size": [10.0, 1.25, -3.0], "price": [9.0, 2.0, 3.5], "user": [1, 2, 3]})
    found = explain(bundle, rows)
    above = Explainer(bundle).above

    def value(size: float, price: float) -> float:
        fields = encoded(pl.DataFrame({"size": [size], "price": [price]}), bundle.encoder).fields
        with torch.no_grad():
            return float(above.beyond(bundle.model.seen(fields).double())[0, 0])

    slopes = np.array([value(1, 0) - value(0, 0), value(0, 1) - value(0, 0)])
    means = np.array([7.5 / 6, 3.5])
    assert np.abs(slopes).min() > 1e-4
    np.testing.assert_allclose(found.contributions[:, 0], (rows.select("size", "price").to_numpy() - means) * slopes, rtol=1e-4, atol=1e-6)
    assert found.base[0] == pytest.approx(value(7.5 / 6, 3.5), abs=1e-5)
    assert found.error.max() < 1e-3


def test_the_baseline_is_the_mean_training_row(bundle: Bundle, table: Table) -> None:
    """Of every kind of field, over the six rows before the split; kept by the bundle to the bit."""
    model, rows = bundle.model, table.batch(np.arange(6))
    with torch.no_grad():
        seen = model.views(model.rows(rows.fields), rows.fields)
    torch.testing.assert_close(mean_row(model, table), seen.mean(0))
    pieces = [table.batch(np.arange(2)), table.batch(np.arange(2, 6))]
    assert torch.equal(centre(model.train(), pieces), mean_row(model, table))
    assert model.training
    model.eval()


def test_of_a_large_table_some_rows_are_meant(bundle: Bundle, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.run.fitting.SCORED", 2)
    whole = mean_row(bundle.model, table)
    monkeypatch.setattr("umbel.run.fitting.MEANT", 3)
    some_ = mean_row(bundle.model, table)
    assert torch.equal(some_, mean_row(bundle.model, table))
    assert not torch.allclose(some_, whole)


def test_the_mean_row_is_kept(bundle: Bundle, table: Table, tmp_path: Path) -> None:
    bundle.save(tmp_path / "with", golden=table.golden())
    kept = Bundle.load(tmp_path / "with").centre
    assert kept is not None
    assert bundle.centre is not None
    assert torch.equal(kept, bundle.centre)
    replace(bundle, centre=None).save(tmp_path / "without", golden=table.golden())
    without = Bundle.load(tmp_path / "without")
    assert without.centre is None
    with pytest.raises(UserError, match="no mean row to explain against; train it again"):
        Explainer(without)


def test_an_explanation_adds_up_and_names_its_columns(bundle: Bundle) -> None:
    found = explain(bundle, raw())
    assert found.fields == tuple(field.name for field in EVERY.fields)
    assert found.columns == ("click", "buy", "spent")
    assert found.contributions.shape == (10, 3, 8)
    assert found.error.max() < 1e-3
    missed = found.base + found.contributions.sum(axis=2) - found.value
    assert (np.abs(missed) <= 1e-3 * np.abs(found.value - found.base)).all()
    logits = bundle.model(encoded(raw(), bundle.encoder).fields).detach().numpy()
    np.testing.assert_allclose(found.value, logits, atol=1e-5)


def test_what_training_raised_is_taken_off(tmp_path: Path) -> None:
    """A task that trains on a tenth of its rows without the event is explained at its true odds, as it is scored."""
    found = []
    for share in (1.0, 0.1):
        schema = Schema((Field("user", ID, min_count=1), Field("age", NUMBER)), (Task("buy"), Task("click", negatives=share)))
        table = logs.table(tmp_path / str(share), logs.ROWS, schema)
        bundle = whole(made(table, calibrators={"buy": Identity(), "click": Identity()}), table)
        found.append(explain(bundle, raw(logs.ROWS)))
        np.testing.assert_allclose(found[-1].value, predict(bundle.model, [encoded(raw(logs.ROWS), bundle.encoder)]), atol=1e-5)
    np.testing.assert_allclose(found[1].value - found[0].value, np.tile([0.0, np.log(0.1)], (10, 1)), atol=1e-9)
    np.testing.assert_allclose(found[1].base - found[0].base, [0.0, np.log(0.1)], atol=1e-9)
    np.testing.assert_array_equal(found[1].contributions, found[0].contributions)


def test_tasks_are_chosen_by_name(bundle: Bundle) -> None:
    whole, some_ = explain(bundle, raw()), explain(bundle, raw(), tasks=("spent", "click", "spent"))
    assert some_.columns == ("spent", "click")
    np.testing.assert_allclose(some_.value, whole.value[:, [2, 0]])
    near = 2e-3 * np.abs(whole.contributions).sum(axis=2).max()
    np.testing.assert_allclose(some_.contributions, whole.contributions[:, [2, 0]], atol=near)
    with pytest.raises(UserError, match=r"--task: no task 'clik'; did you mean 'click'\?"):
        explain(bundle, raw(), tasks=("clik",))


def test_the_table_is_shared_and_left_alone(bundle: Bundle) -> None:
    before = bundle.model.table.detach().clone()
    explainer = Explainer(bundle)
    assert explainer.above.table is bundle.model.table
    assert bundle.model.table.dtype == torch.float32
    assert next(iter(bundle.model.layers.parameters())).dtype == torch.float32
    assert next(iter(explainer.above.layers.parameters())).dtype == torch.float64
    explainer.explain(encoded(raw(), bundle.encoder))
    assert torch.equal(bundle.model.table, before)


def test_scales_by_hand() -> None:
    """Log of `p exp(m + s^2 / 2)`; logits of a softmax's chances."""
    outputs = torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.float64)
    spread = float(torch.nn.functional.softplus(torch.tensor(0.5, dtype=torch.float64))) + 2**-11.5
    assert float(scale(ZeroInflated()).of(outputs)) == pytest.approx(np.log(0.5) + 1 + spread**2 / 2, abs=1e-4)
    assert float(scale(LogNormal()).of(outputs[:, 1:])) == pytest.approx(1 + spread**2 / 2, abs=1e-4)
    three = scale(MultiClass(3)).of(torch.zeros(1, 3, dtype=torch.float64))
    assert three.tolist() == [[pytest.approx(np.log(0.5))] * 3]


USERS = np.repeat(np.arange(30), 2)
ADDS = np.stack([np.where(np.arange(60) % 2, 2.0, -2.0), np.full(60, 0.5), np.zeros(60)], axis=1)[:, None]


def test_a_ranking_by_hand() -> None:
    """Fields that add 2 or -2, always 0.5, and nothing: weights 2, .5, 0 of 2.5 in all, without spread over users."""
    values = pl.DataFrame({"a": ["up" if row % 2 else "down" for row in range(60)], "b": ["x"] * 60, "c": list(range(60))})
    found = ranking(ADDS, ["c", "b", "a"][::-1], raw=values, by=resample(USERS))
    assert [(one.field, one.moves.value, one.share) for one in found] == [("a", 2.0, 0.8), ("b", 0.5, 0.2), ("c", 0.0, 0.0)]
    assert found[0].moves.low == pytest.approx(2.0)
    assert found[0].moves.high == pytest.approx(2.0)
    assert found[0].push == Push("up", "down")
    assert found[1].push == found[2].push == Push()


@pytest.mark.parametrize(("sign", "push"), [(1, Push("higher values", "lower values")), (-1, Push("lower values", "higher values"))])
def test_a_number_pushes_one_way(sign: int, push: Push) -> None:
    numbers = np.linspace(0, 1, 60)
    contributions = sign * (numbers - 0.5)[:, None, None]
    (found,) = ranking(contributions, ["price"], raw=pl.DataFrame({"price": numbers}), by=resample(USERS))
    assert found.push == push


@pytest.mark.parametrize("values", [[[1, 2]] * 60, ["a"] * 60, [str(row) for row in range(60)], [None] * 60, [0.5] * 60])
def test_no_push_is_named_where_too_little_tells(values: list[object]) -> None:
    (found,) = ranking(ADDS[:, :, :1], ["f"], raw=pl.DataFrame({"f": values}), by=resample(USERS))
    assert found.push == Push()


def test_intervals_of_means_are_those_of_users() -> None:
    """All rows of a user alike: the spread is that of users' means, a quarter of their number apart."""
    column = USERS.astype(np.float64)[:, None]
    (found,) = mean_intervals(column, resample(USERS, resamples=400))
    assert found.value == 14.5
    assert found.low is not None
    assert found.high is not None
    half = 1.96 * np.arange(30).std() / np.sqrt(30)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    (few,) = mean_intervals(column[:6], resample(USERS[:6]))
    assert (few.low, few.reason) == (None, "3 users are too few to resample")


class Known:
    """Stands for an explainer whose one task is a weighted sum of its fields."""

    def __init__(self, weights: torch.Tensor) -> None:
        self.answers: Mapping[str, slice] = {"click": slice(0, 1)}
        self.weights = weights
        self.base = torch.zeros(1, len(weights), 1, dtype=torch.float64)

    def scores(self, seen: torch.Tensor) -> torch.Tensor:
        return (seen[:, 0, :, 0] * self.weights).sum(1, keepdim=True)


def checked(weights: list[float], adds: np.ndarray | None = None, rows: int = 60) -> Deletion | Undefined:
    """The check on rows of ones, whose contributions are the weights unless others are claimed."""
    known = Known(torch.tensor(weights, dtype=torch.float64))
    seen = torch.ones(rows, 1, len(weights), 1, dtype=torch.float64)
    own = np.tile(weights, (rows, 1, 1)) if adds is None else adds
    found = Explanation(tuple(map(str, range(len(weights)))), ("click",), own, np.zeros(1), known.scores(seen).numpy())
    users = np.arange(rows) // 2
    return deletions(known, seen, found, by=resample(users), index=torch.arange(rows))["click"]


def test_a_deletion_check_by_hand() -> None:
    """Weights 4, 0, 0, 0: with the first field gone 4 is lost at every count; at random, 1/4, 2/4, 3/4 of it on average."""
    found = checked([0.0, 4.0, 0.0, 0.0])
    assert isinstance(found, Deletion)
    assert (found.most, found.named, found.ranked) == (3, 4.0, 4.0)
    assert found.chance == pytest.approx(2.0, abs=0.25)
    assert found.gain.value == pytest.approx(4.0 - found.chance)
    assert found.shown
    assert found.ranking_shown


def test_a_wrong_order_is_not_shown_to_matter() -> None:
    """Contributions that name the idle fields lose to chance; fields that are all alike are no better than it."""
    wrong = checked([0.0, 4.0, 0.0, 0.0], np.tile([3.0, 0.1, 2.0, 1.0], (60, 1, 1)))
    assert isinstance(wrong, Deletion)
    assert wrong.gain.value < 0
    assert not wrong.shown
    assert "was not shown" in holds(wrong)
    alike = checked([1.0, 1.0, 1.0])
    assert isinstance(alike, Deletion)
    assert (alike.gain.value, alike.shown, alike.ranking_shown) == (0.0, False, False)


def test_checks_that_cannot_be_had_say_why() -> None:
    assert checked([2.0]) == Undefined("the only field has no other to stand against")
    few = checked([0.0, 4.0], rows=6)
    assert isinstance(few, Deletion)
    assert not few.shown
    assert holds(few) == "Whether these fields matter more than others could not be shown: 3 users are too few to resample."
    assert holds(Undefined("why")) == "Whether these fields matter more than others could not be tried: why."


def weight(field: str, share: float, push: Push | None = None) -> Weight:
    return Weight(field, Interval(share, share, share), share, push or Push())


def test_main_parameters_in_words() -> None:
    weights = [weight("item", 0.6), weight("price", 0.25, Push("lower values", "higher values")), weight("tab", 0.145), weight("x", 0.005)]
    check = checked([0.0, 4.0, 0.0, 0.0])
    says = main_parameters("click", weights, gate=None, check=check)
    assert says[0] == "The prediction of click is moved most by item (60%), then by price (25%): 85% of all movement together."
    assert says[1] == "Of price, lower values raise it and higher values lower it."
    assert says[2] == "Next to nothing comes from x."
    assert says[3].startswith("Taking 1 to 3 fields away in this order changes the prediction by 4, ")
    assert len(says) == 4
    one = main_parameters("click", [weight("item", 1.0, Push("a", "b"))], gate=None, check=check)
    assert one[0] == "The prediction of click is moved by item (100%) above all."
    assert one[1] == "Of the values of item, a raises it most and b lowers it most."
    assert main_parameters("click", [weight("item", 0.0)], gate=None, check=check) == (
        "Nothing moves the prediction of click: it is the same for every row.",
    )


def test_whom_a_task_listens_to(bundle: Bundle, table: Table) -> None:
    """Shares of experts sum to 1, and to what own, shared and others' come to; separate models have one expert, and say nothing."""
    batch = encoded(raw(), bundle.encoder)
    found = gates(bundle.model, batch)
    assert list(found) == ["click", "buy", "spent"]
    for task, gate in found.items():
        assert sum(one.share for one in gate.experts) == pytest.approx(1.0, abs=1e-5)
        assert sum(one.share for one in gate.experts if one.taught == (task,)) == pytest.approx(gate.heard.own, abs=1e-5)
    alone = gates(made(table, "alone").model, batch)["click"]
    assert isinstance(alone, Gate)
    assert [one.share for one in alone.experts] == [1.0]
    assert gates(made(table, "cross_stitch").model, batch) == {}


def test_rows_are_drawn_alike_however_they_are_read(tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    source = logs.source(tmp_path, RICH)
    frame, batch = some(source, table.encoder, 4, seed=0)
    assert batch.index.tolist() == sorted(batch.index.tolist())
    assert frame["user"].to_list() == [logs.ROWS["user"][row] for row in batch.index.tolist()]
    monkeypatch.setattr("umbel.data.raw.SIZE", 3)
    again, other = some(source, table.encoder, 4, seed=0)
    assert other.index.tolist() == batch.index.tolist()
    assert again.equals(frame)
    assert {tuple(some(source, table.encoder, 4, seed=seed)[1].index.tolist()) for seed in range(6)} != {tuple(batch.index.tolist())}
    whole = some(source, table.encoder, 50, seed=0)[1]
    assert whole.index.tolist() == list(range(10))
    assert not whole.seen.any()


def test_one_row_by_its_number(tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.data.raw.SIZE", 4)
    source = logs.source(tmp_path, RICH)
    for number in (1, 4, 5, 10):
        frame, batch = one(source, table.encoder, number)
        assert frame["item"].to_list() == [logs.ROWS["item"][number - 1]]
        assert batch.index.tolist() == [number - 1]
    for number in (11, 0, -1):
        with pytest.raises(UserError, match=rf"no row {number}; rows run from 1 to 10"):
            one(source, table.encoder, number)


def test_logs_that_hold_nothing_or_too_little(tmp_path: Path, table: Table) -> None:
    empty = replace(table.source, log=logs.write(tmp_path, {name: column[:0] for name, column in RICH.items()}, name="empty"))
    with pytest.raises(UserError, match="no rows; give a log that has some"):
        some(empty, table.encoder, 4, seed=0)
    with pytest.raises(UserError, match="no row 1; give a log that has some rows"):
        one(empty, table.encoder, 1)
    lacking = replace(table.source, log=logs.write(tmp_path, {name: RICH[name] for name in RICH if name != "place"}, name="lacking"))
    with pytest.raises(UserError, match="no column 'place'"):
        some(lacking, table.encoder, 4, seed=0)


def test_without_a_user_every_row_is_its_own(tmp_path: Path, table: Table) -> None:
    source = replace(logs.source(tmp_path, changed(**RICH)), user=None)
    _, batch = some(source, table.encoder, 4, seed=0)
    assert batch.group is not None
    assert batch.group.tolist() == batch.index.tolist()
