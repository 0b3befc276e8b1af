"""Train, study, serve and watch recommenders that pursue several objectives at once."""
