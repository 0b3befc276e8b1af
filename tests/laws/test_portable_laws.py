"""Laws of what leaves Python: every calibrator, and every kind of task under its own, answers as a graph what it answers itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float
from tests.kindrows import ROWS, Row

from umbel.evaluate.calibrate import CALIBRATORS, Calibrator, Identity, Isotonic, Linear, Platt
from umbel.evaluate.kinds import answers, measures
from umbel.evaluate.portable import answered, applied
from umbel.evaluate.rescale import Scaled, Shifted, Tempered

Answers = Float[np.ndarray, "rows answers"]
DRAW = np.random.default_rng(4)
ONE = np.concatenate([DRAW.normal(0, 3, 500), [-700.0, -60.0, -2.0, -0.5, 0.0, 1.25, 3.0, 60.0, 700.0]])[:, None]  # knots among them
SHARES = DRAW.dirichlet([0.4, 0.4, 0.4], 200)
TRIED: list[tuple[Calibrator, Answers]] = [
    (Platt(0.7, -2.0), ONE),
    (Isotonic((-2.0, -0.5, 1.25, 3.0), (0.01, 0.2, 0.6, 0.97), 0.8), ONE),
    (Isotonic((-0.5, 3.0), (0.2, 0.97), 1.3), ONE),
    (Linear(3.0, 7.0), ONE),
    (Identity(), ONE),
    (Identity(), SHARES),
    (Scaled(1.7), np.abs(ONE)),
    (Shifted((0.5, -1.0, 0.25)), DRAW.normal(size=(200, 3)).cumsum(1)),
    (Tempered(1.6), np.concatenate([SHARES, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])),
]


def test_every_calibrator_is_under_law() -> None:
    assert {type(one) for one, _ in TRIED} == set(CALIBRATORS.values())


@pytest.mark.parametrize(("calibrator", "given"), TRIED, ids=lambda one: getattr(one, "kind", ""))
def test_a_calibrator_is_the_same_as_operations_of_torch(calibrator: Calibrator, given: Answers) -> None:
    found = applied(calibrator, torch.from_numpy(given)).numpy()
    assert found.shape == given.shape
    own = calibrator(given[:, 0] if given.shape[1] == 1 else given)
    np.testing.assert_allclose(found, own.reshape(found.shape), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_a_task_answers_the_same(row: Row) -> None:
    """Through its link and a calibrator fitted on its own labels."""
    outputs, labels = row.tensors(200)
    given = answers(row.kind, outputs.numpy())
    calibrator = measures(row.kind).fit(given, labels.numpy())
    found = answered(row.kind, calibrator, outputs).numpy()
    np.testing.assert_allclose(found, calibrator(given).reshape(found.shape), rtol=1e-12, atol=1e-15)
