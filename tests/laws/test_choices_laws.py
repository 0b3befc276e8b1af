"""What decisions chose from, as a file: every one that can be replayed, once, on every store; pages cut nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.stores import Open

from umbel.errors import UserError
from umbel.fuse.choices import CHOICES, read_choices
from umbel.serve.records import Candidates, Decision, Rung, Shown
from umbel.serve.store import Store, choices
from umbel.serve.store.choices import write_choices


def decision(number: int, *, size: int = 4) -> Decision:
    draw = np.random.default_rng(number)
    items = tuple(f"i{one}" for one in draw.permutation(50)[:size])
    predictions, fused = draw.random((size, 2)).astype(np.float32), draw.random(size).astype(np.float32)
    shown = tuple(Shown(item=items[place], propensity=0.5, predictions=(0.1, 0.2)) for place in (size - 1, 0))
    return Decision(
        request=f"r{number:04d}", user="u", time=number, bundle=f"b{number % 3}", fusion="f", rung=Rung.FULL, shown=shown,
        outputs=("click", "buy"), candidates=Candidates(items=items, predictions=predictions, fused=fused), temperature=0.5,
    )  # fmt: skip


def written(store: Store, tmp_path: Path) -> pl.DataFrame:
    count = write_choices(store.session, tmp_path / "choices.parquet")
    frame = read_choices(tmp_path / "choices.parquet")
    assert frame.height == count
    return frame


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_every_decision_is_there_once_and_as_it_was(fresh: Open, tmp_path: Path, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "SOME", page)
    with Store(fresh()) as store:
        kept = [decision(number, size=2 + number % 5) for number in range(10)]
        for one in reversed(kept):
            store.log(one)
        store.log(kept[0]).result()
        frame = written(store, tmp_path)
    assert frame["request_id"].to_list() == [one.request for one in kept]
    for row, one in zip(frame.iter_rows(named=True), kept, strict=True):
        assert one.candidates is not None
        assert np.array_equal(np.reshape(row["predictions"], (-1, 2)), one.candidates.predictions)
        assert row["fused"] == one.candidates.fused.tolist()
        assert [one.candidates.items[place] for place in row["shown"]] == [each.item for each in one.shown]
        assert (row["bundle"], row["temperature"], row["outputs"], row["propensity"]) == (one.bundle, 0.5, ["click", "buy"], [0.5, 0.5])


def test_what_cannot_be_drawn_again_stays_out(fresh: Open, tmp_path: Path) -> None:
    """Answers without candidates, and those whose positions chose among some of them only."""
    plain = decision(0)
    assert plain.candidates is not None
    masked = replace(decision(1), candidates=replace(plain.candidates, masks=np.ones((2, 4), dtype=bool)))
    masked = replace(masked, shown=plain.shown)
    unknown = replace(decision(2), shown=tuple(replace(one, propensity=None) for one in decision(2).shown))
    with Store(fresh()) as store:
        for one in (plain, masked, replace(decision(3), candidates=None), unknown):
            store.log(one).result()
        frame = written(store, tmp_path)
    assert frame["request_id"].to_list() == ["r0000", "r0002"]
    assert frame["propensity"].to_list() == [[0.5, 0.5], [None, None]]


def test_an_empty_store_leaves_an_empty_file(fresh: Open, tmp_path: Path) -> None:
    with Store(fresh()) as store:
        assert written(store, tmp_path).schema == CHOICES


def test_a_file_is_whole_or_not_there(tmp_path: Path, fresh: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(fresh()) as store:
        store.log(decision(0)).result()
        before = written(store, tmp_path)
        monkeypatch.setattr(choices, "_row", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_choices(store.session, tmp_path / "choices.parquet")
    assert read_choices(tmp_path / "choices.parquet").equals(before)
    assert [path.name for path in tmp_path.iterdir()] == ["choices.parquet"]


@pytest.mark.parametrize("content", [b"", b"not a table", None])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "choices.parquet"
    if content is None:
        pl.DataFrame({"request_id": ["a"]}).write_parquet(path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"choices.parquet: .*; give what `umbel collect --choices` left"):
        read_choices(path)
