"""How much memory a model will ask for, found before any of it is taken."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import torch
from torch import nn

from umbel.errors import UserError

UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
LONG = 1000  # rows of a table that min_count may make fewer
COPIES = 3  # the weights, and the two moments that training keeps beside them


def check_size(
    build: Callable[[], nn.Module], *, dim: int, rows: Mapping[str, int], device: torch.device, holders: int = 1
) -> None:
    """Build the model without its memory, and compare what training it takes with what the machine has.

    `rows` are those of each table, `holders` the processes that share them out. What the machine has is its whole memory, which
    the processes that `torchrun` started on it divide, or the GPU's where that is the device.

    :raises UserError: where that is not enough, with the bytes, and what makes them fewer.
    """
    with torch.device("meta"):
        model = build()
    weights = {name: parameter.numel() * parameter.element_size() for name, parameter in model.named_parameters()}
    total, tables, have = sum(weights.values()), weights.get("table", 0), memory(device)
    beside = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needs = COPIES * beside * (total - tables + tables // holders)
    if needs <= have:
        return
    what = f"model: {_bytes(total)} of weights, {_bytes(tables)} of them in tables of {sum(rows.values()):,} rows"
    mend = f"lower model.dim = {dim}"
    if 2 * tables < total:
        mend += ", model.expert or model.tower"
    elif max(rows.values()) >= LONG:
        widest = max(rows, key=lambda name: rows[name])
        mend += f", or raise fields.{widest}.min_count, which has {rows[widest]:,}"
        mend += ', or share the rows out to machines (torchrun --nnodes, fit.tables = "shards")'
    takes = f"training takes {_bytes(needs)}{f' in {beside} processes' if beside > 1 else ''}"
    raise UserError(f"{what}; {takes} and {device} has {_bytes(have)}", mend=mend)


def memory(device: torch.device) -> int:
    """Bytes of memory of the device; of the machine for all but a GPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _bytes(count: int) -> str:
    """As people say it.

    Example
    -------
    >>> _bytes(64 * 10**9), _bytes(2_500)
    ('64.0 GB', '2.5 kB')
    """
    power = min(len(UNITS) - 1, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:,.{min(power, 1)}f} {UNITS[power]}"
