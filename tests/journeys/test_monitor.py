"""Watching a bundle: a quiet log, a planted drift, a mis-scaled field, new ids, worse quality, predictions unlike the logged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import Job, say
from umbel.bundle import Bundle
from umbel.errors import UserError
from umbel.manifest import name_of
from umbel.run.monitor import Watched, monitor


@pytest.fixture(scope="module")
def bundle(job: Job) -> Path:
    return job.run / "bundle"


@pytest.fixture(scope="module")
def quiet(job: Job, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The rows that trained: nothing has changed since."""
    frame = pl.read_parquet(job.log)
    return frame.filter(pl.from_epoch("time_ms", time_unit="ms").dt.date() < pl.date(2024, 1, 5))


def watched(bundle: Path, frame: pl.DataFrame, folder: Path) -> Watched:
    frame.write_parquet(folder / "log.parquet")
    return monitor(bundle, str(folder / "log.parquet"))


def alarms(found: Watched) -> set[str]:
    return {one.what for one in found.alarms}


def with_predictions(bundle: Path, frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """As a collected log has them: what the service predicted, and by which bundle."""
    frame.write_parquet(folder / "plain.parquet")
    made = Bundle.load(bundle)
    from umbel.run.use import source_of

    source = source_of(made, str(folder / "plain.parquet"), joins=(), labels=False)
    scores = np.concatenate([scores for _, scores in made.score(source)])
    columns = [pl.Series(f"predicted_{name}", scores[:, at]) for at, name in enumerate(made.columns)]
    return frame.with_columns(*columns, bundle=pl.lit(name_of(bundle)))


def test_the_rows_that_trained_have_not_drifted(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    found = watched(bundle, quiet, tmp_path)
    assert found.rows == quiet.height
    assert not {name for name in alarms(found) if name in ("user", "item", "device", "region")}


def test_a_planted_drift_of_a_category_is_caught(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    moved = quiet.with_columns(device=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("phone")).otherwise("device"))
    assert "device" in alarms(watched(bundle, moved, tmp_path))


def test_new_ids_are_caught_and_their_share_told(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    new = quiet.with_columns(item=pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("new")).otherwise(pl.col("item").cast(pl.String)))
    new = new.with_columns(item=pl.col("item").cast(quiet["item"].dtype, strict=False))
    found = watched(bundle, new, tmp_path)
    assert "item" in alarms(found)
    says = next(one.says for one in found.findings if one.what == "item")
    assert "unknown or missing 25" in says


def test_logged_predictions_that_agree_are_quiet(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    found = watched(bundle, with_predictions(bundle, quiet, tmp_path), tmp_path)
    skew = next(one for one in found.findings if one.what == "skew")
    assert not skew.alarm
    assert skew.value == 0


def test_a_log_in_parts_is_watched_as_one(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    """Whatever the width of an integer in each, and what more a later one has."""
    logged = with_predictions(bundle, quiet, tmp_path)
    whole, half = watched(bundle, logged, tmp_path), logged.height // 2
    logged.head(half).write_parquet(tmp_path / "part-0.parquet")
    logged.slice(half).with_columns(pl.col("click").cast(pl.Int8), more=1).write_parquet(tmp_path / "part-1.parquet")
    assert monitor(bundle, str(tmp_path / "part-*.parquet")) == whole


def test_a_field_that_was_scaled_otherwise_in_service_is_caught_by_its_skew(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    """The service was told another device than the log has: rows scored now differ from what was logged."""
    logged = with_predictions(bundle, quiet.with_columns(device=pl.lit("tablet")), tmp_path)
    found = watched(bundle, logged.with_columns(device=quiet["device"]), tmp_path)
    skew = next(one for one in found.alarms if one.what == "skew")
    assert skew.value is not None
    assert skew.value > 0.2


def test_rows_of_another_bundle_are_not_compared(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    logged = with_predictions(bundle, quiet, tmp_path).with_columns(predicted_click=pl.lit(0.123))
    other = logged.with_columns(bundle=pl.lit("another"))
    assert "skew" in alarms(watched(bundle, logged, tmp_path))
    assert not [one for one in watched(bundle, other, tmp_path).findings if one.what == "skew"]


def test_worse_quality_and_wrong_chances_are_caught(bundle: Path, job: Job, tmp_path: Path) -> None:
    """Labels turned round: what ranked well ranks badly, and every chance is wrong."""
    frame = pl.read_parquet(job.log)
    turned = frame.with_columns(click=1 - pl.col("click"))
    assert {"click auc", "click calibration"} <= alarms(watched(bundle, turned, tmp_path))


def test_unsettled_labels_are_left_out(bundle: Path, job: Job, tmp_path: Path) -> None:
    frame = pl.read_parquet(job.log)
    few = frame.with_columns(click=pl.when(pl.int_range(pl.len()) < 40).then("click"))
    found = watched(bundle, few, tmp_path)
    says = [one.says for one in found.findings if one.what == "click"]
    assert says == [] or "too few to judge" in says[0]
    assert next(task for task in found.tasks if task.name == "click").figures.rows <= 40


def test_the_verb_says_alarms_and_ends_with_three(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    moved = quiet.with_columns(device=pl.lit("phone"))
    moved.write_parquet(tmp_path / "moved.parquet")
    said = say("monitor", bundle, tmp_path / "moved.parquet", "-o", tmp_path / "monitor.json")
    assert said.code == 3
    assert any(line.startswith("ALARM device: PSI") for line in said.out.splitlines())
    saved = json.loads((tmp_path / "monitor.json").read_text())
    assert saved["alarms"] == len([one for one in saved["findings"] if one["alarm"]]) > 0
    everything = say("monitor", bundle, tmp_path / "moved.parquet", "--all")
    assert len(everything.out.splitlines()) == len(saved["findings"]) + 1


def test_few_rows_raise_no_drift_alarm(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    found = watched(bundle, quiet.with_columns(device=pl.lit("phone")).head(50), tmp_path)
    assert "device" not in alarms(found)
    assert next(one.says for one in found.findings if one.what == "device") == "device: 50 rows, too few to judge (200 needed)"
    alone = watched(bundle, quiet.head(1), tmp_path)
    assert next(one.says for one in alone.findings if one.what == "device") == "device: 1 row, too few to judge (200 needed)"
    enough = watched(bundle, quiet.head(200), tmp_path)
    assert next(one.says for one in enough.findings if one.what == "device").startswith("device: PSI ")


def test_a_bundle_without_a_profile_is_told(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    from dataclasses import replace

    replace(Bundle.load(bundle), profile=None).save(tmp_path / "old", golden=pl.read_parquet(bundle / "golden.parquet"))
    quiet.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match="keeps no spread"):
        monitor(tmp_path / "old", str(tmp_path / "log.parquet"))


def test_a_log_without_rows_is_told(bundle: Path, quiet: pl.DataFrame, tmp_path: Path) -> None:
    quiet.head(0).write_parquet(tmp_path / "none.parquet")
    said = say("monitor", bundle, tmp_path / "none.parquet")
    assert said.code == 2
    assert "no rows" in said.line


def test_the_profile_is_that_of_the_training_rows(bundle: Path, quiet: pl.DataFrame) -> None:
    made = Bundle.load(bundle)
    assert made.profile is not None
    assert set(made.profile.fields) == {"user", "item", "device", "region"}
    assert set(made.profile.predictions) == set(made.columns)
    counts = made.profile.fields["device"].counts
    assert sum(counts) == quiet.height
    assert max(counts) == quiet["device"].value_counts()["count"].max()
