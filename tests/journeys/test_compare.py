"""A comparison from the run file to its page: equal budgets, paired differences, and that a stopped one goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.journeys.conftest import RUN, Said, content, say

ENTRANTS = {"stem", "ple x4", "trees"}


@pytest.fixture(scope="module")
def comparison(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Said]:
    folder = tmp_path_factory.mktemp("compare")
    file = folder / "run.toml"
    file.write_text(RUN.format(log=log) + "[compare]\nrates = [0.003, 0.01]\n")
    said = say("compare", file, "-o", folder / "out", "--recipe", "stem", "--seeds", "2", "--jobs", "2")
    return file, folder / "out", said


def saved(out: Path) -> dict[str, Any]:
    return content(out / "compare.json")


def test_it_leaves_its_figures_and_a_page(comparison: tuple[Path, Path, Said]) -> None:
    _, out, said = comparison
    assert said.code == 0, said.err
    assert set(saved(out)["recipes"]) == ENTRANTS
    assert said.err.count("trees + target means: left out, the same as trees here") == 1
    page = (out / "compare.html").read_text()
    for name in ENTRANTS:
        assert name in page
        assert name in said.out


def test_every_entrant_has_its_seeds_and_an_interval(comparison: tuple[Path, Path, Said]) -> None:
    _, out, _ = comparison
    for recipe in saved(out)["recipes"].values():
        assert set(recipe["tasks"]) == {"click", "like", "buy"}
        auc = recipe["tasks"]["click"]["auc"]
        assert len(auc["seeds"]) == 2
        assert auc["mean"] == pytest.approx(np.mean(auc["seeds"]))
        assert auc["low"] < auc["mean"] < auc["high"]


def test_everyone_chose_from_one_budget(comparison: tuple[Path, Path, Said]) -> None:
    _, out, _ = comparison
    chosen = {name: recipe["chosen"] for name, recipe in saved(out)["recipes"].items()}
    assert chosen["stem"]["of"] == chosen["ple x4"]["of"] == 2
    assert chosen["ple x4"]["dim"] == 4 * chosen["stem"]["dim"]
    assert chosen["stem"]["rate"] in (0.003, 0.01)


def test_what_was_chosen_was_best_on_validation(comparison: tuple[Path, Path, Said]) -> None:
    _, out, _ = comparison
    rate = saved(out)["recipes"]["stem"]["chosen"]["rate"]
    trials = {path.parent.name: json.loads(path.read_text())["score"] for path in (out / "runs" / "stem").glob("*seed=1/trial.json")}
    assert len(trials) == 2
    assert f"rate={rate:g} " in max(trials, key=lambda name: trials[name])


def test_only_what_was_chosen_read_the_test_rows(comparison: tuple[Path, Path, Said]) -> None:
    _, out, _ = comparison
    rate = saved(out)["recipes"]["stem"]["chosen"]["rate"]
    read = [path.parent.name for path in (out / "runs" / "stem").glob("*/predictions.npz")]
    assert sorted(read) == [f"rate={rate:g} dim=4 seed={seed}" for seed in (1, 2)]


def test_differences_are_paired(comparison: tuple[Path, Path, Said]) -> None:
    _, out, _ = comparison
    found = saved(out)
    pairs = {(pair["task"], pair["recipe"], pair["against"]): pair for pair in found["paired"]}
    pair = pairs["click", "stem", "ple x4"]
    each = [found["recipes"][name]["tasks"]["click"]["auc"]["seeds"] for name in ("stem", "ple x4")]
    assert pair["seeds"] == pytest.approx(np.subtract(*each).tolist())
    assert pair["mean"] == pytest.approx(np.mean(pair["seeds"]))
    assert pair["verdict"] in {"higher", "lower", "equal", "open"}
    assert ("click", "stem", "trees") in pairs


def test_a_stopped_comparison_goes_on(comparison: tuple[Path, Path, Said]) -> None:
    file, out, _ = comparison
    before = saved(out)
    run = next(path for path in (out / "runs" / "stem").glob("*seed=2/predictions.npz"))
    kept = next(path for path in (out / "runs" / "trees").glob("seed=1/predictions.npz"))
    times = kept.stat().st_mtime_ns
    run.unlink()
    said = say("compare", file, "-o", out, "--recipe", "stem", "--seeds", "2")
    assert said.code == 0, said.err
    assert "1/1" in said.err
    assert kept.stat().st_mtime_ns == times
    assert saved(out)["paired"] == before["paired"]


@pytest.mark.usefixtures("here")
def test_more_seeds_go_on_and_fewer_are_found_again(log: Path, tmp_path: Path) -> None:
    """Three seeds in the folder of two train the third alone; two in the folder of three train nothing, and say what two said."""
    file, out = tmp_path / "run.toml", tmp_path / "out"
    file.write_text(RUN.format(log=log) + '[compare]\ntrees = false\ncontrols = false\nrecipes = ["alone", "shared_bottom"]\n')
    counts = []
    found = []
    for seeds in ("2", "3", "2"):
        said = say("compare", file, "-o", out, "--seeds", seeds, "--set", "fit.epochs=1")
        assert said.code == 0, said.err
        counts.append(said.err.count("seed="))
        found.append(saved(out))
    assert counts == [4, 2, 0]
    assert [len(one["recipes"]["alone"]["tasks"]["click"]["auc"]["seeds"]) for one in found] == [2, 3, 2]
    assert found[2]["paired"] == found[0]["paired"]


def test_another_comparison_is_refused(comparison: tuple[Path, Path, Said]) -> None:
    file, out, _ = comparison
    said = say("compare", file, "-o", out, "--recipe", "mmoe", "--seeds", "2")
    assert said.code == 2
    assert "holds a run of other settings (compare.recipes" in said.line


@pytest.mark.usefixtures("here")
def test_variants_of_the_run_file_take_part(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    asked = '[compare]\ntrees = false\ncontrols = false\nrecipes = ["alone"]\n[compare.variants.surgery.fit]\nbalancer = "pcgrad"\n'
    crossed = '[compare.variants."mmoe, cross layers".model]\nrecipe = "mmoe"\ninteract = "dcn"\n'
    file.write_text(RUN.format(log=log) + asked + crossed)
    said = say("compare", file, "-o", tmp_path / "out", "--seeds", "1")
    assert said.code == 0, said.err
    found = saved(tmp_path / "out")
    assert list(found["recipes"]) == ["alone", "surgery", "mmoe, cross layers"]
    assert found["recipes"]["mmoe, cross layers"]["chosen"]["recipe"] == "mmoe"
    assert ("like", "surgery", "alone") in {(pair["task"], pair["recipe"], pair["against"]) for pair in found["paired"]}
    (ran,) = (tmp_path / "out" / "runs" / "surgery").glob("*.toml")
    assert 'balancer = "pcgrad"' in ran.read_text()


def test_a_variant_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(log=tmp_path / "absent.parquet") + '[compare.variants.odd.model]\nrecipe = "mmeo"\n')
    said = say("compare", file, "-o", tmp_path / "out")
    assert said.code == 2
    assert "'mmeo'; did you mean 'mmoe'?" in said.line


@pytest.mark.usefixtures("here")
def test_a_comparison_whose_every_run_diverges_ends_in_one_line(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(log=log))
    spoil = ("--set", "fit.rate=1e30", "--set", "compare.trees=false", "--set", "compare.controls=false")
    said = say("compare", file, "-o", tmp_path / "out", "--recipe", "alone", "--seeds", "1", *spoil)
    assert said.code == 2
    assert said.line.startswith("umbel: compare: every run diverged (alone rate=1e+30 dim=4 seed=1: training: the loss of task 'click' ")
    assert said.line.endswith("lower fit.rate, or compare.rates")
    assert not (tmp_path / "out" / "compare.json").exists()


@pytest.mark.usefixtures("here")
def test_a_comparison_goes_on_past_what_diverges(log: Path, tmp_path: Path) -> None:
    """One of two rates diverges for everyone, and is passed over; nothing of it is run again."""
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(log=log) + "[compare]\nrates = [1e30, 0.01]\ntrees = false\ncontrols = false\n")
    words = ("compare", file, "-o", tmp_path / "out", "--recipe", "shared_bottom", "--seeds", "1", "--set", "fit.epochs=1")
    said = say(*words)
    assert said.code == 0, said.err
    found = saved(tmp_path / "out")
    assert found["recipes"]["shared_bottom"]["chosen"]["rate"] == 0.01
    (name,) = found["lost"]
    assert name == "shared_bottom rate=1e+30 dim=4 seed=1"
    assert f"lost: {name}: training: the loss of task" in said.out
    assert "lost: its training diverged" in said.err
    assert "Lost runs" in (tmp_path / "out" / "compare.html").read_text()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.json")}
    assert say(*words).code == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_the_user_can_mend_is_no_lost_run(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(log=log))
    run = tmp_path / "out" / "runs" / "alone" / "rate=0.01 dim=4 seed=1"
    run.mkdir(parents=True)
    said = say("trial", file, "--table", tmp_path / "nowhere", "-o", run)
    assert said.code == 2
    assert "not a table" in said.line
    assert not (run / "lost.json").exists()
