"""What large tables and large experts cost: 10^8 ids over 10^5, the share of bare products, and the loop that updates whole tables.

Steps of MMoE (eight experts) and STEM over rows that are ready in memory. `python benchmarks/large.py --only share` measures one part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise

import measured
import torch
from peers.rows import BATCH, COLUMNS, EXPERTS, SKEW, SMALL, TOWER, packed, ready, schema

from umbel.learn.memory import keep_freed
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES

HUGE, LARGE = 10**8, 10**7
L2 = 1e-6
Timed = dict[str, list[float]]


def model(recipe: str, ids: int, *, dim: int, expert: Sequence[int]) -> Recommender:
    """A recipe of eight experts over `ids` ids in sixteen fields."""
    torch.manual_seed(0)
    vocabulary = {f"c{column}": ids // COLUMNS + 1 for column in range(COLUMNS)}
    sizes = Sizes(vocabulary, dim=dim, expert=tuple(expert), tower=TOWER, specific=1, shared=EXPERTS - 2)
    return RECIPES[recipe](schema(), sizes)


def turns(work: dict[str, Callable[[], object]], rounds: int) -> Timed:
    """Processor milliseconds of each, in turns, after a first turn that is not counted."""
    found: Timed = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, one in work.items():
            began = time.process_time()
            one()
            if number:
                found[name].append(1e3 * (time.process_time() - began))
    return found


def stepping(step: Fast | Exact, ids: int, *, skew: float, count: int) -> Callable[[], object]:
    """A step on the next of some batches, again and again."""
    batches = cycle(ready(packed(count * BATCH, ids, skew)))
    return lambda: step(next(batches))


def tables(rounds: int) -> Iterator[tuple[str, Timed, list[measured.Ratio]]]:
    """MMoE of width 8 under row-wise Adagrad, 10^8 ids over 10^5, by how ids are distributed."""
    steps = {ids: Fast(model("mmoe", ids, dim=8, expert=(128, 64)), Plan(rows=RowAdagrad)) for ids in (SMALL, HUGE)}
    for law, skew, goal in (("Zipf", SKEW, 1.25), ("uniform", 0.0, None)):
        found = turns({f"{ids:.0e}": stepping(step, ids, skew=skew, count=rounds + 1) for ids, step in steps.items()}, rounds)
        small, huge = (found[f"{ids:.0e}"] for ids in (SMALL, HUGE))
        what = f"step of mmoe, width 8, row-wise Adagrad, 10^8 ids over 10^5 ({law})"
        yield f"tables, {law}", found, [measured.ratio(what, measured.over(huge, small), goal=goal, most=True)]


def share(rounds: int) -> Iterator[tuple[str, Timed, list[measured.Ratio]]]:
    """Bare matrix products over a step of MMoE, by the width of its experts."""
    for expert, goal in (((128, 64), 0.55), ((512, 512, 512), 0.75)):
        step = stepping(Fast(model("mmoe", SMALL, dim=16, expert=expert), Plan()), SMALL, skew=SKEW, count=4)
        found = turns({"bare products": products(16, expert), "step": step}, rounds)
        name = "-".join(map(str, expert))
        what = f"share of bare products in a step of mmoe, experts {name}"
        yield f"share, {name}", found, [measured.ratio(what, measured.over(found["bare products"], found["step"]), goal=goal)]


def loop(rounds: int) -> Iterator[tuple[str, Timed, list[measured.Ratio]]]:
    """The published trainer of STEM (dense Adam, L2 over the whole table) over ours, by the number of ids."""
    for ids, goal in ((SMALL, None), (LARGE, 40.0)):
        timed: Timed = {}
        for name, made in (("ours", Fast), ("published", Exact)):  # one after the other: both do not fit at once
            step = made(model("stem", ids, dim=16, expert=(128, 64)), Plan(l2=L2, exact=made is Exact))
            timed |= turns({name: stepping(step, ids, skew=SKEW, count=4)}, rounds)
            del step
        what = f"dense Adam and L2 of the whole table over a step of ours, stem, {ids:.0e} ids"
        yield f"loop, {ids:.0e}", timed, [measured.ratio(what, measured.over(timed["published"], timed["ours"]), goal=goal)]


def products(dim: int, expert: Sequence[int]) -> Callable[[], None]:
    """The matrix products of one step of MMoE and nothing else: forward, and backward to weights and inputs."""
    x = torch.randn(BATCH, COLUMNS * dim)
    wide, gate = torch.randn(EXPERTS * expert[0], x.shape[1]), torch.randn(2 * EXPERTS, x.shape[1])
    deep = [torch.randn(EXPERTS, below, above) for below, above in pairwise(expert)]
    out, tower = [torch.randn(EXPERTS, BATCH, width) for width in expert], torch.randn(2, expert[-1], TOWER[0])

    back = torch.randn(BATCH, len(wide))

    def once() -> None:
        _ = (x @ wide.t(), back @ wide, back.t() @ x)
        for layer, weights in enumerate(deep):
            _ = (torch.bmm(out[layer], weights), torch.bmm(out[layer + 1], weights.mT), torch.bmm(out[layer].mT, out[layer + 1]))
        shares = x @ gate.t()
        _ = (shares @ gate, shares.t() @ x)
        for task in range(2):
            seen = out[-1][task] @ tower[task]
            _ = (seen @ tower[task].t(), out[-1][task].t() @ seen)

    return once


PARTS = {"share": share, "loop": loop, "tables": tables}


def main() -> None:
    """Measure, print, and write the figures as they come."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()  # as `fit` does
    results: dict[str, dict[str, dict[str, float]]] = {}
    ratios: list[measured.Ratio] = []
    for part in asked.only:
        for name, timed, more in PARTS[part](asked.rounds):
            results[name] = {side: measured.quartiles(values) for side, values in timed.items()}
            ratios += more
            told = [f"{one.what}: {one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in more]
            print(name, results[name], *told, sep="\n  ", flush=True)
            measured.write(asked.o, {"processor_milliseconds_a_step": results}, ratios)


if __name__ == "__main__":
    main()
