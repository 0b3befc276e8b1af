"""Laws of the data: every row once, nothing of the future, the same bytes again, and back from codes to values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import logs
from tests.logs import BAG, CATEGORY, ID, NUMBER, SEQUENCE

from umbel.data.ingest import ingest
from umbel.data.loader import Loader
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Join, Source
from umbel.data.split import ByTime, ByUser
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.schema import REGRESSION, Field, Schema, Task

ROWS = 997  # a prime: no batch size divides it
PARTS = ("train", "valid", "test")
FIELDS = (
    Field("user", ID),
    Field("item", ID),
    Field("kind", CATEGORY),
    Field("price", NUMBER),
    Field("history", SEQUENCE, like="item", length=4),
    Field("tags", BAG, length=3),
    Field("city", CATEGORY),
)
SCHEMA = Schema(FIELDS, (Task("click"), Task("buy", given="click"), Task("spent", REGRESSION)))
slow = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def columns(seed: int = 0) -> dict[str, pl.Series]:
    random = np.random.default_rng(seed)
    click = random.integers(0, 2, ROWS)
    lists = [random.integers(0, 60, random.integers(0, 7)).tolist() for _ in range(ROWS)]
    return {
        "user": pl.Series(random.integers(0, 80, ROWS)),
        "item": pl.Series(random.integers(0, 60, ROWS)),
        "kind": pl.Series(random.choice(["x", "y", "ü"], ROWS)),
        "price": pl.Series(np.where(random.random(ROWS) < 0.1, np.nan, random.lognormal(size=ROWS))),
        "history": pl.Series(lists, dtype=pl.List(pl.Int64)),
        "tags": pl.Series([" ".join(map(str, one[:4])) for one in lists]),
        "time": pl.Series(random.permutation(ROWS)),
        "click": pl.Series(click),
        "buy": pl.Series(click * random.integers(0, 2, ROWS)),
        "spent": pl.Series(np.where(click == 1, random.random(ROWS), np.nan)),
    }


def make(folder: Path, data: dict[str, pl.Series], *, out: str = "table") -> Table:
    folder.mkdir(exist_ok=True)
    pl.DataFrame(data).write_parquet(folder / "log.parquet")
    users = range(70)
    pl.DataFrame({"user": users, "city": [f"c{user % 5}" for user in users]}).write_parquet(folder / "users.parquet")
    source = Source(str(folder / "log.parquet"), user="user", time="time", joins=(Join(str(folder / "users.parquet"), "user"),))
    return ingest(source, SCHEMA, ByTime(700, 850), folder=folder / out)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return make(tmp_path_factory.mktemp("log"), columns())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("size", [1, 7, 128, 5000])
def test_each_row_once_an_epoch(table: Table, part: str, shuffle: bool, size: int) -> None:
    seen = torch.cat([batch.index for batch in Loader(table, part, size, shuffle=shuffle)(0)])
    assert sorted(seen.tolist()) == list(table.parts[part])


@slow
@given(size=st.integers(1, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 50), data=st.data())
def test_resume_gives_exactly_the_rest(table: Table, size: int, seed: int, epoch: int, data: st.DataObject) -> None:
    loader = Loader(table, "train", size, seed=seed)
    whole = list(loader(epoch))
    assert len(whole) == loader.steps
    start = data.draw(st.integers(0, loader.steps))
    rest = list(loader(epoch, start))
    assert [batch.index.tolist() for batch in rest] == [batch.index.tolist() for batch in whole[start:]]
    for one, other in zip(rest, whole[start:], strict=True):
        torch.testing.assert_close(one.fields["history"], other.fields["history"], rtol=0, atol=0)
        assert torch.equal(one.labels, other.labels)


def test_epochs_and_seeds_differ_and_repeat(table: Table) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([batch.index for batch in Loader(table, "train", 64, seed=seed)(epoch)]).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_a_shuffle_mixes_the_whole_part(table: Table) -> None:
    first = next(iter(Loader(table, "train", 100, seed=3)(0))).index
    assert first.min() < 100
    assert first.max() > 600


def test_training_is_not_later_than_the_test(table: Table) -> None:
    assert table.times("train").max() <= table.times("valid").min()
    assert table.times("valid").max() <= table.times("test").min()


@pytest.mark.parametrize("column", ["user", "item", "kind", "price", "history", "tags", "spent"])
def test_what_later_rows_hold_changes_nothing_that_is_fitted(table: Table, tmp_path: Path, column: str) -> None:
    data = columns()
    later = data["time"] >= 700
    other = columns(seed=1)[column]
    if column == "kind":
        other = pl.Series(["never seen"] * ROWS)
    frame = pl.DataFrame({"mine": data[column], "other": other, "later": later})
    data[column] = frame.select(pl.when("later").then("other").otherwise("mine")).to_series()
    changed = make(tmp_path, data)
    assert logs.contents(changed.folder / "vocabulary") == logs.contents(table.folder / "vocabulary")
    assert changed.encoder.scales == table.encoder.scales
    rows = np.arange(len(table.parts["train"]))
    before, after = table.batch(rows), changed.batch(rows)
    for name, tensor in before.fields.items():
        torch.testing.assert_close(tensor, after.fields[name], rtol=0, atol=0, equal_nan=True)


def test_what_training_rows_hold_does_change_it(table: Table, tmp_path: Path) -> None:
    data = columns()
    data["kind"] = pl.Series(["w"] * ROWS)
    assert make(tmp_path, data).encoder.vocabularies["kind"].frame["value"].to_list() == ["w"]


def test_the_same_log_gives_the_same_bytes(table: Table) -> None:
    again = make(table.folder.parent, columns(), out="again")
    assert logs.contents(again.folder) == logs.contents(table.folder)


@pytest.mark.parametrize("chunk", [16, 64, 1000])
def test_batches_of_any_size_give_the_same_codes(table: Table, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.data.ingest.CHUNK", chunk)
    again = make(table.folder.parent, columns(), out=f"chunk{chunk}")
    for name in ("int32.npy", "labels.npy", "group.npy", "time.npy"):
        assert (again.folder / name).read_bytes() == (table.folder / name).read_bytes()
    assert again.encoder.scales["price"].mean == pytest.approx(table.encoder.scales["price"].mean, rel=1e-12)
    assert again.encoder.scales["price"].sd == pytest.approx(table.encoder.scales["price"].sd, rel=1e-12)


@pytest.mark.parametrize("size", [1000, 10, 333])
def test_a_raw_log_is_encoded_as_at_ingest(table: Table, size: int) -> None:
    """Train equals serve: the same encoder, loaded from its files, gives the same bytes."""
    encoder = Encoder.load(table.folder)
    batches = [batch for _, batch in raw_rows(table.source, encoder, size)]
    times = pl.read_parquet(table.source.log)["time"].to_numpy()
    part = (times >= 700).astype(int) + (times >= 850)
    place = np.argsort(part, kind="stable")  # how ingest puts parts one after the other
    whole = table.batch(np.arange(ROWS))
    for name, tensor in whole.fields.items():
        raw = torch.cat([batch.fields[name] for batch in batches])[place]
        assert raw.dtype == tensor.dtype
        assert raw.numpy().tobytes() == tensor.numpy().tobytes()
    assert torch.equal(torch.cat([batch.labels for batch in batches])[place], whole.labels)
    assert torch.equal(torch.cat([batch.seen for batch in batches])[place], whole.seen)
    assert whole.group is not None
    assert torch.equal(torch.cat([batch.group for batch in batches if batch.group is not None])[place], whole.group)


@pytest.mark.parametrize("name", ["user", "item", "kind", "city"])
def test_decoding_gives_back_every_known_value(table: Table, name: str) -> None:
    vocabulary = table.encoder.vocabularies[name]
    codes = np.arange(vocabulary.size, dtype=np.int32)
    values = vocabulary.decode(codes)
    assert values[0] is None
    assert vocabulary.encode(values).tolist() == codes.tolist()


def test_vocabularies_are_in_order(table: Table) -> None:
    for vocabulary in table.encoder.vocabularies.values():
        keys = [(-count, str(value).encode()) for value, count in vocabulary.frame.select("value", "count").iter_rows()]
        assert keys == sorted(keys)
        assert (vocabulary.frame["count"] >= 2).all()


def test_counts_are_those_of_the_training_rows(table: Table) -> None:
    data = pl.DataFrame(columns()).filter(pl.col("time") < 700)
    counted = dict(data["user"].value_counts().iter_rows())
    known = {user: count for user, count in counted.items() if count >= 2}
    vocabulary = table.encoder.vocabularies["user"].frame
    assert dict(vocabulary.select("value", "count").iter_rows()) == known
    users = table.groups("test").tolist()
    assert table.seen_counts("test", "user").tolist() == [known.get(user, 0) for user in users]


def test_rows_of_one_user_stay_in_one_part(tmp_path: Path) -> None:
    data = columns()
    pl.DataFrame(data).write_parquet(tmp_path / "log.parquet")
    schema = Schema((Field("user", ID),), (Task("click"),))
    table = ingest(Source(str(tmp_path / "log.parquet"), user="user"), schema, ByUser(0.2, 0.2, seed=1), folder=tmp_path / "table")
    users = [set(table.groups(part).tolist()) for part in PARTS]
    assert not users[0] & users[1]
    assert not users[0] & users[2]
    assert not users[1] & users[2]
    assert sum(map(len, users)) == 80


def test_seen_labels_agree_with_the_raw_log(table: Table) -> None:
    for part in PARTS:
        labels, seen = table.labels(part)
        events, observed = table.events(part)
        assert np.array_equal(seen[:, 1], observed[:, 1] & (events[:, 0] == 1))
        assert np.array_equal(seen[:, [0, 2]], observed[:, [0, 2]])
        assert (labels[~seen] == 0).all()
        assert not np.isnan(labels).any()
