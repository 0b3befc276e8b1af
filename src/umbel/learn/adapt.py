"""A user's own copy of a model, a few gradient steps from the shared one: for one user, or for many at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from umbel.data.batch import Batch
from umbel.data.shots import divided, even
from umbel.learn.episode import Adapter, Episode, own_rows
from umbel.learn.rates import MakeRates, Rates, fixed
from umbel.learn.scope import DECISION, Scope
from umbel.nn.losses import Denominator
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender

Own = dict[str, Tensor]  # a user's own parameters, by name; "table" are embedding rows
CLIP = 10.0
Twin = TypeVar("Twin", bound=nn.Module)


class Known(NamedTuple):
    """What a user's rows say: what the model reads of them (`inputs`), what happened, and how much each row counts."""

    inputs: Any  # a tensor, or a mapping of them: what `answer` reads
    labels: Float[Tensor, "shots tasks"]
    seen: Bool[Tensor, "shots tasks"]
    weight: Float[Tensor, "shots"]
    prior: Float[Tensor, "shots outputs"]


@dataclass(frozen=True, slots=True)
class Inner:
    """How a user's copy is made: `steps` of gradient descent, each clipped to the joint norm `clip`.

    `theta_k = theta_{k-1} - rate * grad L(support; theta_{k-1})`, L the sum over tasks of the users' losses, rows by their weights.
    With `second` the outer gradient goes through these steps (MAML, https://arxiv.org/abs/1703.03400), without it it is
    taken at their end (first order). A step whose gradient is not finite is not taken, and counted.
    """

    scope: Scope = DECISION
    steps: int = 1
    second: bool = False
    clip: float = CLIP

    def descend(self, model: Recommender, own: Own, known: Known, *, rates: Mapping[str, Tensor]) -> tuple[Own, Int[Tensor, ""]]:
        """The copy after all steps, and how many of them were not taken."""
        lost = torch.zeros((), dtype=torch.int64, device=known.labels.device)
        for _ in range(self.steps):
            slope = grad(lambda own: cost(model, own, known))(own)
            scale, finite = _clipped(slope, self.clip)
            slope = {name: torch.where(finite, one * scale, 0.0) for name, one in slope.items()}
            if not self.second:
                slope = {name: one.detach() for name, one in slope.items()}
            own = {name: one - rates[name] * slope[name] for name, one in own.items()}
            lost = lost + ~finite
        return own, lost


@final
class Steps(Adapter):
    """Adaptation by gradient: every user's copy at once by `vmap`, then the query under it.

    `rates` makes the inner learning rates, which may be learned (`umbel.learn.rates`); `chunk` users are held at a time.

    Example
    -------
    ``Learner(model, Steps(model, Inner(LAST, steps=3), rates=per_layer(0.05)))``
    """

    lost: Tensor

    def __init__(self, model: Recommender, inner: Inner, *, rates: MakeRates, chunk: int | None = None) -> None:
        super().__init__()
        self.inner, self.chunk = inner, chunk
        names = inner.scope.chosen(model)
        self.rates: Rates = rates(names | ({"table": torch.zeros(())} if inner.scope.table else {}))
        self.register_buffer("lost", torch.zeros((), dtype=torch.int64))

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Each user's logits of the query, prior included."""
        known, query = self._read(episode)
        shared = self.inner.scope.chosen(model)
        if self.inner.scope.table:
            shared["table"] = episode.rows["table"]
        if not self.inner.steps or not known.labels.shape[1]:
            return raised(divided(answer(model, shared, _flat(query)), episode.query_shape), episode.query_prior)
        rates = self.rates()
        mask = episode.own_rows() if self.inner.scope.own else None

        def one(known: Known, inputs: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
            own = dict(shared)
            steps = rates if mask is None else {**rates, "table": rates["table"] * mask}
            own, lost = self.inner.descend(model, own, known, rates=steps)
            return answer(model, own, inputs), lost

        logits, lost = vmap(one, randomness="different", chunk_size=self.chunk)(known, query)
        self.lost += lost.sum()
        return raised(logits, episode.query_prior)

    def _read(self, episode: Episode) -> tuple[Known, Any]:
        support = episode.support
        inputs, query = episode.placed() if self.inner.scope.table else episode.seen()
        return Known(inputs, support.labels, support.seen, support.weight, support.prior), query


def adapt(
    model: Recommender, support: Batch, *, inner: Inner, rate: float = 0.01, user: str | None = None, prior: Tensor | None = None,
) -> Own:
    """One user's own parameters by name, for `torch.func.functional_call(model, own, (fields,))`; the model itself stays as it is.

    `prior` (`rows outputs`) is added to the outputs while learning; `user` is the field of user ids, for a scope that is the
    user's `own` row. Without rows, or steps, the parameters are the shared ones, bit for bit.
    """
    shared = inner.scope.chosen(model)
    if inner.scope.table:
        shared["table"] = model.table
    if not len(support.labels) or not inner.steps:
        return {name: one.detach() for name, one in shared.items()}
    rows = model.rows(support.fields)
    inputs = {"place": rows["place"], **support.fields} if inner.scope.table else model.views(rows, support.fields)
    offset = support.labels.new_zeros(len(support.labels), 0) if prior is None else prior
    known = Known(inputs, support.labels, support.seen, even(support.seen[None])[0], offset)
    rates = {name: one.detach() for name, one in fixed(rate)(shared)().items()}
    if inner.scope.own:
        rates["table"] = rates["table"] * own_rows(model, rows, user)
    own, _ = inner.descend(model, {name: one.detach() for name, one in shared.items()}, known, rates=rates)
    return {name: one.detach() for name, one in own.items()}


def answer(model: Recommender, own: Mapping[str, Tensor], inputs: Any) -> Float[Tensor, "rows outputs"]:  # noqa: ANN401
    """Logits of rows under a user's own parameters; `inputs` are the rows as the views see them, or places and fields."""
    named = {f"model.{name}": one for name, one in own.items() if name != "table"}
    if isinstance(inputs, Mapping):
        fields = {name: column for name, column in inputs.items() if name != "place"}
        call: tuple[Any, ...] = ({"table": own["table"], "place": inputs["place"]}, fields)
        found: Tensor = functional_call(_Score(shadow(model)), named, call)
    else:
        found = functional_call(_Beyond(shadow(model)), named, (inputs,))
    return found


def shadow(module: Twin) -> Twin:
    """The same parameters and buffers in modules of their own.

    `functional_call` puts a user's parameters into the very modules that it is given while it runs; in shared ones every other
    thread would answer by them.
    """
    twin = copy.copy(module)
    twin.__dict__ = {**module.__dict__, "_parameters": dict(module._parameters), "_buffers": dict(module._buffers)}
    twin.__dict__["_modules"] = {name: None if one is None else shadow(one) for name, one in module._modules.items()}
    return twin


@final
class _Beyond(nn.Module):
    """A model from what its views see on."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, seen: Float[Tensor, "rows views fields dim"]) -> Float[Tensor, "rows outputs"]:
        return self.model.beyond(seen)


@final
class _Score(nn.Module):
    """A model from its look-up on, without its offsets: an episode has priors of its own."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        return self.model.beyond(self.model.views(rows, fields))


@dataclass(frozen=True, slots=True)
class _Labelled:
    labels: Tensor
    seen: Tensor
    weight: Tensor
    group: None = None


def cost(model: Recommender, own: Own, known: Known) -> Float[Tensor, ""]:
    """The sum over tasks of the user's losses; rows count by their weights, which add up to 1."""
    logits = raised(answer(model, own, known.inputs), known.prior)
    weight = known.weight[:, None].expand_as(known.labels) * len(known.labels)
    return model.losses(logits, _Labelled(known.labels, known.seen, weight), denominator=Denominator.ROWS).sum()


def _clipped(slope: Own, most: float) -> tuple[Tensor, Tensor]:
    """By what to multiply a gradient so that its norm is at most that, and whether it is finite."""
    norm = torch.stack([one.square().sum() for one in slope.values()]).sum().sqrt()
    return (most / norm.clamp(min=1e-12)).clamp(max=1.0), norm.isfinite()


def _flat(inputs: Any) -> Any:  # noqa: ANN401
    if isinstance(inputs, Mapping):
        return {name: one.flatten(0, 1) for name, one in inputs.items()}
    return inputs.flatten(0, 1)
