"""Scoring and judging raw logs with a bundle: what is written, in which order, and that a failure leaves nothing."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from tests.logs import SCHEMA, SPLIT, source

from umbel.bundle import Built, Bundle
from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.vocab import Columns, Encoder
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Identity, Platt
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.nn.recommender import Sizes
from umbel.run import use
from umbel.run.report import Report, read_report
from umbel.run.use import judge_log, score_log
from umbel.schema import BINARY, Schema, Task


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of an untrained model; tests read it and leave it alone."""
    return untrained(tmp_path_factory.mktemp("use"), SCHEMA)


def untrained(folder: Path, schema: Schema) -> Path:
    rows = source(folder)
    table = ingest(rows, schema, SPLIT, folder=folder / "table")
    built = Built("ple", Sizes({name: one.size for name, one in table.encoder.vocabularies.items()}, dim=2, expert=(4,), tower=(3,)))
    settings = {"evaluate": {"resamples": 5, "slices": ["item"]}}
    report = Report("ple", 5, {"train": 6}, (), 77, 1.0, 2.0, 3, settings=settings).to_json()
    calibrators: dict[str, Calibrator] = {one.name: Platt() if one.kind == BINARY else Identity() for one in schema.tasks}
    Bundle(rows, table.encoder, built, built(schema).eval(), calibrators, report).save(folder / "bundle", golden=table.golden())
    return folder / "bundle"


def log_of(bundle: Path) -> str:
    return Bundle.load(bundle).source.log


def rewritten(bundle: Path, folder: Path, *changes: pl.Expr, rows: int = 10) -> str:
    """The log with changed columns, under another name."""
    path = folder / "changed.parquet"
    pl.read_parquet(log_of(bundle)).head(rows).with_columns(*changes).write_parquet(path)
    return str(path)


def read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv", "new/and/deep/scores.parquet"])
def test_keys_and_one_column_a_prediction(bundle: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    assert score_log(bundle, log_of(bundle), out) == 10
    found = read(out)
    assert found.columns == ["user", "item", "time", "click", "buy", "spent", "buy_marginal"]
    assert found["time"].to_list() == list(range(10))
    assert found["user"].to_list() == [1, 1, 2, 2, 3, 1, 1, 9, 2, 8]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("name", ["scores.json", "scores", "scores.CSV", "scores.parquet.gz", "new/scores.txt"])
def test_a_name_that_does_not_say_what_is_written_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"scores.*: rows are written as \.parquet or \.csv; name for example .*scores.*\.parquet$"):
        score_log(tmp_path / "no bundle", "no log", tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
@pytest.mark.parametrize("size", [1, 4, 10])
def test_chunks_make_one_file_with_one_header(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, name: str, size: int
) -> None:
    score_log(bundle, log_of(bundle), tmp_path / f"whole-{name}")
    monkeypatch.setattr(use, "SIZE", size)
    assert score_log(bundle, log_of(bundle), tmp_path / name) == 10
    found, whole = read(tmp_path / name), read(tmp_path / f"whole-{name}")
    assert found.schema == whole.schema
    assert_allclose(found["click"].to_numpy(), whole["click"].to_numpy(), rtol=0, atol=1e-6)


def test_csv_and_parquet_hold_the_same_numbers(bundle: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        score_log(bundle, log_of(bundle), tmp_path / name)
    for column in ("click", "buy", "spent", "buy_marginal"):
        assert_allclose(read(tmp_path / "a.csv")[column].to_numpy(), read(tmp_path / "a.parquet")[column].to_numpy(), rtol=1e-12)


def test_an_earlier_file_is_replaced(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    out.write_text("something else")
    score_log(bundle, log_of(bundle), out)
    assert read(out).height == 10


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
def test_a_log_without_rows_is_refused_and_leaves_nothing(bundle: Path, tmp_path: Path, name: str) -> None:
    empty = rewritten(bundle, tmp_path, rows=0)
    with pytest.raises(UserError, match=r"changed\.parquet: no rows; give a log that has some"):
        score_log(bundle, empty, tmp_path / "out" / name)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(UserError, match=r"changed\.parquet: no rows; give a log that has some"):
        judge_log(bundle, empty)


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
def test_a_failure_in_the_middle_leaves_the_file_before(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = tmp_path / name
    out.write_text("the scores of yesterday")
    log, scored = log_of(bundle), Bundle.score

    def breaks(self: Bundle, source: Source, size: int) -> Iterator[tuple[pl.DataFrame, np.ndarray]]:
        if size != use.SIZE:  # the golden rows
            yield from scored(self, source, size)
            return
        yield from list(scored(self, source, 4))[:2]
        raise UserError("the log ends", mend="here")

    monkeypatch.setattr(Bundle, "score", breaks)
    with pytest.raises(UserError, match="the log ends"):
        score_log(bundle, log, out)
    assert out.read_text() == "the scores of yesterday"
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_folder_where_the_file_should_stand(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(UserError, match=r"scores\.csv: not writable"):
        score_log(bundle, log_of(bundle), tmp_path / "scores.csv")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not writable"):
        score_log(bundle, log_of(bundle), tmp_path / "file" / "scores.csv")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "scores.csv"]


@pytest.mark.parametrize("label", [pl.lit(7), pl.lit("soon"), pl.lit(None), pl.lit([1])], ids=["range", "text", "none", "list"])
def test_scoring_does_not_care_about_labels(bundle: Path, tmp_path: Path, label: pl.Expr) -> None:
    spoiled = rewritten(bundle, tmp_path, *(label.alias(name) for name in ("click", "buy", "spent")))
    score_log(bundle, log_of(bundle), tmp_path / "a.parquet")
    score_log(bundle, spoiled, tmp_path / "b.parquet")
    assert read(tmp_path / "a.parquet").equals(read(tmp_path / "b.parquet"))


def test_a_csv_whose_labels_are_no_numbers_is_scored(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("user,item,time,age,watched,click,buy\n1,a,3,10,a b,yes,\n2,b,4,,,no,maybe\n")
    assert score_log(bundle, str(tmp_path / "new.csv"), tmp_path / "out.csv") == 2
    with pytest.raises(UserError, match=r"tasks\.click: 'yes' is no number"):
        judge_log(bundle, str(tmp_path / "new.csv"))


def test_a_row_scores_the_same_wherever_it_stands(bundle: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(log_of(bundle))
    order = np.random.default_rng(0).permutation(10)
    frame[order].write_parquet(tmp_path / "mixed.parquet")
    score_log(bundle, log_of(bundle), tmp_path / "a.parquet")
    score_log(bundle, str(tmp_path / "mixed.parquet"), tmp_path / "b.parquet")
    first, second = (read(tmp_path / f"{name}.parquet")["click"].to_numpy() for name in "ab")
    assert_allclose(second, first[order], rtol=0, atol=1e-6)


def test_duplicated_rows_are_scored_twice(bundle: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(log_of(bundle))
    pl.concat([frame.head(1)] * 3).write_parquet(tmp_path / "thrice.parquet")
    assert score_log(bundle, str(tmp_path / "thrice.parquet"), tmp_path / "out.parquet") == 3
    assert len(set(read(tmp_path / "out.parquet")["click"].round(6))) == 1


def test_a_judgement_has_the_log_s_rows_and_the_run_s_origin(bundle: Path) -> None:
    report = judge_log(bundle, log_of(bundle))
    assert (report.recipe, report.seed, report.parameters, report.rows) == ("ple", 5, 77, {"log": 10})
    assert [task.name for task in report.tasks] == ["click", "buy", "spent"]
    assert report.tasks[1].marginal is not None
    assert report.peak_memory_bytes > 10_000_000


def test_a_judgement_is_cut_as_the_run_s_and_as_asked(bundle: Path) -> None:
    """Of the ten rows users 1, 2 and 3 were trained on, 3, 2 and 1 rows of them; items b, c 1 and 2 rows; z is new, and 8 and 9."""
    slices = judge_log(bundle, log_of(bundle), slices=["user", "item", "user"]).tasks[0].slices
    assert list(slices) == ["user seen in training", "item seen in training", "item", "user"]
    rows = {name: {label: figures.rows for label, figures in labels.items()} for name, labels in slices.items()}
    assert rows["user seen in training"] == {"unknown": 2, "1-9": 8}
    assert rows["item seen in training"] == {"unknown": 1, "1-9": 9}
    assert rows["item"] == {"a": 5, "b": 3, "c": 1, "unknown": 1}
    assert rows["user"] == {"1": 4, "2": 3, "3": 1, "unknown": 2}
    assert list(judge_log(bundle, log_of(bundle)).tasks[0].slices) == ["user seen in training", "item seen in training", "item"]


@pytest.mark.parametrize(("name", "why"), [
    ("watched", "'watched' holds several values a row"), ("iten", "no column 'iten' in .*; did you mean 'item'"),
])  # fmt: skip
def test_a_slice_that_cannot_be_had_is_named(bundle: Path, name: str, why: str) -> None:
    with pytest.raises(UserError, match=f"--slice: {why}"):
        judge_log(bundle, log_of(bundle), slices=[name])


def test_a_number_is_cut_by_its_raw_values(bundle: Path) -> None:
    ages = pl.read_parquet(log_of(bundle))["age"]
    found = judge_log(bundle, log_of(bundle), slices=["age"]).tasks[0].slices["age"]
    expected = Counter("unknown" if one is None or one != one else str(one) for one in ages)
    assert sum(figures.rows for figures in found.values()) <= len(ages)
    assert set(found) <= set(expected)
    assert len(found) > 1


@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_judgement_in_pieces_is_the_judgement(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    whole = judge_log(bundle, log_of(bundle), slices=["user"])
    monkeypatch.setattr(use, "SIZE", size)
    pieces = judge_log(bundle, log_of(bundle), slices=["user"])
    for one, other in zip(whole.tasks, pieces.tasks, strict=True):
        assert one.figures.rows == other.figures.rows
        assert one.figures.positives == other.figures.positives
        assert list(one.slices) == list(other.slices)
        for name, measured in one.figures.metrics.items():
            again = other.figures.metrics[name]
            if isinstance(measured, Interval):
                assert isinstance(again, Interval)
                assert again.value == pytest.approx(measured.value, abs=1e-6)


def test_a_judgement_keeps_no_batch(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch that was judged nothing may hang on to its columns."""
    monkeypatch.setattr(use, "SIZE", 2)
    made: list[weakref.ref[np.ndarray]] = []
    alive, encode = [], Encoder.encode

    def watched(self: Encoder, frame: pl.DataFrame) -> Columns:
        alive.append(sum(one() is not None for one in made))
        columns = encode(self, frame)
        made.append(weakref.ref(columns.codes))
        return columns

    monkeypatch.setattr(Encoder, "encode", watched)
    judge_log(bundle, log_of(bundle), slices=["user"])
    assert len(made) > 5
    assert max(alive) <= 2  # the one before, and one in flight


def test_a_judgement_s_json_is_a_report(bundle: Path, tmp_path: Path) -> None:
    report = judge_log(bundle, log_of(bundle), slices=["user"], out=tmp_path / "deep" / "judged.json")
    saved = read_report(tmp_path / "deep" / "judged.json")
    assert saved.rows == {"log": 10}
    assert saved.to_json() == report.to_json()
    assert set(saved.to_json()["tasks"]["click"]["slices"]) == set(report.tasks[0].slices)  # type: ignore[index]


def test_auc_of_a_judgement_by_hand(bundle: Path, tmp_path: Path) -> None:
    report = judge_log(bundle, log_of(bundle))
    score_log(bundle, log_of(bundle), tmp_path / "a.parquet")
    scores, clicks = read(tmp_path / "a.parquet")["click"].to_numpy(), pl.read_parquet(log_of(bundle))["click"].to_numpy()
    pairs = [float(up > down) + 0.5 * float(up == down) for up in scores[clicks == 1] for down in scores[clicks == 0]]
    found = report.tasks[0].figures.metrics["auc"]
    assert isinstance(found, Interval)
    assert found.value == pytest.approx(np.mean(pairs))


def test_labels_of_one_class_have_a_reason(bundle: Path, tmp_path: Path) -> None:
    """Nobody clicked, so that nothing may be said of buying either."""
    report = judge_log(bundle, rewritten(bundle, tmp_path, pl.lit(0).alias("click"), pl.lit(0).alias("buy")))
    for task in report.tasks[:2]:
        assert isinstance(task.figures.metrics["auc"], Undefined)
    assert report.tasks[1].figures.rows == 0


def test_a_log_with_some_labels_judges_those(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    pl.read_parquet(log_of(bundle)).drop("spent", "buy").write_parquet(path)
    report = judge_log(bundle, str(path))
    assert [task.figures.rows for task in report.tasks] == [10, 0, 0]


def test_what_an_expression_reads_is_what_is_needed_to_judge(tmp_path: Path) -> None:
    made = untrained(tmp_path, Schema(SCHEMA.fields, (Task("click"), Task("rich", sql="buy = 1 OR spent > 1000"))))
    nothing = [pl.lit(None, pl.Float64).alias(name) for name in ("click", "buy", "spent")]
    with pytest.raises(UserError, match=r"the log needs at least one of click, buy, spent$"):
        judge_log(made, rewritten(made, tmp_path, *nothing))


def test_without_any_label_nothing_is_judged(bundle: Path, tmp_path: Path) -> None:
    nothing = [pl.lit(None, pl.Float64).alias(name) for name in ("click", "buy", "spent")]
    with pytest.raises(UserError, match="no label to judge by; the log needs at least one of click, buy, spent"):
        judge_log(bundle, rewritten(bundle, tmp_path, *nothing))


def test_a_label_out_of_range_is_named(bundle: Path, tmp_path: Path) -> None:
    spoiled = rewritten(bundle, tmp_path, pl.when(pl.col("time") == 3).then(7).otherwise(pl.col("click")).alias("click"))
    with pytest.raises(UserError, match=r"tasks\.click: label 7 in row 4"):
        judge_log(bundle, spoiled)
