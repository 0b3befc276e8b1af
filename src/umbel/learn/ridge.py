"""A user's own last layer in closed form: one ridge-regularised Newton step from the shared one, on a few rows."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from umbel.errors import UserError
from umbel.kinds import BINARY, REGRESSION, TaskKind
from umbel.learn.episode import Adapter, Episode
from umbel.nn.heads import Independent
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender

Seen = Float[Tensor, "users shots views fields dim"]
Lean = Float[Tensor, "users tasks weights"]  # a user's last layers, less the shared ones; the bias comes last
SOLVED = (REGRESSION, BINARY)


@final
class Leaning(Adapter):
    """Every user's last layer in closed form: `ridge` of that strength. Nothing is learned through it."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Each user's logits of the query, prior included."""
        support, query = episode.seen()
        known = episode.support
        lean = ridge(model, support, (known.labels, known.seen), weight=known.weight, prior=known.prior, strength=self.strength)
        return raised(leaning(model, query, lean), episode.query_prior)


def ridge(
    model: Recommender, seen: Seen, happened: tuple[Tensor, Tensor], *,
    weight: Float[Tensor, "users shots"], prior: Float[Tensor, "users shots outputs"], strength: float,
) -> Lean:
    """`d_t = argmin sum_r c_r h_r (e_r / h_r - f_r . d)^2 + strength |d|^2` for every user and task t.

    `f_r` is what the task's last layer reads of row r, and 1 for its bias; `c_r` the row's weight times the user's rows, `e_r` the
    label less the prediction, `h_r` the curvature of the loss: 1 for a regression, `p (1 - p)` for an event. Of a regression it
    is the minimum of the regularised squared error; of an event the first step of iteratively reweighted least squares, at the true
    odds (`Task.raised` taken off). Tasks of other kinds, and those of which nothing was seen, keep the shared layer: zeros. `happened`
    are labels and which were seen (`users shots tasks`), `seen` the rows as the views see them.

    :raises UserError: for a head whose logits are not linear in what its towers read last.
    """
    features, logits = _told(model, seen)
    logits = raised(logits, prior)
    labels, known = happened
    counted = weight * (weight > 0).sum(1, keepdim=True)
    found = []
    for number, task in enumerate(model.schema.tasks):
        z = logits[..., model.schema.outputs[number].start] - task.raised
        used = counted * known[..., number]
        found.append(_own(features[number], (z, labels[..., number], used), task.kind, strength=strength))
    return torch.stack(found, 1)


def leaning(model: Recommender, seen: Seen, lean: Lean) -> Float[Tensor, "users shots outputs"]:
    """The logits of users whose last layers differ by `lean` from the shared ones."""
    features, logits = _told(model, seen)
    moves = [own @ lean[:, number, :, None] for number, own in enumerate(features)]
    starts = torch.tensor([part.start for part in model.schema.outputs])
    return torch.index_add(logits, 2, starts, torch.cat(moves, 2))


def closed(model: Recommender) -> bool:
    """Whether the model's last layers have a closed form."""
    return isinstance(model.head, Independent) and any(task.kind in SOLVED for task in model.schema.tasks)


def _told(model: Recommender, seen: Seen) -> tuple[list[Float[Tensor, "users shots weights"]], Float[Tensor, "users shots outputs"]]:
    """What each task's last layer reads, ones after it, and the shared model's logits."""
    if not isinstance(model.head, Independent):
        raise UserError("model.head: has no last layer in closed form", mend="take the head 'independent', or adapt by gradient")
    voices = model.heard(model.interact(seen.flatten(0, 1)))
    features = [torch.cat([own, own.new_ones(len(own), 1)], 1).unflatten(0, seen.shape[:2])  # type: ignore[no-untyped-call]
                for own in model.head.hidden(voices)]
    logits: Tensor = model.head(voices)
    return features, logits.view(*seen.shape[:2], -1)


def _own(
    features: Float[Tensor, "users shots weights"], said: tuple[Tensor, Tensor, Tensor], kind: TaskKind, *, strength: float
) -> Float[Tensor, "users weights"]:
    """One task's steps, from logits, labels and weights of the rows; zeros where there are none."""
    if kind not in SOLVED or not features.shape[1]:
        return features.new_zeros(features.shape[0], features.shape[2])
    z, labels, used = (one.double() for one in said)
    guess = z.sigmoid() if kind == BINARY else z
    curve = used * (guess * (1 - guess) if kind == BINARY else torch.ones_like(guess))
    error = torch.where(used > 0, used * (labels - guess), 0.0)
    return _solve(features.double(), error[..., None], curve[..., None], strength=strength).to(features.dtype)


def _solve(f: Tensor, error: Tensor, curve: Tensor, *, strength: float) -> Float[Tensor, "users weights"]:
    """`(F' C F + s I)^-1 F' e`, by the smaller of two systems that are equal; in doubles, for few rows are nearly singular."""
    turned = f.transpose(1, 2)
    if f.shape[1] < f.shape[2]:
        found: Tensor = turned @ torch.linalg.solve(curve * (f @ turned) + strength * torch.eye(f.shape[1], dtype=f.dtype), error)
    else:
        found = torch.linalg.solve(turned @ (curve * f) + strength * torch.eye(f.shape[2], dtype=f.dtype), turned @ error)
    return found[..., 0]
