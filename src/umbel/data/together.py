"""A user's support with that of others beside it, each in its share: what a user and collaborators learn from at once."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from umbel.data.batch import Batch
from umbel.data.shots import Shots, divided, episode_batch

MEMBER = "@member"  # of each row, whose it is: 0 the user's, 1 and on the others'; -1 is padding


class Beside(NamedTuple):
    """Rows of all users' others, one other after the other, and the share of each."""

    shots: Shots
    share: Float[Tensor, "users others"]


def together(own: Shots, others: Shots, share: Float[Tensor, "users others"], *, normalise: bool) -> Shots:
    """`sum_r w_r l_r + sum_w share_w sum_r w_r l_r`, divided by `1 + sum_w share_w` if normalised.

    `others` are all users' others, one after the other. The published code does not divide, which at useful inner rates makes steps
    too long. Another with share 0 has no weight and is as good as absent.
    """
    beside = _side_by_side(others, share.shape[1])
    weight = torch.cat([own.weight, beside.weight * _spread(share, beside)], 1)
    if normalise:
        weight = weight / (1 + share.sum(1, keepdim=True))
    return _joined(_marked(own), beside)._replace(weight=weight)


def asked(
    support: Shots, query: Shots, others: Beside | None = None, *, index: Int[Tensor, "rows"], known: Bool[Tensor, "users"] | None = None,
) -> Batch:
    """An episode batch whose rows tell whose they are, and padding apart.

    A user's model answers the query of `others`, too: the mean loss of each counts by its share. Marks are `episode_batch`'s.
    """
    support, query = _marked(support), _marked(query)
    if others is None:
        return episode_batch(support, query, index, known=known)
    beside = _side_by_side(others.shots, others.share.shape[1])
    there = _spread(others.share, beside) > 0
    fields = {**beside.fields, MEMBER: torch.where(there, beside.fields[MEMBER], -1)}
    joined = _joined(query, beside._replace(fields=fields, seen=beside.seen & there[..., None]))
    weight = _weights(query.seen, divided(others.shots.seen, others.share.shape), others.share)
    return replace(episode_batch(support, joined, index, known=known), weight=weight.flatten(0, 1))


def _side_by_side(others: Shots, count: int) -> Shots:
    """The others of a user in one row, each marked as whose it is."""
    users = len(others.weight) // max(count, 1)
    member = torch.arange(len(others.weight)).view(users, count) % max(count, 1) + 1
    fields = {**others.fields, MEMBER: torch.where(others.seen.any(2), member.view(-1, 1), -1)}
    turned = {name: divided(column, (users, count)).flatten(1, 2) for name, column in fields.items()}
    return Shots(turned, *(divided(one, (users, count)).flatten(1, 2) for one in others[1:]))


def _spread(each: Tensor, beside: Shots) -> Float[Tensor, "users shots"]:
    """A number of each other at all its rows."""
    return each.repeat_interleave(beside.weight.shape[1] // max(each.shape[1], 1), dim=1)


def _marked(own: Shots) -> Shots:
    """Rows that are the user's own, unless they say whose they are."""
    return own if MEMBER in own.fields else own._replace(fields={**own.fields, MEMBER: torch.where(own.seen.any(2), 0, -1)})


def _joined(own: Shots, beside: Shots) -> Shots:
    fields = {name: torch.cat([column, beside.fields[name]], 1) for name, column in own.fields.items()}
    return Shots(fields, *(torch.cat([one, other], 1) for one, other in zip(own[1:], beside[1:], strict=True)))


def _weights(
    own: Bool[Tensor, "users shots tasks"], others: Bool[Tensor, "users others rows tasks"], share: Float[Tensor, "users others"],
) -> Float[Tensor, "users all tasks"]:
    """By how much a mean over rows has to weigh each, to be a mean over users of their own mean and, in shares, the others'."""
    others = others & (share > 0)[..., None, None]
    count = own.sum(1, keepdim=True)
    users = (count > 0).sum(0, keepdim=True).clamp(min=1)
    total = count.sum(0, keepdim=True) + others.sum((0, 1, 2))
    beside = share[..., None, None] / others.sum(2, keepdim=True).clamp(min=1)
    return total / users * torch.cat([(1 / count.clamp(min=1)).expand(own.shape), beside.expand(others.shape).flatten(1, 2)], 1)


