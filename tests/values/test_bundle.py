"""A bundle by hand: what comes back after saving, for every recipe, paradigm and kind of field, and how raw rows are scored."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from tests.logs import BAG, CATEGORY, ID, NUMBER, ROWS, SCHEMA, SEQUENCE, SPLIT, VECTOR, changed, source, write

from umbel import bundle as module
from umbel.bundle import Built, Bundle
from umbel.cli import main
from umbel.data.ingest import ingest
from umbel.data.source import Join, Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Identity, Isotonic, Platt
from umbel.evaluate.calibrate import Linear as Line
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.learn.predict import predict
from umbel.manifest import seal
from umbel.nn.recommender import Sizes
from umbel.nn.routing import PARADIGMS
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Field, Schema, Task

CALIBRATORS: dict[str, Calibrator] = {
    "click": Isotonic((-1.0, 0.0, 2.0), (0.1, 0.4, 0.8), slope=0.7),
    "buy": Platt(slope=0.5, intercept=-0.25),
    "spent": Line(slope=2.0, intercept=1.0),
}
EVERY = Schema(
    (
        Field("user", ID, min_count=1),
        Field("item", ID, min_count=1),
        Field("age", NUMBER),
        Field("watched", SEQUENCE, like="item", target="item", length=3),
        Field("place", CATEGORY, min_count=1),
        Field("tags", BAG, length=2, min_count=1),
        Field("picture", VECTOR, width=2),
        Field("decade", CATEGORY, sql="FLOOR(age / 10)", min_count=1),
    ),
    SCHEMA.tasks,
)
RICH = changed(
    place=["θ", "b", "", "b", None, "θ", "b", "θ", "new", "b"],
    tags=[["x"], ["y", "x"], [], None, ["x", "x", "y"], ["y"], ["z"], ["x"], [None], ["y", "y"]],
    picture=[[1.0, 2.0], [0.5, -1.0], None, [3.0, 0.0], [1.0, 1.0], [0.0, 0.0], [2.0, 2.0], None, [1.5, 0.5], [0.1, 0.2]],
)


def made(table: Table, recipe: str = "stem", views: str | None = None, *, calibrators: dict[str, Calibrator] | None = None) -> Bundle:
    """A bundle of an untrained model with embeddings far from zero."""
    vocabulary = {name: one.size for name, one in table.encoder.vocabularies.items()}
    built = Built(recipe, Sizes(vocabulary, dim=2, expert=(4,), gate=(3,), tower=(3,), layers=2), views)
    torch.manual_seed(3)
    model = built(table.schema).eval()
    with torch.no_grad():
        model.table.normal_()
    return Bundle(table.source, table.encoder, built, model, CALIBRATORS if calibrators is None else calibrators, {"recipe": recipe})


def scores(bundle: Bundle, rows: Source, size: int = 4096) -> np.ndarray:
    return np.concatenate([one for _, one in bundle.score(rows, size)])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("bundle")
    return ingest(source(folder, RICH), EVERY, SPLIT, folder=folder / "table")


@pytest.fixture(scope="module")
def saved(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle; tests read it and leave it alone."""
    path = tmp_path_factory.mktemp("saved") / "bundle"
    made(table).save(path, golden=table.golden())
    return path


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_comes_back_the_same(table: Table, tmp_path: Path, recipe: str) -> None:
    before = made(table, recipe)
    before.save(tmp_path / "bundle", golden=table.golden())
    after = Bundle.load(tmp_path / "bundle")
    assert after.built == before.built
    assert (after.schema, after.source, after.calibrators, after.report) == (EVERY, table.source, CALIBRATORS, {"recipe": recipe})
    assert not after.model.training
    assert scores(after, table.source).tobytes() == scores(before, table.source).tobytes()


@pytest.mark.parametrize("views", PARADIGMS)
def test_every_paradigm_comes_back_the_same(table: Table, tmp_path: Path, views: str) -> None:
    before = made(table, "ple", views)
    before.save(tmp_path / "bundle", golden=table.golden())
    after = Bundle.load(tmp_path / "bundle")
    assert after.built.views == views
    assert after.model.table.shape == before.model.table.shape
    assert scores(after, table.source).tobytes() == scores(before, table.source).tobytes()


def test_the_columns_are_tasks_then_marginals(table: Table) -> None:
    bundle = made(table)
    assert bundle.columns == ("click", "buy", "spent", "buy_marginal")
    assert scores(bundle, table.source).shape == (10, 4)


def test_each_task_has_its_calibrator_and_the_marginal_is_the_product(table: Table) -> None:
    bundle = made(table)
    logits = predict(bundle.model, [table.batch(np.arange(10))]).astype(np.float64)
    found = bundle.predict(table.batch(np.arange(10)))
    for at, name in enumerate(("click", "buy", "spent")):
        assert_allclose(found[:, at], CALIBRATORS[name](logits[:, at]), rtol=1e-12)
    assert_allclose(found[:, 1], 1 / (1 + np.exp(0.25 - 0.5 * logits[:, 1])), rtol=1e-6)
    assert_allclose(found[:, 2], 1 + 2 * logits[:, 2], rtol=1e-6)
    assert_allclose(found[:, 3], found[:, 0] * found[:, 1], rtol=1e-6)


def test_a_chain_of_three_multiplies_through(tmp_path: Path) -> None:
    tasks = (Task("keep", given="buy"), Task("click"), Task("buy", given="click"))
    buy, keep = [1, 1, 0, 0, 0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 1, 0, 1, 1, 0]
    rows = source(tmp_path, changed(click=[1, 1, 1, 0, 1, 1, 0, 1, 1, 0], buy=buy, keep=keep))
    own = ingest(rows, Schema(SCHEMA.fields, tasks), SPLIT, folder=tmp_path / "table")
    bundle = made(own, calibrators={task.name: Platt() for task in tasks})
    assert bundle.columns == ("keep", "click", "buy", "keep_marginal", "buy_marginal")
    keep, click, buy, keep_marginal, buy_marginal = scores(bundle, rows).T
    assert_allclose(keep_marginal, keep * click * buy, rtol=1e-6)
    assert_allclose(buy_marginal, click * buy, rtol=1e-6)
    bundle.save(tmp_path / "bundle", golden=own.golden())
    assert_allclose(scores(Bundle.load(tmp_path / "bundle"), rows)[:, 3], keep_marginal, rtol=0, atol=0)


def test_regressions_alone_have_no_marginal(tmp_path: Path) -> None:
    rows = source(tmp_path)
    own = ingest(rows, Schema(SCHEMA.fields, (Task("spent", REGRESSION),)), SPLIT, folder=tmp_path / "table")
    bundle = made(own, "alone", calibrators={"spent": Identity()})
    assert bundle.columns == ("spent",)
    bundle.save(tmp_path / "bundle", golden=own.golden())
    assert Bundle.load(tmp_path / "bundle").calibrators == {"spent": Identity()}


@pytest.mark.parametrize("size", [1, 3, 10, 4096])
def test_scores_keep_the_order_of_the_log_however_it_is_cut(table: Table, size: int) -> None:
    bundle = made(table)
    parts = list(bundle.score(table.source, size))
    assert [frame.height for frame, _ in parts] == [size] * (10 // size) + [10 % size] * (10 % size > 0)
    assert pl.concat([frame for frame, _ in parts])["time"].to_list() == list(range(10))
    assert_allclose(np.concatenate([one for _, one in parts]), scores(bundle, table.source), rtol=0, atol=1e-6)


def test_raw_rows_score_as_the_encoded_table(table: Table) -> None:
    """The table sorts its rows by part; by time that is the order of this log."""
    bundle = made(table)
    assert_allclose(scores(bundle, table.source), bundle.predict(table.batch(np.arange(10))), rtol=0, atol=1e-6)


def test_a_frame_is_answered_as_its_log(table: Table, saved: Path) -> None:
    """A column a prediction, row by row; labels and columns that nothing reads may be there or not."""
    bundle = Bundle.load(str(saved))
    (frame, expected), *_ = bundle.score(table.source)
    whole = pl.read_parquet(table.source.log)
    assert whole.width > frame.width
    for rows in (whole, frame, whole[3:5], whole.head(0)):
        found = bundle.answer(rows)
        assert found.columns == list(bundle.columns)
        assert found.height == rows.height
    assert_allclose(bundle.answer(whole).to_numpy(), expected, atol=1e-6)
    assert_allclose(bundle.answer(whole[3:5]).to_numpy(), expected[3:5], atol=1e-6)
    with pytest.raises(UserError, match=r"fields.item: no column 'item' in these rows or its joins; known: age, user"):
        bundle.answer(whole.select("user", "age"))


def test_a_glob_of_parts_scores_as_the_whole(table: Table, tmp_path: Path) -> None:
    bundle, frame = made(table), pl.read_parquet(table.source.log)
    for at, start in enumerate((0, 4, 7)):
        frame.slice(start, (4, 3, 3)[at]).write_parquet(tmp_path / f"part{at}.parquet")
    found = scores(bundle, replace(table.source, log=str(tmp_path / "part*.parquet")), 4)
    assert_allclose(found, scores(bundle, table.source), rtol=0, atol=1e-6)


def test_a_csv_scores_as_its_parquet(tmp_path: Path) -> None:
    rows = source(tmp_path)
    fields = tuple(field for field in SCHEMA.fields if not field.many)
    bundle = made(ingest(rows, Schema(fields, SCHEMA.tasks), SPLIT, folder=tmp_path / "table"))
    pl.read_parquet(rows.log).drop("watched").write_csv(tmp_path / "log.csv")
    assert_allclose(scores(bundle, replace(rows, log=str(tmp_path / "log.csv"))), scores(bundle, rows), rtol=0, atol=1e-6)


def test_joined_fields_are_joined_when_scoring_and_held_in_golden_rows(tmp_path: Path) -> None:
    places = write(tmp_path, {"user": [1, 2, 3], "home": ["x", "y", "x"]}, name="users")
    rows = source(tmp_path, joins=(Join(places, "user"),))
    schema = Schema((*SCHEMA.fields, Field("home", CATEGORY, min_count=1)), SCHEMA.tasks)
    own = ingest(rows, schema, SPLIT, folder=tmp_path / "table")
    bundle = made(own)
    expected = scores(bundle, rows)
    bundle.save(tmp_path / "bundle", golden=own.golden())
    assert "home" in pl.read_parquet_schema(tmp_path / "bundle" / "golden.parquet")
    write(tmp_path, {"user": [1, 2, 3], "home": ["y", "x", "y"]}, name="users")
    Path(rows.log).rename(tmp_path / "moved.parquet")
    after = Bundle.load(tmp_path / "bundle")  # neither the log nor the old users are needed
    assert after.source.joins == (Join(places, "user"),)
    moved = scores(after, replace(after.source, log=str(tmp_path / "moved.parquet")))
    assert np.abs(moved - expected)[:6, 0].max() > 1e-4, "the users of today are joined, not those of the training"


def test_unknown_values_score_finitely_and_as_the_missing(table: Table, tmp_path: Path) -> None:
    bundle = made(table)
    frame = pl.read_parquet(table.source.log).head(3)
    unknown = frame.with_columns(user=pl.lit(-(2**62)), place=pl.lit("nowhere"), age=pl.lit(None, pl.Float64))
    missing = frame.with_columns(user=pl.lit(None, pl.Int64), place=pl.lit(None, pl.String), age=pl.lit(float("nan")))
    found = []
    for name, one in (("unknown", unknown), ("missing", missing)):
        one.write_parquet(tmp_path / f"{name}.parquet")
        found.append(scores(bundle, replace(table.source, log=str(tmp_path / f"{name}.parquet"), user="time")))
    assert np.isfinite(found[0]).all()
    assert_allclose(found[0], found[1], rtol=0, atol=0)


def test_golden_rows_are_the_first_and_only_what_is_read(table: Table, saved: Path) -> None:
    golden = pl.read_parquet(saved / "golden.parquet")
    assert set(golden.columns) == {"user", "item", "age", "watched", "place", "tags", "picture", "time"}
    assert golden.height == 10
    kept = np.array(json.loads((saved / "golden.json").read_text())["scores"])
    assert_allclose(kept, scores(made(table), table.source), rtol=0, atol=0)


def test_no_more_golden_rows_than_said(tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GOLDEN", 4)
    made(table).save(tmp_path / "bundle", golden=table.golden())
    assert pl.read_parquet(tmp_path / "bundle" / "golden.parquet")["time"].to_list() == [0, 1, 2, 3]
    assert Bundle.load(tmp_path / "bundle").columns


@pytest.mark.parametrize(("moved", "refused"), [(0.0, False), (0.9e-6, False), (1.1e-6, True), (float("nan"), True)])
def test_golden_scores_may_differ_by_a_millionth(
    saved: Path, monkeypatch: pytest.MonkeyPatch, *, moved: float, refused: bool
) -> None:
    predict = Bundle.predict
    monkeypatch.setattr(Bundle, "predict", lambda self, batch: predict(self, batch) + moved)
    if refused:
        with pytest.raises(UserError, match=r"golden rows score otherwise, by up to .* \(allowed 1e-06\); load it with the versions"):
            Bundle.load(saved)
    else:
        assert Bundle.load(saved).columns


def test_a_bundle_may_lie_in_a_folder_with_brackets(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "run [1] *" / "bündel")
    assert Bundle.load(tmp_path / "run [1] *" / "bündel").schema == EVERY


def test_without_rows_there_is_no_bundle(table: Table, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bundle: no golden rows; a bundle keeps some rows with their scores: give some"):
        made(table).save(tmp_path / "bundle", golden=table.golden().head(0))
    assert not (tmp_path / "bundle").exists()


def test_a_save_that_fails_leaves_the_bundle_before(table: Table, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(saved, tmp_path / "bundle")

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "seal", fails)
    with pytest.raises(ZeroDivisionError):
        made(table, "mmoe").save(tmp_path / "bundle", golden=table.golden())
    monkeypatch.undo()
    assert Bundle.load(tmp_path / "bundle").built.recipe == "stem"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_who_may_read_a_bundle_may_read_all_of_it(table: Table, tmp_path: Path) -> None:
    """The service runs as another user than the training; safetensors would keep weights to their owner."""
    before = os.umask(0o022)
    try:
        replace(made(table), centre=torch.ones(1, 8, 2)).save(tmp_path / "bundle", golden=table.golden())
    finally:
        os.umask(before)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "bundle").rglob("*") if one.is_file()}
    assert {"weights.safetensors", "centre.safetensors", "golden.parquet", "manifest.json"} <= modes.keys()
    assert set(modes.values()) == {0o644}
    folders = [tmp_path / "bundle", *(one for one in (tmp_path / "bundle").rglob("*") if one.is_dir())]
    assert {stat.S_IMODE(one.stat().st_mode) for one in folders} == {0o755}


def test_a_bundle_that_may_not_be_read_is_one_line_and_exit_code_2(
    table: Table, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Path.read_bytes

    def closed(path: Path) -> bytes:
        if path.name == "weights.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(SystemExit) as left:
        main(["score", str(saved), table.source.log, "-o", str(tmp_path / "scores.csv")])
    assert left.value.code == 2
    mend = f"let who runs this read all of it, for example: chmod -R a+rX {saved}"
    assert capsys.readouterr().err == f"umbel: {saved}/weights.safetensors: may not be read; {mend}\n"
    assert not (tmp_path / "scores.csv").exists()


def test_weights_of_another_recipe_are_refused(table: Table, saved: Path, tmp_path: Path) -> None:
    """The files are whole, and agree with the manifest, but do not belong together."""
    shutil.copytree(saved, tmp_path / "bundle")
    made(table, "alone").save(tmp_path / "other", golden=table.golden())
    (tmp_path / "bundle" / "weights.safetensors").write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    seal(tmp_path / "bundle")
    with pytest.raises(UserError, match=r"weights\.safetensors: does not fit the recipe") as caught:
        Bundle.load(tmp_path / "bundle")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1", "\x00"])
def test_a_manifest_that_is_no_json(saved: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(saved, tmp_path / "bundle")
    (tmp_path / "bundle" / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json: not readable .*; copy the bundle again"):
        Bundle.load(tmp_path / "bundle")


def test_rows_used_here_are_many_kinds() -> None:
    assert {field.kind for field in EVERY.fields} == {ID, NUMBER, SEQUENCE, CATEGORY, BAG, VECTOR}
    assert set(ROWS) < set(RICH)


def test_a_log_that_is_gone_or_changed_after_ingest_does_not_hinder_the_bundle(tmp_path: Path) -> None:
    places = write(tmp_path, {"user": [1, 2, 3], "home": ["x", "y", "x"]}, name="users")
    rows = source(tmp_path, joins=(Join(places, "user"),))
    schema = Schema((*SCHEMA.fields, Field("home", CATEGORY, min_count=1), Field("late", NUMBER, sql="time * 2")), SCHEMA.tasks)
    own = ingest(rows, schema, SPLIT, folder=tmp_path / "table")
    bundle = made(own)
    expected = scores(bundle, rows)
    write(tmp_path, {"user": [1, 2, 3], "home": ["y", "x", "y"]}, name="users")
    Path(rows.log).unlink()
    bundle.save(tmp_path / "bundle", golden=own.golden())
    kept = np.array(json.loads((tmp_path / "bundle" / "golden.json").read_text())["scores"])
    assert_allclose(kept, expected, rtol=0, atol=0)
    assert Bundle.load(tmp_path / "bundle").columns


def test_a_table_keeps_its_first_rows_joined_and_without_labels(tmp_path: Path) -> None:
    height = 40
    users = write(tmp_path, {"user": list(range(height)), "home": [f"h{at}" for at in range(height)]}, name="users")
    many: dict[str, Sequence[object]] = {name: [values[at % 10] for at in range(height)] for name, values in ROWS.items()}
    part = ["train" if at < 20 else "valid" if at < 30 else "test" for at in range(height)]
    rows = source(tmp_path, {**many, "user": list(range(height)), "part": part, "other": [0] * height}, joins=(Join(users, "user"),))
    schema = Schema((*SCHEMA.fields, Field("home", CATEGORY)), SCHEMA.tasks)
    golden = ingest(rows, schema, ByColumn("part", valid="valid", test="test"), folder=tmp_path / "table").golden()
    assert set(golden.columns) == {"user", "item", "age", "watched", "home", "time"}
    assert golden["user"].to_list() == list(range(32))
    assert golden["home"].to_list() == [f"h{at}" for at in range(32)]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:40])])
def test_golden_rows_that_are_not_in_the_table(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    own = ingest(source(tmp_path), SCHEMA, SPLIT, folder=tmp_path / "table")
    spoil(tmp_path / "table" / "golden.parquet")
    with pytest.raises(UserError, match=r"table/golden\.parquet: missing or cut short; ingest again"):
        own.golden()


def test_a_table_may_lie_in_a_folder_with_brackets(tmp_path: Path) -> None:
    own = ingest(source(tmp_path), SCHEMA, SPLIT, folder=tmp_path / "table [1] *")
    assert own.golden().height == 10


def test_a_bundle_carries_its_fusion(table: Table, tmp_path: Path) -> None:
    policy = Fusion((Term("buy_marginal", Linear(2.0)), Term("click", Linear(0.5), -1)), "mine")
    replace(made(table), fusion=policy).save(tmp_path / "bundle", golden=table.golden())
    assert Bundle.load(tmp_path / "bundle").fusion == policy
    assert (tmp_path / "bundle" / "fusion.json").is_file()


def test_no_weight_of_a_loaded_bundle_wants_a_gradient(saved: Path) -> None:
    assert not any(one.requires_grad for one in Bundle.load(saved).model.parameters())


def test_threads_that_look_up_and_read_the_table_do_not_wait_for_each_other_for_ever(saved: Path) -> None:
    """In a process of its own: with weights that want gradients torch 2.13 stops there, within a second, for good."""
    program = f"""
import sys, threading, torch
from pathlib import Path
from umbel.bundle import Bundle
sys.setswitchinterval(1e-6)
table, rows = Bundle.load(Path({str(saved)!r})).model.table, torch.zeros(3, dtype=torch.int64)
def looks():
    for _ in range(100_000): table.index_select(0, rows)
def reads():
    for _ in range(100_000): table[0]
threads = [threading.Thread(target=one, daemon=True) for one in (looks, looks, reads, reads, reads)]
for one in threads: one.start()
for one in threads: one.join()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip() == "done", done.stderr


def test_a_bundle_without_fusion_loads(saved: Path) -> None:
    assert not (saved / "fusion.json").exists()
    assert Bundle.load(saved).fusion is None


def test_a_fusion_of_tasks_that_are_not_predicted_is_refused(table: Table, tmp_path: Path) -> None:
    replace(made(table), fusion=Fusion((Term("clik", Linear()),))).save(tmp_path / "bundle", golden=table.golden())
    with pytest.raises(UserError, match=r"no prediction 'clik'; did you mean 'click'\?"):
        Bundle.load(tmp_path / "bundle")
