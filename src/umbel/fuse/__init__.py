"""Choosing how predictions are fused: by labels of a log, or from what a service drew with known chances."""
