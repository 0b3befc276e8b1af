"""The demonstration from nothing to a scored request, in small; it goes on where it stopped, and says what it found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from umbel.data.simulate import AGREEING, CONFLICTING, Planted
from umbel.errors import UserError
from umbel.run.settings import FitSection, ModelSection, read
from umbel.study import scene
from umbel.study.claims import Claim
from umbel.study.demo import SCENES, DemoResult, demo, run_demo, score_one
from umbel.study.program import lines, page
from umbel.study.scene import NARROW, SEPARATE, SHARED, STEM, WIDE, Scene, gap, mean_auc, settings

PLANTED = Planted(users=40, items=20, rows=3_000, dim=2, conflict=1.0, correlation=0.0, days=4)
MODEL = ModelSection(recipe="stem", dim=2, expert=(8,), tower=(), shared=1)
FIT = FitSection(epochs=1, batch=512, rate=0.01, threads=1)
SMALL = (
    Scene("conflicting", PLANTED, ("click", "like"), (SEPARATE, NARROW, *WIDE, STEM), MODEL, FIT, seeds=2),
    Scene("agreeing", replace(PLANTED, conflict=0.0), ("click", "like"), (SEPARATE, SHARED, STEM), MODEL, FIT, seeds=1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def result(folder: Path) -> DemoResult:
    return demo(folder, scenes=SMALL, jobs=0)


def test_every_recipe_is_judged_on_every_task(result: DemoResult) -> None:
    first, second = result.scenes
    assert [one.name for one in first.found.recipes] == ["alone", "mmoe", "mmoe x3", "ple x3", "stem"]
    assert [one.name for one in second.found.recipes] == ["alone", "shared_bottom", "stem"]
    assert {task for one in first.found.recipes for task in one.tasks} == {"click", "like"}


def test_a_control_is_as_wide_as_stem_in_all(result: DemoResult) -> None:
    cost = {one.name: one for one in result.scenes[0].found.recipes}
    assert [cost[name].chosen["dim"] for name in ("alone", "mmoe", "mmoe x3", "ple x3", "stem")] == [2, 2, 6, 6, 2]
    assert cost["mmoe x3"].cost.parameters > cost["stem"].cost.parameters > cost["mmoe"].cost.parameters


def test_claims_follow_the_scene(result: DemoResult) -> None:
    assert [len(played.claims) for played in result.scenes] == [3, 2]
    assert result.found == all(claim.holds for played in result.scenes for claim in played.claims)


def test_the_control_is_the_best_one_on_test(result: DemoResult) -> None:
    by = {one.name: one for one in result.scenes[0].found.recipes}
    wide = max(("mmoe x3", "ple x3"), key=lambda name: mean_auc(by[name]))
    assert str(gap(by["stem"], by[wide])) in result.scenes[0].claims[-1].says


def test_a_gap_is_the_difference_of_the_means(result: DemoResult) -> None:
    stem, alone = result.scenes[0].found.recipes[-1], result.scenes[0].found.recipes[0]
    found = gap(stem, alone)
    assert found.mean.value == pytest.approx(mean_auc(stem) - mean_auc(alone))
    assert len(found.seeds) == 2
    assert gap(alone, stem).mean.value == pytest.approx(-found.mean.value)


def test_nobody_beats_the_truth_by_much(result: DemoResult) -> None:
    for played in result.scenes:
        best = sum(played.best[task].observed for task in played.scene.tasks) / len(played.scene.tasks)
        assert max(map(mean_auc, played.found.recipes)) < best + 0.03


def test_it_leaves_a_bundle_that_answers(result: DemoResult, folder: Path) -> None:
    assert result.bundle == folder / "bundle"
    asked, answer = score_one(result.bundle)
    assert list(asked) == ["user", "item", "device", "region", "genre", "price"]
    assert list(answer) == ["click", "like"]
    assert all(0 < chance < 1 for chance in answer.values())


def test_it_leaves_a_report_and_what_was_compared(result: DemoResult, folder: Path) -> None:
    reports = list(folder.glob("conflicting/runs/*/*/report.html"))
    assert len(reports) == 1
    saved = json.loads((folder / "conflicting" / "compare.json").read_text())
    assert list(saved["recipes"]) == [one.name for one in result.scenes[0].found.recipes]


def test_a_runs_file_is_the_run(result: DemoResult, folder: Path) -> None:
    written = read(folder / "conflicting" / "runs" / "stem" / "seed=2" / "run.toml")
    assert written == settings(result.scenes[0].scene, STEM, folder / "conflicting", seed=2)
    assert written.fit.seed == 2


def test_the_page_tells_all_and_loads_nothing(result: DemoResult, folder: Path) -> None:
    text = (folder / "demo.html").read_text()
    assert text == page(result.scenes)
    assert "http" not in text.replace("http://www.w3.org", "")
    for played in result.scenes:
        assert f"{played.scene.name} tasks" in text
    assert "best possible" in text
    assert "ple x3" in text


def test_the_page_says_when_it_was_capacity(result: DemoResult) -> None:
    first = result.scenes[0]
    lost = replace(first, claims=(Claim("it was capacity, not the views: figures", holds=False),))
    won = replace(first, claims=(Claim("it was not capacity alone: figures", holds=True),))
    assert "it was capacity, not the views" in page([lost])
    assert "not all of the known answer was found" in page([lost])
    assert "<b>the known answer was found</b>" in page([won])
    assert list(lines(lost.claims)) == ["no   it was capacity, not the views: figures"]


def test_again_trains_nothing(result: DemoResult, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("weights.safetensors")}
    assert before
    again = demo(folder, scenes=SMALL, jobs=0)
    runs = {path: stamp for path, stamp in before.items() if "runs" in path.parts}
    assert {path: path.stat().st_mtime_ns for path in runs} == runs
    assert [claim.says for one in again.scenes for claim in one.claims] == [claim.says for one in result.scenes for claim in one.claims]


def test_another_demonstration_in_the_same_folder_is_refused(result: DemoResult, folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds a run of other settings \(fit\.rate = 0\.01 there, 0\.02 here\)"):
        demo(folder, scenes=(replace(SMALL[0], fit=FIT.model_copy(update={"rate": 0.02})),), jobs=0)
    with pytest.raises(UserError, match="holds a log with other things planted; name another folder"):
        demo(folder, scenes=(replace(SMALL[0], planted=replace(PLANTED, seed=9)),), jobs=0)


def test_a_run_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("the disk is full", mend="free some space")

    monkeypatch.setattr(scene, "run_trial", refuse)
    with pytest.raises(UserError, match="conflicting, alone: the disk is full; free some space; the demonstration goes on"):
        demo(tmp_path, scenes=SMALL[:1], jobs=0)


def test_the_terminal_shows_tables_claims_and_one_answer(result: DemoResult, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_demo(folder, scenes=SMALL, jobs=0)
    told = capsys.readouterr().out
    assert told.index("conflicting tasks") < told.index("agreeing tasks") < told.index("one request: user")
    for played in result.scenes:
        for claim in played.claims:
            assert claim.says.split(":")[0] in told
    assert "click 0." in told
    assert told.index("one seed") < told.index("mean of 2 seeds")


def test_the_scenes_are_the_presets() -> None:
    assert [one.planted for one in SCENES] == [CONFLICTING, AGREEING]
    assert all(one.planted.rows <= 200_000 for one in SCENES)
    assert {one.fit.threads for one in SCENES} == {1}
