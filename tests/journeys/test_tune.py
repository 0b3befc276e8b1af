"""A search from the run file to its page: the planted best is found, kill -9 loses nothing, the test part is read once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import RUN, Said, content, laid_out, say
from umbel import durable
from umbel.data.simulate import Planted
from umbel.study.tune.door import Door

SMALL = Planted(users=30, items=15, rows=2_500, days=6, conflict=0.0, strength=4.0, seed=3)
# Fewer fields and tasks, and rigged: a rate at which nothing is learned, one that diverges, and one that learns.
CHANGES = {
    'device = {{ kind = "category" }}\nregion = {{ kind = "category" }}\n': "",
    'buy = {{ given = "click" }}\n': "",
    'recipe = "stem"\ndim = 4\nexpert = [16, 8]\ntower = [8]': 'recipe = "shared_bottom"\ndim = 4\nexpert = [8]\ntower = [4]',
    "epochs = 3\nbatch = 512\nrate = 0.01": "epochs = 2\nbatch = 64\nrate = 1e-9\nseed = 3",
    'resamples = 40\nslices = ["device"]': "resamples = 20\n[tune.space]\nfit.rate = [1e-9, 0.02, 1e30]",
}
TRIALS = 3  # with this seed each rate comes once


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run file beside its small log."""
    text = RUN
    for old, new in CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    return laid_out(tmp_path_factory.mktemp("tune"), text, planted=SMALL)


@pytest.fixture(scope="module")
def search(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """One search that was killed in the middle of a trial, and gone on with by the same command."""
    out = tmp_path_factory.mktemp("search") / "out"
    process = subprocess.Popen(command(file, out), stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for _ in range(6_000):
        if list(out.glob("trials/0001/run.toml")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "tune.json").exists()
    return out, say("tune", file, "-o", out, "--trials", str(TRIALS))


def command(file: Path, out: Path, trials: int = TRIALS) -> list[str]:
    return [sys.executable, "-m", "umbel", "tune", str(file), "-o", str(out), "--trials", str(trials)]


def saved(out: Path) -> dict[str, Any]:
    return content(out / "tune.json")


def test_killed_and_gone_on_with_it_tries_the_number_asked(search: tuple[Path, Said]) -> None:
    out, said = search
    assert said.code == 0, said.err
    trials = saved(out)["trials"]
    assert [one["number"] for one in trials] == list(range(TRIALS))
    assert {one["state"] for one in trials} <= {"complete", "pruned", "failed"}
    assert "trial 0:" not in said.err, "what was finished is not done again"
    assert f"{TRIALS}/{TRIALS}  trial {TRIALS - 1}" in said.err
    assert f"{TRIALS} trials: " in said.out


def test_the_planted_best_is_found_and_written_as_a_run_file(search: tuple[Path, Said], file: Path) -> None:
    out, _ = search
    told = saved(out)
    assert sorted(one["point"]["fit.rate"] for one in told["trials"]) == [1e-9, 0.02, 1e30]
    assert told["trials"][told["chosen"]]["point"]["fit.rate"] == 0.02
    best = tomllib.loads((out / "best.toml").read_text())
    assert best["fit"]["rate"] == 0.02
    assert best["data"] == tomllib.loads(file.read_text())["data"] | {"join": []}
    assert best["tune"]["space"] == {}


def test_trials_that_diverge_count_and_say_why(search: tuple[Path, Said]) -> None:
    out, _ = search
    wild = [one for one in saved(out)["trials"] if one["point"]["fit.rate"] == 1e30]
    assert wild, "the seed draws it"
    for one in wild:
        assert one["state"] == "failed"
        assert "training" in one["reason"]


def test_the_test_part_was_read_once(search: tuple[Path, Said]) -> None:
    out, said = search
    assert "test reads: 1" in said.out
    assert saved(out)["reads"] == 1 == Door(out).reads
    lines = (out / "test_reads.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert f"trial {saved(out)['chosen']} and boosted trees" in lines[0]
    predicted = sorted(path.parent.relative_to(out).as_posix() for path in out.rglob("predictions.npz"))
    assert predicted == sorted(["best", f"trials/{saved(out)['chosen']:04d}", "trees/trees"])


def test_the_best_run_is_what_train_leaves(search: tuple[Path, Said]) -> None:
    out, _ = search
    names = {path.name for path in (out / "best").iterdir()}
    assert names == {"run.toml", "made.json", "log.jsonl", "checkpoint", "predictions.npz", "bundle", "report.json", "report.html"}
    assert (out / "best" / "run.toml").read_text() == (out / "best.toml").read_text()
    assert say("train", out / "best.toml", "-o", out / "best").code == 0, "and goes on as one"


def test_its_bundle_scores(search: tuple[Path, Said], file: Path, tmp_path: Path) -> None:
    out, _ = search
    assert say("score", out / "best" / "bundle", file.parent / "log.parquet", "-o", tmp_path / "scores.parquet").code == 0


def test_the_winner_stands_beside_boosted_trees(search: tuple[Path, Said]) -> None:
    out, said = search
    test = saved(out)["test"]
    winner = f"trial {saved(out)['chosen']}"
    assert list(test["recipes"]) == [winner, "trees"]
    report = content(out / "best" / "report.json")
    assert test["recipes"][winner]["tasks"]["click"]["auc"]["mean"] == pytest.approx(report["tasks"]["click"]["auc"]["value"])
    assert "trees" in said.out
    assert "trees + target means: left out" in said.err
    assert "against trees<" in (out / "tune.html").read_text()


def test_only_what_may_be_chosen_keeps_its_weights(search: tuple[Path, Said]) -> None:
    out, _ = search
    kept = [path.parent.name for path in (out / "trials").glob("*/checkpoint")]
    assert kept == [f"{saved(out)['chosen']:04d}"]


def test_a_finished_search_is_read(search: tuple[Path, Said], file: Path) -> None:
    out, first = search
    before = (out / "tune.json").read_bytes()
    again = say("tune", file, "-o", out, "--trials", str(TRIALS))
    assert again.code == 0
    assert "this search is finished" in again.err
    assert again.out == first.out
    assert (out / "tune.json").read_bytes() == before
    assert say("tune", file, "-o", out, "--trials", "2").code == 0


def test_a_finished_search_is_not_made_longer(search: tuple[Path, Said], file: Path) -> None:
    out, _ = search
    said = say("tune", file, "-o", out, "--trials", str(TRIALS + 1))
    assert said.code == 2
    assert "would read the test part again" in said.line
    assert Door(out).reads == 1


def test_another_search_in_its_folder_is_refused(search: tuple[Path, Said], file: Path) -> None:
    out, _ = search
    said = say("tune", file, "-o", out, "--trials", str(TRIALS), "--set", "fit.epochs=3")
    assert said.code == 2
    assert "holds a run of other settings (fit.epochs = 2 there, 3 here)" in said.line
    assert say("train", file, "-o", out, "--set", "fit.epochs=3").code == 2


def test_a_second_process_is_told(file: Path, tmp_path: Path) -> None:
    with durable.hold(tmp_path / "out"):
        said = say("tune", file, "-o", tmp_path / "out", "--trials", "2")
    assert said.code == 2
    assert f"another process ({os.getpid()}) works on it" in said.line


def test_an_interrupt_says_how_to_go_on_and_leaves_no_process(file: Path, tmp_path: Path) -> None:
    """At once, though its trial would go on for long."""
    out, long = tmp_path / "out", ["--set", "fit.epochs=4000", "--set", "fit.patience=4000"]
    process = subprocess.Popen([*command(file, out), *long], stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for _ in range(6_000):
        if list(out.glob("trials/0000/run.toml")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "umbel: interrupted; the same command goes on from the last checkpoint" in err
    assert "Traceback" not in err
    with durable.hold(out / "trials" / "0000"):
        pass


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("tune.space.fit.rat=[0.1]", "tune.space: 'fit.rat' is no setting that can be searched; did you mean 'fit.rate'?"),
        ("tune.space.model.recipe=['stemm']", "did you mean 'stem'?"),
        ("tune.objectives=['clik']", "tune.objectives: no 'clik'; did you mean 'click'?"),
        ("tune.space.fit.epochs=[1, 2]", "'fit.epochs' is the same for every trial; set it in [fit]"),
        ("tune.objective=['mean']", "unknown key 'tune.objective'; did you mean 'objectives'?"),
        ("data.log=nowhere.parquet", "nowhere.parquet: no such file"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_tried(file: Path, tmp_path: Path, asked: str, said: str) -> None:
    found = say("tune", file, "-o", tmp_path / "out", "--trials", "2", "--set", asked)
    assert found.code == 2
    assert said in found.line
    assert not (tmp_path / "out" / "trials").exists()


@pytest.mark.parametrize("words", [("--trials", "0"), (), ("--trials", "2", "--jobs", "0")])
def test_a_number_of_trials_is_asked_for(file: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert say("tune", file, "-o", tmp_path / "out", *words).code == 2


def test_without_optuna_one_line_says_what_to_install(file: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['optuna'] = None\nfrom umbel.cli import main\nmain(sys.argv[1:])"
    words = [sys.executable, "-c", program, "tune", str(file), "-o", str(tmp_path / "out"), "--trials", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "umbel: umbel tune: optuna is not installed; pip install 'umbel[tune]'\n"
    assert not (tmp_path / "out").exists()


def test_help_does_not_import_it() -> None:
    program = "import sys, umbel.cli\ntry: umbel.cli.main(['--help'])\nexcept SystemExit: print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "tune" in done.stdout


def test_if_no_trial_finishes_the_first_reason_is_told_and_test_is_not_read(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = say("tune", file, "-o", out, "--trials", "1", "--set", "tune.space.fit.rate=[1e30]")
    assert said.code == 2
    assert "none of 1 trials finished (trial 0: training" in said.line
    assert Door(out).reads == 0
    assert not (out / "best").exists()
