"""From a raw log to batches: read, split, count, encode, store, load."""
