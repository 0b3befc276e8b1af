"""The processes of a comparison, with a shell in the place of python: what they are told, how many run at once, how they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from umbel.errors import UserError
from umbel.learn.fit import Epoch
from umbel.run.settings import CompareSection, Settings, parse, read
from umbel.study import compare
from umbel.study.compare import Run
from umbel.study.entrants import TREES, Entrant, seeded
from umbel.study.trial import Lost, Trial

SHELL = '#!/bin/sh\necho "$@ threads=$OMP_NUM_THREADS" >> {told}\neval "$3"\n'


class Listener:
    """A watch that keeps the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def ingested(self, rows: int) -> None:
        raise AssertionError(rows)

    def learned(self, losses: tuple[float, ...]) -> None:
        raise AssertionError(losses)

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        raise AssertionError(epoch)

    def finished(self, epoch: Epoch) -> None:
        raise AssertionError(epoch)

    def stage(self, name: str) -> None:
        self.stages.append(name)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell runs the first word of each run, and writes its command line here."""
    path, shell = tmp_path / "told", tmp_path / "shell"
    shell.write_text(SHELL.format(told=path))
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shell))
    return path


def run(root: Path, name: str, command: str) -> Run:
    return Run(name, root / "out" / "runs" / "stem" / name, (command,))


def ended(root: Path, *commands: str, jobs: int = 1) -> list[str]:
    """The stages heard while these commands run, called a, b, c ..."""
    watch = Listener()
    compare._run_all([run(root, "abcdefgh"[at], command) for at, command in enumerate(commands)], jobs=jobs, watch=watch)
    return watch.stages


def test_each_is_counted_when_done(told: Path, tmp_path: Path) -> None:
    assert ended(tmp_path, "true", "true", "true") == ["1/3  a", "2/3  b", "3/3  c"]
    assert len(told.read_text().splitlines()) == 3


def test_no_runs_start_no_process(told: Path, tmp_path: Path) -> None:
    assert ended(tmp_path) == []
    assert not told.exists()


def test_more_jobs_than_runs(told: Path, tmp_path: Path) -> None:
    assert ended(tmp_path, "true", "true", jobs=7) == ["1/2  a", "2/2  b"]


@pytest.mark.parametrize(("cores", "jobs", "threads"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 8, 1)])
def test_the_cores_are_shared(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cores: int, jobs: int, threads: int
) -> None:
    monkeypatch.setattr("umbel.cores.cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ended(tmp_path, "true", jobs=jobs)
    assert told.read_text().endswith(f" threads={threads}\n")


def test_a_child_is_told_its_table_and_its_folder(told: Path, tmp_path: Path) -> None:
    ended(tmp_path, "true")
    folder = tmp_path / "out" / "runs" / "stem" / "a"
    assert told.read_text().startswith(f"-m umbel true --table {tmp_path}/out/table -o {folder} ")


def test_two_at_a_time_really_meet(told: Path, tmp_path: Path) -> None:
    """Each waits for the other's sign: one after the other they would give up with 1."""
    wait = "touch {0}/{1}; for i in $(seq 400); do test -e {0}/{2} && exit 0; sleep 0.05; done; exit 1"
    stages = ended(tmp_path, wait.format(tmp_path, "left", "right"), wait.format(tmp_path, "right", "left"), jobs=2)
    assert len(stages) == 2


def test_one_at_a_time_never_meet(told: Path, tmp_path: Path) -> None:
    alone = f"mkdir {tmp_path}/lock && sleep 0.05 && rmdir {tmp_path}/lock"
    assert len(ended(tmp_path, alone, alone, alone, jobs=1)) == 3


def test_stages_keep_the_order_asked_whoever_is_first(told: Path, tmp_path: Path) -> None:
    slow = f"for i in $(seq 400); do test -e {tmp_path}/second && exit 0; sleep 0.05; done; exit 1"
    assert ended(tmp_path, slow, f"touch {tmp_path}/second", jobs=2) == ["1/2  a", "2/2  b"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo 'umbel: log.csv: no rows; mend' >&2; exit 2", "a: log.csv: no rows; mend; the comparison goes on where it stopped"),
        ("echo first >&2; echo last >&2; exit 2", "a: last; the comparison goes on"),
        ("exit 2", "a: no message; the comparison goes on"),
        ("printf '\\n\\n' >&2; exit 2", "a: no message; the comparison goes on"),
    ],
)
def test_the_user_s_error_in_a_child_is_the_user_s(told: Path, tmp_path: Path, command: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        ended(tmp_path, command)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo 'umbel: KeyError: x' >&2; exit 1", "a ended with 1: KeyError: x"),
        ("exit 139", "a ended with 139: no message"),
        ("kill -9 $$", "a ended with -9: no message"),
        ("echo 'half a li' >&2; kill -15 $$", "a ended with -15: half a li"),
        ("exit 130", "a ended with 130: no message"),
    ],
)
def test_a_crash_of_a_child_is_ours(told: Path, tmp_path: Path, command: str, message: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        ended(tmp_path, command)
    assert str(caught.value) == message


def test_what_is_said_without_failing_is_no_failure(told: Path, tmp_path: Path) -> None:
    assert ended(tmp_path, "echo 'a warning' >&2; exit 0") == ["1/1  a"]


def test_after_a_failure_nothing_new_is_started(told: Path, tmp_path: Path) -> None:
    """With one job the second may have begun when the first is known to have failed; the last ones never do."""
    late = f"touch {tmp_path}/late"
    with pytest.raises(UserError, match=r"^b: "):
        ended(tmp_path, "true", "exit 2", "sleep 1", late, late)
    assert not (tmp_path / "late").exists()


def test_runs_beside_a_failure_end_by_themselves(told: Path, tmp_path: Path) -> None:
    begun, fails, done = (tmp_path / name for name in ("begun", "failing", "done"))
    wait = "for i in $(seq 400); do test -e {} && break; sleep 0.05; done"
    slow = f"touch {begun}; {wait.format(fails)}; touch {done}"
    failing = f"{wait.format(begun)}; touch {fails}; exit 1"
    with pytest.raises(RuntimeError, match=r"^a ended with 1"):
        ended(tmp_path, failing, slow, jobs=2)
    assert (tmp_path / "done").exists()


def settings(**changes: object) -> Settings:
    tree: dict[str, object] = {
        "data": {"log": "log.parquet"},
        "fields": {"user": {"kind": "id"}},
        "tasks": {"click": {}, "like": {}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1},
        "model": {"recipe": "stem", "dim": 4},
        "fit": {"seed": 3, "rate": 0.002},
        "compare": changes,
    }
    return parse(tree, where="here")


def scored(folder: Path, score: float) -> None:
    Trial(score, 1, 1.0, 1.0, 1).save(folder)


def test_one_folder_a_rate_width_and_seed(tmp_path: Path) -> None:
    folder = compare._folder(tmp_path, Entrant("ple x3", "ple", 3), settings())
    assert folder == tmp_path / "runs" / "ple x3" / "rate=0.002 dim=4 seed=3"
    grid = Entrant("stem", "stem").grid(settings(rates=[0.001, 0.01], dims=[4, 8]))
    assert len({compare._folder(tmp_path, Entrant("stem", "stem"), seeded(one, seed)) for one in grid for seed in (1, 2)}) == 8


def test_seeds_count_from_the_run_file_s() -> None:
    assert list(compare._seeds(settings(seeds=4))) == [3, 4, 5, 6]


def test_a_neural_run_reads_a_file_of_its_own(tmp_path: Path) -> None:
    asked = settings()
    made = compare._neural("stem", asked, tmp_path / "runs" / "stem" / "one", test=True)
    file = tmp_path / "runs" / "stem" / "one.toml"
    assert made.words == ("trial", str(file), "--test")
    assert read(file) == asked
    assert compare._neural("stem", asked, made.folder, test=False).words == ("trial", str(file))
    assert made.name == "stem one"


def test_without_a_choice_nothing_is_tried(told: Path, tmp_path: Path) -> None:
    chosen = compare._choose(settings(), tmp_path, (Entrant("stem", "stem"), Entrant("ple", "ple")), jobs=1, watch=Listener())
    assert not told.exists()
    assert {name: one.model.recipe for name, one in chosen.items()} == {"stem": "stem", "ple": "ple"}


def test_the_best_on_validation_is_chosen_for_each(told: Path, tmp_path: Path) -> None:
    asked = settings(rates=[0.001, 0.01], dims=[4, 8])
    names = (Entrant("stem", "stem"), Entrant("ple x3", "ple", 3))
    for entrant, best in zip(names, (1, 2), strict=True):
        for at, one in enumerate(entrant.grid(asked)):
            scored(compare._folder(tmp_path, entrant, one), 0.6 + 0.1 * (at == best))
    chosen = compare._choose(asked, tmp_path, names, jobs=1, watch=Listener())
    assert not told.exists(), "finished trials are not run again"
    assert (chosen["stem"].fit.rate, chosen["stem"].model.dim) == (0.001, 8)
    assert (chosen["ple x3"].fit.rate, chosen["ple x3"].model.dim) == (0.01, 12)


def test_settings_that_diverge_are_passed_over(told: Path, tmp_path: Path) -> None:
    asked, names = settings(rates=[0.001, 0.01, 0.1]), (Entrant("stem", "stem"), Entrant("ple", "ple"))
    for entrant in names:
        for at, one in enumerate(entrant.grid(asked)):
            folder = compare._folder(tmp_path, entrant, one)
            if at == 1 and entrant.name == "stem":
                scored(folder, 0.6)
            else:
                folder.mkdir(parents=True)
                Lost(f"the loss ran away at {one.fit.rate}").save(folder)
    chosen = compare._choose(asked, tmp_path, names, jobs=1, watch=Listener())
    assert not told.exists(), "what was lost is not tried again"
    assert {name: one.fit.rate for name, one in chosen.items()} == {"stem": 0.01}, "ple lost all of them"
    lost = compare._lost(tmp_path)
    assert len(lost) == 5
    assert lost["ple rate=0.01 dim=4 seed=3"] == "the loss ran away at 0.01"


def test_a_lost_seed_is_not_run_again(tmp_path: Path) -> None:
    one, asked = Entrant("stem", "stem"), settings(seeds=3)
    gone = compare._folder(tmp_path, one, seeded(asked, 4))
    gone.mkdir(parents=True)
    Lost("the loss ran away").save(gone)
    left = [run.folder.name for run in compare._finals({"stem": asked}, tmp_path, (one,), seeds=compare._seeds(asked))]
    assert left == ["rate=0.002 dim=4 seed=3", "rate=0.002 dim=4 seed=5"]


def test_a_run_that_was_lost_is_said(told: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "runs" / "stem" / "a"
    said = ended(tmp_path, f"mkdir -p {folder}; echo '{{\"why\": \"x\"}}' > {folder}/lost.json", "true")
    assert said == ["1/2  a  lost: its training diverged", "2/2  b"]


def test_of_equals_the_first_is_chosen(told: Path, tmp_path: Path) -> None:
    asked, one = settings(rates=[0.01, 0.001]), Entrant("stem", "stem")
    for each in one.grid(asked):
        scored(compare._folder(tmp_path, one, each), 0.7)
    assert compare._choose(asked, tmp_path, (one,), jobs=1, watch=Listener())["stem"].fit.rate == 0.01


def test_only_missing_trials_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, one = settings(rates=[0.001, 0.01, 0.1]), Entrant("stem", "stem")
    scored(compare._folder(tmp_path, one, one.grid(asked)[1]), 0.7)
    asked_for: list[str] = []

    def run_all(runs: list[Run], *, jobs: int, watch: object) -> None:
        for each in runs:
            asked_for.append(each.folder.name)
            assert "--test" not in each.words, "a choice never reads the test rows"
            scored(each.folder, 0.5)

    monkeypatch.setattr(compare, "_run_all", run_all)
    chosen = compare._choose(asked, tmp_path, (one,), jobs=1, watch=Listener())
    assert asked_for == ["rate=0.001 dim=4 seed=3", "rate=0.1 dim=4 seed=3"]
    assert chosen["stem"].fit.rate == 0.01


def test_finals_are_the_seeds_without_predictions(tmp_path: Path) -> None:
    one, asked = Entrant("stem", "stem"), settings(seeds=3)
    done = compare._folder(tmp_path, one, seeded(asked, 4))
    done.mkdir(parents=True)
    (done / "predictions.npz").touch()
    left = compare._finals({"stem": asked}, tmp_path, (one,), seeds=compare._seeds(asked))
    assert len(list(left)) == 3, "cut off before it said that it was done"
    scored(done, 0.7)
    runs = list(compare._finals({"stem": asked}, tmp_path, (one,), seeds=compare._seeds(asked)))
    assert [each.folder.name for each in runs] == ["rate=0.002 dim=4 seed=3", "rate=0.002 dim=4 seed=5"]
    assert all(each.words[-1] == "--test" for each in runs)
    assert [read(Path(each.words[1])).fit.seed for each in runs] == [3, 5]


def test_finals_go_seed_by_seed(tmp_path: Path) -> None:
    asked, names = settings(seeds=2), (Entrant("stem", "stem"), Entrant("ple", "ple"))
    runs = compare._finals({one.name: asked for one in names}, tmp_path, names, seeds=compare._seeds(asked))
    assert [(run.folder.parent.name, run.folder.name[-1]) for run in runs] == [("stem", "3"), ("ple", "3"), ("stem", "4"), ("ple", "4")]


def test_trees_are_two_lines_of_every_seed(tmp_path: Path) -> None:
    runs = list(compare._trees(settings(seeds=2), tmp_path, TREES))
    assert [(each.folder.parent.name, each.folder.name) for each in runs] == [(name, f"seed={seed}") for name in TREES for seed in (3, 4)]
    assert runs[0].words == ("trees", "--rate", "0.03", "--rate", "0.06", "--rate", "0.1", "--seed", "3")
    assert ["--means" in each.words for each in runs] == [False, False, True, True]
    (runs[1].folder).mkdir(parents=True)
    (runs[1].folder / "predictions.npz").touch()
    assert runs[1] in list(compare._trees(settings(seeds=2), tmp_path, TREES)), "cut off before it said that it was done"
    scored(runs[1].folder, 0.7)
    assert runs[1] not in list(compare._trees(settings(seeds=2), tmp_path, TREES))
    assert list(compare._trees(settings(), tmp_path, ())) == []
    assert list(compare._tree_lines(settings(), tmp_path, ())) == []


def test_a_line_names_what_was_chosen_among_how_many(tmp_path: Path) -> None:
    asked, one = settings(rates=[0.001, 0.01], dims=[4, 8], seeds=2), Entrant("ple x3", "ple", 3)
    chosen = one.grid(asked)[3]
    line = compare._line(tmp_path, one, chosen, settings=asked)
    assert line.chosen == {"recipe": "ple", "rate": 0.01, "dim": 24, "of": 4}
    assert [folder.name for folder in line.folders] == ["rate=0.01 dim=24 seed=3", "rate=0.01 dim=24 seed=4"]
    trees = list(compare._tree_lines(asked, tmp_path, TREES))
    assert [(each.name, each.chosen["of"], len(each.folders)) for each in trees] == [(name, 3, 2) for name in TREES]


def test_a_trial_comes_back_and_its_absence_is_none(tmp_path: Path) -> None:
    assert Trial.load(tmp_path) is None
    trial = Trial(0.71, 12, 3.5, 1e5, 2**33)
    trial.save(tmp_path)
    assert Trial.load(tmp_path) == trial


def test_what_is_compared_by_default() -> None:
    assert CompareSection().seeds == 3
    assert settings().compare.recipes == ()
