"""Calibrators as operations of torch, so that a graph that leaves Python can hold them; the numbers are the calibrators' own."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from umbel.evaluate.calibrate import FLOOR, Calibrator, Identity, Isotonic, Linear, Platt
from umbel.evaluate.kinds import measures
from umbel.evaluate.rescale import Scaled, Shifted, Tempered
from umbel.kinds import TaskKind
from umbel.nn.kinds import link

Answers = Float64[Tensor, "rows answers"]


def answered(kind: TaskKind, calibrator: Calibrator, outputs: Float64[Tensor, "rows outputs"]) -> Answers:
    """What a task answers, calibrated: a column for each of its kind's answers."""
    return applied(calibrator, link(kind, outputs) if measures(kind).linked else outputs)


@singledispatch
def applied(calibrator: Calibrator, given: Answers) -> Answers:
    """What a calibrator makes of outputs or answers; :raises NotImplementedError: for one that has no such form here."""
    raise NotImplementedError(calibrator.kind)


@applied.register
def _(calibrator: Identity, given: Answers) -> Answers:
    return given


@applied.register
def _(calibrator: Linear, given: Answers) -> Answers:
    return calibrator.slope * given + calibrator.intercept


@applied.register
def _(calibrator: Scaled, given: Answers) -> Answers:
    return calibrator.factor * given


@applied.register
def _(calibrator: Platt, given: Answers) -> Answers:
    return _held((calibrator.slope * given + calibrator.intercept).sigmoid())


@applied.register
def _(calibrator: Isotonic, given: Answers) -> Answers:
    """The piece of a row is the number of inner knots to its left; few graphs know of a binary search."""
    knots, chances = (torch.tensor(one, dtype=torch.float64, device=given.device) for one in (calibrator.logit, calibrator.probability))
    at = (given >= knots[1:-1]).sum(dim=1, keepdim=True)
    low, high = (one[at[:, 0]][:, None] for one in (knots, knots.roll(-1)))
    start, end = (one[at[:, 0]][:, None] for one in (chances, chances.roll(-1)))
    inside = start + (end - start) * (given - low) / (high - low)
    below, above = (
        (chance.log() - (-chance).log1p() + calibrator.slope * (given - knot)).sigmoid()
        for knot, chance in ((knots[0], chances[0]), (knots[-1], chances[-1]))
    )
    return _held(torch.where(given < knots[0], below, torch.where(given > knots[-1], above, inside)))


@applied.register
def _(calibrator: Shifted, given: Answers) -> Answers:
    """The running maximum level by level, of which there are few."""
    moved = (given + torch.tensor(calibrator.offsets, dtype=given.dtype, device=given.device)).unbind(1)
    highest = [moved[0]]
    for one in moved[1:]:
        highest.append(torch.maximum(highest[-1], one))
    return torch.stack(highest, dim=1)


@applied.register
def _(calibrator: Tempered, given: Answers) -> Answers:
    return (calibrator.power * given.clamp(min=float(np.finfo(np.float64).tiny)).log()).softmax(dim=1)


def _held(p: Answers) -> Answers:
    return FLOOR + (1 - 2 * FLOOR) * p
