"""The processes of a search, with a shell in the place of python: what is told and answered, and how each end is read."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from umbel.errors import UserError
from umbel.run.settings import Settings, parse, read
from umbel.study.trial import Lost, Trial
from umbel.study.tune.outcome import Outcome
from umbel.study.tune.runner import End, Failed, Heard, Interrupted, Processes, Pruned

OUTCOME = Outcome(Trial(0.7, 10, 1.0, 1e3, 2**20), {"click": 0.7}, epochs=2, latency=0.5)
SHELL = "#!/bin/sh\necho \"$@ threads=$OMP_NUM_THREADS\" >> {told}\n{does}\n"


def settings() -> Settings:
    return parse(
        {
            "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id"}}, "tasks": {"click": {}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1}, "model": {"recipe": "stem"},
        },
        where="here",
    )  # fmt: skip


Shell = Callable[[str], Path]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Put these lines in the place of python; where its command lines are kept."""
    told = tmp_path / "told"

    def put(does: str) -> Path:
        path = tmp_path / "shell"
        path.write_text(SHELL.format(told=told, does=does))
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        return told

    return put


def always(_: int, __: float) -> bool:
    return True


def ended(root: Path, heard: Heard = always, *, threads: int = 3) -> End:
    return Processes(root / "table", threads)(settings(), root / "trials" / "0007", heard)


def finished(root: Path) -> None:
    """What a trial leaves."""
    (root / "trials" / "0007").mkdir(parents=True)
    OUTCOME.save(root / "trials" / "0007")


def test_a_process_is_told_its_run_file_its_table_and_its_folder(shell: Shell, tmp_path: Path) -> None:
    told = shell("exit 0")
    finished(tmp_path)
    assert ended(tmp_path) == OUTCOME
    file = tmp_path / "trials" / "0007.toml"
    place = tmp_path / "trials" / "0007"
    assert told.read_text() == f"-m umbel attempt {file} --table {tmp_path / 'table'} -o {place} threads=3\n"
    assert read(file) == settings()


def test_every_epoch_is_heard_and_answered(shell: Shell, tmp_path: Path) -> None:
    shell(f"echo '1 0.25'; read a; echo '2 1e-3'; read b; echo '3 0.5 last'; read c; echo $a $b $c > {tmp_path}/answers")
    finished(tmp_path)
    heard: list[tuple[int, float]] = []

    def hear(epoch: int, score: float) -> bool:
        heard.append((epoch, score))
        return True

    assert ended(tmp_path, hear) == OUTCOME
    assert heard == [(1, 0.25), (2, 0.001), (3, 0.5)]
    assert (tmp_path / "answers").read_text() == "go go go\n"


def test_one_that_is_not_to_go_on_is_told_to_stop(shell: Shell, tmp_path: Path) -> None:
    shell(f"echo '1 0.25'; read a; echo '2 0.2'; read b; echo $a $b > {tmp_path}/answers")
    assert ended(tmp_path, lambda epoch, _: epoch < 2) == Pruned()
    assert (tmp_path / "answers").read_text() == "go stop\n"


def test_the_last_epoch_is_heard_but_is_not_cut_short(shell: Shell, tmp_path: Path) -> None:
    """There is nothing left to save."""
    shell(f"echo '1 0.25 last'; read a; echo $a > {tmp_path}/answers")
    finished(tmp_path)
    heard: list[int] = []

    def never(epoch: int, _: float) -> bool:
        heard.append(epoch)
        return False

    assert ended(tmp_path, never) == OUTCOME
    assert heard == [1]
    assert (tmp_path / "answers").read_text() == "go\n"


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("echo 'umbel: KeyError: x' >&2; exit 1", "its process ended with 1: KeyError: x"),
        ("kill -9 $$", "its process ended with -9: no message"),
        ("echo '1 0.5'; read a; kill -9 $$", "its process ended with -9: no message"),
        ("exit 0", "its process ended with 0: no message"),
        ("exec 0<&-; echo '1 0.5'; exit 3", "its process ended with 3: no message"),
    ],
)
def test_an_end_without_an_outcome_is_a_failure_with_its_reason(shell: Shell, tmp_path: Path, does: str, reason: str) -> None:
    shell(does)
    assert ended(tmp_path) == Failed(reason)


@pytest.mark.parametrize("does", ["exit 130", "kill -2 $$; sleep 1", "kill -15 $$; sleep 1", "echo '1 0.5'; read a; exit 130"])
def test_an_interrupted_one_has_not_failed(shell: Shell, tmp_path: Path, does: str) -> None:
    shell(f"trap - INT; {does}")
    with pytest.raises(Interrupted):
        ended(tmp_path)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("echo 'umbel: out: the disk is full; free some' >&2; exit 2", "trial 7: out: the disk is full; free some; the search goes on"),
        ("echo first >&2; echo 'umbel: last; mend' >&2; exit 2", "trial 7: last; mend; the search goes on"),
        ("exit 2", "trial 7: no message; the search goes on"),
        ("echo '1 0.5'; read a; echo 'umbel: the disk is full; free some' >&2; exit 2", "trial 7: the disk is full"),
    ],
)
def test_what_is_no_fault_of_the_point_ends_the_search(shell: Shell, tmp_path: Path, does: str, said: str) -> None:
    """Else a full disk would use up the number of trials."""
    shell(does)
    with pytest.raises(UserError) as caught:
        ended(tmp_path, lambda *_: False)
    assert str(caught.value).startswith(said)


def test_one_that_diverged_has_failed_and_says_why(shell: Shell, tmp_path: Path) -> None:
    shell("echo '1 0.5'; read a; exit 0")
    (tmp_path / "trials" / "0007").mkdir(parents=True)
    Lost("training: the loss is nan; lower fit.rate").save(tmp_path / "trials" / "0007")
    assert ended(tmp_path) == Failed("training: the loss is nan; lower fit.rate")


def test_one_that_crashes_after_it_was_told_to_stop_has_failed(shell: Shell, tmp_path: Path) -> None:
    shell("echo '1 0.5'; read a; kill -9 $$")
    assert ended(tmp_path, lambda *_: False) == Failed("its process ended with -9: no message")


def test_what_it_says_in_passing_is_no_failure(shell: Shell, tmp_path: Path) -> None:
    shell("i=0; while [ $i -lt 3000 ]; do echo 'a long line of a warning, again and again' >&2; i=$((i+1)); done; exit 0")
    finished(tmp_path)
    assert ended(tmp_path) == OUTCOME, "more than a pipe holds"


def test_halt_interrupts_what_is_running(shell: Shell, tmp_path: Path) -> None:
    shell(f"trap 'exit 130' INT; touch {tmp_path}/up; for i in $(seq 200); do sleep 0.05; done")
    processes, caught = Processes(tmp_path / "table", 1), list[BaseException]()

    def run() -> None:
        try:
            processes(settings(), tmp_path / "trials" / "0007", always)
        except Interrupted as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(400):
        if (tmp_path / "up").exists():
            break
        time.sleep(0.02)
    processes.halt()
    thread.join(timeout=20)
    assert len(caught) == 1
    assert not processes.running


def test_who_hears_and_fails_takes_the_process_along(shell: Shell, tmp_path: Path) -> None:
    shell(f"echo '1 0.5'; read a; echo \"answer $a\" > {tmp_path}/answers")

    def broken(_: int, __: float) -> bool:
        raise ZeroDivisionError

    processes = Processes(tmp_path / "table", 1)
    with pytest.raises(ZeroDivisionError):
        processes(settings(), tmp_path / "trials" / "0007", broken)
    assert not processes.running
    assert (tmp_path / "answers").read_text() == "answer \n", "it heard that nobody is there, and ended"
