"""`umbel transfer` from the run file to its page: the answer, the groups, the reasons, and that it goes on and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.journeys.conftest import RUN, Said, runs_here, say
from umbel.data.table import Table
from umbel.learn import checkpoint
from umbel.run.settings import read
from umbel.run.watch import Silence
from umbel.study.transfer.witness import witness
from umbel.study.variants import controlled


@pytest.fixture(scope="module")
def study(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Said]:
    folder = tmp_path_factory.mktemp("transfer")
    file = folder / "run.toml"
    file.write_text(RUN.format(log=log) + "[compare]\ntrees = false\n[transfer]\ntrained = 1\nlead = 1.5\n")
    with runs_here():
        return file, folder / "out", say("transfer", file, "-o", folder / "out", "--seeds", "1", "--jobs", "2")


def content(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "transfer.json").read_text())
    return found


def test_it_answers_in_words(study: tuple[Path, Path, Said]) -> None:
    _, out, said = study
    assert said.code == 0, said.err
    advice = content(out)["advice"]
    assert advice["recipe"] in offered(content(out))
    assert said.out.splitlines()[: len(advice["says"])] == advice["says"]
    assert {"click", "like", "buy"} <= {one.split(":")[0] for one in advice["says"]}


def test_the_recommended_recipe_stood_best_on_validation_or_its_rival_stood_no_better_than_chance(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    found = content(out)
    scores = {name: found["compare"]["recipes"][name]["cost"]["score"] for name in offered(found)}
    best, check = max(scores, key=lambda name: scores[name]), found["advice"]["check"]
    stands = best == check["best"] and (check["spread"] is None or check["gap"] <= check["spread"])
    assert found["advice"]["recipe"] == (check["asked"] if stands else best)


def offered(found: dict[str, Any]) -> list[str]:
    """Everybody but the width controls."""
    return [name for name in found["compare"]["recipes"] if not controlled(name)]


def test_what_the_probes_ask_for_is_trained_and_the_outcome_told(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    found = content(out)
    ranking = found["probes"]["groupings"]
    assert len(ranking) == 5  # of three tasks
    assert ranking[0]["entrant"] in found["compare"]["recipes"]
    check = found["advice"]["check"]
    trained = [one["entrant"] for one in ranking if one["entrant"] in found["compare"]["recipes"]]
    scores = {name: found["compare"]["recipes"][name]["cost"]["score"] for name in trained}
    assert (check["asked"], check["trained"]) == (trained[0], len(trained))
    assert check["best"] == max(scores, key=lambda name: scores[name])
    assert check["gap"] == pytest.approx(scores[check["best"]] - scores[check["asked"]])
    assert any(one.startswith("The probes asked for") for one in found["advice"]["says"])
    assert len(found["probes"]["helps"]) == 3
    assert set(found["probes"]["pulled"]) == {"user", "item", "device", "region"}


def test_width_controls_are_judged_by_group_too(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    cells = {(one["recipe"], one["split"]) for one in content(out)["groups"]}
    assert {("ple x4", "click against like"), ("shared_bottom x3", "device")} <= cells


def test_every_recipe_meets_separate_models_and_stem_its_width(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    pairs = {(one["recipe"], one["against"]) for one in content(out)["compare"]["paired"]}
    assert {("mmoe", "alone"), ("stem", "alone"), ("stem", "ple x4")} <= pairs
    assert {"alone", "mmoe", "stem", "ple x4", "shared_bottom x3"} <= set(content(out)["delta_m"])


def test_groups_are_of_users_and_slices(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    groups = content(out)["groups"]
    assert {one["split"] for one in groups} == {
        "click against like", "click against buy", "like against buy", "user seen in training", "item seen in training", "device",
    }  # fmt: skip
    test = content(out)["compare"]["rows"]["test"]
    for split in ("click against like", "device"):
        own = {one["group"]: one["rows"] for one in groups if (one["split"], one["task"], one["recipe"]) == (split, "click", "stem")}
        assert 0 < sum(own.values()) <= test


def test_reasons_are_there_for_every_epoch_and_pair(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    why = content(out)["why"]
    assert set(why) == {"shared_bottom", "mmoe", "stem"}
    for one in why.values():
        assert [epoch["epoch"] for epoch in one["epochs"]] == [1, 2, 3]
        last = one["epochs"][-1]
        assert {tuple(each["tasks"]) for each in last["conflicts"]} == {("click", "like"), ("click", "buy"), ("like", "buy")}
        assert all(-1 <= each["cosine"] <= 1 and 0 <= each["conflicts"] <= 1 for each in last["conflicts"])
        assert len(last["affinities"]) == 6
        assert [gate["task"] for gate in last["gates"]] == ["click", "like", "buy"]
        assert {ear["split"] for ear in one["ears"]} == {"click against like", "click against buy", "like against buy"}
        assert all(gate["own"] + gate["shared"] + gate["others"] == pytest.approx(1) for ear in one["ears"] for gate in ear["gates"])
        assert {each["table"] for each in one["tables"]} == {"user", "item", "device", "region"}
    assert {gate["others"] > 0 for gate in why["stem"]["epochs"][-1]["gates"]} == {True}
    assert {gate["others"] for gate in why["mmoe"]["epochs"][-1]["gates"]} == {0.0}


def test_labels_are_looked_at(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    labels = content(out)["labels"]
    assert [one["task"] for one in labels["supplies"]] == ["click", "like", "buy"]
    assert {(one["first"], one["second"]) for one in labels["overlaps"] if one["later"]} == {("click", "buy")}


def test_the_page_loads_nothing_and_shows_the_answer(study: tuple[Path, Path, Said]) -> None:
    _, out, _ = study
    page = (out / "transfer.html").read_text()
    assert "src=" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    for part in ("Does sharing help?", "By task", "For whom", "Who should share", "Why", "Labels", "compare/compare.html"):
        assert part in page
    assert content(out)["advice"]["confidence"] in page


def test_a_second_run_reads_what_is_there(study: tuple[Path, Path, Said]) -> None:
    file, out, said = study
    before = {path: path.stat().st_mtime_ns for path in out.rglob("predictions.npz")}
    again = say("transfer", file, "-o", out, "--seeds", "1")
    assert again.code == 0, again.err
    assert again.out == said.out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("predictions.npz")} == before


def test_another_study_is_not_written_over(study: tuple[Path, Path, Said]) -> None:
    file, out, _ = study
    refused = say("transfer", file, "-o", out, "--seeds", "3")
    assert refused.code == 2
    assert "holds a run of other settings" in refused.line


def test_looking_changes_nothing(study: tuple[Path, Path, Said], tmp_path: Path) -> None:
    """The observed training ends on the bytes of the compared one, though it was looked at after every epoch."""
    file, out, _ = study
    table = Table.open(out / "compare" / "table")
    witness(read(file), table, tmp_path / "observed", watch=Silence())
    mine = checkpoint.load(tmp_path / "observed" / "checkpoint")
    theirs = checkpoint.load(out / "compare" / "runs" / "stem" / "rate=0.01 dim=4 seed=1" / "checkpoint")
    assert mine is not None
    assert theirs is not None
    assert mine.progress.scores == theirs.progress.scores
    assert all(torch.equal(tensor, theirs.best[name]) for name, tensor in mine.best.items())


def test_an_observed_training_that_goes_on_keeps_what_it_saw(study: tuple[Path, Path, Said], tmp_path: Path) -> None:
    file, out, _ = study
    table, settings = Table.open(out / "compare" / "table"), read(file)
    short = settings.model_copy(update={"fit": settings.fit.model_copy(update={"epochs": 1})})
    first = witness(short, table, tmp_path, watch=Silence())
    whole = witness(settings, table, tmp_path, watch=Silence())
    assert [one.epoch for one in whole.epochs] == [1, 2, 3]
    assert whole.epochs[0] == first.epochs[0]
    assert not np.isnan([one.value for one in whole.tables]).any()
