"""KuaiRand-Pure: the owners' CSVs become the four tables, histories know nothing of the log, feedback is no input."""

from __future__ import annotations

import datetime as dt
import http.server
import io
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from umbel.data.derive import evaluate, field_value
from umbel.data.source import Log
from umbel.data.sources import kuairand
from umbel.data.sources.convert import door
from umbel.data.sources.download import digest
from umbel.data.sources.kuairand import EARLY, FEEDBACK, FILES, LATE, USERS, VIDEOS
from umbel.errors import UserError
from umbel.run import resolve
from umbel.run.settings import read
from umbel.schema import FieldKind

LOG = kuairand._LOG.columns
SHARED = Path(__file__).parents[2] / "../shared/data/kuairand-pure"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/kuairand-pure")


def event(user: int, video: int, moment: str, **values: int) -> dict[str, int]:
    """One impression; `moment` is `MMDD HH:MM` in Beijing."""
    at = dt.datetime.strptime(f"2022{moment} +0800", "%Y%m%d %H:%M %z")
    when = {"date": int(at.strftime("%Y%m%d")), "hourmin": at.hour * 100, "time_ms": int(at.timestamp() * 1000)}
    return {**dict.fromkeys(LOG, 0), "user_id": user, "video_id": video, **when, "duration_ms": 9_000, **values}


EARLY_ROWS = [event(1, video, f"0409 10:{video:02d}", is_like=int(video == 3)) for video in range(1, 7)]
EARLY_ROWS.append(event(2, 9, "0420 08:00", long_view=1))
LATE_ROWS = [
    event(1, 7, "0424 23:00", is_like=1, long_view=1),
    event(2, 5, "0425 09:00", is_click=1),
    event(1, 8, "0425 08:00", is_click=1, is_like=1),
    event(1, 8, "0425 08:00", is_click=1, is_like=1),
    event(3, 4, "0505 20:00"),
    event(3, 4, "0506 20:00", is_like=1),
]


def users() -> pl.DataFrame:
    rows = {name: [f"{name} {user}" if kind == pl.String else 1 for user in (3, 1, 2)] for name, kind in kuairand._USERS.schema.items()}
    return pl.DataFrame({**rows, "user_id": [3, 1, 2], "onehot_feat4": [1.0, None, 2.0]})


def videos() -> pl.DataFrame:
    kinds = kuairand._VIDEOS.schema
    rows = {name: [f"{name} {video}" if kinds[name] == pl.String else 2 for video in range(9, 0, -1)] for name in kinds}
    return pl.DataFrame({**rows, "video_id": list(range(9, 0, -1)), "tag": ["39", "1,28", None] * 3})


@pytest.fixture
def csvs(tmp_path: Path) -> Path:
    folder = tmp_path / "KuaiRand-Pure" / "data"
    folder.mkdir(parents=True)
    pl.DataFrame(EARLY_ROWS).select(LOG).write_csv(folder / EARLY)
    pl.DataFrame(LATE_ROWS).select(LOG).write_csv(folder / LATE)
    users().write_csv(folder / USERS)
    videos().write_csv(folder / VIDEOS)
    return folder


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet")


def test_the_log_holds_its_days_once_and_in_order(csvs: Path, tmp_path: Path) -> None:
    kuairand.convert(csvs, tmp_path / "out")
    log = table(tmp_path / "out", "log")
    assert log.select("user_id", "video_id").rows() == [(1, 8), (2, 5), (3, 4)]
    assert log["time_ms"].is_sorted()
    assert (log["date"].min(), log["date"].max()) == (20220425, 20220505)


def test_histories_end_before_the_log_begins(csvs: Path, tmp_path: Path) -> None:
    kuairand.convert(csvs, tmp_path / "out")
    history = {row["user_id"]: row for row in table(tmp_path / "out", "histories").iter_rows(named=True)}
    assert sorted(history) == [1, 2]
    assert history[1]["watch_seq"] == [1, 2, 3, 4, 5, 6, 7]
    assert history[1]["like_seq"] == [3, 7]
    assert history[1]["long_watch_seq"] == [7]
    assert history[1]["history_len"] == 7
    assert history[1]["last_time_ms"] == LATE_ROWS[0]["time_ms"]
    assert history[2] == {
        "user_id": 2, "history_len": 1, "last_time_ms": EARLY_ROWS[-1]["time_ms"],
        "watch_seq": [9], "like_seq": [], "long_watch_seq": [9],
    }


def test_a_later_first_day_moves_rows_into_the_histories(csvs: Path, tmp_path: Path) -> None:
    kuairand.convert(csvs, tmp_path / "out", first=dt.date(2022, 4, 26), last=dt.date(2022, 5, 8))
    assert table(tmp_path / "out", "log").select("user_id", "video_id").rows() == [(3, 4), (3, 4)]
    assert table(tmp_path / "out", "histories").filter(pl.col("user_id") == 2)["watch_seq"].to_list() == [[9, 5]]


def test_nothing_of_the_log_changes_a_history(csvs: Path, tmp_path: Path) -> None:
    """A planted future row, and feedback of the log turned round, leave the histories alone."""
    kuairand.convert(csvs, tmp_path / "before")
    turned = [{**row, "is_like": 1 - row["is_like"], "long_view": 1} if row["date"] >= 20220425 else row for row in LATE_ROWS]
    pl.DataFrame([*turned, event(1, 2, "0501 10:00", is_like=1)]).select(LOG).write_csv(csvs / LATE)
    kuairand.convert(csvs, tmp_path / "after")
    assert table(tmp_path / "before", "histories").equals(table(tmp_path / "after", "histories"))
    assert not table(tmp_path / "before", "log").equals(table(tmp_path / "after", "log"))


def test_a_history_keeps_the_latest(csvs: Path, tmp_path: Path) -> None:
    many = [event(1, video, f"0410 {video // 60:02d}:{video % 60:02d}", is_like=1) for video in range(80)]
    pl.DataFrame(list(reversed(many))).select(LOG).write_csv(csvs / EARLY)
    kuairand.convert(csvs, tmp_path / "out")
    first = table(tmp_path / "out", "histories").row(0, named=True)
    assert first["history_len"] == 81
    assert first["watch_seq"] == [*range(31, 80), 7]
    assert len(first["like_seq"]) == 50


def test_attributes_are_sorted_and_typed(csvs: Path, tmp_path: Path) -> None:
    kuairand.convert(csvs, tmp_path / "out")
    found = table(tmp_path / "out", "users")
    assert found["user_id"].to_list() == [1, 2, 3]
    assert found["onehot_feat4"].to_list() == [None, 2.0, 1.0]
    assert found.schema["onehot_feat3"] == pl.Int64
    assert table(tmp_path / "out", "videos")["tag"].to_list()[:3] == [None, "1,28", "39"]


def test_the_archives_own_folder_will_do(csvs: Path, tmp_path: Path) -> None:
    kuairand.convert(csvs.parent, tmp_path / "out")
    assert table(tmp_path / "out", "log").height == 3


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(csvs: Path, tmp_path: Path, name: str) -> None:
    (csvs / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        kuairand.convert(csvs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_column_is_named(csvs: Path, tmp_path: Path) -> None:
    videos().rename({"tag": "tags"}).write_csv(csvs / VIDEOS)
    with pytest.raises(UserError, match=f"{VIDEOS}: no column 'tag'; did you mean 'tags'"):
        kuairand.convert(csvs, tmp_path / "out")


def test_a_value_of_another_type_is_named(csvs: Path, tmp_path: Path) -> None:
    text = (csvs / LATE).read_text().replace("20220505", "yesterday")
    (csvs / LATE).write_text(text)
    with pytest.raises(UserError, match="yesterday") as raised:
        kuairand.convert(csvs, tmp_path / "out")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_line_that_was_cut_or_grew_is_named(csvs: Path, tmp_path: Path, name: str, change: int) -> None:
    """Polars would fill what is missing with nulls, and pass over what is too much where nothing reads it."""
    lines = (csvs / name).read_text().splitlines()
    columns = lines[0].count(",") + 1
    lines[2] = lines[2].partition(",")[2] if change < 0 else lines[2] + ",7"
    (csvs / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"{name}, line 3: {columns + change} values under {columns} columns; complete the line"):
        kuairand.convert(csvs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_file_is_named(csvs: Path, tmp_path: Path) -> None:
    (csvs / EARLY).write_text("")
    with pytest.raises(UserError, match=EARLY):
        kuairand.convert(csvs, tmp_path / "out")


def packed(csvs: Path, path: Path, names: tuple[str, ...] = FILES) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.add(csvs / name, arcname=f"KuaiRand-Pure/data/{name}")
        archive.addfile(tarfile.TarInfo("../escaped.txt"), io.BytesIO())
    return path


def test_only_the_four_files_leave_the_archive(csvs: Path, tmp_path: Path) -> None:
    kuairand.unpack(packed(csvs, tmp_path / "a.tar.gz"), tmp_path / "out" / "csv")
    assert sorted(path.name for path in (tmp_path / "out" / "csv").iterdir()) == sorted(FILES)
    assert not (tmp_path / "out" / "escaped.txt").exists()
    for name in FILES:
        assert (tmp_path / "out" / "csv" / name).read_bytes() == (csvs / name).read_bytes()


def test_an_archive_without_a_file_leaves_nothing(csvs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no {VIDEOS} inside"):
        kuairand.unpack(packed(csvs, tmp_path / "a.tar.gz", FILES[:3]), tmp_path / "csv")
    assert not (tmp_path / "csv").exists()


@pytest.mark.parametrize("keep", [0, 40, 700])
def test_a_truncated_archive_is_one_line(csvs: Path, tmp_path: Path, keep: int) -> None:
    path = packed(csvs, tmp_path / "a.tar.gz")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"a.tar.gz: no readable archive") as raised:
        kuairand.unpack(path, tmp_path / "csv")
    assert "\n" not in str(raised.value)


@pytest.fixture
def served(csvs: Path, tmp_path: Path) -> Iterator[partial[Path]]:
    """A download of a small archive from a server of this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    archive = packed(csvs, folder / "a.tar.gz")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield partial(kuairand.download, url=f"http://127.0.0.1:{httpd.server_address[1]}/a.tar.gz", sha256=digest(archive))
        httpd.shutdown()
        thread.join()


def test_the_command_downloads_checks_and_lays_out(
    csvs: Path, tmp_path: Path, served: partial[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    kuairand.convert(csvs, tmp_path / "by hand")
    out = tmp_path / "out"
    for _ in range(2):  # again: the archive is there and the tables are made of it
        assert door(kuairand.convert, ["--download", "-o", str(out)], download=served) == 0
        told = capsys.readouterr().out.splitlines()
        assert told == [str(out / f"{name}.parquet") for name in ("histories", "log", "users", "videos")]
    for name in ("log", "users", "videos", "histories"):
        assert table(out, name).equals(table(tmp_path / "by hand", name))


def test_an_archive_that_is_not_the_owners_is_told_and_laid_out_nowhere(
    tmp_path: Path, served: partial[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    other = partial(served, sha256="0" * 64)
    assert door(kuairand.convert, ["--download", "-o", str(tmp_path / "out")], download=other) == 2
    assert "SHA-256 is" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("words", [["-o", "out"], ["folder", "--download", "-o", "out"], ["--download"]])
def test_either_a_folder_or_a_download(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        door(kuairand.convert, words, download=kuairand.download)
    assert left.value.code == 2


def test_the_documented_command_fills_the_folder_that_the_example_reads() -> None:
    root = Path(__file__).parents[2]
    (out,) = re.findall(r"python -m umbel\.data\.sources\.kuairand --download -o (\S+?)`", (root / "README.md").read_text())
    settings = read(root / "examples" / "kuairand.toml")
    assert {Path(one).parent for one in (settings.data.log, *(join.table for join in settings.data.join))} == {Path(out)}
    assert f"kuairand --download -o {out}\n" in (root / "examples" / "kuairand.toml").read_text()
    help_ = subprocess.run([sys.executable, "-m", "umbel.data.sources.kuairand", "--help"], capture_output=True, text=True, check=True)
    assert "--download" in help_.stdout


def test_no_feedback_column_is_an_input() -> None:
    read = {field.column or field.name for field in kuairand.schema().fields}
    written = " ".join(field.sql or "" for field in kuairand.schema().fields)
    assert not read & set(FEEDBACK)
    assert not [name for name in FEEDBACK if name in written]
    assert {task.label for task in kuairand.schema().tasks} <= set(FEEDBACK)
    assert {"time_ms", "last_time_ms"}.isdisjoint(read)


def test_every_expression_can_be_computed() -> None:
    sql = [field for field in kuairand.schema().fields if field.sql is not None]
    raw = pl.DataFrame({name: [0, 100] for field in sql for name in field_value(field).reads})
    found = evaluate(raw, map(field_value, sql))
    assert found["hour"].to_list() == [0, 1]
    assert found["duration"].to_list() == pytest.approx([0, 4.61512], rel=1e-5)
    assert not sum(found.null_count().row(0))


def test_histories_share_the_videos_table() -> None:
    sequences = [field for field in kuairand.schema().fields if field.kind is FieldKind.SEQUENCE]
    assert [field.column for field in sequences] == ["watch_seq", "like_seq", "long_watch_seq"]
    assert {(field.table, field.target, field.length) for field in sequences} == {("video_id", "video_id", 50)}


def test_a_converted_folder_can_be_scanned(csvs: Path, tmp_path: Path) -> None:
    kuairand.convert(csvs, tmp_path / "out")
    log = Log(kuairand.source(tmp_path / "out"))
    frame = pl.concat(log.read(log.names, 1000))
    assert frame.height == 3
    wanted = {field.column or field.name for field in kuairand.schema().fields if field.sql is None}
    assert wanted <= set(frame.columns)


def test_the_example_run_file_says_the_same() -> None:
    settings = read(Path(__file__).parents[2] / "examples/kuairand.toml")
    written = resolve.schema(settings)
    assert set(written.fields) == set(kuairand.schema().fields)
    assert written.tasks == kuairand.schema().tasks
    assert resolve.split(settings) == kuairand.split()
    assert resolve.source(settings) == kuairand.source(Path("../shared/data/kuairand-pure"))


@needs_data
def test_the_shared_folder_has_this_layout() -> None:
    log = Log(kuairand.source(SHARED))
    part = kuairand.split().label(log)
    frame = pl.concat(log.read(part.meta.root_names(), 1 << 17)).select(part=part)
    parts = frame["part"].value_counts().sort("part")["count"].to_list()
    assert parts == [131_474, 18_581, 30_329]


@needs_data
def test_csvs_of_the_shared_folder_convert_to_the_same_tables(tmp_path: Path) -> None:
    table(SHARED, "log").write_csv(tmp_path / LATE)
    pl.DataFrame(EARLY_ROWS).select(LOG).write_csv(tmp_path / EARLY)
    table(SHARED, "users").write_csv(tmp_path / USERS)
    table(SHARED, "videos").write_csv(tmp_path / VIDEOS)
    kuairand.convert(tmp_path, tmp_path / "out")
    for name in ("log", "users", "videos"):
        assert table(tmp_path / "out", name).equals(table(SHARED, name)), name
    assert table(tmp_path / "out", "histories").schema == table(SHARED, "histories").schema
