"""Every cold-start method by name."""

from __future__ import annotations

from umbel.coldstart.bias import Bias, Popularity
from umbel.coldstart.ccml import Ccml
from umbel.coldstart.gradient import Anil, Maml, Melu, MetaSgd, Unadapted
from umbel.coldstart.method import Method
from umbel.coldstart.newcomers import DropoutNet, MeanEmbedding, MetaEmbedding, MetaWarmUp
from umbel.coldstart.paml import Paml
from umbel.coldstart.tanp import Tanp

_ALL: tuple[type[Method], ...] = (
    Popularity, Bias, Unadapted, MeanEmbedding, DropoutNet, Maml, Melu, Anil, MetaSgd, MetaEmbedding, MetaWarmUp, Tanp, Paml, Ccml,
)
METHODS: dict[str, type[Method]] = {one.name: one for one in _ALL}
