"""The balancers by name, and the settings each takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from umbel.balance.balancer import Balancer
from umbel.balance.gradients import GradVac, OfGradients, aligned_mtl, cagrad, dualproj, fair, imtl_g, krum, mgda, pcgrad, upgrad
from umbel.balance.losses import DWA, STCH, Geometric, Normalised, RandomWeights, Static, Uncertainty
from umbel.balance.norms import GradNorm, MetaBalance, MultiBalance
from umbel.errors import UserError, nearest

Setting = float | int | tuple[float, ...]


def _cagrad(tasks: int, *, c: float = 0.4) -> Balancer:
    return OfGradients(cagrad(c=c))


def _fairgrad(tasks: int, *, alpha: float = 2.0) -> Balancer:
    return OfGradients(fair(alpha=alpha))


def _krum(tasks: int) -> Balancer:
    if tasks < 3:
        raise UserError(f"fit.balancer: 'krum' needs 3 tasks, there are {tasks}", mend="add tasks, or choose another balancer")
    return OfGradients(krum, least=3)


BALANCERS: Mapping[str, Callable[..., Balancer]] = {
    "static": Static,
    "normalised": Normalised,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "geometric": Geometric,
    "stch": STCH,
    "random": RandomWeights,
    "gradnorm": GradNorm,
    "metabalance": MetaBalance,
    "multibalance": MultiBalance,
    "pcgrad": lambda tasks: OfGradients(pcgrad()),
    "gradvac": GradVac,
    "mgda": lambda tasks: OfGradients(mgda),
    "cagrad": _cagrad,
    "nash_mtl": lambda tasks: OfGradients(fair(alpha=1.0)),
    "fairgrad": _fairgrad,
    "imtl_g": lambda tasks: OfGradients(imtl_g()),
    "aligned_mtl": lambda tasks: OfGradients(aligned_mtl()),
    "upgrad": lambda tasks: OfGradients(upgrad),
    "dualproj": lambda tasks: OfGradients(dualproj),
    "krum": _krum,
}


def balancer(name: str, tasks: int, settings: Mapping[str, Setting] | None = None) -> Balancer:
    """A balancer by name, for so many tasks.

    :raises UserError: for a name that does not exist, a setting that it does not take, or fewer tasks than it needs.

    Example
    -------
    >>> balancer("cagrad", 2, {"c": 0.5}).least
    1
    """
    if name not in BALANCERS:
        raise UserError(f"fit.balancer: no {name!r}", mend=nearest(name, BALANCERS))
    given, takes = dict(settings or {}), takes_of(name)
    for key in given:
        if key not in takes:
            raise UserError(f"balance.{key}: {name!r} has no such setting", mend=f"it takes {', '.join(takes) or 'none'}")
    return BALANCERS[name](tasks, **given)


def takes_of(name: str) -> tuple[str, ...]:
    """The settings that a balancer takes."""
    return tuple(inspect.signature(BALANCERS[name]).parameters)[1:]
