"""The heads by name: how what the readers heard becomes logits, and what those pay."""

from __future__ import annotations

from collections.abc import Mapping

from umbel.nn.heads.aitm import Aitm, MakeAitm
from umbel.nn.heads.dbmtl import Dbmtl, MakeDbmtl
from umbel.nn.heads.escm2 import Escm2, MakeEscm2Dr, MakeEscm2Ips
from umbel.nn.heads.esmm import Esmm, MakeEsmm
from umbel.nn.heads.head import Head, MakeHead, Taught
from umbel.nn.heads.independent import Independent, MakeIndependent

__all__ = [
    "HEADS", "Aitm", "Dbmtl", "Escm2", "Esmm", "Head", "Independent", "MakeAitm", "MakeDbmtl", "MakeEscm2Dr", "MakeEscm2Ips", "MakeEsmm",
    "MakeHead", "MakeIndependent", "Taught",
]  # fmt: skip

HEADS: Mapping[str, type[MakeHead]] = {
    "independent": MakeIndependent,
    "esmm": MakeEsmm,
    "escm2_ips": MakeEscm2Ips,
    "escm2_dr": MakeEscm2Dr,
    "aitm": MakeAitm,
    "dbmtl": MakeDbmtl,
}
