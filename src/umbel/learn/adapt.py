"""A user's own copy of a model, a few gradient steps from the shared one: for one user, or for many at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from umbel.data.batch import Batch
from umbel.data.shots import Shots, divided, even
from umbel.learn.chain import Chain
from umbel.learn.dual import Dual, Start, Takings, Told
from umbel.learn.episode import Adapter, Episode, own_rows
from umbel.learn.rates import MakeRates, Rates
from umbel.learn.scope import DECISION, Scope
from umbel.nn.losses import Denominator
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender
from umbel.nn.views import compact

Own = dict[str, Tensor]  # a user's own parameters, by name; "table" are embedding rows
Run = Callable[[Any, Any, Tensor], tuple[Tensor, Tensor]]  # users' rows, query, steps to take -> logits, which steps were numbers
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

    def descend(
        self, model: Recommender, own: Own, known: Known, *, rates: Mapping[str, Tensor], taken: Bool[Tensor, "steps"] | None = None,
    ) -> tuple[Own, Bool[Tensor, "steps"]]:
        """The copy after all steps, and which of them were numbers; where `taken` is false nothing was seen."""
        numbers = []
        for step in range(self.steps):
            told = known if taken is None else known._replace(seen=known.seen & taken[step])
            slope = grad(partial(cost, model, known=told))(own)
            scale, finite = _clipped(slope, self.clip)
            slope = {name: torch.where(finite, one * scale, 0.0) for name, one in slope.items()}
            if not self.second:
                slope = {name: one.detach() for name, one in slope.items()}
            own = {name: one - rates[name] * slope[name] for name, one in own.items()}
            numbers.append(finite)
        return own, torch.stack(numbers)


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
        self.inner, self.chunk, self.chain = inner, chunk, Chain.of(model)
        names = inner.scope.chosen(model)
        self.rates: Rates = rates(names | ({"table": torch.zeros(())} if inner.scope.table else {}))
        self.register_buffer("lost", torch.zeros((), dtype=torch.int64))

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Each user's logits of the query, prior included."""
        if self.inner.scope.table and not torch.is_grad_enabled():  # each user copies what the batch touches, not the whole table
            episode = replace(episode, rows=compact(episode.rows)[1])
        known, query = self._read(episode)
        shared = self.inner.scope.chosen(model)
        if self.inner.scope.table:
            shared["table"] = episode.rows["table"]
        if not self.inner.steps or not known.labels.shape[1]:
            return raised(divided(answer(model, shared, _flat(query)), episode.query_shape), episode.query_prior)
        run = self._dual(model, shared) or self._each(model, shared, episode)
        taken = torch.ones(known.labels.shape[0], self.inner.steps, dtype=torch.bool, device=known.labels.device)
        logits, numbers = run(known, query, taken)
        self.lost += (~numbers).sum()
        if self.inner.second and torch.is_grad_enabled() and not numbers.all():
            logits, _ = run(known, query, numbers)  # what is no number must not be in the graph either
        return raised(logits, episode.query_prior)

    def _each(self, model: Recommender, shared: Own, episode: Episode) -> Run:
        """Every user's copy, side by side."""
        rates = self.rates()
        if self.inner.scope.own:
            rates["table"] = rates["table"] * episode.own_rows()

        def one(known: Known, inputs: Any, taken: Bool[Tensor, "steps"]) -> tuple[Tensor, Tensor]:  # noqa: ANN401
            own, numbers = self.inner.descend(model, dict(shared), known, rates=rates, taken=taken)
            return answer(model, own, inputs), numbers

        found: Run = vmap(one, randomness="different", chunk_size=self.chunk)
        return found

    def _dual(self, model: Recommender, shared: Own) -> Run | None:
        """Every user's copy as what its rows add, where that is exact and pays."""
        dual = Dual.of(model, self.chain, adapted=shared, rates=self.rates())
        if dual is None:
            return None

        def everyone(known: Known, inputs: Tensor, taken: Bool[Tensor, "users steps"]) -> tuple[Tensor, Tensor]:
            with torch.set_grad_enabled(self.inner.second and torch.is_grad_enabled()):
                own, numbers = _taken(model, dual, known, inner=self.inner, taken=taken)
            return dual.logits(_begun(model, dual, inputs), own)[0], numbers

        return everyone

    def _read(self, episode: Episode) -> tuple[Known, Any]:
        support = episode.support
        if self.inner.scope.table or self.inner.second:
            inputs, query = episode.placed() if self.inner.scope.table else episode.seen()
            return self._known(support, inputs), query
        with torch.no_grad():  # no gradient comes back to the support
            told = episode.told()
        return self._known(support, told), episode.asked()

    @staticmethod
    def _known(support: Shots, inputs: Any) -> Known:  # noqa: ANN401
        return Known(inputs, support.labels, support.seen, support.weight, support.prior)


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
    offset = support.labels.new_zeros(len(support.labels), 0) if prior is None else prior
    with torch.no_grad():
        rows = model.rows(support.fields)
        inputs = {"place": rows["place"], **support.fields} if inner.scope.table else model.views(rows, support.fields)
    rates = dict.fromkeys(shared, model.table.new_tensor(rate))
    if inner.scope.own:
        rates["table"] = rates["table"] * own_rows(model, rows, user)
    return descended(model, Known(inputs, support.labels, support.seen, even(support.seen[None])[0], offset), inner=inner, rates=rates)


def descended(model: Recommender, known: Known, *, inner: Inner, rates: Mapping[str, Tensor]) -> Own:
    """One user's own parameters after all steps."""
    shared = {name: one.detach() for name, one in inner.scope.chosen(model).items()}
    if inner.scope.table:
        shared["table"] = model.table.detach()
    dual = Dual.of(model, Chain.of(model), adapted=shared, rates=rates)
    if dual is not None:
        with torch.no_grad():
            return dual.parameters(_taken(model, dual, Known(*(one[None] for one in known)), inner=inner)[0])
    own, _ = inner.descend(model, shared, known, rates=rates)
    return {name: one.detach() for name, one in own.items()}


def _taken(
    model: Recommender, dual: Dual, known: Known, *, inner: Inner, taken: Bool[Tensor, "users steps"] | None = None,
) -> tuple[Takings, Bool[Tensor, "users steps"]]:
    """What steps take from every map, and which of them were numbers."""
    some = torch.ones(known.labels.shape[0], inner.steps, dtype=torch.bool, device=known.labels.device) if taken is None else taken
    told = Told(known.labels, known.seen, known.weight, known.prior)
    return dual.descend(_begun(model, dual, known.inputs), told, taken=some, clip=inner.clip)


def _begun(model: Recommender, dual: Dual, seen: Float[Tensor, "users shots views fields dim"]) -> Start:
    return dual.begin(model.interact(seen.flatten(0, 1)), (seen.shape[0], seen.shape[1]))


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
    square = torch.stack([one.square().sum() for one in slope.values()]).sum()
    return (most / square.clamp(min=1e-24).sqrt()).clamp(max=1.0), square.isfinite()  # the root of 0 has no derivative


def _flat(inputs: Any) -> Any:  # noqa: ANN401
    if isinstance(inputs, Mapping):
        return {name: one.flatten(0, 1) for name, one in inputs.items()}
    return inputs.flatten(0, 1)
