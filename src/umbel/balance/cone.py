"""Small problems over weights that are at least something, by non-negative least squares."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-4  # of the Gramian's trace


def least_squares(matrix: Float[Tensor, "rows tasks"], aim: Float[Tensor, "rows"]) -> Float[Tensor, "tasks"]:
    """`min |A x - b|` over `x >= 0`, exact for a few tasks: scipy's active sets."""
    from scipy.optimize import nnls

    return torch.from_numpy(nnls(matrix.numpy(), aim.numpy(), maxiter=100 * matrix.shape[1])[0])


def unopposed(weights: Float[Tensor, "tasks"], gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
    """Weights v of the direction nearest to `sum_t u_t g_t` that no task loses by: `min v'Gv` over `v >= u`.

    `v = u + x` with `x >= 0` makes it `min |L'x + L'u|`, `G = LL'`. A ridge on the Gramian keeps v finite where gradients oppose
    each other. Source: https://arxiv.org/abs/2406.16232, proposition 1.

    Example
    -------
    >>> unopposed(torch.tensor([0.5, 0.5]).double(), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double())
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    ridge = RIDGE * torch.eye(len(gramian), dtype=gramian.dtype)
    root = torch.linalg.cholesky(gramian / gramian.diagonal().sum() + ridge).T
    return weights + least_squares(root, -root @ weights)
