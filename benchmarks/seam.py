"""What the seam costs on histories: a leaf per slot looked up, against a leaf per table row touched (docs/decisions/0001)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import measured
import torch
from torch import Tensor

from umbel.nn.pool import mean_rows
from umbel.nn.views import compact

ROWS, LISTS, LENGTH, WIDTH, IDS = 4096, 3, 50, 32, 7500
REPEATS = 15


def per_slot(table: Tensor, place: Tensor) -> Tensor:
    """Look every slot up, take the masked mean, then sum the gradients of the slots by row."""
    index = place.clamp(min=0).flatten()
    leaf = table.index_select(0, index).requires_grad_()
    known = (place >= 0).float().view(ROWS, LISTS, LENGTH, 1)
    mean = (leaf.view(ROWS, LISTS, LENGTH, WIDTH) * known).sum(2) / known.sum(2).clamp(min=1)
    mean.square().sum().backward()
    assert leaf.grad is not None
    ids, inverse = torch.unique(index, return_inverse=True)
    return torch.zeros(len(ids), WIDTH).scatter_add_(0, inverse[:, None].expand(-1, WIDTH), leaf.grad)


def per_row(table: Tensor, place: Tensor) -> Tensor:
    """Take the rows touched, each once, and the mean over them; their gradient is there."""
    _, rows = compact({"table": table, "place": place})
    mean_rows(rows["table"], rows["place"], (LENGTH,) * LISTS).square().sum().backward()
    assert rows["table"].grad is not None
    return rows["table"].grad


def measure(table: Tensor, place: Tensor) -> dict[str, list[float]]:
    """CPU milliseconds of each repeat, on one thread, in turns, after a turn that is not counted."""
    steps: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (per_slot, per_row)
    found: dict[str, list[float]] = {step.__name__: [] for step in steps}
    for repeat in range(REPEATS + 1):
        for step in steps:
            began = time.process_time()
            step(table, place)
            if repeat:
                found[step.__name__].append(1e3 * (time.process_time() - began))
    return found


def main() -> None:
    """Print both and their ratio; leave benchmarks/results/seam.json."""
    asked = measured.parser(__file__, __doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = torch.randn(IDS, WIDTH)
    length = torch.randint(0, LENGTH + 1, (ROWS, LISTS, 1))
    place = torch.where(torch.arange(LENGTH) < length, torch.randint(0, IDS, (ROWS, LISTS, LENGTH)), -1).flatten(1)
    times = measure(table, place)
    for name, each in times.items():
        print(f"{name:9} median {statistics.median(each):6.1f} ms, {min(each):.1f} to {max(each):.1f}")
    ratio = measured.ratio("histories: a leaf per slot over one per row touched", measured.over(times["per_slot"], times["per_row"]))
    print(f"{ratio.what}: {ratio.value:.1f}")
    measured.write(asked.o, {"cpu_ms": times}, [ratio])


if __name__ == "__main__":
    main()
