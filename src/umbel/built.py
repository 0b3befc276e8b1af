"""How a model was made, as names and sizes, so that it can be made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from umbel.chosen import Choice, choose, tuples
from umbel.errors import UserError, nearest
from umbel.manifest import Json
from umbel.nn.heads import HEADS
from umbel.nn.holder import Holder
from umbel.nn.interact import INTERACTS, InteractSizes
from umbel.nn.offset import Offsets
from umbel.nn.packed import TABLES
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.nn.routing import PARADIGMS
from umbel.nn.sequence import SEQUENCES, SequenceSizes
from umbel.recipes import RECIPES, taken
from umbel.schema import Schema

Option = bool | int | float | tuple[int, ...] | tuple[str, ...] | tuple[tuple[int, ...], ...] | tuple[tuple[str, ...], ...]
Piece = TypeVar("Piece")


@dataclass(frozen=True, slots=True)
class Built:
    """How a model was made, so that it can be made again: names of its pieces (`views`, `head` None: the recipe's own) and its sizes.

    `offset` names the id field whose codes have offsets (`umbel.nn.offset`); `tables` the form of the rows (`umbel.nn.packed`).
    """

    recipe: str
    sizes: Sizes
    views: str | None = None
    interact: str = "concatenate"
    sequence: str = "mean"
    head: Choice | None = None
    interact_sizes: InteractSizes = field(default_factory=InteractSizes)
    sequence_sizes: SequenceSizes = field(default_factory=SequenceSizes)
    options: Mapping[str, Option] = field(default_factory=dict)
    offset: str | None = None
    tables: str = "float32"

    def __call__(self, schema: Schema, holder: Holder | None = None) -> Recommender:
        """The untrained model, its rows with the `holder`, or here in their form.

        :raises UserError: for a piece that does not exist, or an option that the recipe does not take.
        """
        recipe = _piece("recipe", self.recipe, RECIPES)
        interact = _piece("interact", self.interact, INTERACTS)(self.interact_sizes)
        sequence = _piece("sequence", self.sequence, SEQUENCES)(self.sequence_sizes)
        head = None if self.head is None else choose("model.head", self.head, HEADS)
        parts = Parts(interact, sequence, head=head, holder=holder or _piece("tables", self.tables, TABLES))
        views = {} if self.views is None else {"paradigm": _piece("views", self.views, PARADIGMS)}
        _check_taken(self.recipe, [*self.options, *views])
        model = recipe(schema, self.sizes, parts=parts, **views, **self.options)
        if self.offset is not None:
            codes = self.sizes.vocabulary[schema.field(self.offset).table]
            model.offsets = Offsets(self.offset, (codes, sum(task.kind.outputs for task in schema.tasks)))
        return model

    @staticmethod
    def from_json(saved: Json) -> Built:
        """What `dataclasses.asdict` made of one, lists for tuples."""
        sizes: Json = {key: tuples(value) for key, value in saved["sizes"].items()}
        made: Json = {"interact_sizes": InteractSizes(**saved["interact_sizes"])}
        made |= {"sequence_sizes": SequenceSizes(**saved["sequence_sizes"])}
        made |= {"sizes": Sizes(**sizes), "options": {key: tuples(value) for key, value in saved["options"].items()}}
        return Built(**{**saved, **made})


def _piece(key: str, name: str, among: Mapping[str, Piece]) -> Piece:
    if name not in among:
        raise UserError(f"model.{key}: no {name!r}", mend=nearest(name, among))
    return among[name]


def _check_taken(recipe: str, options: Sequence[str]) -> None:
    for option in options:
        if option not in taken(recipe):
            key = "views" if option == "paradigm" else f"options.{option}"
            known = [name for name in RECIPES if option in taken(name)]
            raise UserError(f"model.{key}: recipe {recipe!r} takes none", mend=f"leave it out; {', '.join(known)} would take it")
