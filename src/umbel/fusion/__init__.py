"""Fusion: several calibrated predictions as one score to rank by."""

from umbel.fusion.file import parse as parse
from umbel.fusion.file import read as read
from umbel.fusion.policy import Fusion as Fusion
from umbel.fusion.policy import Term as Term
from umbel.fusion.policy import UnfitError as UnfitError
from umbel.fusion.policy import equal as equal
from umbel.fusion.shapes import SHAPES as SHAPES
