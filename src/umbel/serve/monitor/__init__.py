"""What one of a store's workers watches while all answer: the canary, drift, skew, and quality by labels that have settled."""
