"""What several processes cannot train, how they meet, which GPUs they take, and a process that is by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from tests.journeys.conftest import RUN
from tests.several import together
from torch.distributed import ProcessGroup

from umbel.errors import UserError
from umbel.run import together as meeting
from umbel.run.settings import Settings, read
from umbel.run.together import check_group, is_first, joined, told, working

FEW = "fit.device = 'cuda': more processes than GPUs on a machine (here {}); start as many on each machine as it has GPUs, or use 'cpu'"


def settings(folder: Path, *changes: str) -> Settings:
    file = folder / "run.toml"
    file.write_text(RUN.format(log="log.parquet"))
    return read(file, changes)


@pytest.mark.parametrize(("changes", "what"), [
    (("fit.batch=2",), "fit.batch = 2: fewer rows than the 3 processes; start fewer, or raise it"),
    (("episodes.support=3",), "episodes: new users are trained for by one process; start `umbel train` without torchrun"),
])
def test_what_cannot_be_is_refused(changes: tuple[str, ...], what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        check_group(settings(tmp_path, *changes), 3)
    assert str(raised.value) == what


def test_as_many_processes_as_rows_are_enough(tmp_path: Path) -> None:
    check_group(settings(tmp_path, "fit.batch=3"), 3)


def test_a_process_that_nobody_started_beside_others_is_the_first_and_tells_itself(tmp_path: Path) -> None:
    own = settings(tmp_path)
    with joined(lambda: own) as (found, group):
        assert found is own
        assert group is None
        assert is_first(group)
        assert told(group, "what it has") == "what it has"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As `torchrun` would have started the one process of a training."""
    told = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    for name, value in {**told, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_those_who_met_are_told_what_the_first_reads_and_part_in_the_end(started: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = settings(tmp_path)
    with joined(lambda: own) as (found, group):
        assert found == own
        assert group is not None
        assert (group.size(), is_first(group)) == (1, True)
    assert not dist.is_initialized()


def test_whoever_does_not_come_is_not_waited_for_a_day(started: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert timedelta(minutes=1) < meeting.MEETING < timedelta(hours=1)
    started.setenv("WORLD_SIZE", "2")
    started.setattr(meeting, "MEETING", timedelta(seconds=1.2))
    own = settings(tmp_path)
    with pytest.raises(UserError) as raised, joined(lambda: own):
        pass
    assert str(raised.value) == (
        "not all 2 processes of this training came within 0.02 minutes, or they cannot reach each other; "
        "see what the others said, on every machine; then again"
    )
    assert not dist.is_initialized()


@pytest.mark.parametrize(("error", "kind"), [
    (RuntimeError("[gloo] Connection closed by peer"), UserError),
    (dist.DistNetworkError("it is gone"), UserError),
    (RuntimeError("a tensor of another shape"), RuntimeError),
])
def test_an_error_of_the_others_is_told_from_ones_own(
    error: RuntimeError, kind: type[Exception], started: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = settings(tmp_path)
    with pytest.raises(Exception) as raised, joined(lambda: own):  # noqa: PT011
        raise error
    assert type(raised.value) is kind
    assert not dist.is_initialized()


# GPUs that are not there: torch is told of them.


@contextmanager
def gpus(count: int, rank: int, here: int) -> Iterator[list[object]]:
    """A machine with so many, and processes here; what is asked of it."""
    asked: list[object] = []

    def new_group(timeout: timedelta, backend: str) -> ProcessGroup | None:
        asked.append((timeout, backend))
        return dist.group.WORLD

    environment = mock.patch.dict("os.environ", {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(here)})
    counted = mock.patch.object(torch.cuda, "device_count", return_value=count)
    with environment, counted, mock.patch.object(torch.cuda, "set_device", asked.append), mock.patch.object(dist, "new_group", new_group):
        yield asked


def refusal(own: Settings, met: ProcessGroup) -> str:
    with pytest.raises(UserError) as raised:
        working(own, met)
    return str(raised.value)


def work(group: ProcessGroup, folder: Path) -> None:
    """Two processes, which find no, one, or two GPUs; found[...] is what each says or does."""
    rank = dist.get_rank(group)
    found: dict[str, object] = {}
    mine = folder / str(rank)
    mine.mkdir()
    own = {device: settings(mine, f"fit.device={device}") for device in ("cpu", "cuda", "cuda:0")}
    with gpus(1, rank, 2) as asked:
        found["one GPU"] = refusal(own["cuda"], group), asked
    with gpus(2 - rank, rank, 2) as asked:
        found["one of the machines has one"] = refusal(own["cuda"], group), asked
    with gpus(0, rank, 1) as asked:
        found["no GPU"] = refusal(own["cuda"], group), asked
    with gpus(2, rank, 2) as asked:
        found["named"] = refusal(own["cuda:0"], group), asked
    with gpus(2, rank, 2) as asked:
        working(own["cuda"], group)
        found["two GPUs"] = asked
    with gpus(1, rank, 2) as asked:
        working(own["cpu"], group)
        found["on the CPU"] = asked
    made = working(own["cpu"], group)
    found["made"] = [told(made, rank), made.size(), dist.get_backend(made), made is group]
    torch.save(found, folder / f"{rank}.pt")


def test_each_process_has_a_gpu_of_its_own_or_all_say_why_not(tmp_path: Path) -> None:
    together(2, work, tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert found["one GPU"] == (FEW.format("2, and 1"), [])
        assert found["one of the machines has one"] == (FEW.format(f"2, and {2 - rank}"), [])
        assert found["no GPU"] == (FEW.format("1, and 0"), [])
        assert found["named"] == ("fit.device = 'cuda:0': one GPU for 2 processes; say 'cuda': each takes its own", [])
        assert found["two GPUs"] == [rank, (timedelta(days=1), "cpu:gloo,cuda:nccl")]
        assert found["on the CPU"] == [(timedelta(days=1), "gloo")]
        assert found["made"] == [0, 2, "gloo", False]


def test_one_process_may_name_its_gpu(started: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = settings(tmp_path, "fit.device=cuda:1")
    with gpus(2, 0, 1) as asked, joined(lambda: own):
        assert asked == [(timedelta(days=1), "cpu:gloo,cuda:nccl")]
