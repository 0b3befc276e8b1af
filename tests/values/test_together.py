"""What several processes cannot train, and a process that is by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.journeys.conftest import RUN

from umbel.errors import UserError
from umbel.run.settings import Settings, read
from umbel.run.together import check_group, is_first, joined, told


def settings(folder: Path, *changes: str) -> Settings:
    file = folder / "run.toml"
    file.write_text(RUN.format(log="log.parquet"))
    return read(file, changes)


@pytest.mark.parametrize(("changes", "what"), [
    (("fit.batch=2",), "fit.batch = 2: fewer rows than the 3 processes; start fewer, or raise it"),
    (("episodes.support=3",), "episodes: new users are trained for by one process; start `umbel train` without torchrun"),
])
def test_what_cannot_be_is_refused(changes: tuple[str, ...], what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        check_group(settings(tmp_path, *changes), 3)
    assert str(raised.value) == what


def test_as_many_processes_as_rows_are_enough(tmp_path: Path) -> None:
    check_group(settings(tmp_path, "fit.batch=3"), 3)


def test_a_process_that_nobody_started_beside_others_is_the_first_and_tells_itself() -> None:
    with joined() as group:
        assert group is None
        assert is_first(group)
        assert told(group, "what it has") == "what it has"
