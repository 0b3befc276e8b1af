"""`umbel explain`: a log, one row, a planted answer that is found, and what cannot be explained in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.journeys.conftest import Job, content, say
from umbel.bundle import Bundle
from umbel.study.explain.explain import explain

PLANTED = """
[data]
log = "{log}"
user = "user"
time = "time"
[fields]
colour = {{ kind = "category" }}
size = {{ kind = "number" }}
noise = {{ kind = "category" }}
static = {{ kind = "number" }}
tags = {{ kind = "bag", length = 3 }}
[tasks]
click = {{ }}
spent = {{ kind = "zero_inflated" }}
[split]
by = "time"
valid = 2400
test = 2700
[model]
recipe = "mmoe"
dim = 4
expert = [16, 8]
tower = [8]
[fit]
epochs = 20
patience = 8
batch = 256
rate = 0.01
seed = 1
threads = 1
[evaluate]
resamples = 40
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle and its log: colour alone decides a click, size alone an amount; noise decides nothing, and tags next to nothing."""
    folder, rows, draw = tmp_path_factory.mktemp("planted"), 3000, np.random.default_rng(5)
    colour, size = draw.integers(6, size=rows), draw.standard_normal(rows)
    spent = np.where(draw.random(rows) < 0.5, draw.lognormal(1.0 + size, 0.3), 0.0)
    log = folder / "log.parquet"
    pl.DataFrame({
        "user": draw.integers(200, size=rows), "time": np.arange(rows), "colour": colour, "size": size,
        "noise": draw.integers(6, size=rows), "static": np.ones(rows), "tags": [[int(one)] for one in draw.integers(3, size=rows)],
        "click": (draw.random(rows) < np.array([0.05, 0.1, 0.3, 0.7, 0.9, 0.95])[colour]).astype(int), "spent": spent,
    }).write_parquet(log)  # fmt: skip
    (folder / "run.toml").write_text(PLANTED.format(log=log))
    said = say("train", folder / "run.toml", "-o", folder / "run")
    assert said.code == 0, said.err
    return folder / "run" / "bundle", log


def test_the_planted_field_is_found(planted: tuple[Path, Path], tmp_path: Path) -> None:
    """The field that decides a task stands first with most of the movement, and one that cannot tell anything last with none."""
    bundle, log = planted
    said = say("explain", bundle, log, "--rows", "300", "-o", tmp_path / "why")
    assert said.code == 0, said.err
    found = content(tmp_path / "why" / "explain.json")
    assert found["rows"] == 300
    assert found["error"] < 1e-3
    tasks = {task["task"]: task for task in found["tasks"]}
    for task, field in (("click", "colour"), ("spent", "size")):
        fields = tasks[task]["fields"]
        assert fields[0]["field"] == field
        assert fields[0]["share"] > 0.5
        assert fields[0]["moves"]["low"] > fields[1]["moves"]["high"]
        assert fields[-1]["field"] == "static"
        assert fields[-1]["share"] < 1e-6
        noise = next(one for one in fields if one["field"] == "noise")
        assert noise["share"] < 0.25
        check = tasks[task]["check"]
        assert check["gain"]["low"] > 0
        assert check["ranked_gain"]["low"] > 0
    assert tasks["click"]["fields"][0]["push"] == {"up": "5", "down": "0"}
    assert tasks["spent"]["unit"] == "log of the expected amount"
    assert tasks["spent"]["fields"][0]["push"] == {"up": "higher values", "down": "lower values"}
    assert "moved by colour" in tasks["click"]["says"][0] or "most by colour" in tasks["click"]["says"][0]
    assert "Of size, higher values raise it and lower values lower it." in said.out


def test_the_page_says_it_in_words(planted: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, log = planted
    assert say("explain", bundle, log, "--rows", "100", "--task", "click", "-o", tmp_path / "why").code == 0
    page = (tmp_path / "why" / "explain.html").read_text()
    for words in ("Main parameters", "colour", "listens to", "taken away", "the mean training row", "ntegrated gradients"):
        assert words in page
    assert "<h2>click" in page
    assert "<h2>spent" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_explaining_again_gives_the_same_bytes(job: Job, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert say("explain", job.run / "bundle", job.log, "--rows", "60", "-o", tmp_path / name).code == 0
    for name in ("explain.json", "explain.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_one_row(job: Job, tmp_path: Path) -> None:
    """The printed row is the log's; contributions are those of Python, and the calibrated prediction is that of `umbel score`."""
    said = say("explain", job.run / "bundle", job.log, "--row", "17", "-o", tmp_path / "row")
    assert said.code == 0, said.err
    found = content(tmp_path / "row" / "explain.json")
    raw = pl.read_parquet(job.log)[16:17]
    assert found["row"] == 17
    assert found["values"] == {name: str(raw[name][0]) for name in ("user", "item", "device", "region")}
    own = explain(Bundle.load(job.run / "bundle"), raw)
    assert own.columns == tuple(found["columns"]) == ("click", "like", "buy")
    assert say("score", job.run / "bundle", job.log, "-o", tmp_path / "scores.parquet").code == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet")[16]
    for at, (name, column) in enumerate(found["columns"].items()):
        assert list(column["contributions"].values()) == pytest.approx(own.contributions[0, at].tolist(), abs=1e-9)
        total = column["base"] + sum(column["contributions"].values())
        assert total == pytest.approx(column["value"], abs=1e-3 * abs(column["value"] - column["base"]))
        assert column["calibrated"]["value"] == pytest.approx(scores[name][0], abs=1e-6)
        assert sum(one["share"] for one in found["gates"][name]["experts"]) == pytest.approx(1.0, abs=1e-5)
    for words in ("row 17", "listens to", "calibrated", str(raw["device"][0])):
        assert words in said.out


@pytest.mark.parametrize(("words", "expected"), [
    (("--row", "6001"), "no row 6001; rows run from 1 to 6000"),
    (("--row", "0"), "--row"),
    (("--task", "clik"), "did you mean 'click'?"),
    (("--task", "clik", "--row", "1"), "did you mean 'click'?"),
    (("--rows", "0"), "--rows"),
    (("--join", "user"), "not KEY=TABLE"),
])  # fmt: skip
def test_what_cannot_be_asked(job: Job, words: tuple[str, ...], expected: str) -> None:
    said = say("explain", job.run / "bundle", job.log, *words)
    assert said.code == 2
    assert expected in said.line


def test_logs_that_cannot_be_explained(job: Job, tmp_path: Path) -> None:
    log = pl.read_parquet(job.log)
    cases = {"empty": (log[:0], "give a log that has some"), "lacking": (log.drop("device"), "no column 'device'"),
             "textual": (log.select(pl.all().exclude("user"), user=pl.lit([1])), "data.user")}
    for name, (frame, expected) in cases.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
        for words in ((), ("--row", "1")):
            said = say("explain", job.run / "bundle", tmp_path / f"{name}.parquet", *words)
            assert said.code == 2, name
            assert expected in said.line
    assert say("explain", tmp_path / "none", job.log).code == 2
    assert say("explain", job.run / "bundle", tmp_path / "none.parquet").code == 2
