"""Gains by group of users: planted losses are found where they are, small groups are not judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined, auc, gauc
from umbel.evaluate.paired import Verdict
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task
from umbel.study.transfer.groups import Cell, by_group
from umbel.study.verdict import Line

ROWS, TEST = 3_000, 2_400


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    draw, folder = np.random.default_rng(5), tmp_path_factory.mktemp("groups")
    frame = pl.DataFrame({
        "user": draw.integers(80, size=ROWS),
        "click": draw.integers(2, size=ROWS),
        "buy": draw.integers(2, size=ROWS),
        "watch": draw.normal(size=ROWS),
        "part": np.where(np.arange(ROWS) < 200, "train", np.where(np.arange(ROWS) < ROWS - TEST, "valid", "test")),
    }).with_columns(buy=pl.col("buy") * pl.col("click"))  # fmt: skip
    frame.write_parquet(folder / "log.parquet")
    tasks = (Task("click"), Task("buy", given="click"), Task("watch", kind=REGRESSION))
    schema = Schema((Field("user", FieldKind.ID, min_count=1),), tasks)
    split = ByColumn("part", train="train", valid="valid", test="test")
    return ingest(Source(str(folder / "log.parquet"), user="user"), schema, split, folder=folder / "table")


def half(table: Table) -> np.ndarray:
    return np.where(table.groups("test") < 40, "low", "high")


def line(table: Table, root: Path, name: str, *, low: float, high: float) -> Line:
    """Runs that know the labels up to noise, which differs between the two halves of users."""
    events, _ = table.events("test")
    noise = np.where(half(table) == "low", low, high)[:, None]
    folders = []
    for seed in (1, 2, 3):
        outputs = (events - 0.5) + noise * np.random.default_rng([seed, len(name)]).normal(size=events.shape)
        (folder := root / name / str(seed)).mkdir(parents=True)
        calibrated = np.where(np.arange(3) < 2, 1 / (1 + np.exp(-outputs)), outputs)
        np.savez(folder / "predictions.npz", logits=outputs.astype(np.float32), calibrated=calibrated)
        folders.append(folder)
    return Line(name, tuple(folders))


@pytest.fixture(scope="module")
def lines(table: Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Line, ...]:
    root = tmp_path_factory.mktemp("runs")
    return line(table, root, "alone", low=1.0, high=1.0), line(table, root, "mmoe", low=3.0, high=0.5)


@pytest.fixture(scope="module")
def found(table: Table, lines: tuple[Line, ...]) -> dict[tuple[str, str, str], Cell]:
    tiny = np.where(np.arange(TEST) < 50, "few", "many")
    judged = by_group(table, lines, {"half": half(table), "size": tiny}, resamples=100)
    return {(one.group, one.task, one.recipe): one for one in judged}


def test_a_loss_is_found_where_it_was_planted_and_nowhere_else(found: dict[tuple[str, str, str], Cell]) -> None:
    for task in ("click", "buy"):
        assert found["low", task, "mmoe"].loses
        assert not found["high", task, "mmoe"].loses
        gain = found["high", task, "mmoe"].gain
        assert gain is not None
        assert gain.mean.low is not None
        assert gain.mean.low > 0
    # Over all rows the mean lies between: it hides what the groups show.
    low, over_all, high = (found[group, "click", "mmoe"].gain for group in ("low", "many", "high"))
    assert low is not None
    assert over_all is not None
    assert high is not None
    assert low.mean.value < over_all.mean.value < high.mean.value


def test_separate_models_have_no_gain_over_themselves(found: dict[tuple[str, str, str], Cell]) -> None:
    assert all(one.gain is None and not one.loses for key, one in found.items() if key[2] == "alone")


def test_figures_are_those_of_the_group_s_rows(table: Table, lines: tuple[Line, ...], found: dict[tuple[str, str, str], Cell]) -> None:
    events, _ = table.events("test")
    groups = table.groups("test")
    for task, column in (("click", 0), ("buy", 1)):
        mask = half(table) == "low"
        mask &= (events[:, 0] == 1) if task == "buy" else True
        each = [np.load(folder / "predictions.npz")["logits"][:, column] for folder in lines[1].folders]
        cell = found["low", task, "mmoe"]
        assert (cell.rows, cell.positives) == (int(mask.sum()), int(events[mask, column].sum()))
        aucs = [auc(events[mask, column], scores[mask]) for scores in each]
        gaucs = [gauc(events[mask, column], scores[mask], groups[mask]) for scores in each]
        assert isinstance(cell.auc, Interval)
        assert isinstance(cell.gauc, Interval)
        assert cell.auc.value == pytest.approx(np.mean([float(str(one)) for one in aucs]))
        assert cell.gauc.value == pytest.approx(np.mean([float(str(one)) for one in gaucs]))


def test_gains_are_seed_by_seed(table: Table, lines: tuple[Line, ...], found: dict[tuple[str, str, str], Cell]) -> None:
    events, _ = table.events("test")
    mask = half(table) == "high"
    scores = [[np.load(folder / "predictions.npz")["logits"][:, 0] for folder in one.folders] for one in lines]
    expected = [auc(events[mask, 0], other[mask]) - auc(events[mask, 0], base[mask]) for base, other in zip(*scores, strict=True)]  # type: ignore[operator]
    gain = found["high", "click", "mmoe"].gain
    assert gain is not None
    assert gain.seeds == pytest.approx(expected)


def test_a_small_group_says_so(found: dict[tuple[str, str, str], Cell]) -> None:
    cell = found["few", "click", "mmoe"]
    assert isinstance(cell.auc, Undefined)
    assert cell.gain is None
    assert cell.rows == 50
    plain = cell.to_json()
    assert plain["auc"] == {"value": None, "reason": "50 rows: fewer than 100"}
    assert plain["gain"] is None


def test_a_group_without_positives_is_not_judged_and_the_others_are(
    table: Table, lines: tuple[Line, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    events, observed = table.events("test")
    events = np.where(half(table)[:, None] == "low", 0.0, events)
    monkeypatch.setattr(Table, "events", lambda *_: (events, observed))
    cells = {(one.group, one.task, one.recipe): one for one in by_group(table, lines, {"half": half(table)}, resamples=20)}
    for name in (line.name for line in lines):
        none, some = cells["low", "click", name], cells["high", "click", name]
        assert none.positives == 0
        assert none.auc == none.gauc == Undefined("0 rows of the rarer class: fewer than 20")
        assert none.to_json()["auc"] == {"value": None, "reason": "0 rows of the rarer class: fewer than 20"}
        assert (none.gain, none.loses, none.wins) == (None, False, False)
        assert isinstance(some.auc, Interval)


def test_no_runs_have_no_cells(table: Table) -> None:
    assert by_group(table, (), {"half": half(table)}, resamples=5) == ()


def test_a_regression_has_no_cells(found: dict[tuple[str, str, str], Cell]) -> None:
    assert {task for _, task, _ in found} == {"click", "buy"}


def test_plain_values(found: dict[tuple[str, str, str], Cell]) -> None:
    plain = found["low", "click", "mmoe"].to_json()
    assert (plain["split"], plain["group"], plain["task"], plain["recipe"]) == ("half", "low", "click", "mmoe")
    gain = plain["gain"]
    assert isinstance(gain, dict)
    assert gain["low"] < gain["value"] < gain["high"] < 0
    seeds = plain["seeds"]
    assert isinstance(seeds, list)
    assert len(seeds) == 3


def test_verdicts_are_by_users_and_seeds_and_many_cells(found: dict[tuple[str, str, str], Cell]) -> None:
    """The planted halves are significant; what separate models are to themselves is nothing."""
    assert found["low", "click", "mmoe"].verdict is Verdict.LOWER
    assert found["high", "click", "mmoe"].verdict is Verdict.HIGHER
    assert found["low", "click", "alone"].verdict is Verdict.OPEN
    assert found["low", "click", "mmoe"].to_json()["verdict"] == "lower"
    assert found["low", "click", "alone"].to_json()["verdict"] is None


def test_a_wide_margin_makes_equal(table: Table, lines: tuple[Line, ...]) -> None:
    twin = Line("twin", lines[0].folders)
    cells = by_group(table, (lines[0], twin), {"half": half(table)}, resamples=50, margin=0.001)
    assert {one.verdict for one in cells if one.recipe == "twin"} == {Verdict.EQUAL}


def test_one_seed_is_no_verdict(table: Table, lines: tuple[Line, ...]) -> None:
    first = tuple(Line(one.name, one.folders[:1]) for one in lines)
    cells = by_group(table, first, {"half": half(table)}, resamples=50)
    assert not any(one.loses or one.wins for one in cells)
