"""Ingest against a model of it in plain Python: dictionaries, loops and sums instead of tables and hashes."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.logs import BAG, ID, NUMBER, SEQUENCE, VECTOR

from umbel.data.frequency import Frequencies
from umbel.data.ingest import ingest
from umbel.data.loader import Loader
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.schema import Field, Schema, Task

Value = str | int | None
Lists = list[Value] | None
unhurried = settings(deadline=None, max_examples=8)

TEXTS = st.sampled_from(["a", "b", "ab", "é", "e\u0301", "Z", "", "0", "00", "a b", "日本", "\U0001f33f"])
NUMBERS = st.sampled_from([0, 1, -1, 2, 10, 100, -10, 2**40, -(2**62)])


@dataclass(frozen=True)
class Drawn:
    """A log with one text id, one integer id, a history of the first, a bag, a number and a vector."""

    item: list[str | None]
    user: list[int | None]
    history: list[list[str | None] | None]
    tags: list[list[int | None] | None]
    price: list[float | None]
    picture: list[list[float] | None]
    part: list[str]
    click: list[int]
    least: int
    length: int

    @property
    def schema(self) -> Schema:
        fields = (
            Field("price", NUMBER),
            Field("item", ID, min_count=self.least),
            Field("picture", VECTOR, width=2),
            Field("history", SEQUENCE, like="item", target="item", length=self.length),
            Field("tags", BAG, like="user", length=2),
            Field("user", ID, min_count=1),
        )
        return Schema(fields, (Task("click"),))

    @property
    def training(self) -> list[int]:
        return [row for row, part in enumerate(self.part) if part == "train"]

    @property
    def order(self) -> list[int]:
        """The rows of the log in the order of the table."""
        return [row for name in ("train", "valid", "test") for row, part in enumerate(self.part) if part == name]

    def write(self, folder: Path) -> Source:
        columns = {
            "item": pl.Series(self.item, dtype=pl.String),
            "user": pl.Series(self.user, dtype=pl.Int64),
            "history": pl.Series(self.history, dtype=pl.List(pl.String)),
            "tags": pl.Series(self.tags, dtype=pl.List(pl.Int32)),
            "price": pl.Series(self.price, dtype=pl.Float64),
            "picture": pl.Series(self.picture, dtype=pl.List(pl.Float64)),
            "part": pl.Series(self.part),
            "click": pl.Series(self.click),
        }
        pl.DataFrame(columns).write_parquet(folder / "log.parquet")
        return Source(str(folder / "log.parquet"), user="user")


@st.composite
def logs_drawn(draw: st.DrawFn) -> Drawn:
    size = draw(st.integers(0, 12))
    # Both labels in every part; the rest falls where it falls, some of it nowhere.
    more = st.sampled_from(["train", "train", "valid", "out"])
    part = ["train", "valid", "test"] * 2 + draw(st.lists(more, min_size=size, max_size=size))
    rows = len(part)

    def column(values: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    return Drawn(
        item=column(st.none() | TEXTS),  # type: ignore[arg-type]
        user=column(st.none() | NUMBERS),  # type: ignore[arg-type]
        history=column(st.none() | st.lists(st.none() | TEXTS, max_size=6)),  # type: ignore[arg-type]
        tags=column(st.none() | st.lists(st.none() | st.integers(-3, 3), max_size=4)),  # type: ignore[arg-type]
        price=column(st.none() | st.just(math.nan) | st.integers(-50, 50).map(lambda n: n / 4)),  # type: ignore[arg-type]
        picture=column(st.none() | st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=2)),  # type: ignore[arg-type]
        part=part,
        click=[0, 0, 0, 1, 1, 1, *draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))],
        least=draw(st.integers(1, 3)),
        length=draw(st.integers(1, 4)),
    )


def counted(single: list[Value], many: list[Lists], length: int) -> tuple[Counter[Value], Counter[Value]]:
    """How often each value stands alone, and in the last `length` of the lists."""
    alone: Counter[Value] = Counter(value for value in single if value is not None)
    listed: Counter[Value] = Counter(value for one in many for value in (one or [])[-length:] if value is not None)
    return alone, listed


def coded(total: Counter[Value], least: int) -> dict[Value, int]:
    known = [value for value, count in total.items() if count >= least]
    known.sort(key=lambda value: (-total[value], str(value).encode()))
    return {value: code for code, value in enumerate(known, start=1)}


def padded(values: Lists, codes: dict[Value, int], length: int) -> list[int]:
    kept = [codes.get(value, 0) for value in (values or [])[-length:]]
    return kept + [-1] * (length - len(kept))


@pytest.fixture(params=[1 << 17, 3], ids=["one batch", "many batches"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many rows ingest takes at a time."""
    monkeypatch.setattr("umbel.data.ingest.CHUNK", request.param)


def made(drawn: Drawn, folder: Path) -> Table:
    return ingest(drawn.write(folder), drawn.schema, ByColumn("part", "valid", "test"), folder=folder / "table")


def every(table: Table, name: str) -> list[object]:
    return [one for part in ("train", "valid", "test") for one in table.column(name, part).tolist()]


@pytest.mark.usefixtures("chunk")
class TestAgainstTheModel:
    """One drawn log, one table, and what plain Python says it holds."""

    @unhurried
    @given(drawn=logs_drawn())
    def test_codes_counts_and_order(self, drawn: Drawn) -> None:
        with tempfile.TemporaryDirectory() as name:
            table = made(drawn, Path(name))
            for own, other, least, length in (("item", "history", drawn.least, drawn.length), ("user", "tags", 1, 2)):
                single: list[Value] = getattr(drawn, own)
                many: list[Lists] = getattr(drawn, other)
                alone, listed = counted([single[row] for row in drawn.training], [many[row] for row in drawn.training], length)
                codes = coded(alone + listed, least)
                vocabulary = table.encoder.vocabularies[own]
                assert vocabulary.frame["value"].to_list() == list(codes)
                assert vocabulary.frame["count"].to_list() == [alone[value] + listed[value] for value in codes]
                assert vocabulary.counts(own).tolist() == [0, *(alone[value] for value in codes)]
                assert vocabulary.counts(other).tolist() == [0, *(listed[value] for value in codes)]
                assert every(table, own) == [codes.get(single[row], 0) for row in drawn.order]
                assert every(table, other) == [padded(many[row], codes, length) for row in drawn.order]

    @unhurried
    @given(drawn=logs_drawn())
    def test_numbers_and_vectors(self, drawn: Drawn) -> None:
        with tempfile.TemporaryDirectory() as name:
            table = made(drawn, Path(name))
            prices = np.array([np.nan if one is None else one for one in drawn.price])
            known = prices[drawn.training][~np.isnan(prices[drawn.training])]
            mean = float(known.mean()) if len(known) else 0.0
            sd = float(known.std()) if len(known) and known.min() < known.max() else 1.0
            scale = table.encoder.scales["price"]
            assert (scale.mean, scale.sd) == pytest.approx((mean, sd), abs=1e-12)
            expected = ((prices - mean) / sd)[drawn.order]
            np.testing.assert_allclose(np.array(every(table, "price"), np.float64), expected, rtol=1e-5, atol=1e-6)
            pictures = np.array([[np.nan, np.nan] if one is None else one for one in drawn.picture])[drawn.order]
            np.testing.assert_array_equal(np.array(every(table, "picture")), pictures)

    @unhurried
    @given(drawn=logs_drawn(), size=st.integers(1, 9), seed=st.integers(0, 2**31), start=st.integers(0, 20))
    def test_batches_are_rows_encoded_one_by_one(self, drawn: Drawn, size: int, seed: int, start: int) -> None:
        with tempfile.TemporaryDirectory() as name:
            table = made(drawn, Path(name))
            raw = pl.read_parquet(table.source.log)
            loader = Loader(table, "train", size, seed=seed)
            found: list[int] = []
            for batch in loader(1, start):
                for place, row in enumerate(batch.index.tolist()):
                    found.append(row)
                    alone = table.encoder.encode(raw[drawn.order[row]])
                    codes = np.concatenate([batch.fields[field][place].reshape(-1) for field in ("item", "history", "tags", "user")])
                    assert codes.tolist() == alone.codes[0].tolist()
                    numbers = np.concatenate([batch.fields[field][place].reshape(-1) for field in ("price", "picture")])
                    assert numbers.tobytes() == alone.numbers[0].tobytes()
            assert len(set(found)) == len(found) == max(0, len(drawn.training) - start * size)


@unhurried
@given(drawn=logs_drawn(), size=st.integers(1, 20))
def test_a_raw_log_in_batches_of_any_size_gives_the_bytes_of_the_table(drawn: Drawn, size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        table = made(drawn, Path(name))
        whole = table.batch(np.arange(len(drawn.order)))
        batches = [batch for _, batch in raw_rows(table.source, Encoder.load(table.folder), size)]
        assert [len(batch.index) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        for field, column in whole.fields.items():
            raw = np.concatenate([batch.fields[field].numpy() for batch in batches])[drawn.order]
            assert raw.tobytes() == column.contiguous().numpy().tobytes()
        groups = np.concatenate([batch.group.numpy() for batch in batches if batch.group is not None])
        assert groups[drawn.order].tolist() == [one for part in ("train", "valid", "test") for one in table.groups(part).tolist()]


def cut(values: list[Value], ends: list[int]) -> Iterator[list[Value]]:
    borders = sorted(end % (len(values) + 1) for end in ends)
    for first, last in zip([0, *borders], [*borders, len(values)], strict=True):
        yield values[first:last]


@unhurried
@given(values=st.lists(st.none() | TEXTS | st.text(max_size=3), max_size=40), ends=st.lists(st.integers(0, 100), max_size=5))
def test_text_counted_in_any_pieces_is_counted_alike(values: list[Value], ends: list[int]) -> None:
    frequencies = Frequencies()
    for piece in cut(values, ends):
        frequencies.add(pl.Series(piece, dtype=pl.String))
    assert dict(frequencies.counted().iter_rows()) == Counter(value for value in values if value is not None)


@unhurried
@given(
    values=st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32) | st.sampled_from([0.0, -0.0]), max_size=40),
    ends=st.lists(st.integers(0, 100), max_size=5),
)
def test_floats_counted_in_any_pieces_are_counted_alike(values: list[float], ends: list[int]) -> None:
    frequencies = Frequencies()
    for piece in cut(values, ends):  # type: ignore[arg-type]
        frequencies.add(pl.Series(piece, dtype=pl.Float64))
    assert dict(frequencies.counted().iter_rows()) == Counter(value for value in values if not math.isnan(value))
