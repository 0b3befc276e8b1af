"""`umbel fuse`: from a bundle and a log to a policy that ranks, its page and report; the same again for a seed; wrong input in a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import Job, say
from umbel.bundle import Bundle
from umbel.fusion import Fusion, Term, read
from umbel.fusion.shapes import Linear


@pytest.fixture(scope="module")
def fused(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A policy tuned for purchases, and what was said."""
    out = tmp_path_factory.mktemp("fused") / "policy.json"
    said = say("fuse", job.run / "bundle", job.log, "-o", out, "--primary", "buy", "--bound", "like=90%", "--set", "trials=40")
    assert said.code == 0, said.err
    return out, said.out


def test_a_policy_is_left_that_the_bundle_can_rank_by(job: Job, fused: tuple[Path, str]) -> None:
    out, said = fused
    policy, bundle = read(out), Bundle.load(job.run / "bundle")
    assert set(policy.tasks) <= {"click", "like", "buy_marginal"}
    assert policy.places(bundle.columns) == [bundle.columns.index(task) for task in policy.tasks]
    assert "on test users" in said
    assert f"{out}  {out.with_suffix('.html')}" in said


def test_the_report_has_the_budget_and_the_page_stands_beside_it(fused: tuple[Path, str]) -> None:
    out, _ = fused
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert len(report["tried"]) == 40
    assert report["policy"] == json.loads(out.read_text())
    assert report["tried"][report["chosen"]]["keeps limits"]
    start, limit = report["tried"][0]["values"], report["tasks"]["like"]["limit"]
    assert limit == pytest.approx(0.9 * start["like"])
    assert report["tasks"]["click"]["limit"] == pytest.approx(0.99 * start["click"])
    assert report["tried"][report["chosen"]]["values"]["like"] >= limit
    assert report["tried"][report["chosen"]]["values"]["buy"] >= start["buy"]
    assert [one["name"] for one in report["test"]] == ["chosen", "click alone", "like alone", "buy_marginal alone", "the start"]
    page = out.with_suffix(".html").read_text()
    assert "Fusion for buy" in page
    assert "<svg" in page


def test_figures_are_those_of_scored_rows(job: Job, tmp_path: Path, fused: tuple[Path, str]) -> None:
    """The start's figure on the half that chose, from `umbel score` and a plain loop."""
    scored = tmp_path / "scored.parquet"
    assert say("score", job.run / "bundle", job.log, "-o", scored).code == 0
    from umbel.fuse.log import for_test

    predicted = pl.read_parquet(scored).select("click", "like", "buy_marginal").rename(lambda name: f"p_{name}")
    frame = pl.read_parquet(job.log).with_columns(predicted)
    frame = frame.filter(~for_test(frame["user"].cast(pl.Int64).to_numpy(), 0))
    fusion = Bundle.load(job.run / "bundle").fusion
    assert fusion is not None
    frame = frame.with_columns(fused=fusion.score(frame.select("p_click", "p_like", "p_buy_marginal").to_numpy()))
    top = frame.filter(pl.len().over("user") > 5).sort("fused", descending=True).group_by("user").head(5)
    report = json.loads(fused[0].with_suffix(".report.json").read_text())
    assert report["tried"][0]["values"]["click"] == pytest.approx(top["click"].mean(), abs=0.01)  # ties are for chance


def test_the_same_seed_leaves_the_same_bytes(job: Job, tmp_path: Path) -> None:
    kept = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / name / "policy.json"
        said = say("fuse", job.run / "bundle", job.log, "-o", out, "--set", "trials=12", "--set", f"seed={seed}", "--set", "method=tpe")
        assert said.code == 0, said.err
        kept.append([path.read_bytes() for path in sorted(out.parent.iterdir())])
    assert len(kept[0]) == 3
    assert kept[0] == kept[1]
    assert kept[0] != kept[2]


@pytest.mark.parametrize("family", ["log", "power", "constrained", "additive_monotone"])
def test_every_family_is_tuned_in_equal_shares(job: Job, tmp_path: Path, family: str) -> None:
    out = tmp_path / "policy.json"
    said = say("fuse", job.run / "bundle", job.log, "-o", out, "--set", "trials=8", "--set", f"family={family}", "--set", "metric=ndcg")
    assert said.code == 0, said.err
    assert read(out).family == family
    assert "nDCG by the labels' values in each user's rows" in json.loads(out.with_suffix(".report.json").read_text())["figure"]


def test_requests_are_ordered_inside_themselves(job: Job, tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    frame = pl.read_parquet(job.log)
    hour = (pl.int_range(frame.height) // 500).cast(pl.String)
    frame.with_columns(request_id=pl.col("user").cast(pl.String) + "-" + hour).write_parquet(log)
    out = tmp_path / "policy.json"
    said = say("fuse", job.run / "bundle", log, "-o", out, "--set", "trials=6", "--set", "by=request_id", "--set", "top=2")
    assert said.code == 0, said.err
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert report["figure"] == "the mean label of the first 2 of each request_id"
    groups = int(report["facts"]["tuned on"].split(" in ")[1].split()[0].replace(",", ""))
    assert groups > 100  # there are 60 users


def test_an_unwanted_task_is_pressed_down(job: Job, tmp_path: Path) -> None:
    start = Fusion((Term("click", Linear(1.0, 0.3)), Term("like", Linear(1.0, 0.2), -1)), "quiet")
    start.save(tmp_path / "start.json")
    out = tmp_path / "policy.json"
    said = say(
        "fuse", job.run / "bundle", job.log, "-o", out, "--primary", "like", "--bound", "click=0%",
        "--set", "trials=30", "--set", f"policy={tmp_path / 'start.json'}", "--set", "metric=auc",
    )  # fmt: skip
    assert said.code == 0, said.err
    report = json.loads(out.with_suffix(".report.json").read_text())
    values = [one["values"]["like"] for one in report["tried"]]
    assert report["tried"][report["chosen"]]["values"]["like"] == min(values)
    assert min(values) < 0.5
    assert read(out).name == "quiet"


WRONG = [
    (["--primary", "bought"], "--primary bought: no such task in the fusion; known: buy, click, like"),
    (["--bound", "like"], "--bound like: not TASK=FIGURE"),
    (["--bound", "like=5"], "--bound: none of 6 policies keeps every limit; loosen one; the nearest has like 0."),
    (["--set", "by=requests"], "no column 'requests'"),
    (["--set", "trials=2"], "trials = 2: too few"),
    (["--set", "top=100000"], "no request or user has rows enough to order"),
    (["--set", "policy=nowhere.json"], "nowhere.json: no such fusion policy"),
    (["--set", "family=cubic"], "fusion: no family 'cubic'"),
    (["--set", "join=a"], "--join a: not KEY=TABLE"),
    (["--set", "speed=1"], "has no parameter 'speed'"),
]


@pytest.mark.parametrize(("words", "part"), WRONG, ids=[words[-1] for words, _ in WRONG])
def test_wrong_input_is_one_line_and_leaves_nothing(job: Job, tmp_path: Path, words: list[str], part: str) -> None:
    out = tmp_path / "policy.json"
    given = [*words] if words[-1].startswith("trials") else [*words, "--set", "trials=6"]
    said = say("fuse", job.run / "bundle", job.log, "-o", out, *given)
    assert said.code == 2
    assert part in said.line
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_one_line(job: Job, tmp_path: Path) -> None:
    bundle, out = job.run / "bundle", tmp_path / "policy.json"
    assert "not a bundle" in say("fuse", tmp_path, job.log, "-o", out).line
    assert "nothing.parquet" in say("fuse", bundle, tmp_path / "nothing.parquet", "-o", out).line
    assert "-o policy.txt: a policy is a JSON file; call it policy.json" in say("fuse", bundle, job.log, "-o", "policy.txt").line
    bare = tmp_path / "bare.parquet"
    pl.read_parquet(job.log).drop("like").write_parquet(bare)
    assert "bare.parquet: no label of like; give a log that has one" in say("fuse", bundle, bare, "-o", out).line
    empty = tmp_path / "empty.parquet"
    pl.read_parquet(job.log).head(0).write_parquet(empty)
    assert "empty.parquet: no rows" in say("fuse", bundle, empty, "-o", out).line
    Fusion((Term("click", Linear()),), "lonely").save(tmp_path / "one.json")
    said = say("fuse", bundle, job.log, "-o", out, "--set", f"policy={tmp_path / 'one.json'}")
    assert "fusion 'lonely': orders by click alone; give one of several tasks" in said.line
    Fusion((Term("click", Linear()), Term("love", Linear()))).save(tmp_path / "strange.json")
    assert "no prediction 'love'" in say("fuse", bundle, job.log, "-o", out, "--set", f"policy={tmp_path / 'strange.json'}").line
    assert not out.exists()


def test_halves_share_no_user(job: Job) -> None:
    from umbel.fuse.log import for_test

    users = pl.read_parquet(job.log)["user"].cast(pl.Int64).to_numpy()
    held = for_test(users, 0)
    assert not np.intersect1d(users[held], users[~held]).size
    assert 10 < len(np.unique(users[held])) < 50
