"""What metrics are called on a page, what they mean, and which are better when they fall."""

from __future__ import annotations

from umbel.evaluate.metrics import FALLS as FALLS

TITLES = {
    "auc": "AUC", "gauc": "GAUC", "pr_auc": "PR-AUC", "logloss": "log-loss", "ne": "NE", "ece": "ECE",
    "calibration_ratio": "ratio", "rmse": "RMSE", "mae": "MAE", "r2": "R²",
    "gini": "Gini", "d2": "D²", "deviance": "deviance", "decile_error": "decile error", "decile_slope": "decile slope",
    "pinball": "pinball", "coverage": "coverage", "coverage_gap": "coverage gap", "width": "width", "accuracy": "accuracy",
    "mae_pooled": "MAE, pooled", "rmse_pooled": "RMSE, pooled",
    **{f"ndcg@{k}": f"nDCG@{k}" for k in (1, 3, 5)},
}  # fmt: skip
MEANINGS = {
    "AUC": "chance that a row with the event scores above one without it; of logits (of predictions for all rows of a task given another).",
    "GAUC": "AUC inside each user, averaged by impressions, over users who have both; of the same.",
    "PR-AUC": "precision averaged over recall; the share of positives is what chance would reach.",
    "log-loss": "mean negative log-likelihood of calibrated probabilities, in nats.",
    "NE": "log-loss over that of always answering the base rate; below 1 the model knows something.",
    "ECE": "mean gap between probability and what happened, over 15 bins of equal mass.",
    "ratio": "predicted over observed positives; 1 is right.",
    "RMSE, MAE": "root mean squared and mean absolute error, in the label's unit.",
    "R²": "share of the label's variance explained.",
    "Gini": "how well predictions rank amounts: 1 as well as the amounts themselves, 0 no better than chance.",
    "D²": "share of the best constant's deviance (or log-loss, or pinball loss) that is explained; 0 is no better than it.",
    "deviance": "mean unit deviance of the task's own family.",
    "decile error": "over tenths of the rows by prediction, the mean gap between predicted and observed sums, relative to observed.",
    "decile slope": "of the observed means of these tenths over the predicted ones; 1 is right, below 1 predictions are too far apart.",
    "pinball": "mean loss of the quantiles, in the label's unit.",
    "coverage": "share of labels from the lowest to the highest quantile.",
    "coverage gap": "how far that share is from the difference of the two levels; 0 is right.",
    "width": "mean distance from the lowest to the highest quantile, in the label's unit.",
    "accuracy": "share of rows whose likeliest class happened.",
    "MAE, pooled and RMSE, pooled": "of users' query rows, all rows together; MAE and RMSE of episodes are means over users.",
    "nDCG@1, nDCG@3, nDCG@5": "discounted gain of the rows ranked first, over the most that the user's rows allow.",
    "interval": "95 %; users are drawn again with replacement, so it speaks of other users like these.",
}
OF_USERS = {
    "MAE, RMSE": "inside each user, in the label's unit; the figure is the mean of users.",
    "pooled": "the same over all query rows, so that a user counts by rows.",
    "nDCG@k": "discounted gain (2^label - 1) of the k rows ranked first, over the most that the user's rows allow.",
    "precision@k, recall@k": "the share of the k first that are relevant, and of the relevant ones that are among them.",
    "AUC": "chance that a relevant row of a user is ranked above another; users with both kinds.",
    "interval": MEANINGS["interval"],
}
