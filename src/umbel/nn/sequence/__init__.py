"""The sequence encoders by name; `[model] sequence` chooses among them, `[model.sequence_sizes]` says how large they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from umbel.nn.sequence.din import din
from umbel.nn.sequence.sasrec import sasrec
from umbel.nn.sequence.sequence import Listing, MakeSequence, Mean, SequenceEncoder, SequenceSizes, listings

__all__ = ["READS", "SEQUENCES", "Listing", "MakeSequence", "Mean", "SequenceEncoder", "SequenceSizes", "listings"]

SEQUENCES: Mapping[str, Callable[[SequenceSizes], MakeSequence]] = {
    "mean": lambda _: Mean,
    "din": lambda sizes: din(sizes.hidden),
    "sasrec": lambda sizes: sasrec(sizes.layers, sizes.heads),
}
# The sizes that each has a use for.
READS: Mapping[str, frozenset[str]] = {
    "mean": frozenset(), "din": frozenset({"hidden"}), "sasrec": frozenset({"layers", "heads"}),
}  # fmt: skip
