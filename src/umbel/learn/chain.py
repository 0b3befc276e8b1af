"""A model that is nothing but linear maps with ReLU between them, told map by map; most with gates are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from umbel.nn.bank import Bank, Block
from umbel.nn.heads.independent import Independent
from umbel.nn.mixture import Mixture
from umbel.nn.recommender import Recommender


@dataclass(frozen=True, slots=True)
class Source:
    """What a map reads: one member of an earlier value, or all of them, each by the same member of the map."""

    value: int
    member: int | None = None


@dataclass(frozen=True, slots=True)
class Map:
    """One level of a `Block`: a linear map for each of its members, and ReLU where it `bends`.

    Where it `drops`, training drops hidden units. A `wide` one is a block's first: its members read one input, and their weights
    lie one under the other, `(members out) in`; else weights are `members in out`.
    """

    weight: str
    bias: str
    source: Source
    members: int
    wide: bool
    bends: bool
    drops: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """Value v is the v-th output of the model's interaction, and from `inputs` on what the maps come to, in order.

    `outputs[task]` is where a task's logits stand.
    """

    inputs: int
    maps: tuple[Map, ...]
    outputs: tuple[Source, ...]

    @staticmethod
    def of(model: nn.Module) -> Chain | None:
        """The chain that a model is; None for one with gates, experts of other kinds, or towers that talk."""
        if not isinstance(model, Recommender) or not isinstance(model.head, Independent):
            return None
        views = model.views.views
        maps: list[Map] = []
        voices = reads = [Source(view, 0) for view in range(views)]
        for level, layer in enumerate(model.layers):
            if not isinstance(layer, Mixture) or layer.gates is not None or not isinstance(layer.bank, Bank):
                return None
            ends = _bank(maps, layer.bank, f"layers.{level}.bank", reads=reads, first=views)
            voices = [Source(ends[number], place) for number, place in layer.sole]
            reads = [voices[own] for own in layer.voice]
        outputs: dict[int, Source] = {}
        fan = model.head.towers
        for number, (members, bank) in enumerate(zip(fan.members, fan.banks, strict=True)):
            assert isinstance(bank, Bank)
            ends = _bank(maps, bank, f"head.towers.banks.{number}", reads=voices, first=views)
            places = [Source(end, place) for end, own in zip(ends, bank.members, strict=True) for place in range(len(own))]
            outputs |= {members[task]: place for task, place in zip(bank.order, places, strict=True)}
        return Chain(views, tuple(maps), tuple(outputs[task] for task in range(len(outputs))))

    @property
    def drops(self) -> bool:
        """Whether training drops hidden units anywhere."""
        return any(one.drops for one in self.maps)

    def moving(self, adapted: Sequence[bool]) -> tuple[bool, ...]:
        """Which maps' values change when these maps are adapted."""
        found = [False] * self.inputs
        for one, own in zip(self.maps, adapted, strict=True):
            found.append(own or found[one.source.value])
        return tuple(found[self.inputs :])


def _bank(maps: list[Map], bank: Bank, prefix: str, *, reads: Sequence[Source], first: int) -> list[int]:
    """Add a bank's maps; the value that each of its blocks ends in."""
    ends = []
    for number, (block, read) in enumerate(zip(bank.blocks, bank.inputs, strict=True)):
        assert isinstance(block, Block)
        source, last = reads[read], len(block.weights) - 1
        for level in range(last + 1):
            names = [f"{prefix}.blocks.{number}.{kind}.{level}" for kind in ("weights", "biases")]
            bends = not (block.linear and level == last)
            maps.append(Map(names[0], names[1], source, block.members, wide=level == 0, bends=bends, drops=block.dropout > 0))
            source = Source(first + len(maps) - 1)
        ends.append(source.value)
    return ends
