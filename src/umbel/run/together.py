"""One training by several processes, as `torchrun` starts them: who is the first, and what it tells the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from umbel.errors import UserError
from umbel.learn.processes import every
from umbel.learn.processes import is_first as is_first
from umbel.learn.processes import told as told
from umbel.run.settings import Settings

MEETING = timedelta(minutes=10)  # for all to come: one that failed before it came is noticed by nothing else on another machine
PATIENCE = timedelta(days=1)     # the first may be at work by itself for hours (ingesting, judging); one that ends is noticed at once


@contextmanager
def joined(read: Callable[[], Settings]) -> Iterator[tuple[Settings, ProcessGroup | None]]:
    """What the first process reads, and the processes that `torchrun` started beside this one; None where it did not start this.

    :raises UserError: when not all of them come, when one of the others ended before its work was done, or for a device that so many
        processes cannot have.
    """
    if not dist.is_torchelastic_launched():
        yield read(), None
        return
    _meet()
    try:
        met = dist.group.WORLD
        settings = told(met, read() if is_first(met) else None)
        assert settings is not None
        yield settings, working(settings, met)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # whose errors are of no type of their own
            raise
        raise UserError("another process of this training ended, or cannot be reached", mend="see what it said; then again") from error
    finally:
        dist.destroy_process_group()


def working(settings: Settings, met: ProcessGroup | None) -> ProcessGroup:
    """Those who have met, with time to work, and each with a GPU of its own where the run is for one.

    :raises UserError: in all of them, for a GPU that is named, and for more processes than GPUs on a machine.
    """
    kind, _, number = settings.fit.device.partition(":")
    cuda, size = kind == "cuda", dist.get_world_size(met)
    if cuda and number and size > 1:
        raise UserError(f"fit.device = {settings.fit.device!r}: one GPU for {size} processes", mend="say 'cuda': each takes its own")
    if cuda:
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if not every(met, here <= gpus):  # said by all: who does not know would wait for the others
            what = f"fit.device = 'cuda': more processes than GPUs on a machine (here {here}, and {gpus})"
            raise UserError(what, mend="start as many on each machine as it has GPUs, or use 'cpu'")
        if not number:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    group = dist.new_group(timeout=PATIENCE, backend="cpu:gloo,cuda:nccl" if cuda else "gloo")
    assert isinstance(group, ProcessGroup)
    return group


def check_group(settings: Settings, size: int) -> None:
    """:raises UserError: for a run that so many processes cannot make."""
    if settings.episodes is not None:
        raise UserError("episodes: new users are trained for by one process", mend="start `umbel train` without torchrun")
    if size > settings.fit.batch:
        raise UserError(f"fit.batch = {settings.fit.batch}: fewer rows than the {size} processes", mend="start fewer, or raise it")


def _meet() -> None:
    """Wait for all, and no longer than `MEETING`."""
    try:
        dist.init_process_group("gloo", timeout=MEETING)
    except RuntimeError as error:  # of the store that all register with, or of gloo, which then connects each with each
        minutes, size = MEETING.total_seconds() / 60, os.environ["WORLD_SIZE"]
        what = f"not all {size} processes of this training came within {minutes:g} minutes, or they cannot reach each other"
        raise UserError(what, mend="see what the others said, on every machine; then again") from error
