"""What a recommendation costs beside a ranking of the same candidates: processor time of one process, without HTTP and without the log.

Run `python benchmarks/recommend.py`: `mmoe` of `benchmarks/serving.py` (20 fields, width 16, three tasks) with untrained towers of 32,
over catalogues of which 2,000 items were met in training; users have 30 events each; the 20 best are answered. And what one written
item costs until it is on the shelf.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import measured
import numpy as np
import polars as pl
import torch
from serving import ITEMS, OURS, SHOWN, TASKS, THEIRS, USERS, VALUES, bundle, table

from umbel.bundle import Bundle
from umbel.data.table import Table
from umbel.nn.towers import Sides, TowerSizes, TwoTower
from umbel.retrieve.neighbours import neighbours
from umbel.retrieve.retrieval import Retrieval
from umbel.retrieve.sides import schema_of
from umbel.serve.bundles import Ordering
from umbel.serve.order import Order
from umbel.serve.recommend.asked import RecommendRequest
from umbel.serve.recommend.recommend import recommend
from umbel.serve.records import Event, Known
from umbel.serve.requests import Candidate, RankRequest
from umbel.serve.service import Service, Serving
from umbel.serve.store.session import now
from umbel.serve.store.store import Store
from umbel.serve.wanted import State

CATALOGUES = (2_000, 20_000, 100_000)
EVENTS, TURNS = 30, 5
Answers = Callable[[int], Awaitable[object]]


def retrieving(made: Table, folder: Path) -> Path:
    """A bundle of `mmoe` with untrained towers, and neighbours of random positives."""
    plain = Bundle.load(bundle(made, "mmoe", folder))
    sides = Sides("item", OURS, THEIRS)
    sizes = TowerSizes({name: one.size for name, one in made.encoder.vocabularies.items()})
    towers = TwoTower(schema_of(made.schema, sides), sizes, sides).eval()
    codes, draw = np.setdiff1d(made.column("item", "train"), [0]).astype(np.int32), np.random.default_rng(0)
    vectors = draw.normal(size=(len(codes), sizes.width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = draw.integers(0, len(codes), 50_000)
    near = neighbours(draw.integers(0, USERS, 50_000), place, len(codes))
    found = Retrieval(sides, sizes, towers, codes, np.bincount(place, minlength=len(codes)), vectors, near)
    replace(plain, retrieval=found).save(folder / "retrieving", golden=pl.read_parquet(folder / "mmoe" / "bundle" / "golden.parquet"))
    return folder / "retrieving"


def catalogue(store: Store, items: int) -> dict[str, dict[str, int]]:
    """Items with nine fields each, of which the first 2,000 are those of training; and events of every tenth user."""
    fields = np.random.default_rng(1).integers(0, VALUES, (items, len(THEIRS) - 1)).tolist()
    known = {str(one): dict(zip(THEIRS[1:], fields[one], strict=True)) for one in range(items)}
    store.items.put([Known(id=one, fields=own, time=now() - 60_000) for one, own in known.items()])
    draw = np.random.default_rng(2)
    for user in range(0, USERS, 10):
        met = draw.choice(ITEMS, EVENTS, replace=False).tolist()
        store.record([Event(id=f"{user}-{one}", kind="click", item=str(one), user=str(user), time=now()) for one in met]).result()
    return known


def cost(ways: dict[str, Answers], count: int) -> dict[str, list[float]]:
    """Milliseconds of processor time a request of each way, turn by turn, after a tenth of them."""

    async def many(answers: Answers, first: int, last: int) -> None:
        for one in range(first, last):
            await answers(one)

    found: dict[str, list[float]] = {name: [] for name in ways}
    for answers in ways.values():
        asyncio.run(many(answers, 0, count // 10))
    for turn in range(TURNS):
        first, last = turn * count // TURNS, (turn + 1) * count // TURNS
        for name, answers in ways.items():
            began = time.process_time()
            asyncio.run(many(answers, first, last))
            found[name].append(1000 * (time.process_time() - began) / (last - first))
    return found


def written(service: Service) -> float:
    """Milliseconds of processor time from one item written anew to its place on the shelf, after a first."""
    spent = []
    for one in range(10):
        service.items.put([Known(id="0", fields={THEIRS[1]: one}, time=now())])
        began = time.process_time()
        service.items.refresh(now(), tell=partial(service.shelves.follow, serving=service.bundles.loaded))
        spent.append(1000 * (time.process_time() - began))
    return round(sum(spent[1:]) / len(spent[1:]), 1)


def study(folder: Path, items: int, count: int) -> tuple[dict[str, object], measured.Ratio]:
    """One catalogue: a recommendation, and a ranking of as many of its items with their fields."""
    draw = np.random.default_rng(3)
    contexts = [dict(zip(OURS[1:], row, strict=True)) for row in draw.integers(0, VALUES, (100, len(OURS) - 1)).tolist()]
    with Store(folder / f"{items}.db") as store:
        known = catalogue(store, items)
        began = time.process_time()
        service = Service(store, Serving(
            first=State(stable=str(folder / "retrieving")), ordering=Ordering(order=Order()), budget=60.0, logged=False))
        started = round(time.process_time() - began, 2)

        def asked(one: int) -> RecommendRequest:
            return RecommendRequest(user_id=str(10 * one % USERS), context=contexts[one % 100], n=SHOWN)  # type: ignore[arg-type]

        async def recommended(one: int) -> object:
            return await recommend(service, asked(one), time.monotonic())

        async def counted() -> int:
            answer = await recommend(service, asked(0), time.monotonic())
            return sum(answer.candidates.values())

        candidates = min(asyncio.run(counted()), items)
        chosen = [draw.choice(items, candidates, replace=False).tolist() for _ in range(20)]
        sent = [[Candidate(item_id=str(one), fields=known[str(one)]) for one in own] for own in chosen]  # type: ignore[arg-type]

        async def ranked(one: int) -> object:
            body = RankRequest(items=sent[one % 20], user_id=str(one), context=contexts[one % 100], n=SHOWN)  # type: ignore[arg-type]
            return await service.rank(body, time.monotonic())

        found = cost({"recommend": recommended, "rank": ranked}, count)
        write = written(service)
    figures = {f"{name}_cpu_ms": round(statistics.median(times), 3) for name, times in found.items()}
    ratio = measured.ratio(f"a recommendation of {items:,} items over a ranking of as many candidates",
                           measured.over(found["recommend"], found["rank"]))
    return {"candidates": candidates, **figures, "write_cpu_ms": write, "start_cpu_s": started}, ratio


def main() -> None:
    """Every catalogue; figures to benchmarks/results/recommend.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--catalogues", type=int, nargs="+", default=CATALOGUES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        retrieving(table(folder), folder)
        every = {str(items): study(folder, items, arguments.requests) for items in arguments.catalogues}
    found = {items: figures for items, (figures, _) in every.items()}
    measured.write(arguments.o, {"tasks": list(TASKS), "catalogue": found}, [ratio for _, ratio in every.values()])
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
