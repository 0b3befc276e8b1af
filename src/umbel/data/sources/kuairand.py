"""KuaiRand-Pure (Gao et al., CIKM 2022): the owners' files, and the folder of four tables that is made of them."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from umbel import durable
from umbel.data.files import check_csv
from umbel.data.source import Join, Source
from umbel.data.sources.convert import door
from umbel.data.sources.download import Progress, fetch
from umbel.data.split import ByTime
from umbel.errors import UserError, nearest
from umbel.schema import Field, FieldKind, Schema, Task

ARCHIVE = "https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz"
SHA256 = "c814bf6f3624c0cfae83c57de3df26b2ed206e5c57bab4c4dcbfabbabe20cbf0"
FIRST, LAST = dt.date(2022, 4, 25), dt.date(2022, 5, 5)  # the days of the log; what came before is history
LENGTH = 50

EARLY, LATE = "log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv"
USERS, VIDEOS = "user_features_pure.csv", "video_features_basic_pure.csv"
FILES = (EARLY, LATE, USERS, VIDEOS)

# Measured during or after the impression. Labels may be made of these; an input never.
FEEDBACK = (
    *("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"),
    *("play_time_ms", "profile_stay_time", "comment_stay_time"),
)
_RANGES = ("follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range")
_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num")
_ENCODED = tuple(f"onehot_feat{number}" for number in range(18))  # the owners' codes of attributes they do not name
_GAPS = ("onehot_feat4", *_ENCODED[12:])  # those with missing values, which the owners write as 1.0
# Empty frames: the columns each file must hold, and their types.
_LOG = pl.DataFrame(schema={
    **dict.fromkeys(("user_id", "video_id", "date"), pl.Int64),
    "hourmin": pl.Int32,
    **dict.fromkeys(("time_ms", "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"), pl.Int64),
    **dict.fromkeys(("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_profile_enter"), pl.Int64),
    **dict.fromkeys(("is_rand", "tab"), pl.Int64),
})
_USERS = pl.DataFrame(schema={
    "user_id": pl.Int64,
    "user_active_degree": pl.String,
    **dict.fromkeys(("is_lowactive_period", "is_live_streamer", "is_video_author"), pl.Int64),
    **dict.fromkeys((*_COUNTS, "register_days"), pl.Int64),
    **dict.fromkeys(_RANGES, pl.String),
    **{name: pl.Float64 if name in _GAPS else pl.Int64 for name in _ENCODED},
})
_VIDEOS = pl.DataFrame(schema={
    **dict.fromkeys(("video_id", "author_id"), pl.Int64),
    **dict.fromkeys(("video_type", "upload_dt", "upload_type"), pl.String),
    **dict.fromkeys(("visible_status", "video_duration", "server_width", "server_height"), pl.Float64),
    "music_id": pl.Int64,
    "music_type": pl.Float64,
    "tag": pl.String,
})


def download(folder: Path, *, url: str = ARCHIVE, sha256: str = SHA256, progress: Progress | None = None) -> Path:
    """Fetch the owners' archive (47 MB), check it, and make the folder of four tables of it; returns that folder.

    The archive stays beside the tables, so that a second call fetches nothing. The default hash is the one that
    independent copies of Zenodo record 10439422 report (the publisher's own sum is an MD5).

    :raises UserError: as `fetch` and `convert` do, and for an archive that lacks a file.
    """
    archive = fetch(url, folder / "KuaiRand-Pure.tar.gz", sha256=sha256, progress=progress)
    unpack(archive, folder / "csv")
    convert(folder / "csv", folder)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Take the four CSVs out of the owners' archive, whatever folder they lie in there; nothing else is written.

    :raises UserError: for a file that is no archive or lacks one of them.
    """
    try:
        with tarfile.open(archive) as members, durable.folder(folder) as made:
            inside = {Path(member.name).name: member for member in members.getmembers() if member.isfile()}
            for name in FILES:
                if name not in inside:
                    raise UserError(f"{archive}: no {name} inside", mend="fetch the archive of KuaiRand-Pure again")
                content = members.extractfile(inside[name])
                if content is not None:
                    with content, (made / name).open("wb") as file:
                        shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive}: no readable archive ({error})", mend="remove it and fetch it again") from error


def convert(csvs: Path, folder: Path, *, first: dt.date = FIRST, last: dt.date = LAST) -> None:
    """Turn the owners' CSVs into `log`, `users`, `videos` and `histories` (.parquet) in a folder.

    The log is the standard-policy log from `first` to `last` (by the owners' `date`), exact duplicate rows dropped, in
    order of time. A history holds a user's latest `LENGTH` watched, liked and long-watched videos, oldest first, from
    the days before `first` only, so that no row of the log is told its own future.

    :raises UserError: for a missing file or column, a line with more or fewer values, or a value that is not of its column's type.
    """
    csvs = csvs / "data" if (csvs / "data").is_dir() else csvs
    log = pl.concat([_read(csvs / name, _LOG) for name in (EARLY, LATE)])
    day = pl.col("date").cast(pl.String).str.to_date("%Y%m%d")
    shown = log.filter(day.is_between(first, last)).unique(maintain_order=True)
    tables = {
        "log": shown.sort("time_ms", "user_id", "video_id", maintain_order=True),
        "users": _read(csvs / USERS, _USERS).sort("user_id"),
        "videos": _read(csvs / VIDEOS, _VIDEOS).sort("video_id"),
        "histories": histories(log.filter(day < first)),
    }
    for name, table in tables.items():
        _write(table, folder / f"{name}.parquet", csvs)


def histories(log: pl.LazyFrame) -> pl.LazyFrame:
    """One row a user of an earlier log: how many impressions, the time of the last, and three sequences of videos."""
    video = pl.col("video_id")
    return (
        log.sort("time_ms", maintain_order=True)
        .group_by("user_id")
        .agg(
            history_len=pl.len().cast(pl.Int64),
            last_time_ms=pl.col("time_ms").max(),
            watch_seq=video.tail(LENGTH),
            like_seq=video.filter(pl.col("is_like") == 1).tail(LENGTH),
            long_watch_seq=video.filter(pl.col("long_view") == 1).tail(LENGTH),
        )
        .sort("user_id")
    )


def source(folder: Path) -> Source:
    """The four tables of a folder as one log.

    The time is the owners' `date`, not `time_ms`: 0.9 % of the rows are dated up to three hours after they happened,
    always a day later, and the published splits go by the date.
    """
    joins = (Join(str(folder / "users.parquet"), "user_id"), Join(str(folder / "videos.parquet"), "video_id"))
    history = Join(str(folder / "histories.parquet"), "user_id")
    return Source(str(folder / "log.parquet"), user="user_id", item="video_id", time="date", joins=(*joins, history))


def split() -> ByTime:
    """Days up to 2 May train, 3 May validates, 4 and 5 May test: 131,474, 18,581 and 30,329 rows."""
    return ByTime(valid=dt.date(2022, 5, 3), test=dt.date(2022, 5, 4))


def schema() -> Schema:
    """Three feedbacks (click, long_view, like) over everything known at request time: request, user, video, history."""
    ids = [Field(name, FieldKind.ID) for name in ("user_id", "video_id", "author_id", "music_id")]
    hour = Field("hour", FieldKind.CATEGORY, sql="FLOOR(hourmin / 100)")
    request = [_category("tab"), hour, _logarithm("duration", "duration_ms")]
    user = [_category(name) for name in ("user_active_degree", "is_live_streamer", "is_video_author", *_RANGES)]
    numbers = [*(_logarithm(name, name) for name in _COUNTS), Field("register_days", FieldKind.NUMBER)]
    video = [_category(name) for name in ("video_type", "upload_dt", "upload_type", "music_type", "tag", "server_width", "server_height")]
    history = [_logarithm("history_len", "history_len")]
    for name, column in (("watched", "watch_seq"), ("liked", "like_seq"), ("long_watched", "long_watch_seq")):
        history.append(Field(name, FieldKind.SEQUENCE, column=column, like="video_id", target="video_id", length=LENGTH))
    encoded = [_category(name) for name in _ENCODED]
    tasks = (Task("click", label="is_click"), Task("long_view", label="long_view"), Task("like", label="is_like"))
    return Schema((*ids, *request, *user, *numbers, *encoded, *video, *history), tasks)


def _category(name: str) -> Field:
    return Field(name, FieldKind.CATEGORY)


def _logarithm(name: str, column: str) -> Field:
    return Field(name, FieldKind.NUMBER, sql=f"LN({column} + 1)")


def _read(path: Path, layout: pl.DataFrame) -> pl.LazyFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file", mend="unpack the owners' archive and name the folder of its CSVs")
    check_csv(path)
    frame = pl.scan_csv(path, schema_overrides=layout.schema)
    with _readable(path):
        there = frame.collect_schema().names()
    for name in layout.columns:
        if name not in there:
            raise UserError(f"{path}: no column {name!r}", mend=nearest(name, there))
    return frame.select(name for name in there if name in layout.columns)


def _write(table: pl.LazyFrame, path: Path, csvs: Path) -> None:
    buffer = io.BytesIO()
    with _readable(csvs):
        table.collect().write_parquet(buffer, compression="zstd", statistics=True)
    durable.write(path, buffer.getvalue())


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}", mend="unpack the owners' archive again") from error


if __name__ == "__main__":
    sys.exit(door(convert, download=download))
