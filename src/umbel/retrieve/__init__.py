"""Candidates for a ranker: what goes together, who is near to what, and an index of vectors."""
