"""A run file with `[episodes]`: from a raw log to figures of new users and a bundle that adapts, whatever interrupts it or is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import rated_runs
from tests.journeys.conftest import Job, say
from tests.journeys.test_interrupted import wait_for_epochs
from umbel.bundle import Bundle
from umbel.learn.ladder import Rung, UserState

LONG = ("--set", "fit.epochs=4", "--set", "fit.patience=4", "--set", "fit.minutes=0.0005", "--set", "episodes.users=4")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("new users")
    file = rated_runs.write(folder)
    said = say("train", file, "-o", folder / "run")
    assert said.code == 0, said.err
    return Job(file, folder / "log.parquet", folder / "run", said)


@pytest.fixture(scope="module")
def told(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.run / "report.json").read_text())["episodes"]
    return found


def test_every_scenario_is_told_or_says_why_not(told: dict[str, Any]) -> None:
    assert set(told["scenarios"]) == {"warm", "user_cold", "item_cold", "both_cold"}
    new = told["scenarios"]["user_cold"]
    assert new["users"] > 20
    assert set(new["tasks"]) == {"rating", "click"}
    assert 0 < new["tasks"]["rating"]["mae"]["low"] <= new["tasks"]["rating"]["mae"]["value"] < 1.5
    assert new["tasks"]["click"]["auc"]["value"] > 0.5
    for one in told["scenarios"].values():
        assert (one["tasks"] is None) == ("reason" in one) == (one["users"] == 0)


def test_the_curve_has_every_size_over_the_same_users(told: dict[str, Any]) -> None:
    assert list(told["curve"]) == ["0", "1", "3", "5"]
    assert len({(one["users"], one["rows"]) for one in told["curve"].values()}) == 1
    assert list(told["served"]) == list(told["curve"])


def test_the_ladder_answers_as_the_base_does_where_it_says_so(told: dict[str, Any]) -> None:
    """Without rows both are the shared model, and where no rung is better the ladder stays there."""
    assert told["served"]["0"] == told["curve"]["0"]
    lowest = min([one for one in told["ladder"]["from"].values() if one is not None], default=99)
    for shots, one in told["served"].items():
        if int(shots) < lowest:
            assert one == told["served"]["0"], shots


def test_groups_are_those_asked_for_and_ours(told: dict[str, Any]) -> None:
    for task in ("rating", "click"):
        assert set(told["groups"][task]) == {"spread of labels", "activity", "age"}
        ages = {group["name"]: group["users"] for group in told["groups"][task]["age"]["groups"]}
        assert set(ages) == {"a0", "a1", "a2"}


def test_the_ladder_is_chosen_by_its_scores(told: dict[str, Any]) -> None:
    ladder = told["ladder"]
    assert set(ladder["scores"]) == {"content", "head", "steps"}
    assert all(list(one) == ["1", "3", "5"] for one in ladder["scores"].values())
    start, head, content = ladder["from"]["head"], ladder["scores"]["head"], ladder["scores"]["content"]
    better = [int(size) for size in head if head[size] > content[size]]
    assert (start is None) == (5 not in better)
    assert start is None or all(size in better for size in (1, 3, 5) if size >= start)
    assert told["lost_steps"] == {"training": 0, "test": 0}


def test_training_says_who_is_served_by_what(job: Job, told: dict[str, Any]) -> None:
    (line,) = [line for line in job.said.err.splitlines() if "new users are served by attributes alone" in line]
    assert line.endswith("; by id never: training read no user by id ([episodes] ids = 0)")
    assert told["ladder"]["apart"] is False


def test_the_page_tells_it(job: Job) -> None:
    page = (job.run / "report.html").read_text()
    for words in ("New users: melu", "rating: MAE of new users", "For whom it is worst", "Ladder", "known user, known items"):
        assert words in page
    assert "no finite numbers" not in page


def test_a_report_that_is_read_again_has_it_all(job: Job, told: dict[str, Any]) -> None:
    from umbel.run.page import page
    from umbel.run.report import read_report

    report = read_report(job.run / "report.json")
    assert dict(report.episodes) == told
    assert page(report) == (job.run / "report.html").read_text()


def test_a_finished_run_is_not_trained_again(job: Job) -> None:
    said = say("train", job.file, "-o", job.run)
    assert said.code == 0
    assert "this run is finished" in said.err
    assert "epoch   1" not in said.err


def test_its_bundle_scores_and_is_judged(job: Job, tmp_path: Path) -> None:
    assert say("score", job.run / "bundle", job.log, "-o", tmp_path / "scores.parquet").code == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores.height == pl.read_parquet(job.log).height
    assert scores["rating"].is_finite().all()
    assert say("evaluate", job.run / "bundle", job.log).code == 0


def test_users_adapt_at_once_and_the_bundle_stays_as_it_is(job: Job) -> None:
    """64 threads, each with another user: every state is what the user alone gets, and no file and no weight has changed."""
    folder = job.run / "bundle"
    before = digest(folder)
    bundle = Bundle.load(folder)
    weights = {name: one.clone() for name, one in bundle.model.state_dict().items()}
    log = pl.read_parquet(job.log).filter(pl.col("part") == "test")
    users = [rows.head(8) for _, rows in log.group_by("user", maintain_order=True)][:16]
    alone = [bundle.adapt(rows).to_bytes() for rows in users]
    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(lambda number: bundle.adapt(users[number % 16]).to_bytes(), range(256)))
    assert all(one == alone[number % 16] for number, one in enumerate(found))
    assert all(len(one) <= 1024 for one in found)
    assert digest(folder) == before
    assert all(one.equal(weights[name]) for name, one in bundle.model.state_dict().items())


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def start(file: Path, run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "umbel", "train", str(file), "-o", str(run), *LONG]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_run_that_is_stopped_twice_ends_on_the_same_bytes(tmp_path: Path) -> None:
    """Killed once, interrupted once, somewhere inside an epoch."""
    file = rated_runs.write(tmp_path, log=rated_runs.frame(users=60))
    for number, (epochs, how, code) in enumerate([(1, signal.SIGKILL, -9), (2, signal.SIGINT, 130)]):
        process = start(file, tmp_path / "stopped")
        wait_for_epochs(tmp_path / "stopped", epochs)
        process.send_signal(how)
        _, err = process.communicate()
        assert process.returncode == code, err
        if number:
            assert "the same command goes on from the last checkpoint" in err
            assert "Traceback" not in err
    resumed = say("train", file, "-o", tmp_path / "stopped", *LONG)
    assert resumed.code == 0, resumed.err
    assert "epoch   1" not in resumed.err
    assert say("train", file, "-o", tmp_path / "whole", *LONG).code == 0
    for name in ("predictions.npz", "bundle/weights.safetensors", "bundle/ladder.json"):
        one, other = ((tmp_path / run / name).read_bytes() for run in ("stopped", "whole"))
        assert one == other, name
    one, other = (json.loads((tmp_path / run / "report.json").read_text())["episodes"] for run in ("stopped", "whole"))
    assert one == other


def strings(*changes: tuple[str, str]) -> dict[str, str]:
    return dict(changes)


@pytest.mark.parametrize(
    ("changes", "what", "mend"),
    [
        (strings(('"melu", steps', '"mello", steps')), "episodes.method: no 'mello'", "melu"),
        (strings(("rate = 0.05 }", "rat = 0.05 }")), "episodes.method: 'melu' has no parameter 'rat'", "rate"),
        (strings(("steps = 2,", "steps = 'two',")), "episodes.method.steps = 'two'", "integer"),
        (strings(("support = 5", "suport = 5")), "unknown key 'episodes.suport'", "support"),
        (strings(("support = 5", "support = 8")), "episodes: history 8 to 100, support 8", "let history begin at 9 or more"),
        (strings(("support = 5", "support = -1")), "episodes.support = -1", "greater than or equal to 0"),
        (strings(("history = [8, 100]", "history = [90, 100]")), "users in the train part none has 90 to 100 rows",
         "widen [episodes] history"),
        (strings(("curve = [0, 1, 3, 5]", "curve = [0, 1, 3, 15]")), "15 support rows leave no query in a history of 10 to 100",
         "let [episodes] curve_history begin at 16 or more"),
        (strings(("curve_history = [10, 100]", "curve_history = [90, 100]")), "episodes.curve: of 30 users in the valid part",
         "lower the first of [episodes] curve_history"),
        (strings(("curve = [0, 1, 3, 5]", "curve = [-1, 3]")), "episodes.curve: -1 support rows", "from 0 on"),
        (strings(('groups = ["age"]', 'groups = ["ages"]')), "episodes.groups: 'ages' is no id or category", "age"),
        (strings(('groups = ["age"]', 'groups = ["year"]')), "episodes.groups: 'year' is no id or category", ""),
        (strings(('user = "user"\n', "")), "episodes: [data] names no user column", "add user = 'COLUMN' under [data]"),
        (strings(('item = "item"\n', "")), "episodes: no id field reads the log's item column", "name it in [data] item"),
        (strings(('item = { kind = "id"', 'item = { kind = "category"')), "episodes: no id field reads the log's item column", "id field"),
        (strings(('{ name = "melu", steps = 2, rate = 0.05 }', '"bias"')), "episodes.method: trains nothing", "umbel compare"),
        (strings(('time = "time"\n', ""), ("users = 16", "by_time = true")), "episodes.by_time: [data] names no time column",
         "time = 'COLUMN'"),
        (strings(('rating = { kind = "regression" }', ""), ("click = { }", 'rating = { kind = "poisson" }')),
         "episodes: no task is a regression or an event", "add one that is judged"),
        (strings(("click = { }", "click = { negatives = 0.1 }")), "tasks.click.negatives: episodes are trained on whole", "leave it out"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, changes: dict[str, str], what: str, mend: str) -> None:
    said = say("train", rated_runs.write(tmp_path, changes=changes), "-o", tmp_path / "run")
    assert said.code == 2, said.err
    assert what in said.line
    assert mend in said.line
    assert not (tmp_path / "run" / "log.jsonl").exists(), "found before an epoch was trained"


def log(change: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    return change(rated_runs.frame(users=60))


def outside(frame: pl.DataFrame) -> pl.DataFrame:
    """One rating in ten far outside the scale."""
    return frame.with_columns(rating=pl.when(pl.col("time") % 10 == 0).then(1e6).otherwise("rating"))


def twice(frame: pl.DataFrame) -> pl.DataFrame:
    """Every row of every user twice, at the same time."""
    return pl.concat([frame, frame]).sort("time")


def bare(frame: pl.DataFrame) -> pl.DataFrame:
    """Items without attributes in validation and test."""
    train = pl.col("part") == "train"
    return frame.with_columns(genres=pl.when(train).then("genres"), year=pl.when(train).then("year"))


def strange(frame: pl.DataFrame) -> pl.DataFrame:
    """Ages and genres that training never saw."""
    train = pl.col("part") == "train"
    genres = pl.when(train).then("genres").otherwise(["none"])
    return frame.with_columns(age=pl.when(train).then("age").otherwise(pl.lit("new")), genres=genres)


@pytest.mark.parametrize("change", [outside, twice, bare, strange])
def test_odd_rows_are_defined(tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """No number that is none reaches weights, figures or the bundle; a row that stands twice counts twice."""
    file = rated_runs.write(tmp_path, log=log(change))
    said = say("train", file, "-o", tmp_path / "run", "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    told = json.loads((tmp_path / "run" / "report.json").read_text())["episodes"]
    new = told["scenarios"]["user_cold"]
    assert new["tasks"]["rating"]["mae"]["value"] > 0
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    assert all(one.isfinite().all() for one in bundle.model.state_dict().values())
    state = bundle.adapt(log(change).filter(pl.col("user") == 4).head(6))
    assert isinstance(state, UserState)
    assert state.rows == 6
    if change is twice:
        rows = log(change)
        known = rows.filter(pl.col("part") == "train")["item"].unique().to_list()
        tested = rows.filter((pl.col("part") == "test") & (pl.col("user") % 5 == 4) & pl.col("item").is_in(known))
        assert new["rows"] + 5 * new["users"] == tested.height


def test_an_inner_step_that_is_no_number_is_counted_and_told(tmp_path: Path) -> None:
    """It is not taken, the weights stay finite, and one line says so."""
    file = rated_runs.write(tmp_path, log=rated_runs.frame(users=60), changes=strings(("rate = 0.05 }", "rate = 1e4 }")))
    said = say("train", file, "-o", tmp_path / "run", "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    told = json.loads((tmp_path / "run" / "report.json").read_text())["episodes"]
    lost = told["lost_steps"]
    assert lost["training"] > 0
    (line,) = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert f"{lost['training']} inner steps in training and {lost['test']} on test users were no finite numbers and were not taken" in line
    assert "no finite numbers" in (tmp_path / "run" / "report.html").read_text()
    assert all(one.isfinite().all() for one in Bundle.load(tmp_path / "run" / "bundle").model.state_dict().values())


def test_a_training_that_runs_away_stops_in_one_line(tmp_path: Path) -> None:
    file = rated_runs.write(tmp_path, log=rated_runs.frame(users=60), changes=strings(("rate = 0.05 }", "rate = 1e30 }")))
    said = say("train", file, "-o", tmp_path / "run", "--set", "fit.epochs=1")
    assert said.code == 2
    assert "is not a finite number in epoch 1, step 1" in said.line
    assert said.line.endswith("or lower the rate of [episodes] method, if it has one")


def test_without_a_curve_there_is_no_ladder(tmp_path: Path) -> None:
    file = rated_runs.write(tmp_path, log=rated_runs.frame(users=60), changes=strings(("curve = [0, 1, 3, 5]", "curve = []")))
    said = say("train", file, "-o", tmp_path / "run", "--set", "fit.epochs=1")
    assert said.code == 0, said.err
    told = json.loads((tmp_path / "run" / "report.json").read_text())["episodes"]
    assert told["ladder"] is None
    assert (told["curve"], told["served"]) == ({}, {})
    assert Bundle.load(tmp_path / "run" / "bundle").ladder is None


def test_one_task_of_events_is_enough(tmp_path: Path) -> None:
    file = rated_runs.write(tmp_path, log=rated_runs.frame(users=60), changes=strings(('rating = { kind = "regression" }\n', "")))
    said = say("train", file, "-o", tmp_path / "run", "--set", "fit.epochs=1", "--set", "episodes.method=anil")
    assert said.code == 0, said.err
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    assert bundle.columns == ("click",)
    assert bundle.ladder is not None
    assert bundle.ladder.rung(0) is Rung.CONTENT


MELU = '"melu", steps = 2, rate = 0.05 }'


@pytest.mark.parametrize("own", [strings(("users = 16", "users = 16\nids = 0.5")), strings((MELU, '"mean_embedding" }'))])
def test_a_user_who_trained_for_long_is_read_by_id(tmp_path: Path, own: dict[str, str]) -> None:
    """Where validation holds rows of users who trained by id: from how many on the id answers is in report and bundle alike."""
    frame = rated_runs.frame(users=120)
    again = frame.filter(pl.col("part") == "train").with_columns(part=pl.lit("valid"))
    changes = own | strings(("epochs = 2", "epochs = 6"), ("rate = 0.01", "rate = 0.03"))
    said = say("train", rated_runs.write(tmp_path, log=pl.concat([frame, again]), changes=changes), "-o", tmp_path / "run")
    assert said.code == 0, said.err
    told = json.loads((tmp_path / "run" / "report.json").read_text())["episodes"]["ladder"]
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    assert bundle.ladder is not None
    assert bundle.ladder.known == told["from"]["id"] is not None
    rows = frame.filter(pl.col("user") == 10).head(6)
    assert (bundle.adapt(rows).rung is Rung.ID) == (told["from"]["id"] == 10), "who had between ten and twenty training rows"
    assert bundle.adapt(rows.with_columns(user=pl.lit(10_000))).rung is not Rung.ID
    users = bundle.model.places.span("user")
    table = bundle.model.table[users.start : users.stop].detach().numpy()
    assert len(np.unique(table, axis=0)) > 40, "users who trained have rows of their own"


def test_users_whom_nobody_read_by_id_are_one(job: Job) -> None:
    """Without `ids` every user of a bundle is the unknown one: known users are scored as new ones are."""
    bundle = Bundle.load(job.run / "bundle")
    users = bundle.model.places.span("user")
    assert len(np.unique(bundle.model.table[users.start : users.stop].detach().numpy(), axis=0)) == 1


@pytest.mark.parametrize("method", ["mean_embedding", "dropoutnet"])
def test_users_whom_a_method_reads_by_id_are_who_they_are(tmp_path: Path, method: str) -> None:
    """Their embeddings are in the bundle; a new user is the mean of them where training never met one, and what it learned otherwise."""
    file = rated_runs.write(tmp_path, log=rated_runs.frame(users=60), changes=strings((MELU, f'"{method}" }}')))
    said = say("train", file, "-o", tmp_path / "run")
    assert said.code == 0, said.err
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    users = bundle.model.places.span("user")
    unknown, *known = bundle.model.table[users.start : users.stop].detach().numpy()
    assert len(np.unique(known, axis=0)) == len(known) == 36
    assert np.allclose(np.mean(known, axis=0), unknown, atol=1e-6) is (method == "mean_embedding")
    told = json.loads((tmp_path / "run" / "report.json").read_text())["episodes"]
    assert told["ladder"]["no_id"].startswith("no validation row is of a user who trained")
    if method == "mean_embedding":
        assert told["curve"]["3"] == told["curve"]["0"] == told["served"]["0"], "the bundle's new user is the method's"
