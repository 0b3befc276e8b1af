"""How much memory a model will ask for, found before any of it is taken; and what is told where there is not enough after all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from umbel.errors import UserError
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan

UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
LONG = 1000  # rows of a table that min_count may make fewer
DENSE = 4    # the weights, their gradient, and Adam's two moments
FULL = ("alloc_cpu.cpp", "DefaultCPUAllocator", "not enough memory", "bad_alloc")  # torch on a CPU has no error of its own for it


def check_size(build: Callable[[], nn.Module], plan: Plan, *, dim: int, rows: Mapping[str, int], kept: int) -> None:
    """Build the model without its memory, and compare what training it takes with what the machine has.

    `rows` are those of each table, `kept` the epochs whose weights are held at once. What the machine has is its whole memory, which
    the processes that `torchrun` started on it divide, or the GPU's where that is the device.

    :raises UserError: where that is not enough, with the bytes, and what makes them fewer.
    """
    with torch.device("meta"):
        model = build()
    beside = 1 if plan.device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needs, have = beside * held(model, plan, kept=kept), memory(plan.device)
    if needs <= have:
        return
    total, tables = _size(model.parameters()), _size(_table(model))
    what = f"model: {_bytes(total)} of weights, {_bytes(tables)} of them in tables of {sum(rows.values()):,} rows"
    mend = f"lower model.dim = {dim}"
    if 2 * tables < total:
        mend += ", model.expert or model.tower"
    elif max(rows.values()) >= LONG:
        widest = max(rows, key=lambda name: rows[name])
        mend += f", or raise fields.{widest}.min_count, which has {rows[widest]:,}"
        mend += ', or share the rows out to machines (torchrun --nnodes, fit.tables = "shards")'
    if not plan.exact and beside * held(model, replace(plan, rows=RowAdagrad), kept=kept) <= have:
        mend += ', or set fit.rows = "adagrad", whose state is one number a row'
    takes = f"training takes {_bytes(needs)}{f' in {beside} processes' if beside > 1 else ''}"
    raise UserError(f"{what}; {takes} and {plan.device} has {_bytes(have)}", mend=mend)


def held(model: nn.Module, plan: Plan, *, kept: int) -> int:
    """Bytes that training a model holds in one process, beside what a batch takes; the model may be one without its memory.

    Weights, gradients, the optimisers' moments, and the weights of `kept` epochs; of a table the touched rows alone have a gradient, but
    for `plan.exact`. Of rows that are shared out it is this process's share.
    """
    table = _table(model)
    own = _size(table)
    moments = (DENSE - 1) * own if plan.exact else _size(tensor for one in table for tensor in plan.rows(one).state().values())
    holders = plan.shards.world if plan.shards else 1
    return (DENSE + kept) * (_size(model.parameters()) - own) + ((1 + kept) * own + moments) // holders


@contextmanager
def within_memory() -> Iterator[None]:
    """Training, at whose end what was left on the disk is still there.

    :raises UserError: where the memory runs out meanwhile, with the settings that ask for it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in FULL)):
            raise
        shared = 'or share the rows out (torchrun, fit.tables = "shards")'
        mend = f'lower fit.batch, model.dim or model.expert, set fit.rows = "adagrad", {shared}'
        raise UserError("training: memory ran out; the last checkpoint stays", mend=mend) from error


def memory(device: torch.device) -> int:
    """Bytes of memory of the device; of the machine for all but a GPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _table(model: nn.Module) -> list[Tensor]:
    """The embedding rows, where there are any."""
    return [parameter for name, parameter in model.named_parameters() if name == "table"]


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _bytes(count: int) -> str:
    """As people say it.

    Example
    -------
    >>> _bytes(64 * 10**9), _bytes(2_500)
    ('64.0 GB', '2.5 kB')
    """
    power = min(len(UNITS) - 1, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:,.{min(power, 1)}f} {UNITS[power]}"
