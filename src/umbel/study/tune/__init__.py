"""Search on validation: which settings serve a log best, from one equal budget a trial; the test part is read once, by the winner."""
