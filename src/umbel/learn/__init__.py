"""Training: one loop over the seam of a model, its optimisers, its checkpoints, and predictions."""
