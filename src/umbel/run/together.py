"""One training by several processes, as `torchrun` starts them: who is the first, and what it tells the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from umbel.errors import UserError
from umbel.learn.processes import is_first as is_first
from umbel.learn.processes import told as told
from umbel.run.settings import Settings

PATIENCE = timedelta(days=1)  # the first may be at work by itself for hours (ingesting, judging); one that ends is noticed at once


@contextmanager
def joined() -> Iterator[ProcessGroup | None]:
    """The processes that `torchrun` started beside this one; None where it did not start this.

    :raises UserError: when one of the others ended before its work was done.
    """
    if not dist.is_torchelastic_launched():
        yield None
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield dist.group.WORLD
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # whose errors are of no type of their own
            raise
        raise UserError("another process of this training ended, or cannot be reached", mend="see what it said; then again") from error
    finally:
        dist.destroy_process_group()


def check_group(settings: Settings, size: int) -> None:
    """:raises UserError: for a run that so many processes cannot make."""
    if settings.episodes is not None:
        raise UserError("episodes: new users are trained for by one process", mend="start `umbel train` without torchrun")
    if size > settings.fit.batch:
        raise UserError(f"fit.batch = {settings.fit.batch}: fewer rows than the {size} processes", mend="start fewer, or raise it")
