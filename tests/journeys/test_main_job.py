"""The main job: from a raw log to a judged model, to scores that are the evaluation's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import Job, content, say
from umbel.bundle import Bundle
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.judge import calibrate_all
from umbel.run.settings import read


def report(run: Path) -> dict[str, Any]:
    return content(run / "report.json")


def test_a_run_leaves_what_the_design_says(job: Job) -> None:
    assert job.said.code == 0, job.said.err
    assert {path.name for path in job.run.iterdir()} == {
        "table", "run.toml", "made.json", "log.jsonl", "checkpoint", "predictions.npz", "bundle", "report.json", "report.html",
    }  # fmt: skip
    assert "stem" in job.said.out
    assert "buy (marginal)" in job.said.out


def test_rows_that_fall_out_are_told_wherever_a_run_is(run_file: Path, log: Path) -> None:
    """By ingest, by train and in both reports; and by evaluate those of its own log."""
    place = pl.int_range(pl.len())
    odd = run_file.parent / "odd.parquet"
    pl.read_parquet(log).with_columns(
        user=pl.when(place % 3 == 0).then(None).otherwise("user"), time_ms=pl.when(place == 7).then(None).otherwise("time_ms"),
    ).write_parquet(odd)  # fmt: skip
    run_file.write_text(run_file.read_text().replace(str(log), str(odd)))
    run = run_file.parent / "run"
    lost = ["1 row is in no part of the split, and left out"]
    users = ["2,000 rows are without a user: in intervals each is a user of its own, and GAUC leaves them out"]
    assert say("ingest", run_file, "-o", run / "table").out.splitlines()[-2:] == lost + users
    said = say("train", run_file, "-o", run, "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-3:-1] == lost + users
    saved = report(run)
    assert (saved["dropped"], saved["without_user"], set(saved["contradictions"])) == (1, 2000, {"click", "like", "buy"})
    assert all(f"<li>{line}</li>" in (run / "report.html").read_text() for line in lost + users)
    assert say("evaluate", run / "bundle", odd).out.splitlines()[-1:] == users


def test_the_report_has_the_agreed_shape(job: Job) -> None:
    saved = report(job.run)
    assert set(saved["rows"]) == {"train", "valid", "test"}
    assert sum(saved["rows"].values()) == 6_000
    assert set(saved["tasks"]) == {"click", "like", "buy"}
    for task in saved["tasks"].values():
        assert set(task["auc"]) >= {"value", "low", "high"}
        assert {"gauc", "logloss", "ne", "ece", "calibration_ratio", "rows", "positives"} <= set(task)
        assert "worst" in task
    for key in ("recipe", "seed", "parameters", "seconds", "rows_per_second", "peak_memory_bytes"):
        assert key in saved


def test_the_log_has_a_line_an_epoch(job: Job) -> None:
    lines = [json.loads(line) for line in (job.run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(len(line["losses"]) == 3 for line in lines)


def test_the_resolved_run_file_is_the_run(job: Job) -> None:
    assert read(job.run / "run.toml") == read(job.file)


def test_training_learns_something(job: Job) -> None:
    assert report(job.run)["tasks"]["click"]["auc"]["value"] > 0.6


def test_a_second_run_reads_the_first(job: Job) -> None:
    before = (job.run / "report.json").read_bytes()
    said = say("train", job.file, "-o", job.run)
    assert said.code == 0
    assert "finished" in said.err
    assert (job.run / "report.json").read_bytes() == before


def test_another_run_is_refused(job: Job) -> None:
    said = say("train", job.file, "-o", job.run, "--set", "fit.rate=0.5")
    assert said.code == 2
    assert "holds a run of other settings (fit.rate = 0.01 there, 0.5 here); name another folder with -o" in said.line


def test_a_folder_of_something_else_is_refused(job: Job, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    said = say("train", job.file, "-o", tmp_path)
    assert said.code == 2
    assert "exists and is not a run" in said.line
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_equal_seeds_give_equal_bytes(job: Job, tmp_path: Path) -> None:
    assert say("train", job.file, "-o", tmp_path / "again").code == 0
    first, second = (np.load(run / "predictions.npz") for run in (job.run, tmp_path / "again"))
    assert first["logits"].tobytes() == second["logits"].tobytes()
    assert (job.run / "bundle" / "weights.safetensors").read_bytes() == (tmp_path / "again" / "bundle" / "weights.safetensors").read_bytes()


def test_ingest_leaves_a_table(job: Job, tmp_path: Path) -> None:
    said = say("ingest", job.file, "-o", tmp_path / "table")
    assert said.code == 0
    assert "6 fields" not in said.out
    assert "4 fields, 3 tasks" in said.out
    assert len(Table.open(tmp_path / "table").parts["test"]) == report(job.run)["rows"]["test"]


def test_training_goes_on_from_a_table_that_was_made_beforehand(job: Job, tmp_path: Path) -> None:
    assert say("ingest", job.file, "-o", tmp_path / "run" / "table").code == 0
    made = (tmp_path / "run" / "table" / "int32.npy").stat().st_mtime_ns
    said = say("train", job.file, "-o", tmp_path / "run")
    assert said.code == 0, said.err
    assert (tmp_path / "run" / "table" / "int32.npy").stat().st_mtime_ns == made
    assert (job.run / "bundle" / "weights.safetensors").read_bytes() == (tmp_path / "run" / "bundle" / "weights.safetensors").read_bytes()


def test_scores_of_raw_rows_are_the_evaluation_s(job: Job, tmp_path: Path) -> None:
    said = say("score", job.run / "bundle", job.log, "-o", tmp_path / "scores.parquet")
    assert said.code == 0
    assert "6,000 rows scored" in said.out
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores.columns == ["user", "item", "time_ms", "click", "like", "buy", "buy_marginal"]
    table = Table.open(job.run / "table")
    evaluated = np.load(job.run / "predictions.npz")["calibrated"]
    raw = scores.tail(len(table.parts["test"])).select("click", "like", "buy").to_numpy()
    np.testing.assert_allclose(raw, evaluated, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores["buy_marginal"].to_numpy(), (scores["click"] * scores["buy"]).to_numpy(), rtol=1e-9)


def test_rows_alone_score_as_together(job: Job, tmp_path: Path) -> None:
    frame = pl.read_parquet(job.log)
    frame.slice(17, 1).write_parquet(tmp_path / "one.parquet")
    frame.write_csv(tmp_path / "all.csv")
    assert say("score", job.run / "bundle", tmp_path / "one.parquet", "-o", tmp_path / "one.csv").code == 0
    assert say("score", job.run / "bundle", tmp_path / "all.csv", "-o", tmp_path / "all.parquet").code == 0
    one, all_rows = pl.read_csv(tmp_path / "one.csv"), pl.read_parquet(tmp_path / "all.parquet")
    np.testing.assert_allclose(one["click"][0], all_rows["click"][17], rtol=0, atol=1e-6)


def test_scoring_needs_no_labels_and_takes_unknown_ids(job: Job, tmp_path: Path) -> None:
    pl.read_parquet(job.log).head(50).drop("click", "like", "buy").with_columns(user=pl.lit(10**9)).write_parquet(tmp_path / "new.parquet")
    assert say("score", job.run / "bundle", tmp_path / "new.parquet", "-o", tmp_path / "out.parquet").code == 0
    scores = pl.read_parquet(tmp_path / "out.parquet").select("click", "like", "buy").to_numpy()
    assert np.isfinite(scores).all()
    assert ((scores > 0) & (scores < 1)).all()


def test_evaluating_the_test_rows_gives_the_run_s_figures(job: Job, tmp_path: Path) -> None:
    rows = len(Table.open(job.run / "table").parts["test"])
    pl.read_parquet(job.log).tail(rows).write_parquet(tmp_path / "test.parquet")
    said = say("evaluate", job.run / "bundle", tmp_path / "test.parquet")
    assert said.code == 0
    for name, task in report(job.run)["tasks"].items():
        assert f"{task['auc']['value']:.4f}" in said.out, name


def numbers(tree: object, path: str = "") -> dict[str, object]:
    """Every leaf of a JSON, by its path."""
    if isinstance(tree, dict | list):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {place: leaf for key, below in pairs for place, leaf in numbers(below, f"{path}/{key}").items()}
    return {path: tree}


def test_the_json_of_an_evaluation_is_the_report_s(job: Job, tmp_path: Path) -> None:
    """On the run's own test rows: the same keys, slices and worst slice, the same numbers."""
    rows = len(Table.open(job.run / "table").parts["test"])
    pl.read_parquet(job.log).tail(rows).write_parquet(tmp_path / "test.parquet")
    said = say("evaluate", job.run / "bundle", tmp_path / "test.parquet", "-o", tmp_path / "judged.json")
    assert said.code == 0, said.err
    judged = json.loads((tmp_path / "judged.json").read_text())
    assert set(judged) == set(report(job.run))
    assert judged["rows"] == {"log": rows}
    expected, found = numbers(report(job.run)["tasks"]), numbers(judged["tasks"])
    assert list(found) == list(expected)
    for place, number in expected.items():
        assert found[place] == (pytest.approx(number, abs=1e-5) if isinstance(number, float) else number), place
    assert "worst slice of click: " in said.out


def test_an_evaluation_in_a_slice_that_was_asked_for(job: Job, tmp_path: Path) -> None:
    said = say("evaluate", job.run / "bundle", job.log, "--slice", "region", "-o", tmp_path / "judged.json")
    assert said.code == 0, said.err
    slices = json.loads((tmp_path / "judged.json").read_text())["tasks"]["click"]["slices"]
    assert list(slices) == ["user seen in training", "item seen in training", "device", "region"]
    regions = pl.read_parquet(job.log).drop_nulls("click")["region"].value_counts()
    assert {label: figures["rows"] for label, figures in slices["region"].items()} == {str(name): rows for name, rows in regions.rows()}
    said = say("evaluate", job.run / "bundle", job.log, "--slice", "regoin")
    assert said.code == 2
    assert f"--slice: no column 'regoin' in {job.log} or its joins; did you mean 'region'?" in said.line


def test_an_evaluation_by_a_raw_column_that_no_field_reads(job: Job, tmp_path: Path) -> None:
    """A group that the model never saw is told by the report all the same."""
    rows = pl.read_parquet(job.log)
    groups = pl.Series("gender", ["f", "m", None]).gather(rows["user"].hash(3) % 3)
    rows.with_columns(groups).write_parquet(tmp_path / "log.parquet")
    said = say("evaluate", job.run / "bundle", tmp_path / "log.parquet", "--slice", "gender", "-o", tmp_path / "judged.json")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "judged.json").read_text())["tasks"]["click"]["slices"]["gender"]
    known = groups.filter(rows["click"].is_not_null()).fill_null("unknown").value_counts()
    assert {label: figures["rows"] for label, figures in found.items()} == dict(known.rows())


def test_evaluating_without_labels_is_refused(job: Job, tmp_path: Path) -> None:
    pl.read_parquet(job.log).head(50).drop("click", "like", "buy").write_parquet(tmp_path / "new.parquet")
    said = say("evaluate", job.run / "bundle", tmp_path / "new.parquet")
    assert said.code == 2
    assert "no label to judge by; the log needs at least one of click, like, buy" in said.line


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_tables_are_replaced_by_name(job: Job, tmp_path: Path, verb: str) -> None:
    said = say(verb, job.run / "bundle", job.log, "-o", tmp_path / "out.parquet", "--join", "user=users.parquet")
    assert said.code == 2
    assert "--join user: the bundle joins no such table; known: none" in said.line
    said = say(verb, "--help")
    assert "--join" in said.out
    assert "KEY=TABLE" in said.out
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_named(job: Job, tmp_path: Path) -> None:
    pl.read_parquet(job.log).rename({"device": "devise"}).write_parquet(tmp_path / "new.parquet")
    said = say("score", job.run / "bundle", tmp_path / "new.parquet", "-o", tmp_path / "out.parquet")
    assert said.code == 2
    assert "fields.device: no column 'device'" in said.line
    assert "did you mean 'devise'?" in said.line
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.json", "golden.parquet", "encoder/schema.json", "report.json"])
def test_a_truncated_bundle_is_refused(job: Job, tmp_path: Path, name: str) -> None:
    shutil.copytree(job.run / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is truncated or changed; copy the bundle again"):
        Bundle.load(tmp_path / "bundle")


def test_a_bundle_with_a_part_missing_or_added_is_refused(job: Job, tmp_path: Path) -> None:
    shutil.copytree(job.run / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle" / "more.txt").write_text("x")
    with pytest.raises(UserError, match=r"more\.txt: was not part of it"):
        Bundle.load(tmp_path / "bundle")
    (tmp_path / "bundle" / "more.txt").unlink()
    (tmp_path / "bundle" / "recipe.json").unlink()
    with pytest.raises(UserError, match=r"recipe\.json: is missing"):
        Bundle.load(tmp_path / "bundle")


def test_a_bundle_whose_golden_rows_score_otherwise_is_refused(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(job.run / "bundle", tmp_path / "bundle")
    monkeypatch.setattr("umbel.bundle.calibrate_all", lambda *given: calibrate_all(*given) + 1e-5)
    with pytest.raises(UserError, match=r"golden rows score otherwise, by up to 1e-05 \(allowed 1e-06\)"):
        Bundle.load(tmp_path / "bundle")


def test_a_manifest_that_was_edited_is_refused(job: Job, tmp_path: Path) -> None:
    shutil.copytree(job.run / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"].popitem()
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="was changed"):
        Bundle.load(tmp_path / "bundle")
    path.write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(UserError, match="bundle format 99"):
        Bundle.load(tmp_path / "bundle")


def test_what_is_no_bundle_is_refused(tmp_path: Path, job: Job) -> None:
    said = say("score", tmp_path, job.log, "-o", tmp_path / "out.parquet")
    assert said.code == 2
    assert "not a bundle (no manifest.json)" in said.line


def test_a_bundle_survives_a_second_save(job: Job, tmp_path: Path) -> None:
    bundle = Bundle.load(job.run / "bundle")
    bundle.save(tmp_path / "copy", golden=pl.read_parquet(job.run / "bundle" / "golden.parquet"))
    for path in sorted((job.run / "bundle").rglob("*.json")):
        assert path.read_bytes() == (tmp_path / "copy" / path.relative_to(job.run / "bundle")).read_bytes(), path.name
