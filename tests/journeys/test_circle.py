"""The whole circle: a log trains a bundle, which answers over HTTP; what came of its answers is collected, trained on, and gated."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import SIMULATED, Job, say
from tests.server import Here, here
from umbel.run.report import read_report

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "kuairand-pure"


@dataclass(frozen=True)
class Impression:
    """A row of the next days, as a client meets it: who, what, the request's fields, and what the user did."""

    user: str
    item: str
    context: Mapping[str, object]
    did: tuple[str, ...]


def replay(server: Here, rows: list[Impression]) -> None:
    """Every row as a request for that one item, then what happened as events, some of them twice; the clock goes on at the end."""
    for number, row in enumerate(rows):
        asked = {"user_id": row.user, "items": [row.item], "context": dict(row.context)}
        answer = server.client.post("/v1/rank", json=asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["logged"]
        request = answer.json()["request_id"]
        events = [{"event_id": f"{number}-{kind}", "type": kind, "item_id": row.item, "user_id": row.user, "request_id": request,
                   "occurred_at": int(time.time() * 1000)} for kind in row.did]  # fmt: skip
        for _ in range(1 + (number % 5 == 0) if events else 0):
            told = server.client.post("/v1/events", json=events)
            assert told.status_code == 200, told.text
    time.sleep(1.2)
    last = {"event_id": "last", "type": "tick", "item_id": rows[0].item, "user_id": rows[0].user, "occurred_at": int(time.time() * 1000)}
    assert server.client.post("/v1/events", json=[last]).status_code == 200


def collected(bundle: Path, rows: list[Impression], folder: Path) -> pl.DataFrame:
    with here(bundle, folder) as server:
        replay(server, rows)
    said = say("collect", folder / "umbel.db", "-o", folder / "next.parquet")
    assert said.code == 0, said.err
    return pl.read_parquet(folder / "next.parquet")


def later(job: Job) -> list[Impression]:
    """The last days of the simulated log."""
    frame = pl.read_parquet(job.log).filter(pl.from_epoch("time_ms", time_unit="ms").dt.date() >= pl.date(2024, 1, 5)).head(300)
    return [
        Impression(str(row["user"]), str(row["item"]), {"device": row["device"], "region": row["region"]},
                   tuple(name for name in ("click", "like", "buy") if row[name] == 1))
        for row in frame.iter_rows(named=True)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def first(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose tasks have rules of feedback."""
    folder = tmp_path_factory.mktemp("circle")
    (folder / "run.toml").write_text(SIMULATED.format(log=job.log))
    said = say("train", folder / "run.toml", "-o", folder / "first")
    assert said.code == 0, said.err
    return folder


@pytest.fixture(scope="module")
def rows(job: Job) -> list[Impression]:
    return later(job)


@pytest.fixture(scope="module")
def kept(first: Path, rows: list[Impression]) -> pl.DataFrame:
    return collected(first / "first" / "bundle", rows, first)


def test_the_collected_log_is_what_was_shown_and_what_came_of_it(kept: pl.DataFrame, rows: list[Impression]) -> None:
    assert kept.height == len(rows)
    for name in ("click", "like"):
        assert int(kept[name].sum()) == sum(name in row.did for row in rows)
    told = sorted(zip(kept["user"].cast(pl.String), kept["item"].cast(pl.String), kept["device"], strict=True))
    assert told == sorted((row.user, row.item, str(row.context["device"])) for row in rows)
    assert kept["predicted_click"].is_between(0, 1).all()
    assert kept["propensity"].is_null().all() or (kept["propensity"] == 1).all(), "one item to choose from"


def test_what_was_logged_is_what_the_bundle_says_offline(first: Path, kept: pl.DataFrame) -> None:
    said = say("score", first / "first" / "bundle", first / "next.parquet", "-o", first / "scores.parquet")
    assert said.code == 0, said.err
    scores = pl.read_parquet(first / "scores.parquet")
    for name in ("click", "like", "buy"):
        assert float(np.abs(scores[name].to_numpy() - kept[f"predicted_{name}"].to_numpy()).max()) < 1e-6


def test_the_next_training_goes_on_from_the_log_and_the_gate_decides(first: Path, kept: pl.DataFrame) -> None:
    text = SIMULATED.format(log=first / "next.parquet")
    text = text.replace('by = "time"\nvalid = 2024-01-05\ntest = 2024-01-06', 'by = "user"\nvalid = 0.2\ntest = 0.2')
    (first / "next.toml").write_text(text)
    said = say("train", first / "next.toml", "-o", first / "second", "--from", first / "first" / "bundle", "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    report = read_report(first / "second" / "report.json")
    assert sum(report.rows.values()) == kept.height
    wide = ("--bound", "calibration=0,1000", "--bound", "milliseconds=100000", "--bound", "worse=1")
    gate = say("promote", first / "second" / "bundle", first / "first" / "bundle", first / "next.parquet", *wide)
    assert gate.code == 0, gate.out + gate.err
    assert gate.out.splitlines()[-1].startswith("promote ")
    (first / "again").mkdir()
    with here(first / "second" / "bundle", first / "again") as server:
        answer = server.client.post("/v1/rank", json={"user_id": "1", "items": ["1", "2"], "context": {"device": "phone", "region": 1}})
        assert answer.status_code == 200
        assert len(answer.json()["items"]) == 2


def test_the_watch_reads_the_collected_log(first: Path, kept: pl.DataFrame) -> None:
    said = say("monitor", first / "first" / "bundle", first / "next.parquet", "--all")
    assert said.code in (0, 3)
    skew = next(line for line in said.out.splitlines() if "skew" in line)
    assert skew.startswith("ok")
    assert f"0 of {kept.height}" in skew


KUAIRAND = """
[data]
log  = "{log}"
user = "user_id"
item = "video_id"
time = "time_ms"
[fields]
user_id  = {{ kind = "id" }}
video_id = {{ kind = "id" }}
tab      = {{ kind = "category" }}
hour     = {{ kind = "category", sql = "FLOOR(hourmin / 100)" }}
[tasks]
click     = {{ label = "is_click", feedback = {{ window = "1s", positive_when = "kind = 'click'" }} }}
long_view = {{ label = "long_view", feedback = {{ window = "1s", positive_when = "kind = 'long_view'" }} }}
[feedback]
lateness = "0s"
[split]
{split}
[model]
recipe = "mmoe"
dim    = 4
expert = [16]
tower  = [8]
[fit]
epochs  = 2
threads = 1
batch   = 1024
rate    = 0.005
[evaluate]
resamples = 40
"""


@pytest.mark.skipif(not (DATA / "log.parquet").exists(), reason="../shared/data/kuairand-pure is absent")
def test_the_circle_on_real_rows(tmp_path: Path) -> None:
    """KuaiRand-Pure up to a day, served, the next day replayed, collected, trained on: quality of both on the day after."""
    frame = pl.read_parquet(DATA / "log.parquet").filter(pl.col("user_id") % 12 == 0)
    date = pl.col("date")
    before, day, after = (frame.filter(one) for one in (date < 20220503, date == 20220503, date > 20220503))
    before.write_parquet(tmp_path / "log.parquet")
    after.write_parquet(tmp_path / "after.parquet")
    (tmp_path / "first.toml").write_text(KUAIRAND.format(log=tmp_path / "log.parquet", split='by = "user"\nvalid = 0.1\ntest = 0.1'))
    assert say("train", tmp_path / "first.toml", "-o", tmp_path / "first").code == 0
    rows = [
        Impression(str(row["user_id"]), str(row["video_id"]), {"tab": row["tab"], "hourmin": row["hourmin"]},
                   tuple(name for name, column in (("click", "is_click"), ("long_view", "long_view")) if row[column] == 1))
        for row in day.head(160).iter_rows(named=True)
    ]  # fmt: skip
    log = collected(tmp_path / "first" / "bundle", rows, tmp_path)
    assert int(log["is_click"].sum()) == sum("click" in row.did for row in rows)
    assert int(log["long_view"].sum()) == sum("long_view" in row.did for row in rows)
    text = KUAIRAND.format(log=tmp_path / "next.parquet", split='by = "user"\nvalid = 0.2\ntest = 0.2')
    (tmp_path / "next.toml").write_text(text)
    said = say("train", tmp_path / "next.toml", "-o", tmp_path / "second", "--from", tmp_path / "first" / "bundle", "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    bundles = tmp_path / "second" / "bundle", tmp_path / "first" / "bundle"
    gate = say("promote", *bundles, tmp_path / "after.parquet", "-o", tmp_path / "gate.json")
    assert gate.code in (0, 3), gate.err
    assert all(any(f"{task}: auc" in line for line in gate.out.splitlines()) for task in ("click", "long_view"))
