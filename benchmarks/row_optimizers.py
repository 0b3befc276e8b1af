"""What a row optimiser costs: ways to write rows back, and a step beside torch's own for sparse gradients (docs/decisions/0005)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import measured
import torch
from torch import Tensor, nn

from umbel.learn.optim import RowAdagrad, RowAdam

ROWS, RATE = 1_000_000, 1e-3
TORCH = "torch SparseAdam"
SIZES = [(20_000, 16), (60_000, 16), (20_000, 48), (60_000, 48)]  # rows touched, width


def ways(table: Tensor, ids: Tensor, rows: Tensor) -> dict[str, Callable[[], object]]:
    """Each way to write, by torch's name for it; `scatter_add_` adds a difference instead."""
    spread = ids[:, None].expand(-1, rows.shape[1])
    return {
        "index_copy_": lambda: table.index_copy_(0, ids, rows),
        "index_put_": lambda: table.index_put_((ids,), rows),
        "scatter_": lambda: table.scatter_(0, spread, rows),
        "scatter_add_": lambda: table.scatter_add_(0, spread, rows),
        "index_add_": lambda: table.index_add_(0, ids, rows),
    }


def steps(table: Tensor, ids: Tensor, grad: Tensor) -> dict[str, Callable[[], object]]:
    """A step of each optimiser on the rows touched."""
    weight = nn.Parameter(table.clone())
    weight.grad = torch.sparse_coo_tensor(ids[None], grad, weight.shape, check_invariants=False)
    sparse = torch.optim.SparseAdam([weight], lr=RATE)
    adam, adagrad = RowAdam(table), RowAdagrad(table)
    return {
        "RowAdam": lambda: adam.step(ids, grad, rate=RATE),
        "RowAdagrad": lambda: adagrad.step(ids, grad, rate=RATE),
        TORCH: lambda: sparse.step(),
    }


def milliseconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Processor time of each, in turns, after one turn that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if repeat:
                found[name].append(1e3 * (time.process_time() - start))
    return found


def main() -> None:
    """Measure on one thread, print, and write `benchmarks/results/row_optimizers.json`."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = torch.zeros(ROWS, max(width for _, width in SIZES))
    results, ratios = {}, []
    for touched, width in SIZES:
        own = table[:, :width].contiguous()
        ids, grad = torch.randperm(ROWS)[:touched].sort().values, 1e-3 * torch.randn(touched, width)
        name, stepped = f"{touched:,} rows of {width}", milliseconds(steps(own, ids, grad), asked.repeats)
        every = milliseconds(ways(own, ids, grad), asked.repeats) | stepped
        results[name] = {way: round(statistics.median(times), 2) for way, times in every.items()}
        ratios.append(measured.ratio(f"torch's SparseAdam over RowAdam, {name}", measured.over(stepped[TORCH], stepped["RowAdam"])))
        print(f"{name} in {ROWS:,}:", results[name], flush=True)
    measured.write(asked.o, {"milliseconds": results}, ratios)


if __name__ == "__main__":
    main()
