"""The experiment behind MMoE (Ma et al., KDD 2018, section 3.2): two regressions whose correlation is swept, shared bottom against MMoE.

`y_k = w_k . x + sum_i sin(alpha_i w_k . x + beta_i) + noise`, x of 100 normal numbers, `w_1 = u_1`, `w_2 = rho u_1 + sqrt(1 - rho^2) u_2`
with orthogonal unit vectors u, noise of variance .01. As in the paper: 8 experts of 16 units against one of 113 (about as many numbers),
towers of 8 units, single-layer experts that read x itself. Both models of a seed see the same rows in the same order.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from umbel.data.batch import Batch
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import mmoe, shared_bottom
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

HERE = Path(__file__).parent
WIDTH, NOISE, TEST = 100, 0.1, 20_000
WAVES = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.5, 2.5])  # alpha and beta, the same for every seed
SCHEMA = Schema((Field("x", FieldKind.VECTOR, width=WIDTH),), (Task("one", kind=REGRESSION), Task("other", kind=REGRESSION)))
RHOS = (1.0, 0.9, 0.5, 0.0)


class World:
    """Rows without end of two tasks of one correlation."""

    def __init__(self, rho: float, seed: int) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        basis, _ = torch.linalg.qr(torch.randn(WIDTH, 2, generator=self.draw))
        first, second = basis.T
        self.weights = torch.stack([first, rho * first + (1 - rho**2) ** 0.5 * second])

    def rows(self, count: int, *, noise: float = NOISE) -> Batch:
        """Fresh rows; without noise for a test of what is learned."""
        x = torch.randn(count, WIDTH, generator=self.draw)
        line = x @ self.weights.T
        alpha, beta = WAVES
        labels = line + (alpha * line[..., None] + beta).sin().sum(-1) + noise * torch.randn(count, 2, generator=self.draw)
        return Batch({"x": x}, labels, torch.ones(count, 2, dtype=torch.bool), torch.arange(count))


def built(name: str, seed: int) -> Recommender:
    """One of the two models; the projection in front of the experts is the identity, and stays so."""
    torch.manual_seed(seed)
    if name == "mmoe":
        model = mmoe(SCHEMA, Sizes({}, dim=WIDTH, expert=(16,), tower=(8,), specific=1, shared=6))
    else:
        model = shared_bottom(SCHEMA, Sizes({}, dim=WIDTH, expert=(113,), tower=(8,)))
    for parameter in model.views.parameters():
        parameter.requires_grad = False
    with torch.no_grad():
        model.views.get_parameter("vectors.0.weight").copy_(torch.eye(WIDTH))
    return model


def trained(name: str, rho: float, seed: int, *, steps: int, batch: int = 256, rate: float = 3e-3) -> float:
    """The mean squared error over both tasks on rows without noise, over the variance of their labels."""
    world, model = World(rho, seed), built(name, seed)
    test = world.rows(TEST, noise=0.0)
    optimizer = torch.optim.Adam([one for one in model.dense_parameters() if one.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = world.rows(batch)
        loss: Tensor = model.losses(model(rows.fields), rows).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = (model(test.fields) - test.labels).square().mean(0)
    return float((errors / test.labels.var(0)).mean())


def spread(each: list[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": round(statistics.mean(each), 5), "deviation": round(statistics.stdev(each), 5)}


def summed(errors: dict[float, list[float]]) -> dict[str, object]:
    """Mean and standard deviation over seeds at each correlation, and seed by seed how much worse than at 1."""
    worse = {rho: [low - high for low, high in zip(each, errors[1.0], strict=True)] for rho, each in errors.items()}
    return {
        "error": {f"{rho:g}": spread(each) for rho, each in errors.items()},
        "worse_than_at_1": {f"{rho:g}": spread(each) for rho, each in worse.items()},
        "seeds": {f"{rho:g}": [round(one, 5) for one in each] for rho, each in errors.items()},
    }


def one(seed: int, steps: int) -> dict[str, list[float]]:
    """Errors of a seed by model, a number a correlation."""
    return {name: [trained(name, rho, seed, steps=steps) for rho in RHOS] for name in ("shared_bottom", "mmoe")}


def kept(file: Path, seed: int, steps: int) -> dict[str, list[float]]:
    """What a seed came to, as it is kept there, or made now."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(one(seed, steps)))
        print(file.name, flush=True)
    found: dict[str, list[float]] = json.loads(file.read_text())
    return found


def main() -> None:
    """Sweep, print, and leave results/mmoe_correlation.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--work", type=Path, default=None, help="keeps what is finished, seed by seed")
    parser.add_argument("-o", type=Path, default=HERE / "results" / "mmoe_correlation.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.work or Path(tempfile.mkdtemp())
    seeds = [kept(work / f"{seed}.json", seed, given.steps) for seed in range(given.first, given.first + given.seeds)]
    found = {name: {rho: [seed[name][at] for seed in seeds] for at, rho in enumerate(RHOS)} for name in seeds[0]}
    parameters = {name: sum(p.numel() for p in built(name, 0).parameters() if p.requires_grad) for name in found}
    lost = {name: [low - high for low, high in zip(each[0.0], each[1.0], strict=True)] for name, each in found.items()}
    less = sum(mine < theirs for mine, theirs in zip(lost["mmoe"], lost["shared_bottom"], strict=True))
    report = {
        "command": " ".join(["python", "benchmarks/mmoe_correlation.py", *sys.argv[1:]]),
        "cores": os.cpu_count(), "torch": torch.__version__,
        "seeds": given.seeds, "steps": given.steps, "parameters": parameters,
        "what": "mean squared error on rows without noise over the labels' variance, mean of two tasks",
        "models": {name: summed(each) for name, each in found.items()},
        "mmoe_loses_less_from_1_to_0": f"{less} of {given.seeds} seeds",
    }  # fmt: skip
    given.o.write_text(json.dumps(report, indent=1) + "\n")
    for name, each in found.items():
        print(f"{name:14}", "  ".join(f"rho {rho:g}: {statistics.mean(one):.4f} ±{statistics.stdev(one):.4f}" for rho, one in each.items()))
    print(f"mmoe loses less from rho 1 to 0 in {less} of {given.seeds} seeds")


if __name__ == "__main__":
    main()
