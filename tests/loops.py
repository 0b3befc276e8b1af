"""Plain loops beside the library: embeddings a row and a field at a time, and leaves to hold a model's gradients against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests import everykind
from tests.everykind import gradients
from umbel.nn.recommender import Recommender
from umbel.schema import FieldKind, Schema


class Leaves:
    """A copy of every parameter of a model, by name, for an oracle to compute with; and the comparison of what comes of both."""

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self.of = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}

    def mlp(self, group: str, x: Tensor, *, linear: bool = False) -> Tensor:
        """ReLU after every layer of a group, but after the last if linear."""
        parts = self.model.groups()[group]
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        for level, (weight, bias) in enumerate(pairs):
            w = weight.of(self.of)
            x = x @ (w[0] if w.ndim == 3 else w.T) + bias.of(self.of).flatten()
            if not linear or level < len(pairs) - 1:
                x = torch.where(x > 0, x, torch.zeros_like(x))
        return x

    def towers(self, heard: list[Tensor]) -> Tensor:
        """logit_t = MLP_t(h_t)."""
        names = [task.name for task in self.model.schema.tasks]
        return torch.cat([self.mlp(f"tower {name}", h, linear=True) for name, h in zip(names, heard, strict=True)], 1)

    def view(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """x_v, every field side by side."""
        return look(self.model, self.of["table"], batch, number)

    def check(self, logits: Tensor, batch: dict[str, Tensor]) -> None:
        """The same logits, and for each output the same gradients of every parameter from the experts' inputs up, and of the table."""
        own = self.model(batch)
        torch.testing.assert_close(own, logits, atol=2e-6, rtol=1e-5)
        names = [name for name in self.of if not name.startswith("views.")]
        for output in range(logits.shape[1]):
            mine = gradients(self.model, own[:, output].square().sum())
            leaves = [self.of[name] for name in names]
            theirs = torch.autograd.grad(logits[:, output].square().sum(), leaves, retain_graph=True, allow_unused=True)
            for name, leaf, other in zip(names, leaves, theirs, strict=True):
                expected = torch.zeros_like(leaf) if other is None else other
                atol = 1e-5 * max(1.0, float(expected.abs().max()))  # sums of many terms of that size
                torch.testing.assert_close(mine[name], expected, atol=atol, rtol=1e-4, msg=name)


def look(model: Recommender, table: Tensor, batch: dict[str, Tensor], view: int) -> Tensor:
    """x_v: every field's embedding in one view, side by side, a row and a field at a time."""
    schema, dim = model.schema, model.views.dim
    columns = slice(view * dim, (view + 1) * dim)
    rows = len(next(iter(batch.values())))
    return torch.stack([torch.cat([embed(model, schema, one, table=table, batch=batch)[row, columns] for one in range(len(schema.fields))])
                        for row in range(rows)])


def embed(model: Recommender, schema: Schema, number: int, *, table: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """One field in all views, `rows views*dim`."""
    one, own = schema.fields[number], batch[schema.fields[number].name]
    if one.coded:
        start = sum(everykind.VOCABULARY[name] for name in schema.tables[:schema.tables.index(one.table)])
        found = []
        for codes in own.reshape(len(own), -1).tolist():
            values = [table[start + code] for code in codes if code >= 0]
            found.append(torch.stack(values).mean(0) if values else torch.zeros(table.shape[1]))
        return torch.stack(found) + counted(model, schema, number, batch=batch)
    if one.kind is FieldKind.NUMBER and not one.bins:
        numbers = model.views.numbers
        assert numbers is not None
        place = numbers.names.index(one.name)
        weight, missing = numbers.weight[place].flatten().detach(), numbers.missing[place].flatten().detach()
        return torch.stack([missing if x != x else x * weight for x in own.tolist()])
    vector = model.views.vectors[sum(other.mapped for other in schema.fields[:number])]
    weight, missing = vector.get_parameter("weight").detach(), vector.get_parameter("missing").detach().flatten()
    return torch.stack([missing if bool(x.isnan().any()) else weight @ (pieces(float(x), one.bins) if one.bins else x) for x in own])


def pieces(x: float, bins: int) -> Tensor:
    """How much of each of the bins that lie evenly from -2 to 2 is below x."""
    width = 4 / bins
    return torch.tensor([min(max((x + 2 - piece * width) / width, 0.0), 1.0) for piece in range(bins)])


def counted(model: Recommender, schema: Schema, number: int, *, batch: dict[str, Tensor]) -> Tensor:
    """What a list adds for how many values it holds; nothing for a single value."""
    one = schema.fields[number]
    if not one.many:
        return torch.zeros(1)
    counts = model.views.counts
    assert counts is not None
    weight = counts.weight[sum(other.many for other in schema.fields[:number])].flatten().detach()
    held = [sum(code >= 0 for code in codes) for codes in batch[one.name].tolist()]
    return torch.stack([weight * (math.log(1 + count) / math.log(1 + one.length)) for count in held])


def mix(shares: Tensor, candidates: list[Tensor]) -> Tensor:
    """sum_n g_n candidate_n."""
    total = torch.zeros_like(candidates[0])
    for number, candidate in enumerate(candidates):
        total = total + shares[:, number:number + 1] * candidate
    return total
