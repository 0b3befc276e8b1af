"""Processes beside a test: the same function in each of them, with a group of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup
from torch.multiprocessing.spawn import spawn

Work = Callable[[ProcessGroup, Path], None]


def together(world: int, work: Work, folder: Path) -> None:
    """Run a module's function in so many processes; what they find they leave in the folder."""
    with tempfile.TemporaryDirectory() as meeting:
        spawn(_one, (world, work, folder, Path(meeting) / "met"), nprocs=world)  # type: ignore[no-untyped-call]


def _one(rank: int, world: int, work: Work, folder: Path, met: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=met.as_uri(), rank=rank, world_size=world, timeout=timedelta(seconds=120))
    group = dist.group.WORLD
    assert group is not None
    try:
        work(group, folder)
    finally:
        dist.destroy_process_group()
