"""Numbers piece by piece: the encoding and its edges by hand, and what a run file may say of them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs

from umbel.data import bins
from umbel.data.bins import edges
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.nn.encode import Bins, Vectors
from umbel.nn.recommender import Sizes
from umbel.nn.views import Views
from umbel.recipes import stem
from umbel.run import resolve
from umbel.run.settings import parse
from umbel.schema import Field, FieldKind, Schema, Statistic, Task

NAN = float("nan")
AGE = Field("age", FieldKind.NUMBER, bins=3)
PAST = Field("past", FieldKind.STATISTIC, statistic=Statistic(("user",), ("click",)), bins=2)
TASKS = (Task("click"),)

# The encoding


def test_pieces_by_hand() -> None:
    """Edges 0, 1, 3, 4: inside a piece its share, all before it 1, all behind it 0; nothing grows beyond the ends."""
    found = Bins(AGE, [(0.0, 1.0, 3.0, 4.0)])(torch.tensor([-7.0, 0.0, 0.25, 1.0, 2.0, 3.5, 4.0, 9.0]))
    assert found.tolist() == [
        [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [1.0, 0.0, 0.0],
        [1.0, 0.5, 0.0], [1.0, 1.0, 0.5], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0],
    ]  # fmt: skip


def test_several_numbers_lie_one_after_the_other() -> None:
    """With edges of their own, and as many as they have."""
    made = Bins(PAST, [(0.0, 2.0), (-1.0, 0.0, 1.0)])
    assert made.width == 3
    assert made(torch.tensor([[1.0, -0.5], [5.0, 0.5]])).tolist() == [[0.5, 0.5, 0.0], [1.0, 1.0, 0.5]]


def test_before_a_log_is_read_edges_lie_evenly() -> None:
    made = Bins(Field("age", FieldKind.NUMBER, bins=4))
    assert made.width == 4
    assert made(torch.tensor([-1.5, 1.0])).tolist() == [[0.5, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]


def loop(x: float, own: list[float]) -> list[float]:
    """The definition, piece by piece."""
    found = []
    for low, high in itertools.pairwise(own):
        found.append(0.0 if x <= low else 1.0 if x >= high else (x - low) / (high - low))
    return found


@settings(deadline=None)
@given(
    own=st.lists(st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True).map(sorted), min_size=2, max_size=2),
    rows=st.lists(st.tuples(st.integers(-240, 240), st.integers(-240, 240)), min_size=1, max_size=8),
)
def test_the_encoding_is_the_loop(own: list[list[int]], rows: list[tuple[int, int]]) -> None:
    """Edges and numbers are quarters, so that shares are the same rounded."""
    quarters = [[edge / 4 for edge in one] for one in own]
    x = torch.tensor(rows, dtype=torch.float32).view(-1, 2) / 16
    expected = [[piece for number, one in zip(row, quarters, strict=True) for piece in loop(number, one)] for row in x.tolist()]
    torch.testing.assert_close(Bins(PAST, quarters)(x), torch.tensor(expected).view(len(rows), -1), rtol=1e-6, atol=0)


def test_a_map_of_pieces_bends_at_the_edges() -> None:
    """Slopes 10, 0 and -4 between 0, 1, 3 and 4, level outside; a missing number has a vector of its own."""
    made = Vectors("age", 1, shape=(1, 1), bins=Bins(AGE, [(0.0, 1.0, 3.0, 4.0)]))
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[10.0, 0.0, -4.0]]))
        made.missing.fill_(99.0)
    found = made({"age": torch.tensor([-1.0, 0.5, 1.0, 2.0, 3.5, 4.0, 5.0, NAN])})
    assert found.shape == (8, 1, 1, 1)
    assert found.flatten().tolist() == [0.0, 5.0, 10.0, 10.0, 8.0, 6.0, 6.0, 99.0]


def test_every_view_has_a_map_of_its_own() -> None:
    made = Vectors("age", 1, shape=(2, 2), bins=Bins(AGE))
    assert made.weight.shape == (4, 3)
    assert made.missing.shape == (2, 2)


def test_a_missing_number_teaches_its_own_vector_only() -> None:
    made = Vectors("past", 2, shape=(1, 1), bins=Bins(PAST))
    found = made({"past": torch.tensor([[NAN, 1.0]])})
    weight, missing = torch.autograd.grad(found.sum(), [made.weight, made.missing])
    assert not weight.any()
    assert missing.flatten().tolist() == [1.0]


def test_no_bins_is_the_plain_projection() -> None:
    """The same parameters under the same names, drawn from the same numbers."""
    torch.manual_seed(3)
    plain = Views(Schema((Field("age", FieldKind.NUMBER), Field("price", FieldKind.NUMBER)), TASKS), (2, 3))
    torch.manual_seed(3)
    none = Views(Schema((Field("age", FieldKind.NUMBER, bins=0), Field("price", FieldKind.NUMBER, bins=0)), TASKS), (2, 3))
    assert list(plain.state_dict()) == ["numbers.weight", "numbers.missing"]
    assert all(torch.equal(one, none.state_dict()[name]) for name, one in plain.state_dict().items())
    bent = Views(Schema((Field("age", FieldKind.NUMBER), Field("price", FieldKind.NUMBER, bins=2)), TASKS), (2, 3))
    assert list(bent.state_dict()) == ["numbers.weight", "numbers.missing", "vectors.0.weight", "vectors.0.missing"]


def test_a_model_takes_the_edges_it_is_given() -> None:
    schema = Schema((AGE, PAST), TASKS)
    given = {"age": ((0.0, 1.0),), "past": ((0.0, 1.0, 2.0), (5.0, 6.0))}
    model = stem(schema, Sizes({}, edges=given))
    shapes = {name: tuple(one.shape) for name, one in model.views.named_parameters() if "weight" in name}
    assert shapes == {"vectors.0.weight": (16, 1), "vectors.1.weight": (16, 3)}
    assert not any("low" in name for name in model.state_dict())  # edges are the encoder's, and no weight


# The edges


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ([0, 1, 2, 3, 4], 2, (0, 2, 4)),
        ([4, NAN, 2, 3, 1, NAN, 0], 4, (0, 1, 2, 3, 4)),
        ([0, 1], 1, (0, 1)),
        ([0, 0, 0, 0, 10], 4, (0, 10)),            # what many rows share is one edge
        ([0, 0, 0, 1, 2, 3, 4], 4, (0, 1, 2.5, 4)),
        ([7, 7, 7], 3, (7, 8)),                    # one value
        ([NAN, NAN], 3, (0, 1)),                   # none
        ([], 3, (0, 1)),
    ],
)  # fmt: skip
def test_edges_are_quantiles_each_once(values: list[float], count: int, expected: tuple[float, ...]) -> None:
    assert edges(np.array(values, np.float32), count) == expected


@settings(deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6, width=32) | st.just(NAN), max_size=60), count=st.integers(1, 12))
def test_edges_rise_and_hold_every_value(values: list[float], count: int) -> None:
    found = edges(np.array(values, np.float32), count)
    assert 2 <= len(found) <= count + 1
    assert all(low < high for low, high in itertools.pairwise(found))
    known = [value for value in values if not math.isnan(value)]
    assert not known or found[0] <= min(known) <= max(known) <= found[-1]


# At ingest


def binned(folder: Path, rows: logs.Rows = logs.ROWS) -> Encoder:
    fields = (Field("user", FieldKind.ID, min_count=1), Field("age", FieldKind.NUMBER, bins=2))
    return logs.table(folder, rows, Schema(fields, logs.SCHEMA.tasks)).encoder


def test_edges_are_those_of_the_training_rows(tmp_path: Path) -> None:
    """Ages 10, 20, 40, 30 of the six training rows, standardised by mean 25 and deviation sqrt 125."""
    found = binned(tmp_path).edges["age"]
    np.testing.assert_allclose(found, [(np.array([10, 25, 40]) - 25) / 125**0.5], rtol=1e-6)


def test_a_sample_of_many_rows_is_spread_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows 1, 3 and 5 of six (10, missing, missing): one value, and no others."""
    monkeypatch.setattr(bins, "SAMPLE", 3)
    low = (10 - 25) / 125**0.5
    np.testing.assert_allclose(binned(tmp_path).edges["age"], [(low, low + 1)], rtol=1e-6)


def test_edges_are_kept_with_the_encoder(tmp_path: Path) -> None:
    made = binned(tmp_path)
    folder = tmp_path / "again"
    made.save(folder)
    assert Encoder.load(folder).edges == made.edges
    (folder / "edges.json").unlink()
    with pytest.raises(UserError, match="damaged"):
        Encoder.load(folder)


def test_without_bins_no_edges_are_kept(tmp_path: Path) -> None:
    table = logs.table(tmp_path)
    assert not table.encoder.edges
    assert not (table.folder / "edges.json").exists()


# What a run file says


def run_file(kind: str, **field: Any) -> Schema:  # noqa: ANN401
    tree = {
        "data": {"log": "log.parquet", "time": "t"},
        "fields": {"user": {"kind": "id"}, "one": {"kind": kind, **field}},
        "tasks": {"click": {}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1},
        "model": {"recipe": "stem"},
    }
    return resolve.schema(parse(tree, where="here"))


def test_a_run_file_says_how_many() -> None:
    assert run_file("number", bins=16).field("one").bins == 16
    assert run_file("statistic", by=["user"], bins=8).field("one").bins == 8
    assert run_file("number").field("one").bins == 0


@pytest.mark.parametrize("kind", ["id", "category", "bag", "sequence", "vector"])
def test_other_kinds_take_none(kind: str) -> None:
    more = {"width": 2} if kind == "vector" else {}
    with pytest.raises(UserError, match=rf"fields\.one: bins of a {kind}; only a number or a statistic takes them"):
        run_file(kind, bins=4, **more)


def test_fewer_than_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"bins"):
        run_file("number", bins=-1)
    with pytest.raises(UserError, match=r"fields\.age: bins = -1; give how many"):
        Schema((Field("age", FieldKind.NUMBER, bins=-1),), TASKS)
