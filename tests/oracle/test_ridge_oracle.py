"""A user's last layer in closed form, beside scikit-learn's ridge and logistic regressions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from tests import rated

from umbel.coldstart.prior import ItemMeans
from umbel.coldstart.source import Reader
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import parted
from umbel.data.table import Table
from umbel.learn.episode import Learner, Untouched
from umbel.learn.ridge import Leaning, leaning, ridge
from umbel.nn.recommender import Recommender


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"), rated.log(users=24, items=40, seed=2))


@pytest.fixture(scope="module")
def batch(table: Table) -> Batch:
    reader = Reader(table, ItemMeans.of(table, items=False))
    return reader.batch(episodes(table, "train", Protocol(support=None, query=3, history=(7, 100))))


@pytest.fixture
def model(table: Table) -> Recommender:
    return rated.model(table, seed=5).eval()


def read(model: Recommender, batch: Batch, user: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, torch.Tensor]:
    """One user's hidden features, logits with priors, ratings, clicks, and rows as the views see them."""
    support, _ = parted(batch.fields)
    there = support.weight[user] > 0
    fields = {name: column[user][there] for name, column in support.fields.items()}
    with torch.no_grad():
        seen = model.views(model.rows(fields), fields)
        hidden = model.heard(model.interact(seen))[0]
        logits = model.beyond(seen) + support.prior[user][there]
    labels = support.labels[user][there]
    return hidden.numpy().astype(float), logits.numpy().astype(float), labels[:, 0].numpy(), labels[:, 1].numpy(), seen


def lean_of(model: Recommender, batch: Batch, user: int, seen: torch.Tensor, *, strength: float) -> np.ndarray:
    support, _ = parted(batch.fields)
    there = support.weight[user] > 0
    happened = support.labels[user][there][None], support.seen[user][there][None]
    weight, prior = support.weight[user][there][None], support.prior[user][there][None]
    with torch.no_grad():
        found = ridge(model, seen[None], happened, weight=weight, prior=prior, strength=strength)
    return found[0].numpy().astype(float)


@pytest.mark.parametrize("strength", [0.5, 3.0, 50.0])
@pytest.mark.parametrize("user", [0, 3, 7])
def test_ratings_are_scikit_learns_ridge_on_residuals(model: Recommender, batch: Batch, user: int, strength: float) -> None:
    """With the bias as one more feature that is shrunk like the others."""
    hidden, logits, ratings, _, seen = read(model, batch, user)
    features = np.c_[hidden, np.ones(len(hidden))]
    expected = Ridge(alpha=strength, fit_intercept=False, solver="svd").fit(features, ratings - logits[:, 0])
    found = lean_of(model, batch, user, seen, strength=strength)
    np.testing.assert_allclose(found[0], expected.coef_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("user", [1, 4])
def test_an_event_is_a_step_of_penalised_logistic_regression(model: Recommender, batch: Batch, user: int) -> None:
    """Steps from where the one before ended come to scikit-learn's minimum, when the start is no model at all."""
    hidden, _, _, clicks, _ = read(model, batch, user)
    if len(set(clicks)) < 2:
        pytest.skip("this user clicked on all, or on nothing")
    features, strength = np.c_[hidden, np.ones(len(hidden))], 2.0
    weights = np.zeros(features.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-features @ weights))
        h = features.T @ ((p * (1 - p))[:, None] * features) + strength * np.eye(len(weights))
        weights = weights + np.linalg.solve(h, features.T @ (clicks - p) - strength * weights)
    oracle = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(features, clicks)
    np.testing.assert_allclose(weights, oracle.coef_[0], rtol=1e-3, atol=1e-4)


def test_the_first_step_of_an_event_is_newtons(model: Recommender, batch: Batch) -> None:
    hidden, logits, _, clicks, seen = read(model, batch, 2)
    features, strength = np.c_[hidden, np.ones(len(hidden))], 4.0
    p = 1 / (1 + np.exp(-logits[:, 1]))
    h = features.T @ ((p * (1 - p))[:, None] * features) + strength * np.eye(features.shape[1])
    expected = np.linalg.solve(h, features.T @ (clicks - p))
    np.testing.assert_allclose(lean_of(model, batch, 2, seen, strength=strength)[1], expected, rtol=1e-4, atol=1e-5)


def test_a_leaning_user_is_predicted_by_features_times_weights(model: Recommender, batch: Batch) -> None:
    hidden, _, _, _, seen = read(model, batch, 3)
    lean = np.linspace(-1, 1, 2 * (hidden.shape[1] + 1)).reshape(2, -1)
    with torch.no_grad():
        base = model.beyond(seen).numpy()
        moved = leaning(model, seen[None], torch.from_numpy(lean).float()[None])[0].numpy()
    np.testing.assert_allclose(moved, base + np.c_[hidden, np.ones(len(hidden))] @ lean.T, rtol=1e-4, atol=1e-5)


def test_the_support_is_fitted_better_by_every_strength_and_best_by_the_least(model: Recommender, batch: Batch) -> None:
    """On its own rows a user is better predicted the weaker the ridge."""
    hidden, logits, ratings, _, seen = read(model, batch, 5)
    features = np.c_[hidden, np.ones(len(hidden))]
    errors = [
        float(np.square(ratings - logits[:, 0] - features @ lean_of(model, batch, 5, seen, strength=strength)[0]).mean())
        for strength in (0.01, 1.0, 10.0, 1e9)
    ]
    assert errors == sorted(errors)
    assert errors[-1] == pytest.approx(float(np.square(ratings - logits[:, 0]).mean()), rel=1e-4)


def test_adapted_users_are_better_than_base_where_taste_is_a_users_own(table: Table, batch: Batch) -> None:
    """Raising every rating of a user by 2 moves predictions of the user's other rows up, by most of it where the ridge is weak."""
    model = rated.model(table, seed=1).eval()
    support = batch.fields["support/:labels"].clone()
    support[..., 0] = batch.fields["support/:prior"][..., 0] + 2.0
    fields = {**batch.fields, "support/:labels": support}
    with torch.no_grad():
        base = Learner(model, Untouched())(fields)[:, 0]
        moved = Learner(model, Leaning(0.3))(fields)[:, 0]
    prior = batch.fields[":prior"][:, 0]
    assert float((moved - prior - 2.0).abs().mean()) < 0.5 * float((base - prior - 2.0).abs().mean())
