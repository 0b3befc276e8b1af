"""A purchase learned as if every impression had been clicked: the heads of the entire space counterfactual model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from umbel.errors import UserError
from umbel.nn.bank import Fan
from umbel.nn.heads.chain import marginal_loss, paid, required_chains
from umbel.nn.heads.counterfactual import observe
from umbel.nn.heads.head import Head, Taught, pupils, tower_groups, towers
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.schema import Schema


@dataclass(frozen=True, slots=True)
class Risks:
    """What the risks of a chain's end weigh: `counterfactual` and `entire`; an `imputation` above 0 makes the first doubly robust.

    `least` bounds propensities from below, so that no row counts more than `1 / least` times.

    :raises UserError: for a weight that is no weight.
    """

    name: str
    counterfactual: float
    entire: float
    least: float
    imputation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.counterfactual < torch.inf:
            raise UserError(f"{self.name}: counterfactual = {self.counterfactual:g}", mend="give a weight above 0; without it use 'esmm'")
        for key, value in (("entire", self.entire), ("imputation", self.imputation)):
            if not 0 <= value < torch.inf:
                raise UserError(f"{self.name}: {key} = {value:g}", mend="give a weight, 0 or more")
        if not 0 < self.least <= 1:
            raise UserError(f"{self.name}: least = {self.least:g}", mend="give the least propensity, above 0 and at most 1")


@final
class Escm2(Head):
    """A tower a task; the end of a chain pays for its chance on the rows where it is given, reweighted to stand for all rows.

    `logits_t = MLP_t(h_t)` is the logit of p(t | given). A binary t behind `c_1 .. c_k` pays
    `counterfactual * R_t + entire * G_t`: G the cross entropy of the product along the chain, as `Esmm`; R the cross entropy e of
    p(t | given) where all of c held (o = 1), weighted by the inverse of `p = p(c_1) .. p(c_k | c_{k-1})`, with which its expectation is
    the mean over all rows: `mean o e / p`. Doubly robust: `mean [i + o (e - i) / p + imputation * o (e - i)^2 / p]`, where
    `i = softplus(MLP'_t(h_t))` is an imputed error, whose logit is an auxiliary output. The other tasks pay their own loss.

    ESCM^2 (https://arxiv.org/abs/2204.05125). Differences: chains of any length; propensities are bounded below; they are taken as
    constants, as in public re-implementations; imputed errors are positive, and their own loss teaches them alone, where those let it
    draw predictions to one half. An imputed error does not depend on the prediction: so the tower of t follows the same gradient
    doubly robust as it does by inverse propensities, and what differs is what the layers below learn from the imputation.

    :raises UserError: as `Esmm` does.
    """

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float, risks: Risks) -> None:
        super().__init__()
        self.schema, self.chains, self.risks = schema, required_chains(schema, risks.name), risks
        listens = self.chains if risks.entire else {}
        self.hears = tuple(listens[task].tasks if task in listens else (task,) for task in range(len(schema.tasks)))
        self.towers = towers(schema, voice, widths=widths, dropout=dropout)
        self.imputed = tuple(self.chains) if risks.imputation else ()
        self.auxiliary = tuple(f"imputed loss of {schema.tasks[task].name}" for task in self.imputed)
        self.imputation = Fan(tuple(voice[task] for task in self.imputed), widths, lasts=(1,) * len(self.imputed), dropout=dropout)

    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits of the conditionals, in the order of the schema's outputs; then those of the imputed errors."""
        return torch.cat([*self.towers(voices), *self.imputation(voices)], 1)

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """The weighted risks for a task at the end of a chain, a task's own loss for the others."""
        own, risks = list(task_losses(logits, batch, schema, denominator=denominator)), self.risks
        for task, steps in self.chains.items():
            risk = risks.counterfactual * self._counterfactual(logits, batch, task, denominator=denominator)
            if risks.entire:
                risk = risk + risks.entire * marginal_loss(logits, batch, steps, denominator=denominator)
            own[task] = schema.tasks[task].weight * risk
        return torch.stack(own)

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """Those where the outcome of a chain is known, for the task that it ends in; else those whose label was seen."""
        return paid(batch, self.chains.values())

    def groups(self) -> dict[str, Taught]:
        """Each tower with the tasks whose chain it stands in; each imputation with its task."""
        found = tower_groups(self.towers, self.schema, pupils(self.hears, len(self.schema.tasks)))
        return found | {f"imputation {self.schema.tasks[task].name}": (
            tuple(part.under("imputation") for part in self.imputation.parts(place)), (task,)) for place, task in enumerate(self.imputed)}

    def _counterfactual(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, task: int, *, denominator: Denominator,
    ) -> Float[Tensor, ""]:
        seen = observe(logits, batch, self.chains[task], least=self.risks.least)
        if task not in self.imputed:
            return seen.inverse_propensity(denominator)
        column = self.schema.outputs[-1].stop + self.imputed.index(task)
        imputed = softplus(torch.where(seen.known, logits[:, column], 0.0))
        return seen.doubly_robust(imputed, imputation=self.risks.imputation, denominator=denominator)


@final
@dataclass(frozen=True, slots=True)
class MakeEscm2Ips:
    """`escm2_ips`: `counterfactual` and `entire` weigh the two risks, `least` is the least propensity."""

    name: ClassVar[str] = "escm2_ips"
    counterfactual: float = 0.1
    entire: float = 1.0
    least: float = 0.05

    def __post_init__(self) -> None:
        self._risks()

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """See `Escm2`."""
        return Escm2(schema, voice, widths=widths, dropout=dropout, risks=self._risks())

    def _risks(self) -> Risks:
        return Risks(self.name, self.counterfactual, self.entire, self.least)


@final
@dataclass(frozen=True, slots=True)
class MakeEscm2Dr:
    """`escm2_dr`: as `escm2_ips`, and `imputation` weighs the loss that the imputed errors learn from."""

    name: ClassVar[str] = "escm2_dr"
    counterfactual: float = 0.1
    entire: float = 1.0
    least: float = 0.05
    imputation: float = 1.0

    def __post_init__(self) -> None:
        if self.imputation == 0:
            raise UserError(f"{self.name}: imputation = 0", mend="give a weight above 0; without it use 'escm2_ips'")
        self._risks()

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """See `Escm2`."""
        return Escm2(schema, voice, widths=widths, dropout=dropout, risks=self._risks())

    def _risks(self) -> Risks:
        return Risks(self.name, self.counterfactual, self.entire, self.least, imputation=self.imputation)
