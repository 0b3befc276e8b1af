"""A search on a Ray cluster of this machine: the trials of a local one; what is interrupted, lost or refused there is so as it is here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.journeys.conftest import RUN, content, laid_out, say
from tests.journeys.test_tune import CHANGES, SMALL, TRIALS, command
from umbel import durable
from umbel.errors import UserError
from umbel.run.run import prepare
from umbel.run.settings import Settings, read
from umbel.run.watch import Silence
from umbel.study.tune.cluster import Cluster, joined
from umbel.study.tune.outcome import Outcome
from umbel.study.tune.runner import End, Failed, Interrupted, Processes, Pruned
from umbel.study.tune.tune import run_tune

ray = pytest.importorskip("ray", reason="ray is not installed (pip install -e '.[dev]'): no search on a cluster is tried")
RATE = "fit.rate=0.02"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
LONG = ("fit.epochs=4000", "fit.patience=4000")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run file of the local journey, beside its small log."""
    text = RUN
    for old, new in CHANGES.items():
        text = text.replace(old, new)
    return laid_out(tmp_path_factory.mktemp("ray"), text, planted=SMALL)


@pytest.fixture(scope="module")
def settings(file: Path) -> Settings:
    return read(file, [RATE])


@pytest.fixture(scope="module")
def table(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "table"
    prepare(settings, folder, watch=Silence())
    return folder


@pytest.fixture(scope="module")
def cluster(table: Path) -> Iterator[Cluster]:
    """That of this process, with two cores for Ray whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("umbel.study.tune.cluster.cores", lambda: 2)
        with joined("local", table, jobs=2) as one:
            yield one


@pytest.fixture
def one(cluster: Cluster) -> Cluster:
    """A search of its own on it."""
    return replace(cluster, running={}, over=threading.Event())


@pytest.fixture(scope="module")
def searches(cluster: Cluster, file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of one search in processes of its own, and of one on the cluster."""
    folder, wanted = tmp_path_factory.mktemp("searches"), read(file)
    runners = {"here": None, "ray": replace(cluster, table=folder / "ray" / "table", running={}, over=threading.Event())}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("umbel.study.tune.tune.TREE_RATES", (0.1,))  # the boosted trees are no trials, and grow here in either case
        for name, runner in runners.items():
            run_tune(wanted, folder / name, trials=TRIALS, jobs=1, watch=Silence(), runner=runner)
    return {name: folder / name for name in runners}


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """A verb in a process of its own, in which a warning is an error."""
    return subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=500)


def test_the_trials_are_those_of_a_local_search(searches: dict[str, Path]) -> None:
    """To the last digit: points, scores of every epoch, values, and why one came to nothing."""
    here, there = (content(out / "tune.json") for out in searches.values())
    assert len(here["trials"]) == TRIALS
    for one, two in zip(here["trials"], there["trials"], strict=True):
        for key in ("number", "state", "point", "values", "scores", "reason"):
            assert one[key] == two[key], key
    for key in ("chosen", "front", "space", "objectives", "importances", "reads"):
        assert here[key] == there[key], key


def test_it_leaves_what_a_local_search_leaves(searches: dict[str, Path]) -> None:
    trees = [{path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} for out in searches.values()]
    assert trees[0] == trees[1]
    assert (searches["here"] / "best.toml").read_text() == (searches["ray"] / "best.toml").read_text()


def test_what_a_cluster_finished_is_read_without_one(searches: dict[str, Path], file: Path) -> None:
    said = say("tune", file, "-o", searches["ray"], "--trials", str(TRIALS))
    assert (said.code, "this search is finished" in said.err) == (0, True)


def test_an_interrupt_says_how_to_go_on_and_leaves_no_process(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*command(file, out), "--ray", "local", *(word for one in LONG for word in ("--set", one))]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
    for _ in range(6_000):
        if list(out.glob("trials/0000/run.toml")):
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "umbel: interrupted; the same command goes on from the last checkpoint\n"
    with durable.hold(out / "trials" / "0000"):
        pass


# one trial at a time


def always(_: int, __: float) -> bool:
    return True


def begun(out: Path, count: int = 1) -> None:
    """Wait until so many trials are at work."""
    for _ in range(6_000):
        if len(list(out.glob("*/run.toml"))) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no trial began")


class Trial(threading.Thread):
    """A trial at work, and how it ended."""

    def __init__(self, cluster: Cluster, settings: Settings, folder: Path) -> None:
        super().__init__(daemon=True)
        self._asked, self.end = (cluster, settings, folder), list[End | BaseException]()
        self.start()

    def run(self) -> None:
        cluster, settings, folder = self._asked
        try:
            self.end.append(cluster(settings, folder, always))
        except BaseException as error:
            self.end.append(error)


def test_an_even_share_of_the_cores_is_a_trial_s(cluster: Cluster, table: Path) -> None:
    assert (cluster.threads, cluster.table) == (1, table)


def test_a_trial_is_that_of_a_process_here(one: Cluster, settings: Settings, table: Path, tmp_path: Path) -> None:
    heard: dict[str, list[tuple[int, float]]] = {"ray": [], "here": []}

    def hear(name: str, runner: Cluster | Processes) -> End:
        def own(epoch: int, score: float) -> bool:
            heard[name].append((epoch, score))
            return True

        return runner(settings, tmp_path / name / "0004", own)

    found, here = hear("ray", one), hear("here", Processes(table, 1))
    assert isinstance(found, Outcome)
    assert isinstance(here, Outcome)
    assert (found.tasks, found.epochs, found.trial.score) == (here.tasks, here.epochs, here.trial.score)
    assert heard["ray"] == heard["here"] != []
    assert one.running == {}


def test_one_that_is_not_to_go_on_is_told_to_stop(one: Cluster, settings: Settings, tmp_path: Path) -> None:
    assert one(settings, tmp_path / "0005", lambda *_: False) == Pruned()


def test_one_whose_node_is_lost_goes_on_from_its_checkpoint(one: Cluster, settings: Settings, table: Path, tmp_path: Path) -> None:
    heard: list[int] = []

    def hear(epoch: int, _: float) -> bool:
        heard.append(epoch)
        if len(heard) == 1:
            ray.kill(next(iter(one.running.values())))
        return True

    found = one(settings, tmp_path / "ray" / "0006", hear)
    here = Processes(table, 1)(settings, tmp_path / "here" / "0006", always)
    assert isinstance(found, Outcome)
    assert isinstance(here, Outcome)
    assert found.tasks == here.tasks
    assert (heard[0], heard[-1]) == (1, here.epochs)
    assert len(heard) <= here.epochs + 1, "an epoch may be told again, but no more than that"


def test_one_whose_node_is_lost_again_and_again_has_failed(
    one: Cluster, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the trial that no node can bear."""
    monkeypatch.setattr("umbel.study.tune.cluster.TRIES", 2)

    def hear(_: int, __: float) -> bool:
        ray.kill(next(iter(one.running.values())))
        return True

    found = one(longer(settings), tmp_path / "0007", hear)
    assert isinstance(found, Failed)
    assert found.reason.startswith("its node was lost 2 times: ")
    assert "\n" not in found.reason


def longer(settings: Settings) -> Settings:
    """The same settings for many more epochs."""
    return settings.model_copy(update={"fit": settings.fit.model_copy(update={"epochs": 4000, "patience": 4000})})


def test_halted_trials_are_to_be_done_again_and_those_that_wait_are_given_up(one: Cluster, settings: Settings, tmp_path: Path) -> None:
    trials = [Trial(one, longer(settings), tmp_path / f"{number:04d}") for number in range(3)]
    begun(tmp_path, 2)
    one.halt()
    for trial in trials:
        trial.join(60)
        assert [type(end) for end in trial.end] == [Interrupted]
    for folder in tmp_path.glob("*/"):
        with durable.hold(folder):
            pass
    assert one.running == {}


def test_a_table_that_a_node_does_not_see_is_named(one: Cluster, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: .* does not see it; name a folder with -o that all nodes share"):
        replace(one, table=tmp_path / "nowhere")(settings, tmp_path / "0008", always)


def test_what_is_no_fault_of_the_point_ends_the_search(one: Cluster, settings: Settings, tmp_path: Path) -> None:
    """The table's folder is empty."""
    (tmp_path / "table").mkdir()
    with pytest.raises(UserError, match=r"trial 9: .*table.*the search goes on where it stopped once this is mended"):
        replace(one, table=tmp_path / "table")(settings, tmp_path / "0009", always)


def test_a_gpu_that_no_node_has_is_named(one: Cluster, settings: Settings, tmp_path: Path) -> None:
    on_gpu = settings.model_copy(update={"fit": settings.fit.model_copy(update={"device": "cuda"})})
    if ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match=r"no node of the Ray cluster has a GPU"):
        one(on_gpu, tmp_path / "0010", always)


# what cannot be joined


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "nowhere.invalid:6379"])
def test_a_cluster_that_is_none_is_named_before_anything_is_tried(file: Path, tmp_path: Path, address: str) -> None:
    said = say("tune", file, "-o", tmp_path / "out", "--trials", "2", "--ray", address)
    assert said.code == 2
    assert said.line.startswith(f"umbel: --ray {address}: cannot be joined (")
    assert said.line.endswith("); start one (`ray start --head`) and name its address, or give --ray local")
    assert not (tmp_path / "out").exists()


def test_without_ray_one_line_says_what_to_install(file: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['ray'] = None\nfrom umbel.cli import main\nmain(sys.argv[1:])"
    words = [sys.executable, "-c", program, "tune", str(file), "-o", str(tmp_path / "out"), "--trials", "1", "--ray", "local"]
    done = run(words)
    assert (done.returncode, done.stderr) == (2, "umbel: ray is not installed; pip install 'umbel[ray]'\n")
    assert not (tmp_path / "out").exists()
