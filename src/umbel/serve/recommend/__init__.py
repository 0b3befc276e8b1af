"""Two stages: candidates out of the whole catalogue, then the ranker."""
