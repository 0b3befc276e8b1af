"""Does sharing help, which task, for whom, and why: the study behind `umbel transfer`."""
