"""What a second process is worth: steps by one process and by several on the same batches, in turns, and what a step sends.

`python benchmarks/processes.py` starts as many processes as it is told, of one thread each, on this machine; one of them also steps
alone while the others wait. Several hold the table each (replicas) or share its rows out (shards). The model is `peers.rows.model`, as in
`training.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from measured import Ratio, write
from peers.rows import BATCH, SKEW, SMALL, model, packed, ready
from torch.distributed import ProcessGroup
from torch.multiprocessing.spawn import spawn

from umbel.data.batch import Batch
from umbel.learn.memory import keep_freed
from umbel.learn.plan import Plan
from umbel.learn.shards import Shards
from umbel.learn.step import Fast
from umbel.nn.views import compact

HERE = Path(__file__).parent
STEPS = 8  # timed together


def rate(step: Fast, batches: list[Batch]) -> tuple[float, float]:
    """Rows a second, and milliseconds of processor time a step, which say more where others share the machine."""
    began, at_work = time.perf_counter(), time.process_time()
    for batch in batches:
        step(batch)
    return len(batches) * BATCH / (time.perf_counter() - began), 1e3 * (time.process_time() - at_work) / len(batches)


def written() -> int:
    """Bytes that this process has written so far, to sockets among others; steps write to nothing else."""
    lines = (line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(dict(lines)["wchar"])


def reckoned(recipe: str, batch: Batch, world: int) -> dict[str, float]:
    """Megabytes that a process receives in a step: logits and touched rows of the others, dense gradients twice round the ring.

    Of shards: the rows that it touches and others hold, and of those that others ask it for, ids and gradients.
    """
    made = model(recipe, SMALL)
    rows = sum(len(compact(made.rows(batch.take(slice(BATCH * rank // world, BATCH * (rank + 1) // world)).fields))[0])
               for rank in range(1, world))
    dense, width = sum(parameter.numel() for parameter in made.dense_parameters()), made.table.shape[1]
    return {
        "logits": BATCH * (world - 1) / world * 4 * made.schema.outputs[-1].stop / 1e6,
        "dense": 2 * (world - 1) / world * 4 * dense / 1e6,
        "rows": rows * (8 + 4 * width) / 1e6,
        "rows of shards": rows / world * (8 + 8 * width) / 1e6,
    }


def held(step: Fast) -> float:
    """Megabytes of the table and its moments in this process."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (step.model.table, *step.table_state().values())) / 1e6


def work(rank: int, world: int, recipe: str, rounds: int, folder: Path) -> None:
    """One process: alone if it is the first, then with the others; once more than is counted."""
    torch.set_num_threads(1)
    keep_freed()
    dist.init_process_group("gloo", init_method=(folder / "met").as_uri(), rank=rank, world_size=world)
    group = dist.group.WORLD
    assert isinstance(group, ProcessGroup)
    batches = ready(packed(STEPS * BATCH, SMALL, SKEW))
    shards = Shards(group)
    ways = {
        "alone": Fast(model(recipe, SMALL), Plan()),
        "replicas": Fast(model(recipe, SMALL), Plan(group=group)),
        "shards": Fast(model(recipe, SMALL, shards), Plan(group=group, shards=shards)),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    worked: dict[str, list[float]] = {way: [] for way in ways}
    sent = dict.fromkeys(ways, 0)
    for number in range(rounds + 1):
        for way, step in ways.items():
            dist.barrier()
            before = written()
            rows, milliseconds = rate(step, batches) if rank == 0 or way != "alone" else (0.0, 0.0)
            if number:
                found[way].append(rows)
                worked[way].append(milliseconds)
                sent[way] += written() - before
    everybody = torch.tensor(list(sent.values()), dtype=torch.float64)
    dist.all_reduce(everybody)
    if rank == 0:
        a_step = dict(zip(sent, (everybody / (1e6 * world * rounds * STEPS)).tolist(), strict=True))
        megabytes = {
            **{f"reckoned, {what}": size for what, size in reckoned(recipe, batches[0], world).items()},
            **{f"sent, {way}": size for way, size in a_step.items()}, **{f"held, {way}": held(step) for way, step in ways.items()},
        }  # fmt: skip
        (folder / "found.json").write_text(json.dumps({**found, "processor": worked, "megabytes": megabytes}))
    dist.destroy_process_group()


def measured(recipe: str, world: int, rounds: int) -> dict[str, object]:
    """Rows a second both ways, their ratio round by round, and what a step sends."""
    with tempfile.TemporaryDirectory() as name:
        spawn(work, (world, recipe, rounds, Path(name)), nprocs=world)
        found = json.loads((Path(name) / "found.json").read_text())
    return {**found, "ratio": {way: spread(found, way) for way in ("replicas", "shards")}}


def spread(found: dict[str, list[float]], way: str) -> dict[str, float]:
    """How many times as fast as one process, round by round."""
    ratios = [several / one for one, several in zip(found["alone"], found[way], strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def main() -> None:
    """Measure, print, and leave the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--recipes", nargs="+", default=["shared_bottom", "mmoe", "stem"])
    parser.add_argument("-o", type=Path, default=HERE / "results" / "processes.json")
    asked = parser.parse_args()
    told, ratios = {}, []
    for recipe in asked.recipes:
        found = told[recipe] = measured(recipe, asked.processes, asked.rounds)
        several, megabytes = found["ratio"], found["megabytes"]
        assert isinstance(several, dict)
        assert isinstance(megabytes, dict)
        for way, one in several.items():
            name = f"{recipe}, {asked.processes} processes of one thread over one, {way}"
            ratios.append(Ratio(name, one["median"], one["low"], one["high"], goal=1.7))
            print(f"{recipe:14} {asked.processes} processes, {way:8} {one['median']:.2f} times one ({one['low']:.2f} to {one['high']:.2f})")
        worked = ", ".join(f"{way} {statistics.median(times):.0f} ms" for way, times in found["processor"].items())
        print(f"{'':14} processor time of a step in the first process: {worked}")
        print(f"{'':14} a step: {', '.join(f'{name} {size:.2f} MB' for name, size in megabytes.items())}", flush=True)
    write(asked.o, {"processes": asked.processes, "recipes": told}, ratios)


if __name__ == "__main__":
    main()
