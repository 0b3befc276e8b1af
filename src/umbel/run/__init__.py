"""One run from its settings to its report, and the pages that show it."""
