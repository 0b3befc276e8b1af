"""umbel."""
