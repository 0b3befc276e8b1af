"""The simulated log: equal bytes for equal seeds, and exactly what was planted."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from umbel.data import simulate
from umbel.data.simulate import AGREEING, CONFLICTING, DAY, START, Planted
from umbel.data.truth import planted as read_back
from umbel.errors import UserError

SMALL = Planted(users=200, items=60, rows=4_000, seed=7)
FILES = ("log.parquet", "truth.parquet", "planted.json")


def made(planted: Planted, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    simulate.simulate(planted, folder)
    return pl.read_parquet(folder / "log.parquet"), pl.read_parquet(folder / "truth.parquet")


def logit(chance: pl.Series) -> np.ndarray:
    values = chance.to_numpy()
    odds: np.ndarray = values / (1 - values)
    log: np.ndarray = np.log(odds)
    return log


def test_equal_settings_give_equal_bytes(tmp_path: Path) -> None:
    made(SMALL, tmp_path / "a")
    made(SMALL, tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    made(SMALL, tmp_path / "a")
    made(replace(SMALL, seed=8), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "b" / name).read_bytes()


def test_simulating_again_replaces_what_was_there(tmp_path: Path) -> None:
    made(SMALL, tmp_path)
    made(replace(SMALL, rows=500), tmp_path)
    assert pl.read_parquet(tmp_path / "log.parquet").height == 500
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_conflict_moves_only_the_second_taste(tmp_path: Path) -> None:
    """Without conflict the same seed draws the same rows and the same clicks."""
    log, truth = made(replace(SMALL, conflict=0.0), tmp_path / "a")
    other, second = made(replace(SMALL, conflict=1.0), tmp_path / "b")
    assert log.drop("like", "buy").equals(other.drop("like", "buy"))
    assert truth["p_click"].equals(second["p_click"])
    assert not truth["p_like"].equals(second["p_like"])


@pytest.mark.parametrize("preset", [CONFLICTING, AGREEING], ids=["conflicting", "agreeing"])
def test_rates_are_what_was_asked(preset: Planted, tmp_path: Path) -> None:
    log, truth = made(preset, tmp_path)
    for name, rate in zip(("click", "like", "buy"), preset.rates, strict=True):
        assert truth[f"p_{name}"].mean() == pytest.approx(rate, abs=1e-9)
    error = 4 * np.sqrt(0.25 / preset.rows)
    assert log["click"].mean() == pytest.approx(preset.rates[0], abs=error)
    assert log["like"].mean() == pytest.approx(preset.rates[1], abs=error)


def test_labels_follow_their_probability(tmp_path: Path) -> None:
    log, truth = made(replace(SMALL, rows=60_000), tmp_path)
    both = log.hstack(truth)
    clicked = both.filter(pl.col("click") == 1)
    for name, rows in (("click", both), ("like", both), ("buy", clicked)):
        rows = rows.filter(pl.col(name).is_not_null())
        chance, event = rows[f"p_{name}"].to_numpy(), rows[name].to_numpy()
        for part in np.array_split(np.argsort(chance), 10):
            error = 4 * np.sqrt((chance[part] * (1 - chance[part])).sum()) / part.size
            assert event[part].mean() == pytest.approx(chance[part].mean(), abs=error)


def test_nothing_is_bought_without_a_click(tmp_path: Path) -> None:
    log, _ = made(SMALL, tmp_path)
    assert log.filter((pl.col("click") == 0) & (pl.col("buy") == 1)).is_empty()
    assert log.filter(pl.col("click").is_null() & pl.col("buy").is_not_null()).is_empty()
    assert log["buy"].sum() > 0


def test_labels_are_hidden_at_the_set_share(tmp_path: Path) -> None:
    log, _ = made(replace(SMALL, rows=40_000, unobserved=0.1), tmp_path)
    assert log["click"].null_count() / log.height == pytest.approx(0.1, abs=0.01)
    assert log["buy"].null_count() / log.height == pytest.approx(0.19, abs=0.01)
    whole, _ = made(replace(SMALL, unobserved=0.0), tmp_path)
    assert whole.null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 0.6, 1.0])
def test_tastes_conflict_by_the_set_correlation(correlation: float, tmp_path: Path) -> None:
    """Over a conflicting user's items the logits of click and like go together as the tastes do."""
    asked = replace(SMALL, rows=60_000, items=400, conflict=0.5, correlation=correlation, explained=0.0, skew=0.0)
    _, truth = made(asked, tmp_path)
    found = {}
    for flag in (True, False):
        part = truth.filter(pl.col("conflicting") == flag)
        found[flag] = np.corrcoef(logit(part["p_click"]), logit(part["p_like"]))[0, 1]
    # Quality and device (0.3 each, own to each task) take about 3 % from every correlation.
    assert found[True] == pytest.approx(correlation, abs=0.12)
    assert found[False] == pytest.approx(1.0, abs=0.05)
    assert truth["conflicting"].mean() == pytest.approx(0.5, abs=0.12)


def test_region_and_genre_explain_the_set_share(tmp_path: Path) -> None:
    def between(explained: float) -> float:
        log, truth = made(replace(SMALL, rows=40_000, explained=explained), tmp_path)
        frame = log.select("region", "genre").with_columns(logit=logit(truth["p_click"]))
        means = frame.with_columns(mean=pl.col("logit").mean().over("region", "genre"))
        return float(np.var(means["mean"].to_numpy()) / np.var(means["logit"].to_numpy()))

    assert between(0.0) < 0.15
    assert between(1.0) > 0.85


def test_rows_come_in_order_of_time_within_the_days(tmp_path: Path) -> None:
    log, _ = made(SMALL, tmp_path)
    first = int(START.timestamp() * 1000)
    assert log["time_ms"].is_sorted()
    assert first <= log["time_ms"][0] <= log["time_ms"][-1] < first + SMALL.days * DAY


def test_an_attribute_belongs_to_its_user_or_item(tmp_path: Path) -> None:
    log, truth = made(SMALL, tmp_path)
    for key, column in (("user", "region"), ("item", "genre"), ("item", "price")):
        assert log.group_by(key).agg(pl.col(column).n_unique())[column].max() == 1
    assert log.hstack(truth).group_by("user").agg(pl.col("conflicting").n_unique())["conflicting"].max() == 1


def test_skew_makes_the_first_items_popular(tmp_path: Path) -> None:
    log, _ = made(replace(SMALL, skew=1.0), tmp_path)
    counts = np.bincount(log["item"].to_numpy(), minlength=SMALL.items)
    assert counts[0] > 5 * counts[-10:].mean()


def test_the_log_does_not_tell_the_truth(tmp_path: Path) -> None:
    log, truth = made(SMALL, tmp_path)
    assert log.columns == ["user", "item", "time_ms", "device", "region", "genre", "price", "click", "like", "buy"]
    assert not set(log.columns) & set(truth.columns)
    read = {field.column or field.name for field in simulate.schema().fields}
    assert not read & {"click", "like", "buy", "time_ms"}


def test_the_last_day_is_the_test(tmp_path: Path) -> None:
    log, _ = made(SMALL, tmp_path)
    at = simulate.split(SMALL)
    days = log.select(pl.from_epoch("time_ms", "ms").dt.date().alias("day"))["day"]
    assert days.min() < at.valid < at.test == days.max()  # type: ignore[operator]


def test_the_settings_come_back(tmp_path: Path) -> None:
    made(SMALL, tmp_path)
    assert read_back(tmp_path) == SMALL


def test_the_schema_can_be_cut_to_some_tasks() -> None:
    assert [task.name for task in simulate.schema().tasks] == ["click", "like", "buy"]
    assert simulate.schema().chain("buy") == ("click", "buy")
    assert [task.name for task in simulate.schema(("like", "click")).tasks] == ["like", "click"]
    with pytest.raises(UserError, match="no task 'lik'; did you mean 'like'"):
        simulate.schema(("lik",))


def test_the_source_names_what_is_written(tmp_path: Path) -> None:
    log, _ = made(SMALL, tmp_path)
    source = simulate.source(tmp_path)
    assert Path(source.log).is_file()
    assert {source.user, source.item, source.time} <= set(log.columns)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"users": 0}, "users"),
        ({"days": 2}, "days"),
        ({"conflict": 1.2}, "conflict = 1.2"),
        ({"correlation": -1.5}, "correlation"),
        ({"rates": (0.1, 0.0, 0.2)}, "rates"),
    ],
)
def test_settings_out_of_range_are_the_users(change: dict[str, float], says: str) -> None:
    assert set(change) <= {field.name for field in fields(Planted)}
    with pytest.raises(UserError, match=says):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_a_failed_write_leaves_the_former_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(SMALL, tmp_path)
    before = (tmp_path / "log.parquet").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        simulate.simulate(replace(SMALL, seed=8), tmp_path)
    assert (tmp_path / "log.parquet").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
