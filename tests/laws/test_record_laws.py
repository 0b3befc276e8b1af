"""What is written down comes back: reports whatever their tasks, slices and metrics are called, schemas of every kind, arrays in pieces."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from umbel.data.storage import LONGEST, Rows, file_name, schema_from_json, schema_to_json
from umbel.errors import UserError
from umbel.evaluate.figures import Figures, Point
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import TaskReport
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst
from umbel.kinds import BINARY, TASK_KINDS, MultiClass, Ordinal
from umbel.objectives import OBJECTIVES, check_objective
from umbel.run.record import figures_from_json, figures_to_json, measured_from_json, measured_to_json, task_from_json, task_to_json
from umbel.run.report import Moment, Report, read_report
from umbel.schema import Field, FieldKind, Schema, Statistic, Task

quick = settings(deadline=None, max_examples=40)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
# Names that the form itself uses are the ones that could be mistaken.
OWN = ["value", "low", "high", "reason", "rows", "users", "curve", "slices", "worst", "marginal", "auc", "é", ""]
NAME = st.sampled_from(OWN) | st.text(max_size=4)
METRIC = st.sampled_from(["auc", "gauc", "rmse", "ndcg@3", "coverage_gap"])
REASON = st.text(min_size=1, max_size=6)
MEASURED = st.one_of(
    st.builds(Interval, NUMBER, NUMBER, NUMBER), st.builds(Interval, NUMBER, st.none(), st.none(), REASON), st.builds(Undefined, REASON),
)  # fmt: skip
COUNT = st.integers(0, 10**12)
POINTS = st.lists(st.builds(Point, NUMBER, NUMBER, COUNT), max_size=3).map(tuple)
# Drawn as plain tuples and made into objects inside the tests: the types of what holds many are checked by drawing one of them.
FIGURES = st.tuples(COUNT, COUNT, st.none() | COUNT, st.dictionaries(METRIC, MEASURED, max_size=4), POINTS)
WORST = st.builds(Worst, NAME, NAME, METRIC, st.builds(Interval, NUMBER, NUMBER, NUMBER)) | st.builds(Undefined, REASON)
SLICES = st.dictionaries(NAME, st.dictionaries(NAME, FIGURES, max_size=2), max_size=2)
TASK = st.tuples(NAME, st.none() | NAME, FIGURES, st.none() | FIGURES, SLICES, WORST)
LOSSES = st.lists(st.none() | NUMBER, max_size=3).map(tuple)
SCORES = st.dictionaries(NAME, st.none() | NUMBER, max_size=2)
MOMENT = st.tuples(st.integers(1, 99), LOSSES, st.none() | NUMBER, COUNT, st.floats(0, 1e6), LOSSES, SCORES)
Drawn = tuple[Any, ...]


def figures(drawn: Drawn) -> Figures:
    return Figures(*drawn)


def task(drawn: Drawn) -> TaskReport:
    name, given_, own, marginal, slices, worst = drawn
    parts = {key: {label: figures(one) for label, one in labels.items()} for key, labels in slices.items()}
    return TaskReport(name, "binary", given_, figures(own), None if marginal is None else figures(marginal), parts, worst)


def through_json(data: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.dumps(data, allow_nan=False))
    return found


PLAIN = (3, 2, 1, {"auc": Interval(0.5, 0.4, 0.6)}, ())


@quick
@given(MEASURED)
def test_a_measure_comes_back(one: Interval | Undefined) -> None:
    saved = through_json(measured_to_json(one))
    assert measured_from_json(saved) == one
    assert ("reason" in saved) == (isinstance(one, Undefined) or bool(one.reason))


@quick
@given(FIGURES)
def test_figures_come_back(drawn: Drawn) -> None:
    one = figures(drawn)
    assert figures_from_json(through_json(figures_to_json(one))) == one


@quick
@given(TASK)
@example(("t", None, PLAIN, None, {"value": {"a": PLAIN}}, Undefined("none")))
@example(("t", None, PLAIN, PLAIN, {"value": {}, "low": {}, "high": {}}, Undefined("none")))
def test_a_task_comes_back_whatever_its_slices_are_called(drawn: Drawn) -> None:
    """A slice by a column `value` was once read as a metric that is called `slices`."""
    one = task(drawn)
    assert task_from_json(one.name, through_json(task_to_json(one))) == one


def report(tasks: tuple[TaskReport, ...] = (), history: tuple[Moment, ...] = ()) -> Report:
    return Report("stem", 1, {"train": 5}, tasks, 10, 1.5, 2.5, 7, validation=tasks, history=history, versions={"torch": "2"}, commit="abc")


@settings(deadline=None, max_examples=15)
@given(st.lists(TASK, max_size=2, unique_by=lambda one: one[0]), st.lists(MOMENT, max_size=3), st.none() | st.integers())
def test_a_report_comes_back(tasks: list[Drawn], history: list[Drawn], until: int | None) -> None:
    whole = replace(report(tuple(map(task, tasks)), tuple(Moment(*one) for one in history)), until=until)
    assert Report.from_json(through_json(whole.to_json())) == whole


def test_what_stands_beside_comes_back_too() -> None:
    whole = replace(report(), episodes={"curve": [1, 2]}, settings={"fit": {"epochs": 3}})
    assert Report.from_json(through_json(whole.to_json())) == whole
    assert "episodes" not in report().to_json()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_none(number: float) -> None:
    line: dict[str, object] = {"epoch": 1, "losses": [number, 0.5], "score": number, "rows": 1, "seconds": 1.0, "weights": [number]}
    found = Moment.of(line)
    assert (found.losses, found.score, found.weights) == ((None, 0.5), None, (None,))
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("gone", ["recipe", "tasks", "validation", "history", "rows", "seconds", "settings", "versions", "commit"])
def test_a_report_with_a_part_missing_is_refused_by_its_name(gone: str, tmp_path: Path) -> None:
    saved = {key: value for key, value in report().to_json().items() if key != gone}
    (tmp_path / "report.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"report\.json: not one of ours .*make it again with umbel train"):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize(
    ("text", "says"), [("", "not readable"), ("[1, 2]", "not one of ours"), ('{"tasks": 3}', "not one of ours"), ("{", "not readable")]
)
def test_a_file_that_is_no_report_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        read_report(tmp_path / "report.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such report"):
        read_report(tmp_path / "none.json")


# schemas

TEXT = st.text(min_size=1, max_size=5)
NEEDED: Mapping[str, Mapping[str, object]] = {"multiclass": {"classes": 4}, "ordinal": {"grades": 3}}


@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize("loss", OBJECTIVES)
def test_every_kind_with_every_loss_that_it_takes_comes_back(kind: str, loss: str) -> None:
    make = TASK_KINDS[kind]
    own = MultiClass(4) if make is MultiClass else Ordinal(3) if make is Ordinal else make()
    objective = OBJECTIVES[loss]()
    try:
        check_objective("x", objective, own)
    except UserError:
        return
    schema = Schema((Field("user", FieldKind.ID),), (Task("a"), Task("t", own, given="a", weight=0.5, loss=objective, auxiliary=True)))
    assert schema_from_json(through_json(schema_to_json(schema))) == schema


@quick
@given(name=TEXT, column=st.none() | TEXT, length=st.integers(1, 99), least=st.integers(1, 99), kind=st.sampled_from(list(FieldKind)))
def test_every_kind_of_field_comes_back(name: str, column: str | None, length: int, *, least: int, kind: FieldKind) -> None:
    statistic = Statistic((name + "x",), ("click",), prior=3.5, window=2.0, folds=7, seed=3) if kind is FieldKind.STATISTIC else None
    own = Field(name, kind, column=column, length=length, min_count=least, width=3 if kind is FieldKind.VECTOR else 0, statistic=statistic)
    like = Field(name + "y", FieldKind.SEQUENCE, like=name, target=name) if own.coded else Field(name + "y", FieldKind.ID, sql="a + b")
    schema = Schema((own, like), (Task("click", negatives=0.25), Task("buy", BINARY, given="click", label="b")))
    assert schema_from_json(through_json(schema_to_json(schema))) == schema


def test_a_kind_of_another_version_is_named() -> None:
    saved = schema_to_json(Schema((Field("u", FieldKind.ID),), (Task("click"),)))
    tasks = [{**task, "kind": "binaryy"} for task in saved["tasks"]]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"tasks\.click\.kind: no 'binaryy'; did you mean 'binary'"):
        schema_from_json({**saved, "tasks": tasks})


# names of files, and arrays in pieces


@quick
@given(st.lists(st.text(max_size=8) | st.text("ab/%é", min_size=90, max_size=120), min_size=2, max_size=6, unique=True))
def test_names_are_files_of_their_own(names: list[str]) -> None:
    """Whatever a column is called: one folder, no path, not too long."""
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(files)
    for file in files:
        assert "/" not in file
        assert len(file.encode()) <= LONGEST
        assert file.isascii()


@quick
@given(st.text(max_size=20))
def test_a_short_name_can_be_read_off_its_file(name: str) -> None:
    from urllib.parse import unquote

    assert unquote(file_name(name)) == name or len(file_name(name)) == LONGEST


@quick
@given(
    rows=st.integers(0, 12), width=st.integers(0, 3), size=st.integers(1, 5), dtype=st.sampled_from(["int32", "float32", "int64", "int8"]),
    data=st.data(),
)  # fmt: skip
def test_an_array_written_in_any_pieces_is_the_array(rows: int, width: int, size: int, *, dtype: str, data: st.DataObject) -> None:
    shape = (rows,) if width == 0 else (rows, width)
    whole = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    pieces = data.draw(st.permutations(range(0, rows, size)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        file = Rows(path, whole.dtype, whole.shape)
        for start in pieces:
            file.put(start, np.asfortranarray(whole[start : start + size]))
        file.close()
        found = np.load(path)
        assert found.dtype == whole.dtype
        assert np.array_equal(found, whole)
        assert np.array_equal(np.load(path, mmap_mode="r") if rows and width else found, whole)


def test_rows_that_were_never_written_are_zero(tmp_path: Path) -> None:
    file = Rows(tmp_path / "x.npy", np.dtype(np.float32), (4, 2))
    file.put(2, np.ones((1, 2), np.float32))
    file.close()
    assert np.load(tmp_path / "x.npy").tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]
