"""How good a model is: metrics, their intervals, calibration, and the report per task and slice (numpy; no torch)."""
