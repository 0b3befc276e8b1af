"""Training on from a bundle that was trained on episodes: its weights are taken, its items' offsets made of the new log."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests import rated_runs
from tests.journeys.conftest import say
from umbel.bundle import Bundle


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on episodes, and next week's log: other counts, so other codes."""
    folder = tmp_path_factory.mktemp("episodes")
    log = rated_runs.frame(users=90, items=25)
    first = rated_runs.write(folder / "first", log=log, changes={"epochs = 2": "epochs = 1", "curve = [0, 1, 3, 5]": "curve = [0]"})
    said = say("train", first, "-o", folder / "first" / "run")
    assert said.code == 0, said.err
    more = log.with_columns(pl.col("item").replace("i3", "i900"), (pl.col("rating") * 0.5 + 2).alias("rating"))
    rated_runs.write(folder / "next", log=more, changes={"epochs = 2": "epochs = 1", "curve = [0, 1, 3, 5]": "curve = [0]"})
    return folder


def test_it_goes_on_with_offsets_of_the_new_log(place: Path) -> None:
    said = say("train", place / "next" / "run.toml", "-o", place / "next" / "run", "--from", place / "first" / "run" / "bundle")
    assert said.code == 0, said.err
    old, new = (Bundle.load(place / name / "run" / "bundle") for name in ("first", "next"))
    assert old.built.offset == new.built.offset == "item"
    assert old.model.offsets is not None
    assert new.model.offsets is not None
    for bundle, middle in ((old, None), (new, 2.0)):
        assert bundle.model.offsets is not None
        rating = bundle.model.offsets.values[:, 0]
        assert len(rating) == bundle.encoder.vocabularies["item"].size
        assert middle is None or bool((rating > middle).all()), "ratings of the new log are above 2.5, and so is every item's mean"
    assert not old.model.offsets.values[:, 0].sort().values[:5].equal(new.model.offsets.values[:, 0].sort().values[:5])


def test_a_run_without_episodes_is_told(place: Path, tmp_path: Path) -> None:
    text = (place / "next" / "run.toml").read_text()
    episodes = text[text.index("[episodes]") : text.index("[fit]")]
    (tmp_path / "plain.toml").write_text(text.replace(episodes, ""))
    said = say("train", tmp_path / "plain.toml", "-o", tmp_path / "run", "--from", place / "first" / "run" / "bundle")
    assert said.code == 2
    assert "adds offsets of 'item' to its outputs, the run file has no [episodes]" in said.line
    assert not (tmp_path / "run" / "bundle").exists()
