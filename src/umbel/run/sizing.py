"""How much memory a model will ask for, found before any of it is taken; and what is told where there is not enough after all."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from umbel import machine
from umbel.errors import UserError
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.machine import said

LONG = 1000  # rows of a table that min_count may make fewer
DENSE = 4    # the weights, their gradient, and Adam's two moments
FULL = ("alloc_cpu.cpp", "DefaultCPUAllocator", "not enough memory", "bad_alloc")  # torch on a CPU has no error of its own for it


def check_size(
    build: Callable[[int], nn.Module], plan: Plan, *, dim: int, step: int = 1, rows: Mapping[str, int], kept: int
) -> None:
    """Build the model of width `dim` without its memory, and compare what training it takes with what the machine has.

    `rows` are those of each table, `kept` the epochs whose weights are held at once; every `step` of the width makes a model, too. What
    the machine has is what this process may hold of its memory, which the processes that `torchrun` started on it divide, or the whole
    memory of the GPU where that is the device.

    :raises UserError: where that is not enough, with the bytes, and what makes them fewer.
    """
    beside = 1 if plan.device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def takes(dim: int, plan: Plan = plan) -> int:
        return beside * held(_unmade(build, dim), plan, kept=kept)

    needs, have = takes(dim), memory(plan.device)
    if needs <= have:
        return
    model = _unmade(build, dim)
    total, tables = _size(model.parameters()), _size(_table(model))
    what = f"model: {said(total)} of weights, {said(tables)} of them in tables of {sum(rows.values()):,} rows"
    narrower = range(step, dim, step)
    fit = bisect_left(narrower, True, key=lambda one: takes(one) > have)
    mend = f"lower model.dim = {dim}" + (f" to {narrower[fit - 1]}" if fit else "")
    if 2 * tables < total:
        mend += ", model.expert or model.tower"
    elif max(rows.values()) >= LONG:
        widest = max(rows, key=lambda name: rows[name])
        mend += f", or raise fields.{widest}.min_count, which has {rows[widest]:,}"
        mend += ', or share the rows out to machines (torchrun --nnodes, fit.tables = "shards")'
    if not plan.exact and takes(dim, replace(plan, rows=RowAdagrad)) <= have:
        mend += ', or set fit.rows = "adagrad", whose state is one number a row'
    asked = f"training takes {said(needs)}{f' in {beside} processes' if beside > 1 else ''}"
    raise UserError(f"{what}; {asked} and {plan.device} has {said(have)}", mend=mend)


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
    """Bytes of memory of the device; for all but a GPU of the machine, or what this process may hold of it, as in a container."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine.memory()


def spare(device: torch.device) -> int:
    """Bytes of memory that are not taken: of a GPU what is free, or kept by this process for its next tensors; else `memory`."""
    if device.type != "cuda":
        return memory(device)
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _unmade(build: Callable[[int], nn.Module], dim: int) -> nn.Module:
    with torch.device("meta"):
        return build(dim)


def _table(model: nn.Module) -> list[Tensor]:
    """The embedding rows, where there are any."""
    return [parameter for name, parameter in model.named_parameters() if name == "table"]


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
