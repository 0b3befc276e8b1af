"""A model leaves Python unchanged: an exported graph with any number of rows, and a model under torch.func, score as it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from torch import Tensor, nn

from umbel.nn.recommender import Recommender
from umbel.nn.views import compact
from umbel.recipes import RECIPES, mmoe, stem

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, torch
from tests import everykind
from umbel.recipes import RECIPES
for told in sys.argv[1:]:
    name, layers = told.split(":")
    torch.manual_seed(0)
    model = everykind.awake(RECIPES[name](everykind.binned(3), everykind.sizes(layers=int(layers), shared=2))).eval()
    batch = everykind.fields(6)
    free = {field: {0: torch.export.Dim("rows", min=1, max=100_000)} for field in batch}
    graph = torch.export.export(model, (batch,), dynamic_shapes=(free,)).module()
    for rows in (1, 5, 64):
        other = everykind.fields(rows, seed=rows)
        torch.testing.assert_close(graph(other), model(other), atol=1e-6, rtol=1e-6)
    print(told)
"""


class Score(nn.Module):
    """`score` as a module's forward, which is what torch.func calls."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return self.model.score(rows, batch)


def test_an_exported_graph_scores_any_number_of_rows() -> None:
    """In a process of its own, since the checks of shapes while tests run cannot be exported."""
    names = [*(f"{name}:1" for name in RECIPES), "stem:2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, *names], check=False, capture_output=True, text=True,
                         cwd=ROOT, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == names


def model_and_batch() -> tuple[Recommender, dict[str, Tensor]]:
    torch.manual_seed(0)
    return everykind.awake(stem(everykind.schema(2), sizes())).eval(), fields(10)


def test_other_weights_without_another_model() -> None:
    model, batch = model_and_batch()
    rows = model.rows(batch)
    weights = {f"model.{name}": 0.5 * parameter.detach() for name, parameter in model.named_parameters()}
    found = torch.func.functional_call(Score(model), weights, (rows, batch))
    before = model(batch)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "table":
                parameter.mul_(0.5)
    torch.testing.assert_close(found, model(batch))
    assert not torch.allclose(found, before)


def test_adapting_touched_rows_twice_differentiable() -> None:
    """One inner step on the rows a user touched, and the outer gradient through it."""
    torch.manual_seed(0)
    model, batch = everykind.awake(mmoe(everykind.schema(2), sizes())).eval().double(), fields(10)
    _, local = compact(model.rows(batch))
    place = local["place"]

    def after(table: Tensor) -> Tensor:
        inner = torch.func.grad(lambda t: model.score({"table": t, "place": place}, batch).square().mean())(table)
        return model.score({"table": table - 0.1 * inner, "place": place}, batch).square().mean()

    table: Tensor = 0.1 * local["table"].detach()
    gradient = torch.func.grad(after)(table)
    direction = torch.randn(table.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-6
    slope = (after(table + step * direction) - after(table - step * direction)) / (2 * step)
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_many_tables_at_once() -> None:
    """Batched over users: each with a table of its own and places of its own."""
    model, _ = model_and_batch()
    batches = [fields(5, seed=seed) for seed in range(3)]
    tables = torch.randn(3, *model.table.shape, generator=torch.Generator().manual_seed(2))
    places = torch.stack([model.rows(batch)["place"] for batch in batches])
    stacked = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}

    def score(table: Tensor, place: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return model.score({"table": table, "place": place}, batch)

    found = torch.func.vmap(score)(tables, places, stacked)
    for one, batch in enumerate(batches):
        torch.testing.assert_close(found[one], score(tables[one], places[one], batch), atol=1e-5, rtol=1e-5)


def test_many_gradients_at_once() -> None:
    model, _ = model_and_batch()
    batches = [fields(4, seed=seed) for seed in range(3)]
    places = torch.stack([model.rows(batch)["place"] for batch in batches])
    stacked = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}

    def loss(table: Tensor, place: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return model.score({"table": table, "place": place}, batch).square().sum()

    table = model.table.detach()
    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(table, places, stacked)
    for one, batch in enumerate(batches):
        torch.testing.assert_close(found[one], torch.func.grad(loss)(table, places[one], batch), atol=1e-5, rtol=1e-4)


def test_a_model_can_be_told_its_precision() -> None:
    torch.manual_seed(0)
    model = everykind.awake(mmoe(everykind.schema(2), sizes())).eval()
    batch = fields(6)
    single = model(batch)
    double = model.double()(batch)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=1e-5)
