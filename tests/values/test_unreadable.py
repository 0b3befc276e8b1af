"""Input that cannot be read is named itself, with what mends it; what was to be written is not blamed, and stays as it was."""

from __future__ import annotations

import datetime as dt
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest
from tests import logs, untrained
from tests.logs import NUMBER, ROWS, SPLIT, one_field

from umbel.cli import main
from umbel.data.files import check_csv, column_names, paths, reading
from umbel.data.ingest import ingest
from umbel.data.source import Join, Source
from umbel.data.sources import convert
from umbel.data.split import ByTime
from umbel.errors import UserError
from umbel.run.use import judge_log, score_log
from umbel.schema import Field

ONE = one_field(Field("user", logs.ID, min_count=1))
MEND = "; name a file that this user may read"
DENIED = "Permission denied (os error 13)"  # as Polars says it, without the number of the error


def refused(folder: Path, log: Path | str, *, joins: tuple[Join, ...] = ()) -> str:
    """What is said of a log that is ingested in vain; the table before it is the one after it."""
    (folder / "table").mkdir(exist_ok=True)
    before = sorted(one.name for one in folder.iterdir())
    with pytest.raises(UserError) as caught:
        ingest(Source(str(log), user="user", time="time", joins=joins), ONE, SPLIT, folder=folder / "table")
    assert "not writable" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(one.name for one in folder.iterdir()) == before
    return str(caught.value)


def csv(folder: Path, name: str = "log.csv") -> Path:
    pl.DataFrame(ROWS, strict=False).drop("watched").write_csv(folder / name)
    return folder / name


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Whoever runs this may not open a file any more: tests may run as root, whom no right stops."""

    def close(path: Path) -> None:
        opened = Path.open

        def asked(self: Path, *arguments: object, **named: object) -> object:
            if self == path:
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return opened(self, *arguments, **named)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", asked)

    return close


def denied(*_: object, **__: object) -> NoReturn:
    raise PermissionError(DENIED)


# folders


@pytest.mark.parametrize(("name", "mend"), [("d.csv", "d.csv/*.csv"), ("days", "days/*.parquet"), ("a.txt", "a.txt/*.txt")])
def test_a_folder_is_no_file(tmp_path: Path, name: str, mend: str) -> None:
    (tmp_path / name).mkdir()
    assert refused(tmp_path, tmp_path / name) == f"{tmp_path / name}: is a folder; name its files, for example {tmp_path}/{mend}"


def test_a_folder_among_the_files_of_a_glob(tmp_path: Path) -> None:
    csv(tmp_path, "a.csv")
    (tmp_path / "b.csv").mkdir()
    assert refused(tmp_path, tmp_path / "*.csv") == f"{tmp_path}/b.csv: cannot be read (Is a directory){MEND}"


def test_a_folder_of_parquet_is_read_as_its_files(tmp_path: Path) -> None:
    """As Spark leaves a table."""
    rows = {name: list(column) for name, column in ROWS.items()}
    for number, part in enumerate((slice(0, 4), slice(4, 10))):
        logs.write(tmp_path / "log.parquet", {name: column[part] for name, column in rows.items()}, name=f"part-{number}")
    table = ingest(Source(str(tmp_path / "log.parquet"), user="user", time="time"), ONE, SPLIT, folder=tmp_path / "table")
    assert table.groups("train").tolist() == ROWS["user"][:6]


def test_a_folder_of_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").mkdir()
    assert f"{tmp_path}/log.parquet: cannot be read (" in refused(tmp_path, tmp_path / "log.parquet")


# rights


def test_a_csv_that_may_not_be_read(tmp_path: Path, closed: Callable[[Path], None]) -> None:
    path = csv(tmp_path)
    closed(path)
    expected = f"{path}: cannot be read (Permission denied){MEND}"
    assert refused(tmp_path, path) == expected
    for read in (lambda: check_csv(path), lambda: column_names(str(path))):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == expected


def test_a_csv_that_may_not_be_read_any_more_when_it_is_encoded(tmp_path: Path, closed: Callable[[Path], None]) -> None:
    path = csv(tmp_path)
    with pytest.raises(UserError, match=rf"log\.csv: cannot be read \(Permission denied\){MEND}"):
        ingest(
            Source(str(path), user="user", time="time"), ONE, SPLIT, folder=tmp_path / "table",
            progress=lambda rows: closed(path) if rows == 5 else None,
        )  # fmt: skip
    assert [one.name for one in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("what", ["collect_schema", "collect"])
def test_a_parquet_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    path = logs.write(tmp_path)
    monkeypatch.setattr(pl.LazyFrame, what, denied)
    assert refused(tmp_path, path) == f"{path}: cannot be read ({DENIED}){MEND}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_without_its_right(tmp_path: Path, kind: str) -> None:
    path = csv(tmp_path) if kind == "csv" else Path(logs.write(tmp_path))
    path.chmod(0)
    assert f"{path}: cannot be read (Permission denied" in refused(tmp_path, path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_to_join_that_may_not_be_read_is_named(
    tmp_path: Path, closed: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    log, users = logs.write(tmp_path), tmp_path / f"users{suffix}"
    frame = pl.DataFrame({"user": [1, 2], "city": [3.0, 4.0]})
    frame.write_csv(users) if suffix == ".csv" else frame.write_parquet(users)
    collect, schema = pl.LazyFrame.collect, one_field(Field("city", NUMBER))

    def asked(lazy: pl.LazyFrame) -> pl.DataFrame:
        return denied() if "city" in lazy.collect_schema() else collect(lazy)

    closed(users) if suffix == ".csv" else monkeypatch.setattr(pl.LazyFrame, "collect", asked)
    with pytest.raises(UserError, match=rf"users\{suffix}: cannot be read \(Permission denied.*\){MEND}"):
        ingest(Source(log, time="time", joins=(Join(str(users), "user"),)), schema, SPLIT, folder=tmp_path / "table")


def test_a_file_in_a_folder_that_may_not_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv(tmp_path)

    def asked(self: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", asked)
    with pytest.raises(UserError) as caught:
        paths(str(path))
    assert str(caught.value) == f"{path}: cannot be read (Permission denied){MEND}"


def test_owners_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users.dat").write_text("1::a\n")
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(UserError, match=rf"users\.dat: cannot be read \(Permission denied.*\){MEND}"):
        convert.lines(tmp_path / "users.dat", ["id", "name"])


# links and disks


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("to", ["itself", "nothing"])
def test_a_link_that_leads_nowhere(tmp_path: Path, suffix: str, to: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.symlink_to(path if to == "itself" else tmp_path / "gone")
    said = refused(tmp_path, path)
    assert said.startswith(f"{path}: cannot be read (")
    assert ("Too many levels of symbolic links" if to == "itself" else "No such file or directory") in said


def test_a_disk_that_fails(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught, reading("log.parquet"):
        raise OSError(errno.EIO, "Input/output error", "part-3.parquet")
    assert str(caught.value) == f"part-3.parquet: cannot be read (Input/output error){MEND}", "the file of a glob, where it is known"


def test_what_the_system_says_at_length_is_one_short_line() -> None:
    with pytest.raises(UserError) as caught, reading("log.parquet"):
        raise OSError("x" * 5000 + "\nmore")
    assert str(caught.value) == f"log.parquet: cannot be read ({'x' * 200}…){MEND}"


def test_a_user_error_within_stays_what_it_is() -> None:
    told = UserError("a", mend="b")
    with pytest.raises(UserError) as caught, reading("log.parquet"):
        raise told
    assert caught.value is told


# scoring


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained.bundle(tmp_path_factory.mktemp("unreadable"))


def test_scores_of_a_folder_are_refused_by_its_name(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "scores.csv").write_text("those of before")
    with pytest.raises(SystemExit) as left:
        main(["score", str(bundle), str(tmp_path / "d.csv"), "-o", str(tmp_path / "scores.csv")])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"umbel: {tmp_path}/d.csv: is a folder; name its files, for example {tmp_path}/d.csv/*.csv\n"
    assert (tmp_path / "scores.csv").read_text() == "those of before"


def test_scores_of_what_may_not_be_read_are_not_called_unwritable(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: Callable[[Path], None]
) -> None:
    log = csv(tmp_path)
    closed(log)
    with pytest.raises(UserError) as caught:
        score_log(bundle, str(log), tmp_path / "scores.csv")
    assert str(caught.value) == f"{log}: cannot be read (Permission denied){MEND}"
    with pytest.raises(UserError, match=r"log\.csv: cannot be read"):
        judge_log(bundle, str(log))
    with pytest.raises(UserError, match=r"scores.csv: not writable; choose a folder"):
        score_log(bundle, logs.write(tmp_path), unwritable(tmp_path, monkeypatch) / "scores.csv")


def unwritable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which no file can be made."""
    touch = Path.touch

    def asked(self: Path, mode: int = 0o666, *, exist_ok: bool = True) -> None:
        if self.parent == folder / "out":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        touch(self, mode, exist_ok=exist_ok)

    monkeypatch.setattr(Path, "touch", asked)
    return folder / "out"


# zones


@pytest.mark.parametrize("zone", ["America", "Etc", "", "/", "../x", "Mars"])
def test_a_zone_that_is_a_folder_of_zones_or_none(tmp_path: Path, zone: str) -> None:
    split = ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4), zone=zone)
    days = [dt.datetime(2022, 5, 1) + dt.timedelta(hours=9 * at) for at in range(10)]
    with pytest.raises(UserError) as caught:
        logs.table(tmp_path, logs.changed(time=days), ONE, split=split)
    assert str(caught.value) == f"split: '2022-05-03' in zone {zone!r} is no moment; write YYYY-MM-DD and a zone such as UTC"
