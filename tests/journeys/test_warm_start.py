"""A new log after the old one: a training that goes on from a bundle, and the gate that the result has to pass."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tests.journeys.conftest import PLANTED, RUN, say
from umbel.bundle import Bundle
from umbel.data.loader import Loader, Replay
from umbel.data.simulate import simulate
from umbel.data.source import Source
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.predict import predict
from umbel.run import resolve
from umbel.run.promote import Bounds, decide
from umbel.run.report import read_report
from umbel.run.run import prepare
from umbel.run.settings import Settings, read
from umbel.run.warm import replay_of, warm_start


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight days of a log; the first six train, validate and test the first bundle, all of them the next."""
    folder = tmp_path_factory.mktemp("warm")
    simulate(replace(PLANTED, days=8, rows=8_000), folder / "log")
    whole = pl.read_parquet(folder / "log" / "log.parquet")
    whole = whole.with_columns(price=(pl.col("item").hash(1) % 50).cast(pl.Float64), user=pl.col("user"))
    day = pl.from_epoch("time_ms", time_unit="ms").dt.date()
    whole.filter(day <= date(2024, 1, 6)).write_parquet(folder / "early.parquet")
    late = whole.with_columns(price=pl.col("price") + pl.when(day > date(2024, 1, 6)).then(100.0).otherwise(0.0))
    late.write_parquet(folder / "late.parquet")
    text = RUN.replace("region = {{ kind", 'price = {{ kind = "number", bins = 4 }}\nregion = {{ kind')
    (folder / "early.toml").write_text(text.format(log=folder / "early.parquet"))
    later = text.replace("valid = 2024-01-05", "valid = 2024-01-07").replace("test = 2024-01-06", "test = 2024-01-08")
    (folder / "late.toml").write_text(later.format(log=folder / "late.parquet"))
    assert say("train", folder / "early.toml", "-o", folder / "early").code == 0
    return folder


@pytest.fixture(scope="module")
def warm(place: Path) -> Path:
    said = say("train", place / "late.toml", "-o", place / "warm", "--from", place / "early" / "bundle")
    assert said.code == 0, said.err
    return place / "warm"


def late(place: Path, **fit: object) -> Settings:
    asked = [f"fit.{name}={value}" for name, value in {"start": place / "early" / "bundle", **fit}.items()]
    return read(place / "late.toml", asked)


@pytest.fixture(scope="module")
def table(place: Path) -> Table:
    settings = late(place)
    return prepare(settings, place / "table")


def test_known_rows_score_as_they_did_before_the_first_step(place: Path, table: Table) -> None:
    """Whatever the codes and whatever the new log's mean and spread: by raw value, to the last bit that addition leaves."""
    built = resolve.built(late(place), {name: one.size for name, one in table.encoder.vocabularies.items()}, edges=table.encoder.edges)
    torch.manual_seed(9)
    model = built(table.schema)
    bundle = warm_start(model, table, built, start=str(place / "early" / "bundle"))
    model.eval()
    new = predict(model, Loader(table, "train", 500, shuffle=False)(0))
    frame = pl.read_parquet(place / "late.parquet").sort("time_ms")
    part = Source(str(place / "sorted.parquet"), user="user", item="item", time="time_ms")
    frame.head(len(table.parts["train"])).write_parquet(place / "sorted.parquet")
    from umbel.data.raw import rows as raw_rows

    old = np.concatenate([predict(bundle.model, [batch]) for _, batch in raw_rows(part, bundle.encoder, 500, labels=False)])
    order = np.argsort(table.times("train"), kind="stable")
    assert np.abs(np.sort(new[order][:, 0]) - np.sort(old[:, 0])).max() < 1e-6
    assert table.encoder.vocabularies["user"].frame.height > 0
    assert table.encoder.scales["price"] == bundle.encoder.scales["price"]


def test_a_new_value_starts_as_the_unknown_row(place: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(place / "late.parquet")
    new = frame.with_columns(item=pl.when(pl.int_range(pl.len()) % 7 == 0).then(pl.lit(10_000).cast(frame["item"].dtype)).otherwise("item"))
    new.write_parquet(tmp_path / "new.parquet")
    settings = read(place / "late.toml", [f"data.log={tmp_path / 'new.parquet'}", f"fit.start={place / 'early' / 'bundle'}"])
    made = prepare(settings, tmp_path / "table")
    built = resolve.built(settings, {name: one.size for name, one in made.encoder.vocabularies.items()}, edges=made.encoder.edges)
    model = built(made.schema)
    bundle = warm_start(model, made, built, start=str(place / "early" / "bundle"))
    code = int(made.encoder.vocabularies["item"].encode(pl.Series([10_000], dtype=frame["item"].dtype))[0])
    starts = np.cumsum([0, *(made.encoder.vocabularies[name].size for name in made.schema.tables)])
    row = starts[made.schema.tables.index("item")] + code
    old = np.cumsum([0, *(bundle.encoder.vocabularies[name].size for name in bundle.schema.tables)])
    assert torch.equal(model.table[row], bundle.model.table[old[bundle.schema.tables.index("item")]])


def test_the_bundle_knows_until_when_it_was_trained(place: Path) -> None:
    until = read_report(place / "early" / "report.json").until
    frame = pl.read_parquet(place / "early.parquet")
    trained = frame.filter(pl.from_epoch("time_ms", time_unit="ms").dt.date() < date(2024, 1, 5))
    assert until == trained["time_ms"].max()
    assert Bundle.load(place / "early" / "bundle").report["until"] == until


def test_replay_draws_a_share_of_old_rows_and_all_new_ones(place: Path, table: Table) -> None:
    bundle = Bundle.load(place / "early" / "bundle")
    replay = replay_of(bundle, table, 0.1)
    assert replay is not None
    old, new = int(replay.old.sum()), int((~replay.old).sum())
    assert old > 0
    assert new > 0
    loader = Loader(table, "train", 256, seed=3, replay=replay)
    epochs = [torch.cat([batch.index for batch in loader(epoch)]) for epoch in (0, 1)]
    start = table.parts["train"].start
    for rows in epochs:
        places = rows.numpy() - start
        assert len(set(places.tolist())) == len(places) == new + round(0.1 * old) == loader.rows
        assert np.isin(np.flatnonzero(~replay.old), places).all()
    drawn = [set(rows.numpy()[replay.old[rows.numpy() - start]].tolist()) for rows in epochs]
    assert drawn[0] != drawn[1], "other old rows every epoch"
    assert torch.equal(torch.cat([batch.index for batch in loader(1, 3)]), epochs[1][3 * 256 :]), "and resumable"
    assert replay_of(bundle, table, 1.0) is None


def test_replay_of_nothing_old_is_everything() -> None:
    replay = Replay(np.zeros(5, bool), 0.3)
    assert replay.count == 5
    assert replay.rows(torch.Generator()).tolist() == [0, 1, 2, 3, 4]


def test_a_warm_training_is_told_in_its_resolved_run_file(place: Path, warm: Path) -> None:
    assert read(warm / "run.toml").fit.start == str(place / "early" / "bundle")
    again = say("train", place / "late.toml", "-o", warm, "--from", place / "early" / "bundle")
    assert again.code == 0
    other = say("train", place / "late.toml", "-o", warm)
    assert other.code == 2
    assert "fit.start" in other.line


def test_a_warm_training_begins_better_than_a_cold_one(place: Path, warm: Path) -> None:
    assert say("train", place / "late.toml", "-o", place / "cold").code == 0
    first = [json.loads((run / "log.jsonl").read_text().splitlines()[0])["losses"][0] for run in (warm, place / "cold")]
    assert first[0] < first[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [("model.recipe=ple", "model.recipe"), ("model.dim=5", "model.dim"), ("tasks.like.kind=regression", "tasks.like"),
     ("fields.region.kind=bag", "fields.region"), ("fit.start=nowhere", "not a bundle"), ("model.expert=[16,9]", "model.expert")],
)
def test_a_bundle_that_means_something_else_is_refused(place: Path, tmp_path: Path, change: str, said: str) -> None:
    start = () if change.startswith("fit.start") else ("--from", place / "early" / "bundle")
    found = say("train", place / "late.toml", "-o", tmp_path / "run", "--set", change, *start)
    assert found.code == 2
    assert said in found.line


def test_replay_needs_a_time(place: Path, table: Table) -> None:
    bundle = replace(Bundle.load(place / "early" / "bundle"), report={})
    with pytest.raises(UserError, match="told by time"):
        replay_of(bundle, table, 0.5)


def log_of_last_day(place: Path) -> str:
    path = place / "last.parquet"
    frame = pl.read_parquet(place / "late.parquet")
    frame.filter(pl.from_epoch("time_ms", time_unit="ms").dt.date() == date(2024, 1, 8)).write_parquet(path)
    return str(path)


def test_a_bundle_may_take_over_from_itself(place: Path) -> None:
    bundle = place / "early" / "bundle"
    found = decide(bundle, bundle, log_of_last_day(place), bounds=Bounds(calibration=(0.0, 1e9), milliseconds=1e5))
    assert found.promote
    assert all(check.value == 0 for check in found.checks if check.name.endswith(" auc"))


def spoiled(place: Path, folder: Path) -> Path:
    """The first bundle with the weights of its towers shuffled."""
    bundle = Bundle.load(place / "early" / "bundle")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, one in bundle.model.named_parameters():
            if name == "table":
                one.copy_(one[torch.randperm(len(one), generator=generator)])
    bundle.save(folder / "spoiled", golden=pl.read_parquet(place / "early" / "bundle" / "golden.parquet"))
    return folder / "spoiled"


def test_a_spoiled_bundle_is_kept_out_and_the_line_says_why(place: Path, tmp_path: Path) -> None:
    bad, log = spoiled(place, tmp_path), log_of_last_day(place)
    said = say("promote", bad, place / "early" / "bundle", log, "-o", tmp_path / "gate.json")
    assert said.code == 3
    assert said.out.splitlines()[-1].startswith(f"keep {place / 'early' / 'bundle'}: ")
    assert "click: auc worse by" in said.out
    saved = json.loads((tmp_path / "gate.json").read_text())
    assert saved["promote"] is False
    lost = {check["name"]: check for check in saved["checks"] if not check["holds"]}
    assert lost["click auc"]["high"] < -0.002


def test_waived_tasks_may_lose(place: Path, tmp_path: Path) -> None:
    bad, log = spoiled(place, tmp_path), log_of_last_day(place)
    bounds = Bounds(calibration=(0.0, 1e9), milliseconds=1e5, waived=("click", "like", "buy"))
    assert decide(bad, place / "early" / "bundle", log, bounds=bounds).promote
    with pytest.raises(UserError, match="no such task"):
        decide(bad, bad, log, bounds=Bounds(waived=("clik",)))


def test_calibration_and_time_are_conditions_of_their_own(place: Path) -> None:
    bundle, log = place / "early" / "bundle", log_of_last_day(place)
    slow = decide(bundle, bundle, log, bounds=Bounds(calibration=(0.0, 1e9), milliseconds=0.0))
    assert [check.name for check in slow.checks if not check.holds] == ["latency"]
    wrong = decide(bundle, bundle, log, bounds=Bounds(calibration=(5.0, 9.0), milliseconds=1e5))
    assert {check.name for check in wrong.checks if not check.holds} == {f"{task} calibration" for task in ("click", "like", "buy")}


@pytest.mark.parametrize(
    ("word", "said"),
    [("wors=0.1", "did you mean 'worse'"), ("worse", "no such bound"), ("worse=much", "--bound worse"),
     ("calibration=1", "--bound calibration")],
)
def test_a_bound_that_is_none_is_refused_in_one_line(place: Path, word: str, said: str) -> None:
    bundle = place / "early" / "bundle"
    found = say("promote", bundle, bundle, log_of_last_day(place), "--bound", word)
    assert found.code == 2
    assert said in found.line


def test_strict_asks_for_proof_that_nothing_is_lost(place: Path, warm: Path) -> None:
    """What an interval cannot exclude counts against the candidate."""
    old, log = place / "early" / "bundle", log_of_last_day(place)
    plain, strict = (Bounds(calibration=(0.0, 1e9), milliseconds=1e5, strict=one) for one in (False, True))
    found = {one.strict: decide(warm / "bundle", old, log, bounds=one) for one in (plain, strict)}
    for lenient, hard in zip(found[False].checks, found[True].checks, strict=True):
        assert lenient.holds or not hard.holds
    lows = [check.low for check in found[True].checks if check.name.endswith(" auc") and check.low is not None]
    assert found[True].promote == all(low >= -0.002 for low in lows)


def test_bundles_of_other_tasks_are_not_compared(place: Path, tmp_path: Path) -> None:
    only = tmp_path / "one.toml"
    only.write_text((place / "early.toml").read_text().replace("like = { }\n", "").replace('buy = { given = "click" }\n', ""))
    assert say("train", only, "-o", tmp_path / "one").code == 0
    said = say("promote", tmp_path / "one" / "bundle", place / "early" / "bundle", log_of_last_day(place))
    assert said.code == 2
    assert "bundles of the same tasks" in said.line
