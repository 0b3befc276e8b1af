"""How much of a model becomes a user's own, by how many rows there are of the user: nothing, the last layer, more, the id's embedding."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from umbel.data.batch import Batch
from umbel.data.shots import even
from umbel.errors import UserError
from umbel.learn.adapt import Inner, Known, Own, answer, descended
from umbel.learn.ridge import leaning, ridge
from umbel.learn.scope import scope
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender

HEADER = struct.Struct("<4sHHI")  # mark, tasks, weights a task, rows
MARK = b"umb1"
LADDER, RATES = "ladder.json", "ladder.safetensors"


class Rung(StrEnum):
    """What is a user's own: nothing (attributes speak), the last layer in closed form, layers by gradient steps, the id's embedding."""

    CONTENT = "content"
    HEAD = "head"
    STEPS = "steps"
    ID = "id"


@dataclass(frozen=True, slots=True)
class UserState:
    """What is a user's own, and from how many rows; it holds nothing of the shared weights and is safe to keep or to lose."""

    rung: Rung
    rows: int
    lean: Float[Tensor, "tasks weights"] | None = None
    own: Own = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Whether it is the shared model that answers."""
        return not self.rows or (self.lean is None and not self.own)

    def to_bytes(self) -> bytes:
        """The head form and content as bytes: 12 and four for every weight of the last layers, biases too.

        That is 792 for three tasks which read 64 numbers, and more than 1 kB from four of these on.

        :raises ValueError: for gradient steps, whose state is as large as the layers.
        """
        if self.own:
            raise ValueError("layers of a user's own are not small: adapt again instead of keeping them")
        lean = torch.zeros(0, 0) if self.lean is None else self.lean
        return HEADER.pack(MARK, *lean.shape, self.rows) + lean.float().numpy().tobytes()

    @staticmethod
    def from_bytes(content: bytes) -> UserState:
        """What `to_bytes` gave; :raises UserError: for anything else."""
        if len(content) < HEADER.size or not content.startswith(MARK):
            raise UserError("user state: not one of ours", mend="adapt the user again from the rows")
        _, tasks, weights, rows = HEADER.unpack_from(content)
        if len(content) != HEADER.size + 4 * tasks * weights:
            raise UserError("user state: cut short", mend="adapt the user again from the rows")
        if not tasks:
            return UserState(Rung.CONTENT, rows)
        return UserState(Rung.HEAD, rows, torch.frombuffer(bytearray(content[HEADER.size :]), dtype=torch.float32).view(tasks, weights))


@dataclass(frozen=True, slots=True)
class Ladder:
    """From how many rows of a user each rung answers (None: never), and how it adapts: chosen on validation, kept in the bundle.

    `strength` is the ridge's; `scope`, `steps` and `rates` (one a parameter) are those of the gradient steps that the model was trained
    for. `user` is the field of user ids: below `known` training rows it is read as unknown, as it is of everyone where that is None.
    """

    head: int | None = 1
    steps_from: int | None = None
    known: int | None = None
    user: str | None = None
    strength: float = 1.0
    scope: str = "decision"
    steps: int = 0
    rates: Mapping[str, Tensor] = field(default_factory=dict)

    def rung(self, rows: int, *, trained: int = 0) -> Rung:
        """Which rung answers for a user with so many rows, and so many among those that the model was trained on."""
        if self.known is not None and trained >= self.known:
            return Rung.ID
        if self.steps_from is not None and rows >= max(self.steps_from, 1):
            return Rung.STEPS
        return Rung.HEAD if self.head is not None and rows >= max(self.head, 1) else Rung.CONTENT

    @property
    def adapting(self) -> tuple[int, ...]:
        """For each rung that makes something of a user's rows, and that is ever reached, a number of rows that reaches it."""
        rungs = {self.rung(rows): rows for rows in (max(self.head or 1, 1), self.steps_from or 1)}
        return tuple(rows for rung, rows in rungs.items() if rung in (Rung.HEAD, Rung.STEPS))

    def adapt(self, model: Recommender, support: Batch, *, trained: int = 0) -> UserState:
        """A user's own from the user's rows; of no rows nothing, so that the answer is the shared model's bit for bit."""
        rows = int(support.seen.any(1).sum())
        rung = self.rung(rows, trained=trained)
        if rung in (Rung.CONTENT, Rung.ID):
            return UserState(rung, rows)
        read = self.unnamed(support.fields)
        seen = model.views(model.rows(read), read).detach()
        weight = even(support.seen[None])
        prior = support.labels.new_zeros(len(support.labels), 0) if model.offsets is None else model.offsets(read)
        if rung is Rung.HEAD:
            with torch.no_grad():
                happened = (support.labels[None], support.seen[None])
                lean = ridge(model, seen[None], happened, weight=weight, prior=prior[None], strength=self.strength)
            return UserState(rung, rows, lean[0])
        inner = Inner(scope(self.scope), steps=self.steps)
        known = Known(seen, support.labels, support.seen, weight[0], prior)
        return UserState(rung, rows, own=descended(model, known, inner=inner, rates=self.rates))

    def answer(self, model: Recommender, rows: Mapping[str, Tensor], state: UserState) -> Float[Tensor, "rows outputs"]:
        """The user's logits for rows; for a user of whom nothing is known, the shared model's, bit for bit."""
        read = self.read(rows, state)
        if state.shared:
            plain: Tensor = model(read)
            return plain
        logits = beyond(model, model.views(model.rows(read), read), state=state)
        return logits if model.offsets is None else raised(logits, model.offsets(read))

    def read(self, rows: Mapping[str, Tensor], state: UserState) -> Mapping[str, Tensor]:
        """Rows as the state reads them: as they are where the id answers or nothing is known of the user, else as an unknown user's."""
        return rows if state.rung is Rung.ID or not state.rows else self.unnamed(rows)

    def unnamed(self, rows: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Rows as those of an unknown user."""
        return rows if self.user is None else {**rows, self.user: torch.zeros_like(rows[self.user])}

    def save(self, folder: Path) -> None:
        """Leave `ladder.json`, and its rates where it has any, in a folder."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "rates"}
        (folder / LADDER).write_text(json.dumps(plain, indent=1))
        if self.rates:
            save_file(dict(self.rates), folder / RATES)

    @staticmethod
    def load(folder: Path) -> Ladder | None:
        """What `save` left; None where there is none."""
        if not (folder / LADDER).exists():
            return None
        rates = load_file(folder / RATES) if (folder / RATES).exists() else {}
        return Ladder(**json.loads((folder / LADDER).read_text()), rates=rates)


def beyond(model: Recommender, seen: Float[Tensor, "rows views fields dim"], *, state: UserState) -> Float[Tensor, "rows outputs"]:
    """A user's logits, offsets left out, of rows as the views see them; of a state that is not the shared model's."""
    return leaning(model, seen[None], state.lean[None])[0] if state.lean is not None else answer(model, state.own, seen)
