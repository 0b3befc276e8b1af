"""Batches of a part: sizes, order, views, and what they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import logs
from tests.logs import ID, NUMBER, SEQUENCE, VECTOR
from torch import Tensor

from umbel.data import table as table_module
from umbel.data.assemble import Assembler
from umbel.data.batch import Batch, sent
from umbel.data.loader import Loader
from umbel.data.storage import Rows, file_name, fresh_folder
from umbel.data.table import Table
from umbel.schema import Field, Schema, Task

META = torch.device("meta")  # it has shapes and no numbers, and any machine has it


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return logs.table(tmp_path)


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 6), (4, [4, 2]), (6, [6]), (100, [6])])
def test_the_last_batch_may_be_short(table: Table, size: int, sizes: list[int]) -> None:
    loader = Loader(table, "train", size)
    assert loader.steps == len(sizes)
    assert [len(batch.index) for batch in loader(0)] == sizes


def test_without_shuffling_rows_come_in_order(table: Table) -> None:
    assert [batch.index.tolist() for batch in Loader(table, "test", 1, shuffle=False)(3)] == [[8], [9]]


def test_start_at_the_end_gives_nothing(table: Table) -> None:
    loader = Loader(table, "train", 4)
    assert list(loader(0, loader.steps)) == []


def test_loaders_are_values(table: Table) -> None:
    assert Loader(table, "train", 4) == Loader(table, "train", 4)
    assert Loader(table, "train", 4) != Loader(table, "train", 4, seed=1)


def test_an_epoch_of_a_seed_is_fixed(tmp_path: Path) -> None:
    """The order is a promise: a resumed run must meet the same batches."""
    rows = {name: [*column] * 3 for name, column in logs.ROWS.items()}
    part = sorted(range(30), key=lambda row: row % 10)
    rows = {name: [column[row] for row in part] for name, column in rows.items()}
    loader = Loader(logs.table(tmp_path, rows), "train", 18, seed=5)
    assert [next(iter(loader(epoch))).index.tolist() for epoch in (0, 1)] == [
        [5, 11, 17, 12, 14, 8, 7, 9, 10, 15, 16, 2, 4, 1, 6, 13, 0, 3],
        [10, 7, 9, 13, 6, 0, 4, 14, 17, 15, 5, 2, 8, 3, 16, 1, 11, 12],
    ]


def test_fields_are_views_of_one_pack(table: Table) -> None:
    batch = table.batch(np.arange(6))
    user, watched = batch.fields["user"], batch.fields["watched"]
    assert user.untyped_storage().data_ptr() == watched.untyped_storage().data_ptr()
    assert user.stride() == (5,)  # user, item and three watched: one row of the pack


def test_batches_own_their_memory(table: Table) -> None:
    """What a batch's reader does to it must not reach the table."""
    first = table.batch(np.arange(3))
    first.fields["user"].fill_(7)
    first.labels.fill_(7)
    assert table.batch(np.arange(3)).fields["user"].tolist() == [1, 1, 2]
    assert table.labels("train")[0].max() <= 3


def test_what_a_table_hands_out_is_a_copy(table: Table) -> None:
    table.groups("train")[:] = 0
    table.times("train")[:] = 9
    table.column("user", "train")[:] = 9
    assert table.groups("train").tolist() == [1, 1, 2, 2, 3, 1]
    assert table.times("train").tolist() == list(range(6))
    assert table.column("user", "train").tolist() == [1, 1, 2, 2, 3, 1]


def test_types_of_columns(table: Table) -> None:
    assert table.column("user", "train").dtype == np.int32
    assert table.column("watched", "train").shape == (6, 3)
    assert table.column("age", "train").dtype == np.float32
    assert table.groups("train").dtype == np.int64
    assert table.seen_counts("train", "user").dtype == np.int64
    assert table.labels("train")[0].dtype == np.float32


def devices(batch: Batch) -> set[str]:
    """Where the tensors lie that are computed with."""
    group = () if batch.group is None else (batch.group,)
    weight = () if batch.weight is None else (batch.weight,)
    return {one.device.type for one in (*batch.fields.values(), batch.labels, batch.seen, *weight, *group)}


def forms(batch: Batch) -> list[tuple[torch.dtype, torch.Size]]:
    assert batch.group is not None
    return [(one.dtype, one.shape) for one in (*batch.fields.values(), batch.labels, batch.seen, batch.group)]


@pytest.mark.parametrize("most", [0, 10**6], ids=["sent", "held there"])
def test_batches_on_another_device_are_the_same_but_for_row_numbers(table: Table, most: int) -> None:
    """Groups, which a loss reads, are there, too."""
    rows = np.array([5, 0, 3])
    here, there = table.batch(rows), table.on(META, most=most).batch(rows)
    assert devices(there) == {"meta"}
    assert list(there.fields) == list(here.fields)
    assert forms(there) == forms(here)
    assert there.index.tolist() == [5, 0, 3]


def test_a_batch_that_is_sent_leaves_its_row_numbers_alone(table: Table) -> None:
    plain = table.batch(np.array([5, 0, 3]))
    here = replace(plain, weight=torch.ones_like(plain.labels))
    there = here.to(META)
    assert devices(there) == {"meta"}
    assert forms(there) == forms(here)
    assert there.weight is not None
    assert there.weight.shape == here.labels.shape
    assert there.index.tolist() == [5, 0, 3]
    assert replace(plain, group=None).to(META).group is None


@pytest.mark.parametrize(("spare", "held"), [(-1, False), (0, True)])
def test_columns_lie_there_where_they_may(table: Table, spare: int, held: bool) -> None:
    """All of them, requests too, or none; and the table that was asked stays here."""
    most = sum(one.nbytes for one in table._tensors) + spare
    there = table.on(META, most=most)
    assert {one.device.type for one in there._tensors} == {"meta" if held else "cpu"}
    assert {one.device.type for one in table._tensors} == {"cpu"}
    assert table.batch(np.array([1])).fields["user"].tolist() == [1]


def test_what_is_read_of_a_table_on_another_device_is_read_here(table: Table) -> None:
    """Its lists make the order of an epoch."""
    there = table.on(META, most=10**6)
    assert there.lists("train").tolist() == table.lists("train").tolist()
    whole = [batch.index.tolist() for batch in Loader(table, "train", 4, together=True)(0)]
    assert [batch.index.tolist() for batch in Loader(there, "train", 4, together=True)(0)] == whole


@pytest.mark.parametrize("kind", ["cuda", "cpu", "meta"])
def test_only_what_goes_to_a_gpu_goes_from_pinned_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it lies there, so that it is sent without a copy of its own; of a GPU that is not here."""
    told: list[tuple[str, object]] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        told.append(("pinned", tensor.is_contiguous()))
        return tensor

    def to(tensor: Tensor, device: torch.device, *, non_blocking: bool) -> Tensor:
        told.append((device.type, non_blocking))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(Tensor, "to", to)
    column = torch.arange(6).view(3, 2)[:, 1]
    assert torch.equal(sent(column, torch.device(kind)), column)
    assert told == [*([("pinned", True)] if kind == "cuda" else []), (kind, True)]


def test_row_numbers_are_sent_to_where_the_columns_lie(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain copy would wait for the step before."""
    there, places = table.on(META, most=10**6), []

    def noted(tensor: Tensor, device: torch.device) -> Tensor:
        places.append(device.type)
        return sent(tensor, device)

    monkeypatch.setattr(table_module, "sent", noted)
    there.batch(np.array([5, 0, 3]))
    assert set(places) == {"meta"}
    assert len(places) == 2 * 4


def test_a_sealed_part_stays_sealed_on_another_device(table: Table) -> None:
    with pytest.raises(PermissionError):
        table.seal("test").on(META, most=10**6).batch(np.array([8]))


def test_an_unknown_part_or_field(table: Table) -> None:
    with pytest.raises(KeyError):
        table.labels("dev")
    with pytest.raises(Exception, match="no field 'usr'; did you mean 'user'"):
        table.column("usr", "train")


def test_a_batch_of_no_rows(table: Table) -> None:
    batch = table.batch(np.zeros(0, np.int64))
    assert batch.labels.shape == (0, 3)
    assert batch.fields["watched"].shape == (0, 3)


def test_fields_keep_the_order_of_the_schema_whatever_their_packs() -> None:
    fields = (Field("x", NUMBER), Field("a", ID), Field("v", VECTOR, width=2), Field("s", SEQUENCE, length=2), Field("b", ID))
    assembler = Assembler(Schema(fields, (Task("click"),)))
    codes, numbers = torch.arange(8, dtype=torch.int32).reshape(2, 4), torch.arange(6.0).reshape(2, 3)
    rows = torch.arange(2)
    batch = assembler.batch(codes, numbers, labels=torch.zeros(2, 1), group=rows, index=rows)
    assert list(batch.fields) == ["x", "a", "v", "s", "b"]
    assert batch.fields["x"].tolist() == [0, 3]
    assert batch.fields["v"].tolist() == [[1, 2], [4, 5]]
    assert batch.fields["a"].tolist() == [0, 4]
    assert batch.fields["s"].tolist() == [[1, 2], [5, 6]]
    assert batch.fields["b"].tolist() == [3, 7]


def test_seen_along_a_chain() -> None:
    schema = Schema((Field("a", ID),), (Task("click"), Task("buy", given="click"), Task("pay", given="buy")))
    nan = float("nan")
    labels = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 1], [nan, 1, 1], [1, nan, 1], [1, 1, nan], [nan, nan, nan]])
    assert Assembler(schema).seen(labels).tolist() == [
        [True, True, True],
        [True, True, False],
        [True, False, False],
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [False, False, False],
    ]


# what lies under a table


def test_rows_are_written_anywhere(tmp_path: Path) -> None:
    file = Rows(tmp_path / "a.npy", np.dtype(np.float32), (5, 2))
    file.put(3, np.array([[1, 2], [3, 4]], np.float32))
    file.put(0, np.asfortranarray(np.array([[5, 6], [7, 8]], np.float32)))
    file.close()
    assert np.load(tmp_path / "a.npy").tolist() == [[5, 6], [7, 8], [0, 0], [1, 2], [3, 4]]


@pytest.mark.parametrize("shape", [(0,), (3,), (0, 2), (3, 0), (4, 2)])
def test_rows_of_every_shape_are_numpy_files(tmp_path: Path, shape: tuple[int, ...]) -> None:
    Rows(tmp_path / "a.npy", np.dtype(np.int64), shape).close()
    assert np.load(tmp_path / "a.npy").shape == shape
    assert np.load(tmp_path / "a.npy").dtype == np.int64


@pytest.mark.parametrize(("name", "file"), [("user_id", "user_id"), ("a/b", "a%2Fb"), ("..", ".."), ("größe", "gr%C3%B6%C3%9Fe")])
def test_names_as_files(name: str, file: str) -> None:
    assert file_name(name) == file


def test_long_names_as_files_fit_and_differ() -> None:
    long = "größe " * 60
    names = [long, long + "x", "x" * 200, "x" * 201, "x" * 300, "%" * 100]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(files)
    assert max(len(file) for file in files) == 200
    assert files[2] == "x" * 200
    assert files[0].startswith("gr%C3%B6%C3%9Fe%20")


def test_a_fresh_folder_appears_whole(tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "deep" / "table") as partial:
        (partial / "meta.json").write_text("{}")
        assert not (tmp_path / "deep" / "table").exists()
    assert (tmp_path / "deep" / "table" / "meta.json").read_text() == "{}"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["table"]


def test_the_files_of_a_table(table: Table) -> None:
    """The layout is a promise to whoever reads it without us."""
    arrays = {name: np.load(table.folder / f"{name}.npy") for name in ("int32", "float32", "labels", "group", "time")}
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "int32": ("int32", (10, 5)),
        "float32": ("float32", (10, 1)),
        "labels": ("float32", (10, 3)),
        "group": ("int64", (10,)),
        "time": ("int64", (10,)),
    }
    assert arrays["int32"].flags.c_contiguous
    assert np.isnan(arrays["labels"]).sum() == 2
    frame = pl.read_parquet(table.folder / "vocabulary" / "user.parquet")
    assert frame.columns == ["value", "count"]
    names = sorted(path.name for path in table.folder.iterdir())
    files = ["golden.parquet", "meta.json", "scales.json", "schema.json", "source.json", "vocabulary"]
    assert names == sorted([*(f"{name}.npy" for name in arrays), *files])
