"""What a loss over the rows where an event was observed says of all rows: inverse propensity, and the doubly robust estimate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from umbel.nn.heads.chain import Chain, columns, log_chances, settled
from umbel.nn.losses import Denominator, Labelled, masked_mean


@dataclass(frozen=True, slots=True)
class Observed:
    """The end of a chain, row by row: `error` is the cross entropy of p(t | given), and 0 where `held`, the event of its given, is not.

    `propensity` is the chance of `held`; `known` are the rows that count, those where it is known whether it held (and the
    label of t, where it did).
    """

    error: Float[Tensor, "rows"]
    held: Bool[Tensor, "rows"]
    propensity: Float[Tensor, "rows"]
    known: Bool[Tensor, "rows"]
    weight: Float[Tensor, "rows"] | None

    def inverse_propensity(self, denominator: Denominator) -> Float[Tensor, ""]:
        """`1/n sum_r o_r e_r / p_r`: the mean error over all rows, if p is the chance of o."""
        return masked_mean(self.error / self.propensity, self.known, self.weight, denominator=denominator)

    def doubly_robust(self, imputed: Float[Tensor, "rows"], *, imputation: float, denominator: Denominator) -> Float[Tensor, ""]:
        """`1/n sum_r [i_r + o_r (e_r - i_r) / p_r + a o_r (e_r - i_r)^2 / p_r]`, a the weight of the imputation's own loss.

        But for the last term it is the mean error over all rows if p is the chance of o or i the mean of e. The last term teaches i alone:
        e is a constant there, for a prediction that also sought errors that are easily imputed would be drawn to one half.
        """
        guess = torch.where(self.known, imputed, 0.0)
        gap = torch.where(self.held, self.error - guess, 0.0)
        miss = torch.where(self.held, self.error.detach() - guess, 0.0) ** 2
        return masked_mean(guess + (gap + imputation * miss) / self.propensity, self.known, self.weight, denominator=denominator)


def observe(logits: Float[Tensor, "rows outputs"], batch: Labelled, steps: Chain, *, least: float) -> Observed:
    """The end of a chain as its conditional logit and the chances of what it is given have it.

    The propensity is at least `least`, and a constant: a task that pays for what follows it must not make itself likelier to pay less.
    """
    last, above = steps.tasks[-1], steps.above
    known = settled(batch, steps.tasks)[1]
    held = known & settled(batch, above.tasks)[0]
    logit = torch.where(held, logits[:, steps.columns[-1]], 0.0)
    label = torch.where(held, batch.labels[:, last], 0.0)
    error = torch.where(held, softplus(logit) - label * logit, 0.0)
    chance = log_chances(torch.where(known[:, None], columns(logits, above.columns), 0.0).detach())[0].exp()
    weight = None if batch.weight is None else batch.weight[:, last]
    return Observed(error, held, chance.clamp(min=least), known, weight)
