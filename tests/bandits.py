"""Small decision problems whose every outcome can be counted, and simulated logs of them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from jaxtyping import Float, Int

from umbel.evaluate.offpolicy import Logged, Model
from umbel.evaluate.slates import Slates


def softmax(logits: Float[np.ndarray, "*rows actions"]) -> Float[np.ndarray, "*rows actions"]:
    mass = np.exp(logits - logits.max(-1, keepdims=True))
    shares: Float[np.ndarray, "*rows actions"] = mass / mass.sum(-1, keepdims=True)
    return shares


def every_action(
    reward: Float[np.ndarray, "actions"], logging: Float[np.ndarray, "actions"], target: Float[np.ndarray, "actions"],
    model: Float[np.ndarray, "actions"],
) -> Logged:
    """One decision for each action that there is, as if it had been drawn."""
    count = len(reward)
    expected = np.full((count, 1), target @ model)
    return Logged(
        reward=reward[:, None], logging=logging[:, None], target=target[:, None], user=np.arange(count),
        model=Model(model[:, None], expected),
    )  # fmt: skip


def every_list(candidates: int, length: int) -> tuple[Slates, Int[np.ndarray, "lists positions"]]:
    """One decision for each ordered list that there is, each with candidates of its own in the flat array; and the lists."""
    lists = np.array(list(permutations(range(candidates), length)))
    start = np.arange(len(lists)) * candidates
    return Slates(start, lists + start[:, None], candidates * len(lists)), lists


def simulated(seed: int, *, users: int, each: int, shift: float = 1.0) -> tuple[Logged, float]:
    """Decisions of users with tastes of their own among four actions, and what the target would earn on the average.

    The log draws by half of what it believes, the target by all of it; a user's tastes go through all of its decisions.
    """
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each)
    taste = draw.normal(0, 0.5, (users, 4))[user]
    belief = shift * np.array([0.6, 0.2, -0.2, -0.6]) + 0.5 * draw.normal(size=(len(user), 4))
    logging, target = softmax(0.5 * belief), softmax(belief)
    shown = (draw.random((len(user), 1)) > np.cumsum(logging, 1)).sum(1).clip(max=3)
    rate = 1 / (1 + np.exp(-(belief + taste)))
    rows = np.arange(len(user))
    model = 1 / (1 + np.exp(-belief))
    logged = Logged(
        reward=(draw.random(len(user)) < rate[rows, shown]).astype(np.float64)[:, None], logging=logging[rows, shown][:, None],
        target=target[rows, shown][:, None], user=user, model=Model(model[rows, shown][:, None], (target * model).sum(1, keepdims=True)),
    )  # fmt: skip
    return logged, float((target * rate).sum(1).mean())


def truth(*, shift: float = 1.0, users: int = 200_000) -> float:
    """What the target of `simulated` earns in the population that its users are drawn from."""
    return simulated(10**6, users=users, each=1, shift=shift)[1]
