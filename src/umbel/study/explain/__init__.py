"""Why a bundle predicts what it predicts: the study behind `umbel explain`."""
