"""A comparison's figures from predictions made by hand: means over seeds, paired differences, who meets whom."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.evaluate.metrics import auc
from umbel.evaluate.paired import Verdict
from umbel.run.comparison import comparison_page
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task
from umbel.study.trial import Lost, Trial
from umbel.study.verdict import Comparison, Line, judge

ROWS = 1_200
TEST = 800


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    draw = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("verdict")
    frame = pl.DataFrame(
        {
            "user": draw.integers(80, size=ROWS),
            "click": draw.integers(2, size=ROWS),
            "watch": draw.normal(size=ROWS),
            "part": np.where(np.arange(ROWS) < 200, "train", np.where(np.arange(ROWS) < ROWS - TEST, "valid", "test")),
        }
    )
    frame.write_parquet(folder / "log.parquet")
    schema = Schema((Field("user", FieldKind.ID, min_count=1),), (Task("click"), Task("watch", kind=REGRESSION)))
    split = ByColumn("part", train="train", valid="valid", test="test")
    return ingest(Source(str(folder / "log.parquet"), user="user"), schema, split, folder=folder / "table")


def predicted(table: Table, folder: Path, *, noise: float, seed: int) -> Path:
    """A run that knows the labels up to some noise."""
    events, _ = table.events("test")
    outputs = (events - 0.5) + np.random.default_rng([seed, int(100 * noise)]).normal(scale=noise, size=events.shape)
    folder.mkdir(parents=True)
    calibrated = np.stack([1 / (1 + np.exp(-outputs[:, 0])), outputs[:, 1]], axis=1)
    np.savez(folder / "predictions.npz", logits=outputs.astype(np.float32), calibrated=calibrated)
    Trial(0.5 + seed / 100, 10, 2.0 * seed, 100.0, 1000 * seed).save(folder)
    return folder


def line(table: Table, root: Path, name: str, *, noise: float) -> Line:
    return Line(name, tuple(predicted(table, root / name / str(seed), noise=noise, seed=seed) for seed in (1, 2, 3)), {"rate": 0.001},
                "ple x3" if name == "stem" else "")


@pytest.fixture(scope="module")
def found(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    root = tmp_path_factory.mktemp("runs")
    noises = {"alone": 2.0, "stem": 0.8, "ple": 2.0, "ple x3": 1.2, "trees": 3.0, "trees + target means": 0.8}
    return judge(table, tuple(line(table, root, name, noise=noise) for name, noise in noises.items()), resamples=100, margin=0.002)


def test_means_are_over_seeds(table: Table, found: Comparison) -> None:
    labels, _ = table.labels("test")
    stem = next(one for one in found.recipes if one.name == "stem")
    each = stem.seeds["click"]["auc"]
    assert len(each) == 3
    mean = stem.tasks["click"]["auc"]
    assert mean.value == pytest.approx(np.mean([value for value in each if value is not None]))  # type: ignore[union-attr]
    draw = np.random.default_rng([1, 80]).normal(scale=0.8, size=(TEST, 2))
    assert each[0] == pytest.approx(auc(labels[:, 0], (labels[:, 0] - 0.5 + draw[:, 0]).astype(np.float32)))


def test_each_task_has_its_kind_s_metrics(found: Comparison) -> None:
    for one in found.recipes:
        assert list(one.tasks["click"]) == ["auc", "gauc", "logloss", "ne"]
        assert list(one.tasks["watch"]) == ["rmse", "mae"]


def test_costs_are_means_and_the_largest_memory(found: Comparison) -> None:
    cost = found.recipes[0].cost
    assert cost.seconds == pytest.approx(4.0)
    assert (cost.parameters, cost.peak_memory_bytes) == (10, 3000)
    assert cost.score == pytest.approx(0.52)


def test_who_meets_whom(found: Comparison) -> None:
    pairs = {(pair.recipe, pair.against) for pair in found.paired}
    everyone = {one.name for one in found.recipes}
    assert {recipe for recipe, against in pairs if against == "alone"} == everyone - {"alone"}
    assert {recipe for recipe, against in pairs if against == "trees + target means"} == everyone - {"trees + target means"}
    assert {recipe for recipe, against in pairs if against == "ple x3"} == {"stem"}


@pytest.mark.parametrize(("names", "references"), [
    (("stem", "ple", "mmoe"), ["stem"]),
    (("ple", "alone", "trees"), ["alone", "trees"]),
    (("stem", "ple", "ple x3", "trees", "trees + target means"), ["stem", "ple x3", "trees + target means"]),
    (("stem", "trees"), ["trees"]),
    (("stem", "alone, 5 experts"), ["stem"]),
    (("alone", "stem", "alone, 5 experts"), ["alone"]),
    (("stem",), []),
])  # fmt: skip
def test_without_separate_models_the_first_recipe_is_the_others_reference(
    table: Table, tmp_path: Path, names: tuple[str, ...], references: list[str]
) -> None:
    told = judge(table, tuple(line(table, tmp_path, name, noise=1.0) for name in names), resamples=20, margin=0.002)
    assert list(dict.fromkeys(pair.against for pair in told.paired)) == references
    if references[:1] == [names[0]]:
        assert {pair.recipe for pair in told.paired if pair.against == names[0]} == set(names) - {names[0]}


def test_differences_are_draw_by_draw(found: Comparison) -> None:
    standings = {one.name: one for one in found.recipes}
    for pair in found.paired:
        left, right = (standings[name].seeds[pair.task][pair.metric] for name in (pair.recipe, pair.against))
        expected = [a - b for a, b in zip(left, right, strict=True) if a is not None and b is not None]
        assert pair.paired.seeds == pytest.approx(expected)


def test_a_clear_winner_is_higher_and_its_error_lower(found: Comparison) -> None:
    verdicts = {(pair.task, pair.recipe, pair.against): pair.verdict for pair in found.paired}
    assert verdicts["click", "stem", "alone"] is Verdict.HIGHER
    assert verdicts["watch", "stem", "alone"] is Verdict.LOWER
    assert verdicts["click", "ple", "alone"] in (Verdict.OPEN, Verdict.EQUAL)


def test_equal_predictions_are_equal(table: Table, tmp_path: Path) -> None:
    one = line(table, tmp_path, "alone", noise=1.0)
    twin = Line("stem", one.folders)
    same = judge(table, (one, twin), resamples=50, margin=0.002)
    assert {pair.verdict for pair in same.paired} == {Verdict.EQUAL}
    assert {pair.paired.mean.value for pair in same.paired} == {0.0}


def off(table: Table, folder: Path, error: float) -> Path:
    """A run that is wrong by the same pattern, so far, in the label's own unit."""
    events, _ = table.events("test")
    pattern = np.random.default_rng(4).normal(scale=error * events[:, 1].std(), size=TEST)
    outputs = np.stack([events[:, 0] - 0.5, events[:, 1] + pattern], axis=1)
    folder.mkdir(parents=True)
    np.savez(folder / "predictions.npz", logits=outputs.astype(np.float32), calibrated=outputs)
    Trial(0.5, 10, 1.0, 1.0, 1).save(folder)
    return folder


def watched(folder: Path, unit: float, unseen: int = 0) -> Table:
    """A click and how long was watched, in that unit; the last rows have no label of it, and would be far off."""
    draw = np.random.default_rng(6)
    watch = unit * np.where(np.arange(TEST) < TEST - unseen, draw.normal(2.0, 1.5, TEST), np.nan)
    part = np.where(np.arange(TEST + 20) < 10, "train", np.where(np.arange(TEST + 20) < 20, "valid", "test"))
    folder.mkdir(parents=True)
    pl.DataFrame({
        "user": draw.integers(80, size=TEST + 20), "click": draw.integers(2, size=TEST + 20), "part": part,
        "watch": np.concatenate([np.full(20, 1e3 * unit), watch]),
    }).with_columns(pl.col("watch").fill_nan(None)).write_parquet(folder / "log.parquet")
    schema = Schema((Field("user", FieldKind.ID, min_count=1),), (Task("click"), Task("watch", kind=REGRESSION)))
    split = ByColumn("part", train="train", valid="valid", test="test")
    return ingest(Source(str(folder / "log.parquet"), user="user"), schema, split, folder=folder / "table")


@pytest.mark.parametrize("unit", [1.0, 1 / 60, 6e4])
def test_equal_means_the_same_in_every_unit(tmp_path: Path, unit: float) -> None:
    """An error of .101 deviations against .1 is within .002 of them, one of .11 is not: in seconds, minutes and milliseconds."""
    own = watched(tmp_path / "log", unit)
    lines = tuple(Line(name, (off(own, tmp_path / name, error),)) for name, error in (("alone", 0.1), ("ple", 0.101), ("stem", 0.11)))
    found = {(one.recipe, one.task): one for one in judge(own, lines, resamples=50, margin=0.002).paired}
    assert found["ple", "watch"].verdict is Verdict.EQUAL
    assert found["stem", "watch"].verdict is Verdict.OPEN  # one seed has no spread
    events, _ = own.events("test")
    assert found["ple", "watch"].margin == pytest.approx(0.002 * float(events[:, 1].std()), rel=1e-5)
    assert found["ple", "click"].margin == 0.002


def test_a_margin_is_of_the_rows_that_a_task_is_judged_on(tmp_path: Path) -> None:
    """Neither of rows without its label, nor of other parts."""
    own = watched(tmp_path / "log", 1.0, unseen=300)
    events, seen = own.events("test")
    (one,) = (each for each in judge(own, tuple(Line(name, (blank(own, tmp_path / name),)) for name in ("alone", "ple")),
                                     resamples=20, margin=0.01).paired if each.task == "watch")  # fmt: skip
    assert one.margin == pytest.approx(0.01 * float(events[seen[:, 1], 1].std()), rel=1e-5)
    assert seen[:, 1].sum() == TEST - 300


def blank(table: Table, folder: Path) -> Path:
    """A run that says 0 of everything."""
    folder.mkdir(parents=True)
    np.savez(folder / "predictions.npz", logits=np.zeros((TEST, 2), np.float32), calibrated=np.zeros((TEST, 2)))
    Trial(0.5, 10, 1.0, 1.0, 1).save(folder)
    return folder


def test_it_becomes_json_and_a_page(found: Comparison) -> None:
    content = json.loads(json.dumps(found.to_json()))
    assert set(content) == {"rows", "recipes", "paired", "lost"}
    assert content["lost"] == {}
    entry = content["recipes"]["stem"]["tasks"]["click"]["auc"]
    assert set(entry) == {"mean", "low", "high", "seeds"}
    pair = content["paired"][0]
    assert {"task", "recipe", "against", "metric", "mean", "low", "high", "seeds", "spread", "p", "verdict", "margin"} <= set(pair)
    margins = {one["task"]: one["margin"] for one in content["paired"]}
    assert margins["click"] == 0.002
    assert margins["watch"] == pytest.approx(0.002, rel=0.1)  # of labels that have a deviation of 1
    page = comparison_page(content)
    assert "ple x3" in page


def lose(folder: Path, why: str = "the loss ran away") -> Path:
    """A run that diverged where a finished one would lie."""
    folder.mkdir(parents=True)
    Lost(why).save(folder)
    return folder


def test_a_lost_seed_counts_in_no_mean_and_no_difference(table: Table, tmp_path: Path) -> None:
    whole = [line(table, tmp_path, name, noise=1.0) for name in ("alone", "stem")]
    cut = Line("stem", (whole[1].folders[0], lose(tmp_path / "lost"), whole[1].folders[2]))
    assert cut.finished == (whole[1].folders[0], whole[1].folders[2])
    both, left = (judge(table, (whole[0], one), resamples=50, margin=0.002, lost={"stem 2": "x"}) for one in (whole[1], cut))
    before, after = (found.recipes[1].seeds["click"]["auc"] for found in (both, left))
    assert after == (before[0], None, before[2])
    mean = left.recipes[1].tasks["click"]["auc"]
    assert mean.value == pytest.approx(np.mean([before[0], before[2]]))  # type: ignore[union-attr]
    for with_all, without in zip(both.paired, left.paired, strict=True):
        assert without.paired.seeds == (with_all.paired.seeds[0], with_all.paired.seeds[2])
    assert left.recipes[1].cost.score == pytest.approx((0.51 + 0.53) / 2)
    content = json.loads(json.dumps(left.to_json()))
    assert content["lost"] == {"stem 2": "x"}
    assert content["recipes"]["stem"]["tasks"]["click"]["auc"]["seeds"][1] is None
    page = comparison_page(content)
    assert "Lost runs" in page
    assert "stem 2" in page
    assert "Lost runs" not in comparison_page({**content, "lost": {}})


def test_seeds_that_meet_in_none_have_no_difference(table: Table, tmp_path: Path) -> None:
    one, other = (line(table, tmp_path, name, noise=1.0) for name in ("alone", "stem"))
    gone = [lose(tmp_path / "gone" / str(at)) for at in range(3)]
    left, right = Line("alone", (one.folders[0], *gone[:2])), Line("stem", (gone[2], *other.folders[1:]))
    found = judge(table, (left, right), resamples=50, margin=0.002)
    assert [len(one.tasks) for one in found.recipes] == [2, 2]
    assert found.paired == ()


def test_who_lost_every_run_is_left_out(table: Table, tmp_path: Path) -> None:
    kept = line(table, tmp_path, "stem", noise=1.0)
    gone = Line("alone", tuple(lose(tmp_path / "gone" / str(at)) for at in range(3)))
    found = judge(table, (gone, kept), resamples=50, margin=0.002)
    assert [one.name for one in found.recipes] == ["stem"]
    assert (found.paired, found.lines) == ((), (kept,))


def test_one_class_in_the_test_rows_is_undefined_not_half(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, observed = table.events("test")
    events = events.copy()
    events[:, 0] = 0
    runs = tuple(line(table, tmp_path, name, noise=1.0) for name in ("alone", "stem"))
    monkeypatch.setattr(Table, "events", lambda *_: (events, observed))
    same = judge(table, runs, resamples=50, margin=0.002)
    assert {pair.task for pair in same.paired} == {"watch"}
    saved = json.loads(json.dumps(same.to_json()))["recipes"]["stem"]["tasks"]["click"]["auc"]
    assert saved["mean"] is None
    assert saved["reason"]
    assert saved["seeds"] == [None, None, None]
