"""New users served well: ways to fit a recommender so that a few rows suffice, and to adapt it to them."""
