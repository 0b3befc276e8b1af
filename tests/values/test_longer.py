"""Who trains and who is judged where `[episodes] longer` says that users of many rows train, too."""

from __future__ import annotations

import numpy as np
import pytest
from tests import rated_runs

from umbel.coldstart.source import Training
from umbel.data.episodes import PADDING, episodes
from umbel.data.ingest import ingest
from umbel.data.table import Table
from umbel.run import resolve
from umbel.run.coldstart import Newcomers
from umbel.run.settings import Settings, read


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return read(rated_runs.write(tmp_path_factory.mktemp("longer")))


@pytest.fixture(scope="module")
def table(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("longer") / "table"
    return ingest(resolve.source(settings), resolve.schema(settings), resolve.split(settings), folder=folder)


def made(settings: Settings, table: Table, **changes: object) -> Newcomers:
    """A method over the table, its users' `history` and `longer` changed."""
    assert settings.episodes is not None
    section = type(settings.episodes).model_validate({**settings.episodes.model_dump(), "method": "anil", **changes})
    return Newcomers.of(settings.model_copy(update={"episodes": section}), table)


@pytest.mark.parametrize("longer", [False, True])
def test_users_of_many_rows_train_and_none_of_them_is_judged(settings: Settings, table: Table, *, longer: bool) -> None:
    users, counts = np.unique(table.groups("train"), return_counts=True)
    most = int(np.median(counts))
    assert counts.max() > most
    found = made(settings, table, history=(counts.min(), most), longer=longer, ids=0.5)
    assert isinstance(found.prepared.batches, Training)
    own = found.prepared.batches.episodes(0)
    assert set(own.user) == set(users if longer else users[counts <= most])
    assert own.sizes.max() == most
    assert set(found.taught()) == set(own.user), "who trains may have been read by id"
    judged = found.valid()
    assert np.array_equal(judged.query, episodes(table, "valid", found.section.protocol()).query)
    shown = (judged.support != PADDING).sum(1) + (judged.query != PADDING).sum(1)
    sizes = dict(zip(*np.unique(table.groups("valid"), return_counts=True), strict=True))
    assert shown.tolist() == [sizes[user] for user in judged.user.tolist()], "all rows of those who have few"
    assert all(sizes[user] <= most for user in judged.user.tolist())
