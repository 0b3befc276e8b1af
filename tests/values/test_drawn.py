"""Reading what a service drew, by hand: every decision in its place, every reason to leave one out counted, and no more guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from tests.untrained import POLICY, bundle

from umbel.bundle import Bundle
from umbel.errors import UserError
from umbel.fuse.choices import CHOICES
from umbel.fuse.drawn import Drawn, read_drawn
from umbel.fuse.log import columns_of
from umbel.fuse.ranked import Columns

NAME = "abcdef012345"
OUTPUTS = ["click", "buy", "spent", "buy_marginal"]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Columns]:
    loaded = Bundle.load(bundle(tmp_path_factory.mktemp("drawn")))
    return loaded, columns_of(loaded.schema, POLICY)


def choice(request: str, **changed: object) -> Row:
    """Three candidates of scores log 1, 2 and 3, of which the third and then the first were drawn at temperature 1."""
    own: Row = {
        "request_id": request, "bundle": NAME, "temperature": 1.0, "outputs": OUTPUTS,
        "predictions": [0.1, 0.2, 3.0, 0.02, 0.4, 0.5, 6.0, 0.2, 0.7, 0.8, 9.0, 0.56], "fused": np.log([1.0, 2.0, 3.0]).tolist(),
        "shown": [2, 0], "propensity": [3 / 6, 1 / 3],
    }  # fmt: skip
    return own | changed


def shown(request: str, user: int = 1, **changed: object) -> list[Row]:
    """Two rows of a log: the first item was clicked and bought for 5, the second was not."""
    first = {"request_id": request, "position": 0, "user": user, "item": "a", "time": 1, "click": 1.0, "buy": 1.0, "spent": 5.0}
    second = first | {"position": 1, "item": "b", "click": 0.0, "buy": 0.0, "spent": 0.0}
    return [first | changed, second]


def read(made: tuple[Bundle, Columns], tmp_path: Path, rows: list[Row], choices: list[Row], checksum: str = f"{NAME}6789") -> Drawn:
    log = tmp_path / "log.parquet"
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(log)
    frame = pl.DataFrame(choices, schema=CHOICES)
    return read_drawn(made[0], replace(made[0].source, log=str(log)), made[1], choices=frame, checksum=checksum)


def test_two_decisions_by_hand(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    predictions = [0.3, 0.1, 1.0, 0.03, 0.6, 0.9, 2.0, 0.54]
    other = choice("r0", predictions=predictions, fused=[0.0, 0.0], shown=[1], propensity=[0.5], temperature=0.5)
    rows = [*shown("r1", user=7), shown("r0", user=2)[0]]
    found = read(made, tmp_path, rows, [choice("r1"), other, choice("never shown")])
    assert found.columns.predictions == ("click", "buy_marginal", "spent")
    assert found.columns.tasks == ("click", "buy", "spent")
    assert found.user.tolist() == [2, 7]  # in the order of requests
    assert found.slates.start.tolist() == [0, 2]
    assert found.slates.shown.tolist() == [[1, -1], [4, 2]]
    assert found.slates.candidates == 5
    assert found.temperature.tolist() == [0.5, 1.0]
    assert_allclose(found.logging, [[0.5, 1.0], [0.5, 1 / 3]])
    assert_allclose(found.predictions, [[0.3, 0.03, 1], [0.6, 0.54, 2], [0.1, 0.02, 3], [0.4, 0.2, 6], [0.7, 0.56, 9]], rtol=1e-6)
    assert found.labels.tolist() == [[[1, 1, 5], [0, 0, 0]], [[1, 1, 5], [0, 0, 0]]]
    assert found.excluded == {}


def test_rows_may_stand_in_any_order(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    rows = [*shown("r1", user=7), *shown("r2", user=3)]
    one = read(made, tmp_path, rows, [choice("r1"), choice("r2")])
    two = read(made, tmp_path, rows[::-1], [choice("r2"), choice("r1")])
    assert (one.labels == two.labels).all()
    assert (one.slates.shown == two.slates.shown).all()
    assert one.user.tolist() == two.user.tolist() == [7, 3]


REASONS: list[tuple[str, Row, Row]] = [
    ("another bundle", {"bundle": "0123456789ab"}, {}),
    ("no propensity", {"propensity": [0.5, None]}, {}),
    ("nothing was drawn", {"temperature": 0.0}, {}),
    ("nothing was drawn", {"temperature": None}, {}),
    ("not what was shown", {"shown": [2], "propensity": [0.5]}, {}),
    ("a label is not settled", {}, {"buy": None}),
    ("chances that the candidates do not explain", {"propensity": [0.5, 0.4]}, {}),
    ("chances that the candidates do not explain", {"fused": [0.0, 0.5, 1.0]}, {}),
    ("chances that the candidates do not explain", {"temperature": 2.0}, {}),
]


@pytest.mark.parametrize(("reason", "own", "label"), REASONS, ids=[f"{at} {one[0]}" for at, one in enumerate(REASONS)])
def test_each_reason_is_counted(made: tuple[Bundle, Columns], tmp_path: Path, reason: str, own: Row, label: Row) -> None:
    """One of three decisions is left out; the two others are as if it had never been."""
    rows = [*shown("r1"), *shown("r2", user=5, **label), *shown("r3", user=3)]
    found = read(made, tmp_path, rows, [choice("r1"), choice("r2", **own), choice("r3")])
    assert found.excluded == {reason: 1}
    assert found.user.tolist() == [1, 3]
    alone = read(made, tmp_path, [*rows[:2], *rows[4:]], [choice("r1"), choice("r3")])
    assert (found.slates.shown == alone.slates.shown).all()
    assert_allclose(found.predictions, alone.predictions)
    assert (found.labels == alone.labels).all()


def test_a_decision_without_candidates_is_counted(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    found = read(made, tmp_path, [*shown("r1"), *shown("r2"), *shown("r3")], [choice("r1"), choice("r3")])
    assert found.excluded == {"no candidates": 1}


def test_a_decision_has_one_reason(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    """What is wrong twice is counted once, under the first."""
    rows = [*shown("r1"), *shown("r2", click=None), *shown("r3")]
    found = read(made, tmp_path, rows, [choice("r1"), choice("r2", bundle="0123456789ab", temperature=0.0), choice("r3")])
    assert found.excluded == {"another bundle": 1}


def test_more_than_half_must_be_left(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    rows = [*shown("r1"), *shown("r2"), *shown("r3"), *shown("r4")]
    half = [choice("r1"), choice("r2"), choice("r3", bundle="0123456789ab"), choice("r4", temperature=0.0)]
    assert read(made, tmp_path, rows, half).excluded == {"another bundle": 1, "nothing was drawn": 1}
    with pytest.raises(UserError) as refused:
        read(made, tmp_path, rows, [*half[:1], choice("r2", propensity=[None, None]), *half[2:]])
    counts = "another bundle: 1, no propensity: 1, nothing was drawn: 1"
    mend = "give a log of this bundle, drawn at a temperature above 0"
    assert str(refused.value) == f"{tmp_path}/log.parquet: 3 of 4 decisions cannot be replayed ({counts}); {mend}"
    why = r"3 of 4 decisions cannot be replayed \(chances that the candidates do not explain: 3\)"
    with pytest.raises(UserError, match=f"{why}; {mend} and without a penalty, which choices do not hold$"):
        read(made, tmp_path, rows, [choice("r1"), *(choice(f"r{n}", propensity=[0.9, 0.9]) for n in (2, 3, 4))])


def test_labels_that_no_task_of_the_fusion_reads_may_be_unsettled(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    loaded, _ = made
    columns = columns_of(loaded.schema, replace(POLICY, terms=POLICY.terms[::2]))
    found = read((loaded, columns), tmp_path, shown("r1", buy=None), [choice("r1")])
    assert found.excluded == {}
    assert found.labels.tolist() == [[[1, 5], [0, 0]]]


def test_users_may_be_text(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    rows = [row | {"user": f"u{row['user']}"} for row in [*shown("r1", user=4), *shown("r2", user=5), *shown("r3", user=4)]]
    found = read(made, tmp_path, rows, [choice("r1"), choice("r2"), choice("r3")])
    assert found.user[0] == found.user[2] != found.user[1]


@pytest.mark.parametrize("column", ["request_id", "position", "click", "spent"])
def test_a_column_that_is_not_there_is_named(made: tuple[Bundle, Columns], tmp_path: Path, column: str) -> None:
    rows = [{name: value for name, value in row.items() if name != column} for row in shown("r1")]
    with pytest.raises(UserError, match=f"log.parquet: no column '{column}'"):
        read(made, tmp_path, rows, [choice("r1")])


def test_a_label_outside_its_range_is_named(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tasks.click: label 3 in row 1 of the log"):
        read(made, tmp_path, shown("r1", click=3.0), [choice("r1")])


def test_a_log_without_rows_is_refused(made: tuple[Bundle, Columns], tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    pl.DataFrame(shown("r1")).head(0).write_parquet(log)
    with pytest.raises(UserError, match=r"log.parquet: no rows; give a log that has some"):
        read_drawn(made[0], replace(made[0].source, log=str(log)), made[1], choices=CHOICES.to_frame(), checksum=NAME)
