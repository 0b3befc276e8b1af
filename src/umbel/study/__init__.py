"""Studies of many runs: comparisons, what sharing does, the search for settings, explanations, and the demonstration."""
