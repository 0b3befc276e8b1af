"""What a bundle retrieves by: towers, the vectors of the items of training, their popularity, and which go together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor

from umbel.chosen import tuples
from umbel.errors import UserError
from umbel.nn.towers import Sides, TowerSizes, TwoTower
from umbel.retrieve.neighbours import Neighbours
from umbel.retrieve.sides import schema_of
from umbel.schema import Schema

ABOUT, TENSORS = "retrieval.json", "retrieval.safetensors"
TOLERANCE = 1e-5  # of vectors of length 1, same runtime
Vectors = Float32[np.ndarray, "rows width"]


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Of each item that stood in the training rows: its code, its positives, its vector by the tower, and its neighbours (by place).

    Items that are new have a vector by the same tower, from their attributes.
    """

    sides: Sides
    sizes: TowerSizes
    towers: TwoTower
    codes: Int32[np.ndarray, "items"]
    positives: Int64[np.ndarray, "items"]
    vectors: Float32[np.ndarray, "items width"]
    neighbours: Neighbours

    def users(self, fields: Mapping[str, Tensor]) -> Vectors:
        """Vectors of users in contexts, from encoded fields of theirs."""
        with torch.inference_mode():
            found: Vectors = self.towers.users({name: fields[name] for name in self.sides.user}).numpy()
        return found

    def items(self, fields: Mapping[str, Tensor]) -> Vectors:
        """Vectors of items, from encoded fields of theirs."""
        with torch.inference_mode():
            found: Vectors = self.towers.items({name: fields[name] for name in self.sides.item}).numpy()
        return found

    def save(self, folder: Path, golden: Mapping[str, Tensor]) -> None:
        """Leave both files in a folder, with the vectors of some encoded rows for whoever loads them."""
        (folder / ABOUT).write_text(json.dumps({"sides": asdict(self.sides), "sizes": asdict(self.sizes)}, indent=1))
        arrays = {
            "codes": self.codes, "positives": self.positives, "vectors": self.vectors, "places": self.neighbours.places,
            "likeness": self.neighbours.likeness, "golden users": self.users(golden), "golden items": self.items(golden),
        }  # fmt: skip
        weights = {f"towers.{name}": tensor.contiguous() for name, tensor in self.towers.state_dict().items()}
        save_file({**weights, **{name: torch.from_numpy(array.copy()) for name, array in arrays.items()}}, folder / TENSORS)

    @staticmethod
    def load(folder: Path, schema: Schema, golden: Mapping[str, Tensor]) -> Retrieval:
        """What `save` left; :raises UserError: unless golden rows have the vectors that they had."""
        about, tensors = json.loads((folder / ABOUT).read_text()), load_file(folder / TENSORS)
        made: dict[str, dict[str, Any]] = {part: {name: tuples(one) for name, one in own.items()} for part, own in about.items()}
        sides, sizes = Sides(**made["sides"]), TowerSizes(**made["sizes"])
        towers = TwoTower(schema_of(schema, sides), sizes, sides)
        towers.load_state_dict({name.removeprefix("towers."): one for name, one in tensors.items() if name.startswith("towers.")})
        codes, positives, vectors, places, likeness, users, items = (
            tensors[name].numpy() for name in ("codes", "positives", "vectors", "places", "likeness", "golden users", "golden items")
        )
        found = Retrieval(sides, sizes, towers.eval().requires_grad_(False), codes, positives, vectors, Neighbours(places, likeness))
        worst = max(float(np.abs(found.users(golden) - users).max()), float(np.abs(found.items(golden) - items).max()))
        if not worst <= TOLERANCE:
            what = f"{folder}: golden rows have other vectors, by up to {worst:.2g} (allowed {TOLERANCE:g})"
            raise UserError(what, mend="load it with the versions named in its report, or export it again")
        return found
