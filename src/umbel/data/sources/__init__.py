"""Public logs: how each is fetched, and the folder layout it is brought into."""
