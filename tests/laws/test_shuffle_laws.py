"""Laws of an epoch's order by windows: each row once, long pieces of the table, batches as good as draws, what is read beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import logs

from umbel.data import shuffle
from umbel.data.loader import Loader, Replay
from umbel.data.table import Table

slow = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = {name: [column[row // 50 % 10] for row in range(500)] for name, column in logs.ROWS.items()}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return logs.table(tmp_path_factory.mktemp("log"), LONG | {"time": [0] * 300 + [6] * 100 + [8] * 100})


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@slow
@given(rows=st.integers(0, 400), batch=st.integers(1, 60), times=st.integers(1, 9), odd=st.integers(0, 59), seed=st.integers(0, 2**32))
def test_each_row_once(rows: int, batch: int, times: int, odd: int, seed: int) -> None:
    order = shuffle.windows(rows, drawn(seed), window=batch * times + odd % batch, batch=batch)
    assert sorted(order.tolist()) == list(range(rows))


@slow
@given(batch=st.integers(1, 20), block=st.integers(1, 12), count=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_a_batch_has_one_row_of_each_block_of_its_window(batch: int, block: int, count: int, seed: int) -> None:
    order = shuffle.windows(batch * block * count, drawn(seed), window=batch * block, batch=batch)
    for window in torch.split(order, batch * block):
        blocks = [sorted(set((one // block).tolist())) for one in torch.split(window, batch)]
        assert len(blocks[0]) == batch
        assert all(one == blocks[0] for one in blocks)


def test_of_few_rows_windows_are_a_whole_shuffle() -> None:
    """One window: any row can stand anywhere, so that over seeds places are as good as uniform."""
    places = torch.stack([shuffle.windows(6, drawn(seed), window=6, batch=6) for seed in range(600)])
    share = (places[:, :, None] == torch.arange(6)).double().mean(0)
    assert (share - 1 / 6).abs().max() < 0.06


@pytest.mark.parametrize("sort", ["rising", "two halves", "noise"])
def test_the_mean_of_a_batch_varies_as_of_rows_drawn_one_by_one(sort: str) -> None:
    rows, batch = 24_000, 60
    column = {
        "rising": torch.arange(rows).double(),
        "two halves": (torch.arange(rows) >= rows // 2).double(),
        "noise": torch.randn(rows, generator=drawn(1), dtype=torch.float64),
    }[sort]
    orders = torch.cat([shuffle.windows(rows, drawn(seed), window=1200, batch=batch).long() for seed in range(60)])
    means = column[orders].view(-1, batch).mean(1)
    assert ((means - column.mean()).square().mean() / (column.var() / batch)).item() == pytest.approx(1, abs=0.1)


@slow
@given(window=st.sampled_from([10, 25, 64, 1000]), size=st.integers(4, 10), epoch=st.integers(0, 9), start=st.integers(0, 80))
def test_a_resumed_epoch_meets_exactly_the_rest(table: Table, window: int, size: int, epoch: int, start: int) -> None:
    loader = Loader(table, "train", size, seed=3, window=window)
    whole = [batch.index.tolist() for batch in loader(epoch)]
    assert [batch.index.tolist() for batch in loader(epoch, start)] == whole[start:]
    assert sorted(row for batch in whole for row in batch) == list(table.parts["train"])


def test_with_a_replay_of_what_was_seen(table: Table) -> None:
    rows = len(table.parts["train"])
    loader = Loader(table, "train", 8, window=40, replay=Replay(np.arange(rows) < 100, 0.25))
    met = torch.cat([batch.index for batch in loader(0)]).tolist()
    assert len(met) == len(set(met)) == loader.rows
    assert set(range(100, rows)) <= set(met)


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What the system was advised to read: file, first byte, bytes."""
    told: list[tuple[str, int, int]] = []

    def note(descriptor: int, first: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        told.append((Path(f"/proc/self/fd/{descriptor}").resolve().name, first, length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    return told


def test_advice_names_the_bytes_of_the_rows(tmp_path: Path, advised: list[tuple[str, int, int]]) -> None:
    shuffle.ahead(tmp_path / "none.npy", np.zeros(0, np.int64), start=128, width=8)
    (tmp_path / "x.npy").write_bytes(b"")
    shuffle.ahead(tmp_path / "x.npy", np.array([2, 3, 4, 9, 11, 12]), start=128, width=8)
    assert advised == [("x.npy", 144, 24), ("x.npy", 200, 8), ("x.npy", 216, 16)]


def test_the_table_advises_of_every_file_a_batch_is_made_of(table: Table, advised: list[tuple[str, int, int]]) -> None:
    table.expect(np.array([7, 3, 4]))
    found: dict[str, list[bytes]] = {name: [] for name, _, _ in advised}
    for name, first, length in advised:
        found[name].append((table.folder / name).read_bytes()[first : first + length])
    for name, pieces in found.items():
        array = np.load(table.folder / name)
        assert b"".join(pieces) == array[[3, 4, 7]].tobytes(), name
    assert set(found) == {"int32.npy", "float32.npy", "labels.npy", "group.npy"}


@pytest.mark.parametrize("start", [0, 7, 37])
def test_rows_are_asked_for_before_they_are_met(table: Table, monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    asked: set[int] = set()
    windows: list[int] = []

    def expect(_: Table, index: np.ndarray) -> None:
        asked.update(index.tolist())
        windows.append(len(index))

    monkeypatch.setattr(Table, "expect", expect)
    loader = Loader(table, "train", 8, seed=2, window=40)
    for batch in loader(0, start):
        assert set(batch.index.tolist()) <= asked
    assert max(windows) <= 40
    assert len(asked) == sum(len(batch.index) for batch in loader(0, start - start % 5))


def test_a_whole_shuffle_asks_for_nothing(table: Table, advised: list[tuple[str, int, int]]) -> None:
    list(Loader(table, "train", 8)(0))
    assert advised == []


def test_where_the_system_takes_no_advice(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    assert sum(len(batch.index) for batch in Loader(table, "train", 8, window=40)(0)) == len(table.parts["train"])
