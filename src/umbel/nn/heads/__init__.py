"""The heads by name: how what the readers heard becomes logits, and what those pay."""

from __future__ import annotations

from collections.abc import Mapping

from umbel.nn.heads.esmm import Esmm
from umbel.nn.heads.head import Head, MakeHead, Taught
from umbel.nn.heads.independent import Independent

__all__ = ["HEADS", "Esmm", "Head", "Independent", "MakeHead", "Taught"]

HEADS: Mapping[str, MakeHead] = {"independent": Independent, "esmm": Esmm}
