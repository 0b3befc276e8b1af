"""Every cold-start method by name."""

from __future__ import annotations

from umbel.coldstart.bias import Bias, Popularity
from umbel.coldstart.ccml import Ccml
from umbel.coldstart.gradient import Anil, Maml, Melu, MetaSgd, Unadapted
from umbel.coldstart.method import Method

METHODS: dict[str, type[Method]] = {one.name: one for one in (Popularity, Bias, Unadapted, Maml, Melu, Anil, MetaSgd, Ccml)}
