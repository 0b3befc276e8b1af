"""From a raw rated log to a comparison of cold-start methods, by the command line; stopped and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import rated
from tests.journeys.conftest import runs_here
from umbel.cli import main

RUN = """
[data]
log  = "log.parquet"
user = "user"
item = "item"
[fields]
user   = { kind = "id", min_count = 1 }
item   = { kind = "id", min_count = 1 }
age    = { kind = "category", min_count = 1 }
genres = { kind = "bag", length = 3, min_count = 1 }
[tasks]
rating = { kind = "regression" }
click  = {}
[split]
by     = "column"
column = "part"
[model]
recipe = "shared_bottom"
dim    = 4
expert = [8]
tower  = []
[fit]
epochs  = 2
threads = 1
[evaluate]
resamples = 20
[episodes]
support       = 4
history       = [7, 100]
users         = 4
curve         = [0, 2]
curve_history = [8, 100]
groups        = ["age"]
[compare]
methods = ["bias", "base", "melu", { name = "melu", rate = 0.2 }]
seeds   = 2
"""


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    rated.log(users=48, items=25).write_parquet(folder / "log.parquet")
    (folder / "run.toml").write_text(RUN)
    return folder


@pytest.fixture(scope="module")
def compared(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch, runs_here():
        patch.chdir(place)
        with pytest.raises(SystemExit) as stopped:
            main(["compare", "run.toml", "-o", "compared"])
    assert not stopped.value.code
    return place / "compared"


def test_every_method_stands_in_every_scenario(compared: Path) -> None:
    found = json.loads((compared / "compare.json").read_text())
    assert list(found["recipes"]) == ["bias", "base", "melu"]
    for one in found["recipes"].values():
        assert set(one["tasks"]) == {f"{task}, {scenario}" for task in ("rating", "click") for scenario in ("user cold",)}
        assert len(one["tasks"]["rating, user cold"]["mae"]["seeds"]) == 2
    assert found["recipes"]["melu"]["chosen"]["of"] == 2, "two rates were tried on validation"
    assert {one["against"] for one in found["paired"]} == {"bias", "base"}


def test_every_method_stands_with_supports_of_every_size(compared: Path) -> None:
    """The same users and query rows for all sizes and methods; what reads no row is the same at every size."""
    found = json.loads((compared / "compare.json").read_text())
    counts = {(size["users"], size["rows"]) for one in found["recipes"].values() for size in one["curve"].values()}
    assert len(counts) == 1
    assert all(list(one["curve"]) == ["0", "2"] for one in found["recipes"].values())
    without, known = (found["recipes"]["base"]["curve"][shots]["tasks"] for shots in ("0", "2"))
    assert without == known
    without, known = (found["recipes"]["melu"]["curve"][shots]["tasks"]["rating"]["mae"]["mean"] for shots in ("0", "2"))
    assert without != known
    gaps = {(one["recipe"], one["task"]): one["mean"] for one in found["paired_by_size"] if one["against"] == "base"}
    assert set(gaps) == {(name, f"{task}, {shots} known") for name in ("bias", "melu") for task in ("rating", "click") for shots in (0, 2)}
    base = found["recipes"]["base"]["curve"]["2"]["tasks"]["rating"]["mae"]["mean"]
    assert gaps["melu", "rating, 2 known"] == pytest.approx(known - base)


def test_every_method_stands_by_groups_of_users(compared: Path) -> None:
    found = json.loads((compared / "compare.json").read_text())
    for one in found["recipes"].values():
        for task, metric in (("rating", "mae"), ("click", "auc")):
            assert list(one["groups"][task]) == ["spread of labels", "activity", "age"]
            age = one["groups"][task]["age"]
            assert age["metric"] == metric
            assert sum(group["users"] for group in age["groups"]) <= 12
            assert age["worst"] == {"name": None, "reason": "no group of 30 users"}


def test_a_bias_has_no_seeds_to_differ_by(compared: Path) -> None:
    found = json.loads((compared / "compare.json").read_text())
    first, second = found["recipes"]["bias"]["tasks"]["rating, user cold"]["mae"]["seeds"]
    assert first == second


def test_a_second_time_reads_what_is_there(
    compared: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {path: path.stat().st_mtime_ns for path in compared.rglob("answers.npz")}
    before = (compared / "compare.json").read_bytes()
    monkeypatch.chdir(place)
    code, out, _ = told(capsys, "compare", "run.toml", "-o", "compared")
    assert code == 0
    assert "user cold" in out
    said = " ".join(out.split())
    assert "rating: mae of 12 new users by rows known of them" in said
    assert "rating: the worst groups of new users by mae" in said
    assert {path: path.stat().st_mtime_ns for path in compared.rglob("answers.npz")} == runs
    assert (compared / "compare.json").read_bytes() == before


def test_the_page_tells_of_methods(compared: Path) -> None:
    page = (compared / "compare.html").read_text()
    assert all(word in page for word in ("melu", "bias", "user cold", "rating: MAE of new users", "MAE less that of bias"))
    assert "rating: for whom MAE is worst" in page
    assert "Lost inner steps" not in page, "there were none"


def test_a_method_that_does_not_exist_is_told_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    code, _, err = told(capsys, "compare", "run.toml", "-o", "other", "--set", 'compare.methods=["melo"]')
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "compare.methods" in err
    assert "melu" in err


@pytest.mark.parametrize(("change", "says"), [
    ("tasks.click.negatives=0.1", "tasks.click.negatives: episodes are trained on whole"),
    ("episodes.support=-1", "episodes.support = -1"),
    ("episodes.support=7", "let history begin at 8 or more"),
    ("episodes.curve=[0, 9]", "9 support rows leave no query"),
])
def test_what_training_refuses_is_refused_before_the_log_is_read(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str, says: str
) -> None:
    monkeypatch.chdir(place)
    code, _, err = told(capsys, "compare", "run.toml", "-o", f"refused {says[:9]}", "--set", change)
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert says in err
    assert not [*place.glob("refused*/table")]
    assert not [*place.glob("refused*/runs")]


@pytest.mark.usefixtures("here")
def test_inner_steps_that_are_no_numbers_are_counted_and_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the comparison's file and on its page and the terminal, of the method that lost them alone."""
    monkeypatch.chdir(place)
    changes = ('compare.methods=["base", { name = "melu", rate = 1e4 }]', "compare.seeds=1", "fit.epochs=1", "model.expert=[8, 8]")
    sets = [word for one in changes for word in ("--set", one)]
    code, out, err = told(capsys, "compare", "run.toml", "-o", "steep", *sets)
    assert code == 0, err
    found = json.loads((place / "steep" / "compare.json").read_text())["recipes"]
    lost = {name: one["cost"]["lost_steps"] for name, one in found.items()}
    assert lost["base"] == 0
    assert lost["melu"] > 0
    assert f"warning: melu: {lost['melu']:,} inner steps were no finite numbers and were not taken" in " ".join(out.split())
    page = (place / "steep" / "compare.html").read_text()
    assert "Lost inner steps" in page
    assert f"{lost['melu']:,}" in page
