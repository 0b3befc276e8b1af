"""What metrics are called on a page, what they mean, and which are better when they fall."""

from __future__ import annotations

TITLES = {
    "auc": "AUC", "gauc": "GAUC", "pr_auc": "PR-AUC", "logloss": "log-loss", "ne": "NE", "ece": "ECE",
    "calibration_ratio": "ratio", "rmse": "RMSE", "mae": "MAE", "r2": "R²",
}  # fmt: skip
MEANINGS = {
    "AUC": "chance that a row with the event scores above one without it; of logits.",
    "GAUC": "AUC inside each user, averaged by impressions, over users who have both; of logits.",
    "PR-AUC": "precision averaged over recall; the share of positives is what chance would reach.",
    "log-loss": "mean negative log-likelihood of calibrated probabilities, in nats.",
    "NE": "log-loss over that of always answering the base rate; below 1 the model knows something.",
    "ECE": "mean gap between probability and what happened, over 15 bins of equal mass.",
    "ratio": "predicted over observed positives; 1 is right.",
    "RMSE, MAE": "root mean squared and mean absolute error, in the label's unit.",
    "R²": "share of the label's variance explained.",
    "interval": "95 %; users are drawn again with replacement, so it speaks of other users like these.",
}
FALLS = frozenset({"logloss", "ne", "ece", "rmse", "mae"})
