"""The circle of a service that is told little: nobody PUTs items, a task has no rule of feedback, and every next verb reads the log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import content, say
from tests.server import here

RUN = """
[data]
log = "{log}"
user = "user"
item = "item"
time = "time"
request = "visit"
[fields]
user   = {{ kind = "id" }}
item   = {{ kind = "id" }}
device = {{ kind = "category" }}
price  = {{ kind = "number" }}
cents  = {{ kind = "number", sql = "cost * 100" }}
tags   = {{ kind = "bag" }}
[tasks]
click = {{ label = "is_click", feedback = {{ window = "1s", positive_when = "kind = 'click'" }} }}
stars = {{ label = "rating", kind = "regression", range = [1, 5] }}
rich  = {{ sql = "paid > 3" }}
[feedback]
lateness = "0s"
[split]
by = "user"
valid = 0.3
test = 0.3
[model]
recipe = "mmoe"
dim = 4
expert = [8]
tower = [4]
[fit]
epochs = 1
batch = 256
threads = 1
[evaluate]
resamples = 20
slices = ["shop"]
"""
UNTOLD = {"price": pl.Float64, "cost": pl.Int64, "tags": pl.String, "rating": pl.Int64, "paid": pl.Float64, "shop": pl.String}


@dataclass(frozen=True)
class Loop:
    """A bundle that answered, the first answers of it, and the log that was collected."""

    folder: Path
    rank: dict[str, object]
    full: dict[str, object]
    recommend: dict[str, object]
    written: list[dict[str, object]]
    told: list[dict[str, object]]

    @property
    def bundle(self) -> Path:
        return self.folder / "first" / "bundle"

    @property
    def log(self) -> Path:
        return self.folder / "next.parquet"


def rows(count: int = 900) -> pl.DataFrame:
    draw = np.random.default_rng(5)
    click = draw.random(count) < 0.4
    return pl.DataFrame({
        "user": draw.integers(0, 40, count), "item": draw.integers(0, 20, count), "time": np.arange(count) + 1_700_000_000_000,
        "visit": [f"v{number // 5}" for number in range(count)],
        "device": draw.choice(["phone", "desk"], count), "price": draw.random(count), "cost": draw.integers(1, 9, count),
        "tags": [["a", "b"][: number % 3] for number in range(count)],
        "shop": draw.choice(["north", "south"], count), "is_click": click.astype(int), "paid": draw.random(count) * 6,
        "rating": [int(one) if clicked else None for one, clicked in zip(draw.integers(1, 6, count), click, strict=True)],
    })  # fmt: skip


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("told")
    rows().write_parquet(folder / "log.parquet")
    (folder / "run.toml").write_text(RUN.format(log=folder / "log.parquet"))
    said = say("train", folder / "run.toml", "-o", folder / "first")
    assert said.code == 0, said.err
    with here(folder / "first" / "bundle", folder) as server:
        answers = []
        for user in range(40):
            asked = {"user_id": str(user), "items": ["1", "2", "3", "4"], "context": {"device": "phone"}}
            answers.append(server.client.post("/v1/rank", json=asked).json())
            click: dict[str, object] = {"event_id": str(user), "type": "click", "item_id": str(1 + user % 4), "user_id": str(user)}
            click["request_id"] = answers[-1]["request_id"]
            click["occurred_at"] = int(answers[-1]["request_id"][:12], 16) + 1  # inside the window, however slow this machine is
            assert server.client.post("/v1/events", json=[click]).status_code == 200
        time.sleep(1.2)
        tick = {"event_id": "last", "type": "click", "item_id": "9", "user_id": "9", "occurred_at": int(time.time() * 1000)}
        assert server.client.post("/v1/events", json=[tick]).status_code == 200
        full = {"items": ["1", {"item_id": "2", "fields": {"price": 1.0, "cost": 3, "tags": None}}], "context": {"device": "phone"}}
        named = [{"id": "1", "fields": {"pric": 3.5}}, {"id": "2", "fields": {"price": 3.5, "cost": 2}}, {"id": ""}]
        written = server.client.put("/v1/items", json=named)
        one = server.client.put("/v1/users/7", json={"fields": {"devise": "phone"}})
        assert (written.status_code, one.status_code) == (207, 200)
        names = [{**tick, "event_id": f"{kind}{at}", "type": kind} for at, kind in enumerate(("clik", "click"))]
        told = server.client.post("/v1/events", json=names)
        assert told.status_code == 200, "nothing is rejected"
        for gone in ("items/1", "items/2", "users/7"):
            assert server.client.delete(f"/v1/{gone}").status_code == 204
        whole = server.client.post("/v1/rank", json={"user_id": "1", **full}).json()
        found = server.client.post("/v1/recommend", json={"user_id": "1", "n": 2, "context": {"device": "phone", "price": 1.0}}).json()
    said = say("collect", folder / "umbel.db", "-o", folder / "next.parquet")
    assert said.code == 0, said.err
    return Loop(folder, answers[0], whole, found, [*written.json()["results"], one.json()], told.json()["results"])


def test_an_answer_names_what_it_was_not_told(loop: Loop) -> None:
    assert loop.rank["missing"] == ["cost", "price", "tags"]
    assert loop.full["missing"] == [], "one item's fields are told, though they are null, or another's are not"
    assert loop.recommend["missing"] == ["cost", "tags"]


def test_what_nothing_reads_is_accepted_and_said(loop: Loop) -> None:
    lost = "the model reads no 'pric'; did you mean 'price'?"
    assert [(one["result"], one["reason"]) for one in loop.written[:2]] == [("accepted", lost), ("accepted", None)]
    assert loop.written[2]["result"] == "rejected"
    assert loop.written[3] == {"id": "7", "fields": {"devise": "phone"}, "reason": "the model reads no 'devise'; did you mean 'device'?"}
    unread = "no task reads events of type 'clik'; did you mean 'click'?"
    assert [(one["result"], one["reason"]) for one in loop.told] == [("accepted", unread), ("accepted", None)]


def test_the_collected_log_has_every_column_that_is_read_in_the_types_of_training(loop: Loop) -> None:
    frame = pl.read_parquet(loop.log)
    assert {name: frame[name].dtype for name in UNTOLD} == UNTOLD
    assert all(frame[name].null_count() == frame.height for name in UNTOLD)
    assert frame["device"].to_list() == ["phone"] * frame.height
    assert frame["visit"].to_list() == frame["request_id"].to_list()
    assert frame.height == 160
    assert frame["is_click"].sum() == 40


def test_the_log_is_watched_judged_and_scored_as_it_was_answered(loop: Loop) -> None:
    watched = say("monitor", loop.bundle, loop.log, "--all")
    assert watched.code in (0, 3), watched.err
    assert "0 of 160" in next(line for line in watched.out.splitlines() if "skew" in line)
    judged = say("evaluate", loop.bundle, loop.log, "-o", loop.folder / "judged.json")
    assert judged.code == 0, judged.err
    assert content(loop.folder / "judged.json")["tasks"]["click"]["positives"] == 40


def test_the_next_training_goes_on_though_a_task_has_no_label_any_more(loop: Loop) -> None:
    (loop.folder / "next.toml").write_text(RUN.format(log=loop.log))
    said = say("train", loop.folder / "next.toml", "-o", loop.folder / "second", "--from", loop.bundle)
    assert said.code == 0, said.err
    report = content(loop.folder / "second" / "report.json")
    assert report["tasks"]["click"]["auc"]["value"] is not None
    assert report["tasks"]["stars"]["rows"] == 0
    scored = say("score", loop.folder / "second" / "bundle", loop.folder / "log.parquet", "-o", loop.folder / "scores.parquet")
    assert scored.code == 0, scored.err
    assert np.isfinite(pl.read_parquet(loop.folder / "scores.parquet").select("click", "stars", "rich").to_numpy()).all()
    with here(loop.folder / "second" / "bundle", loop.folder / "second") as server:
        priced = {"items": [{"item_id": "1", "fields": {"price": 0.5, "cost": 4, "tags": ["a"]}}]}
        answer = server.client.post("/v1/rank", json={"user_id": "1", **priced}).json()
    assert answer["rung"] == "full", "a column that was empty takes the values that it took before"
